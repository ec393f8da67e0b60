"""Running a task in the caller: ``apply()`` and ``TASK_ALWAYS_EAGER``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from django_tasks import finish, producer, states
from django_tasks.exceptions import NotRegistered
from django_tasks.executor import Executor
from django_tasks.message import Message, decode_envelope, encode_envelope
from django_tasks.outcome import Outcome, TaskMeta
from django_tasks.result import AsyncResult
from django_tasks.serialization import content_types

if TYPE_CHECKING:
    import typing_extensions

    from django_tasks.app import App

    R = typing_extensions.TypeVar("R", default=Any)
else:
    R = TypeVar("R")


class EagerResult(AsyncResult[R]):
    """The result of ``apply()``: known from the start.

    Args:
        id: the task id.
        value: the return value or the exception.
        state: the state it ended in.
        traceback: the traceback as text.
        name: the task's name.
        sent: it stands for a message (``TASK_ALWAYS_EAGER``), so that a task may not wait for it.
    """

    def __init__(
        self, id: str, value: Any, state: str, traceback: str | None = None, name: str = "", sent: bool = False
    ) -> None:
        super().__init__(id)
        self._eager = {"state": state, "result": value, "traceback": traceback, "name": name}
        self._sent = sent

    state = status = property(lambda self: self._eager["state"], doc="The state it ended in.")
    result = info = property(lambda self: self._eager["result"], doc="The return value or the exception.")
    traceback = property(lambda self: self._eager["traceback"], doc="The traceback as text, or None.")
    name = property(lambda self: self._eager["name"], doc="The task's name.")

    def _meta(self) -> TaskMeta | None:
        """Return None: the result backend has nothing to say."""
        return None

    def ready(self) -> bool:
        """Return true: it has ended, if only by ``Ignore`` or ``Reject``."""
        return True

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float | None = None,
        *,
        callback: Callable[[str, Any], Any] | None = None,
        disable_sync_subtasks: bool = True,
    ) -> R:
        """Return the value, or raise the exception.

        Raises:
            RuntimeError: called inside a task under ``TASK_ALWAYS_EAGER``, where a worker would refuse it too.
        """
        if self._sent and disable_sync_subtasks:
            self._check_join()
        value = self.result
        if self.state in states.PROPAGATE_STATES:
            if propagate:
                raise value if isinstance(value, BaseException) else Exception(value)
        elif self.state != states.SUCCESS:
            value = None
        if callback is not None:
            callback(self.id, value)
        return value  # type: ignore[no-any-return]

    wait = get

    async def aget(self, timeout: float | None = None, propagate: bool = True) -> R:
        """Return the value, or raise the exception."""
        return self.get(timeout, propagate)

    def then(
        self, callback: Callable[[AsyncResult[R]], Any], on_error: Callable[[AsyncResult[R]], Any] | None = None
    ) -> AsyncResult[R]:
        """Call ``callback``, or ``on_error``, at once."""
        chosen = callback if self.successful() else on_error
        if chosen is not None:
            chosen(self)
        return self

    def forget(self) -> None:
        """There is nothing to forget."""

    def revoke(self, terminate: bool = False, signal: str | int | None = None) -> None:
        """It has ended: there is nothing to revoke."""


def run(
    app: App, task: Any, args: Any, kwargs: Any, options: dict[str, Any], *, sent: bool = False
) -> EagerResult[Any]:
    """Run a task and its retries one after the other, without waiting, then its callbacks.

    Args:
        options: of ``apply_async``; ``throw`` raises what the task raises.
        sent: write and read the message as if it travelled, so that what cannot be sent fails here too.

    Raises:
        EncodeError: with ``sent``, an argument cannot be serialised.
    """
    throw = options.pop("throw", None)
    if throw is None:
        throw = app.conf.task_eager_propagates
    message = producer.build_message(app, task.name, args, kwargs, options, task)
    outcome = _run(app, task, _as_received(app, message) if sent else message, throw)
    return EagerResult(message.id, outcome.value, outcome.state, outcome.traceback, name=task.name, sent=sent)


def _run(app: App, task: Any, message: Message, throw: bool) -> Outcome:
    executor = Executor(app, hostname="eager", eager=True)
    outcome = executor.execute(task, message)
    while outcome.next_run is not None:
        outcome = executor.execute(task, outcome.next_run)
    if outcome.meta is not None:
        app.backend.store([outcome.meta])
    error = outcome.value
    if outcome.state in states.PROPAGATE_STATES and (throw or not isinstance(error, Exception)):
        raise error  # what is no Exception, such as a pressed Ctrl-C, is meant for the caller
    for following in finish.follow_ups(app, outcome):
        if following.task not in app.tasks:
            raise NotRegistered(following.task)
        _run(app, app.tasks[following.task], following, throw)
    finish.call_errbacks(app, outcome)
    return outcome


def _as_received(app: App, message: Message) -> Message:
    text = encode_envelope(message, max_size=app.conf.task_max_message_size)
    received = decode_envelope(text, content_types([*app.conf.accept_content, message.serializer]))
    received.queue = message.queue
    return received
