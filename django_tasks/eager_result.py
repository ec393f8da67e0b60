"""What became of a call that was run at once: ``EagerResult``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django_tasks.async_result import AsyncResult, R_co
from django_tasks.outcome import TaskMeta


class EagerResult(AsyncResult[R_co]):
    """The result of ``apply()``: known from the start.

    Args:
        id: the task id.
        ret_value: the return value or the exception.
        state: the state it ended in.
        traceback: the traceback as text.
        name: the task's name.
        sent: it stands for a message (``TASK_ALWAYS_EAGER``), so that a task may not wait for it.
    """

    def __init__(
        self, id: str, ret_value: Any, state: str, traceback: str | None = None, name: str = "", sent: bool = False
    ) -> None:
        super().__init__(id)
        self._ret_value = ret_value
        self._sent = sent
        self._ended = TaskMeta(self.id, state, traceback=traceback, name=name)

    result = info = property(lambda self: self._ret_value, doc="The return value or the exception.")

    def ready(self) -> bool:
        """Return true: it has ended, if only by ``Ignore`` or ``Reject``."""
        return True

    def _check_wait(self, disable_sync_subtasks: bool) -> None:
        """Refuse where a worker would, so that it is noticed under ``TASK_ALWAYS_EAGER``."""
        if self._sent and disable_sync_subtasks:
            self._check_join()

    def _error(self, value: Any) -> BaseException:
        return value if isinstance(value, BaseException) else Exception(value)

    def then(
        self, callback: Callable[[AsyncResult[R_co]], Any], on_error: Callable[[AsyncResult[R_co]], Any] | None = None
    ) -> AsyncResult[R_co]:
        """Call ``callback``, or ``on_error``, at once."""
        chosen = callback if self.successful() else on_error
        if chosen is not None:
            chosen(self)
        return self

    def forget(self) -> None:
        """There is nothing to forget."""

    def revoke(self, *_: Any, **__: Any) -> None:
        """It has ended: there is nothing to revoke."""

    def __reduce__(self) -> Any:
        return type(self), (self.id, self._ret_value, self.state, self.traceback, self.name, self._sent)
