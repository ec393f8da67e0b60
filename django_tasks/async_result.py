"""What becomes of a call: ``AsyncResult``."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Coroutine, Generator, Mapping
from contextlib import aclosing
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from asgiref.sync import sync_to_async
from django.db import connections

from django_tasks import context, publishing, states
from django_tasks.current import get_current_app
from django_tasks.errors import RemoteTraceback, raisable
from django_tasks.exceptions import OperationalError, TimeoutError

if TYPE_CHECKING:
    import typing_extensions

    from django_tasks.app import App
    from django_tasks.backends.base import ResultBackend
    from django_tasks.message import Message
    from django_tasks.outcome import TaskMeta

    R_co = typing_extensions.TypeVar("R_co", default=Any, covariant=True)
else:
    R_co = TypeVar("R_co", covariant=True)
V = TypeVar("V")
#: What ``async def`` tasks return: their results are the values that come of it.
Awaited = Coroutine[Any, Any, V]

#: Seconds between two calls of ``on_interval``, unless it is said.
INTERVAL = 0.5
#: Seconds before a result backend that is away is asked again: the first pause, and the longest.
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 30.0

logger = logging.getLogger("django_tasks.results")


class AsyncResult(Generic[R_co]):
    """The state and result of one task id.

    Args:
        id: the task id.
        app: the app whose result backend is asked; the current one by default.
        parent: the result of the task that this one followed.
        backend: a result backend to ask instead.
    """

    def __init__(
        self,
        id: str,
        app: App | None = None,
        parent: AsyncResult[Any] | None = None,
        backend: ResultBackend | None = None,
    ) -> None:
        if not id:
            raise ValueError("AsyncResult needs a task id")
        self.id = str(id)
        self._app = app
        self._backend = backend
        self.parent = parent
        #: Set when the call was made with ``ignore_result``: there is nothing to wait for.
        self.ignored = False
        self._ended: TaskMeta | None = None

    @property
    def app(self) -> App:
        """The app that is asked."""
        return self._app or get_current_app()

    @property
    def backend(self) -> ResultBackend:
        """The result backend that is asked."""
        return self.app.backend if self._backend is None else self._backend

    # -- what is known

    def _meta(self) -> TaskMeta | None:
        """Return what the backend knows; the end of a task does not change, so it is asked for once."""
        if self._ended is None:
            meta = self.backend.get([self.id]).get(self.id)
            if meta is None or not meta.ready:
                return meta
            self._ended = meta
        return self._ended

    def _fact(self, name: str) -> Any:
        meta = self._meta()
        return getattr(meta, name) if meta is not None else None

    @property
    def task_id(self) -> str:
        """The task id."""
        return self.id

    @property
    def state(self) -> str:
        """The state by name; PENDING for an id that nothing is known of."""
        meta = self._meta()
        return meta.status if meta is not None else states.PENDING

    status = state

    @property
    def result(self) -> Any:
        """The return value, the exception of a failed task, or the ``meta`` of a state of its own; else None."""
        meta = self._meta()
        return self.backend.decode(meta) if meta is not None else None

    info = result

    traceback = property(lambda self: self._fact("traceback"), doc="The traceback as text, or None.")
    name = property(lambda self: self._fact("name"), doc="The task's name, once a worker has stored something.")
    args = property(lambda self: self._fact("args"), doc="Positional arguments of the call.")
    kwargs = property(lambda self: self._fact("kwargs"), doc="Keyword arguments of the call.")
    worker = property(lambda self: self._fact("worker"), doc="``name@host`` of the worker that ran it.")
    retries = property(lambda self: self._fact("retries"), doc="How often it had been retried.")
    queue = property(lambda self: self._fact("queue"), doc="The queue it came from.")

    @property
    def date_done(self) -> datetime | None:
        """When it ended, in UTC."""
        done: datetime | None = self._fact("date_done")
        return done

    @property
    def children(self) -> list[AsyncResult[Any]]:
        """Results of the calls that the task made."""
        entries = self._fact("children") or []
        return [AsyncResult(entry[0][0], self._app, parent=self, backend=self._backend) for entry in entries]

    def ready(self) -> bool:
        """Whether the task has ended."""
        return self.state in states.READY_STATES

    def successful(self) -> bool:
        """Whether the task has ended well."""
        return self.state == states.SUCCESS

    def failed(self) -> bool:
        """Whether the task has failed."""
        return self.state == states.FAILURE

    # -- waiting

    @overload
    def get(
        self: AsyncResult[Awaited[V]], timeout: float | None = ..., propagate: bool = ..., interval: float | None = ...,
        *, callback: Callable[[str, Any], Any] | None = ..., disable_sync_subtasks: bool = ...,
        on_interval: Callable[[], Any] | None = ..., on_message: Any = ..., no_ack: bool = ...,
        follow_parents: bool = ...,
    ) -> V: ...  # fmt: skip
    @overload
    def get(
        self, timeout: float | None = ..., propagate: bool = ..., interval: float | None = ...,
        *, callback: Callable[[str, Any], Any] | None = ..., disable_sync_subtasks: bool = ...,
        on_interval: Callable[[], Any] | None = ..., on_message: Any = ..., no_ack: bool = ...,
        follow_parents: bool = ...,
    ) -> R_co: ...  # fmt: skip
    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float | None = None,
        *,
        callback: Callable[[str, Any], Any] | None = None,
        disable_sync_subtasks: bool = True,
        on_interval: Callable[[], Any] | None = None,
        on_message: Any = None,
        no_ack: bool = True,
        follow_parents: bool = True,
    ) -> Any:
        """Wait until the task has ended, and return its return value.

        Args:
            timeout: seconds to wait; None for ever.
            propagate: raise the task's exception; if false, return it.
            interval: seconds between two looks; None lets the backend choose.
            callback: called with id and value.
            disable_sync_subtasks: refuse to wait inside a task; see ``allow_join_result``.
            on_interval: called every ``interval`` seconds (0.5) while it waits; what it raises ends that.
            on_message, no_ack, follow_parents: mean something to Celery's brokers and chains, nothing here.

        Raises:
            TimeoutError: the task had not ended by then.
            RuntimeError: called inside a task, or inside a transaction that would keep the result from coming.
            Exception: what the task raised, with the worker's traceback as its cause.
        """
        if self.ignored:
            return None
        self._check_wait(disable_sync_subtasks)
        if self._ended is None:
            self._ended = self._wait(timeout, interval, on_interval)
        return self._value(propagate, callback)

    wait = get

    def _wait(self, timeout: float | None, interval: float | None, on_interval: Callable[[], Any] | None) -> TaskMeta:
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            round_ = timeout if on_interval is None else max(0.0, min(left, interval or INTERVAL))
            try:
                return next(iter(self.backend.wait([self.id], round_, interval)))
            except TimeoutError:
                if on_interval is None or time.monotonic() >= deadline:
                    raise TimeoutError(self._late(timeout)) from None
            on_interval()

    def _late(self, timeout: float | None) -> str:
        return (
            f"Task {self.id} had not ended after {timeout:g} s (state {self.state}). "
            "Is a worker running for its queue (`manage.py runworker`)? "
            f"`manage.py tasks queues` shows who takes from which, `manage.py tasks show {self.id}` what became of it."
        )

    def _check_wait(self, disable_sync_subtasks: bool) -> None:
        if disable_sync_subtasks:
            self._check_join()
        if publishing.unsent(self.app, self.id):
            raise RuntimeError(
                f"Task {self.id} is sent when the transaction that is open here commits; get() before that would wait "
                "for ever. Call get() after the block has ended."
            )

    def _check_join(self) -> None:
        eager = self.app.conf.task_always_eager
        # What apply() runs occupies no slot; what TASK_ALWAYS_EAGER runs stands for a worker.
        if any(eager or not run.is_eager for run in context.runs()) and not context.join_allowed.get():
            raise RuntimeError(
                "Never call result.get() within a task: it waits in a slot that others, maybe the very task it waits "
                "for, need. Link the tasks instead, or use `with allow_join_result()` if you are sure."
            )

    def _value(self, propagate: bool, callback: Callable[[str, Any], Any] | None = None) -> Any:
        state, value = self.state, self.result
        if state in states.PROPAGATE_STATES:
            if propagate:
                raise self._error(value)
        elif state != states.SUCCESS:
            value = None  # it ended without one
        if callback is not None:
            callback(self.id, value)
        return value

    def _error(self, value: Any) -> BaseException:
        """Return what ``get`` raises for the error of the task."""
        error = raisable(value)
        if self.traceback:
            error.__cause__ = RemoteTraceback(self.traceback)
        return error

    def then(
        self, callback: Callable[[AsyncResult[R_co]], Any], on_error: Callable[[AsyncResult[R_co]], Any] | None = None
    ) -> AsyncResult[R_co]:
        """Call ``callback`` with this result once the task has succeeded, in a thread that waits for it.

        Args:
            on_error: called instead when the task has failed or was revoked.

        A result backend that is away is waited for.

        Raises:
            ImproperlyConfigured: there is no result backend.
        """
        if not self.backend.stores:
            self.backend.get([self.id])  # says so

        def wait() -> None:
            try:
                self._outwait()
                chosen = callback if self.successful() else on_error if self.ready() else None
                if chosen is not None:
                    chosen(self)
            finally:
                connections.close_all()  # this thread's own

        threading.Thread(target=wait, name=f"then-{self.id}", daemon=True).start()
        return self

    def _outwait(self) -> None:
        """Wait until the task has ended, also while the result backend is away."""
        pause = FIRST_PAUSE
        while True:
            try:
                self.get(propagate=False, disable_sync_subtasks=False)
                return
            except OperationalError as exc:
                logger.warning("The result of task %s cannot be asked for now, but later: %s", self.id, exc)
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    @overload
    async def aget(self: AsyncResult[Awaited[V]], timeout: float | None = ..., propagate: bool = ...) -> V: ...
    @overload
    async def aget(self, timeout: float | None = ..., propagate: bool = ...) -> R_co: ...
    async def aget(self, timeout: float | None = None, propagate: bool = True) -> Any:
        """As ``get``, for coroutines: nothing blocks while it waits."""
        if self.ignored:
            return None
        await sync_to_async(self._check_wait)(True)
        if self._ended is None:
            backend = await sync_to_async(getattr)(self, "backend")
            try:
                async with aclosing(backend.wait_async([self.id], timeout)) as ends:
                    self._ended = await ends.__anext__()
            except TimeoutError:
                raise TimeoutError(await sync_to_async(self._late)(timeout)) from None
        return await sync_to_async(self._value)(propagate)

    @overload
    def __await__(self: AsyncResult[Awaited[V]]) -> Generator[Any, None, V]: ...
    @overload
    def __await__(self) -> Generator[Any, None, R_co]: ...
    def __await__(self) -> Generator[Any, None, Any]:
        return self.aget().__await__()

    # -- changing

    def forget(self) -> None:
        """Remove the result from the backend."""
        self._ended = None
        self.backend.forget([self.id])

    def revoke(
        self,
        terminate: bool = False,
        signal: str | int | None = None,
        *,
        wait: bool = False,
        timeout: float | None = None,
        connection: Any = None,
    ) -> None:
        """Cancel the task: it is not run any more, and its state becomes REVOKED.

        Args:
            terminate: stop it too if it runs already.
            signal: by which signal; SIGTERM by default.
            wait, timeout, connection: mean nothing here: it is done when this returns, and workers send no replies.
        """
        self.app.control.revoke(self.id, terminate=terminate, signal=signal)

    async def aforget(self) -> None:
        """As ``forget``, for coroutines."""
        await sync_to_async(self.forget)()

    async def arevoke(self, terminate: bool = False, signal: str | int | None = None) -> None:
        """As ``revoke``, for coroutines."""
        await sync_to_async(self.revoke)(terminate, signal)

    # -- as a value

    def as_tuple(self) -> list[Any]:
        """Return Celery's form of a result that travels: ``[[id, parent], None]``."""
        return [[self.id, self.parent.as_tuple() if self.parent else None], None]

    __json__ = as_tuple

    def __eq__(self, other: object) -> bool:
        return (isinstance(other, AsyncResult) and other.id == self.id) or other == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.id}>"

    def __reduce__(self) -> Any:
        return type(self), (self.id,)


def result_of(message: Message, app: App, bound_to: App | None, options: Mapping[str, Any]) -> AsyncResult[Any]:
    """Return the result that the sender of a message gets; it becomes a child of the task that runs here.

    Args:
        app: the app that has sent the message.
        bound_to: the app that the result asks whatever the current one is; None for the current one.
        options: of ``apply_async``: ``add_to_parent``.
    """
    result: AsyncResult[Any] = AsyncResult(message.id, bound_to)
    result.ignored = context.ignores_result(message, None, app)  # it has the task's option
    parent = context.current_request() if options.get("add_to_parent", True) else None
    if parent is not None and getattr(parent.owner, "trail", True):
        parent.children.append(result)
    return result
