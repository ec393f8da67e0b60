"""Tasks: functions that can be called elsewhere and later."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from asgiref.sync import sync_to_async

from django_tasks import producer, states
from django_tasks.calls import argument_check
from django_tasks.canvas import Signature
from django_tasks.context import Context, current_request, request_of
from django_tasks.current import get_current_app
from django_tasks.exceptions import MaxRetriesExceededError, Retry
from django_tasks.hooks import Hooks
from django_tasks.message import Message
from django_tasks.outcome import TaskMeta
from django_tasks.result import AsyncResult

if TYPE_CHECKING:
    from typing_extensions import ParamSpec

    from django_tasks.app import App
else:
    try:
        from typing import ParamSpec
    except ImportError:  # pragma: no cover
        from typing_extensions import ParamSpec

P = ParamSpec("P")
R = TypeVar("R")


class Task(Hooks, Generic[P, R]):
    """A task: what ``@shared_task`` makes of a function, or a class with a ``run`` method.

    Options are attributes; None means what the settings say. Names, defaults and behaviour are Celery's.
    """

    name: str = ""
    #: ``run`` gets the task itself as its first argument.
    bind = False
    #: Check arguments when the call is made rather than when it runs.
    typing = True
    #: Store nothing on success.
    ignore_result: bool | None = None
    #: Store failures even so.
    store_errors_even_if_ignored: bool | None = None
    #: Store STARTED when it begins.
    track_started: bool | None = None
    #: How often ``retry`` may be called; None for ever.
    max_retries: int | None = 3
    #: Seconds before a retry that names no time.
    default_retry_delay: float = 180
    #: Exceptions that make a retry by themselves.
    autoretry_for: Sequence[type[BaseException]] = ()
    #: Exceptions that do not, though ``autoretry_for`` names a base of them.
    dont_autoretry_for: Sequence[type[BaseException]] = ()
    #: Arguments for those retries.
    retry_kwargs: Mapping[str, Any] = {}
    #: Double the delay from retry to retry, beginning with this many seconds (True: 1).
    retry_backoff: bool | float = False
    #: Longest delay in seconds.
    retry_backoff_max: float = 600
    #: Draw each delay at random between 0 and what it would be.
    retry_jitter = True
    #: Exceptions that are no surprise: logged without a traceback.
    throws: Sequence[type[BaseException]] = ()
    #: As ``"10/m"``: how often it may start, per worker.
    rate_limit: str | float | None = None
    #: Seconds after which the process that runs it is killed.
    time_limit: float | None = None
    #: Seconds after which ``SoftTimeLimitExceeded`` is raised in it.
    soft_time_limit: float | None = None
    #: Acknowledge after the outcome is stored. False: just before the run, at most once.
    acks_late: bool | None = None
    serializer: str | None = None
    compression: str | None = None
    queue: str | None = None
    priority: int | None = None
    #: Seconds, or a time, after which it is not started any more.
    expires: float | datetime | None = None
    #: Characters of the return value that the log shows.
    resultrepr_maxsize = 1024

    MaxRetriesExceededError = MaxRetriesExceededError

    _app: App | None = None
    _check: Callable[..., Any] | None = None

    @property
    def app(self) -> App:
        """The app that the task belongs to; for shared tasks the current one."""
        return self._app or get_current_app()

    @property
    def request(self) -> Context:
        """The facts of the run that goes on here."""
        return request_of(self)

    @property
    def backend(self) -> Any:
        """The result backend."""
        return self.app.backend

    def run(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Do the work."""
        raise NotImplementedError(f"Task {self.name or type(self).__qualname__} has to define run().")

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.run(*args, **kwargs)

    # -- calling elsewhere

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """Send a call with these arguments; they are the function's own.

        Raises:
            TypeError: the function does not take them.
            OperationalError: the broker is away.
        """
        return self.apply_async(args, kwargs)

    def delay_on_commit(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """As ``delay``, when the open transaction commits, whatever ``TASK_ENQUEUE_ON_COMMIT`` says."""
        return self.apply_async(args, kwargs, on_commit=True)

    async def adelay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """As ``delay``, for coroutines."""
        return await sync_to_async(self.apply_async)(args, kwargs)

    def apply_async(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> AsyncResult[R]:
        """Send a call.

        Args:
            args: positional arguments.
            kwargs: keyword arguments.
            options: ``countdown`` (seconds), ``eta`` (datetime), ``expires`` (seconds or datetime), ``queue``,
                ``priority``, ``task_id``, ``time_limit`` and ``soft_time_limit`` (seconds), ``headers``,
                ``serializer``, ``compression``, ``ignore_result``, ``shadow``, ``link``, ``link_error``, ``retry``,
                ``retry_policy``, ``on_commit``, ``using`` (database alias of the transaction to wait for).

        Raises:
            TypeError: the function does not take these arguments.
            OperationalError: the broker is away.
        """
        app = self.app
        if app.conf.task_always_eager:
            self._check_arguments(args, kwargs)
            eager: AsyncResult[R] = self.apply(args, kwargs, **options)
            return eager
        message = self._message(app, args, kwargs, options)
        producer.publish(app, [message], options)
        return self._result(app, message)

    async def aapply_async(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> AsyncResult[R]:
        """As ``apply_async``, for coroutines."""
        return await sync_to_async(self.apply_async)(args, kwargs, **options)

    def delay_many(self, calls: Sequence[Any], **options: Any) -> list[AsyncResult[R]]:
        """Send any number of calls in few round trips.

        Args:
            calls: a tuple of positional arguments for each, or signatures of this task.
            options: of ``apply_async``, for all of them.

        Returns:
            Their results, in the order of the calls.
        """
        app = self.app
        prepared = [self._call(call, options) for call in calls]
        if app.conf.task_always_eager:
            return [self.apply_async(args, kwargs, **each) for args, kwargs, each in prepared]
        messages = [self._message(app, args, kwargs, each) for args, kwargs, each in prepared]
        producer.publish(app, messages, options)
        return [self._result(app, message) for message in messages]

    def _call(self, call: Any, options: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
        if isinstance(call, Signature):
            if call.task != self.name:
                raise ValueError(f"delay_many of {self.name} was given a signature of {call.task}")
            return call.args, call.kwargs, {**options, **call.options}
        if not isinstance(call, (tuple, list)):
            raise TypeError(
                f"delay_many takes tuples of positional arguments, or signatures, not {call!r}; "
                f"for one argument write ({call!r},)"
            )
        return call, None, options

    def _message(self, app: App, args: Any, kwargs: Any, options: dict[str, Any]) -> Message:
        self._check_arguments(args, kwargs)
        return producer.build_message(app, self.name, args, kwargs, options, self)

    def _check_arguments(self, args: Any, kwargs: Any) -> None:
        if self._check is not None:
            self._check(*(args or ()), **(kwargs or {}))

    def _result(self, app: App, message: Message) -> AsyncResult[R]:
        result: AsyncResult[R] = AsyncResult(message.id, self._app)
        ignored = message.ignore_result if message.ignore_result is not None else app.conf.task_ignore_result
        result.ignored = bool(ignored)
        if (parent := current_request()) is not None:
            parent.children.append(result)
        return result

    def message_options(self) -> dict[str, Any]:
        """Return the options of the task that go into each of its messages."""
        return {
            "queue": self.queue,
            "priority": self.priority,
            "expires": self.expires,
            "serializer": self.serializer,
            "compression": self.compression,
            "ignore_result": self.ignore_result,
            "time_limit": self.time_limit,
            "soft_time_limit": self.soft_time_limit,
        }

    # -- calling here

    def apply(self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Run the task here and now through the real executor, retries included; return an ``EagerResult``.

        Args:
            throw: raise what the task raises; by default ``TASK_EAGER_PROPAGATES``.
            options: of ``apply_async``.
        """
        return self.app.run_eagerly(self, args, kwargs, options)

    # -- writing calls down

    def signature(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Signature:
        """Return a signature of a call of this task; ``options`` are those of ``apply_async``, and ``immutable``."""
        return Signature(self, args, kwargs, app=self._app, **options)

    subtask = signature

    def s(self, *args: Any, **kwargs: Any) -> Signature:
        """Return a signature with these arguments."""
        return self.signature(args, kwargs)

    def si(self, *args: Any, **kwargs: Any) -> Signature:
        """Return a signature with these arguments that takes no others."""
        return self.signature(args, kwargs, immutable=True)

    def AsyncResult(self, task_id: str) -> AsyncResult[R]:
        """Return the result of an id of this task."""
        return AsyncResult(task_id, self._app)

    # -- from inside a run

    def retry(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        exc: BaseException | None = None,
        throw: bool = True,
        eta: datetime | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> Retry:
        """End this run and make another, later.

        Args:
            args: other positional arguments for it.
            kwargs: other keyword arguments for it.
            exc: the error that made it necessary; raised instead when no retry is left.
            throw: raise ``Retry``; if false, return it and let the run go on to its end.
            eta: when, or
            countdown: in how many seconds; ``default_retry_delay`` without either.
            max_retries: for this call only.
            options: of ``apply_async``.

        Raises:
            Retry: to end the run.
            MaxRetriesExceededError: no retry is left and ``exc`` is not given.
        """
        request = self.request
        if request.called_directly:
            # There is no message to send again (Celery does the same).
            raise exc if exc is not None else Retry("Task can be retried only when a worker runs it", exc)
        limit = self.max_retries if max_retries is None else max_retries
        if limit is not None and request.retries + 1 > limit:
            self._give_up(request, exc)
        if countdown is None and eta is None:
            countdown = self.default_retry_delay
        request.next_run = producer.next_run(self.app, request, args, kwargs, countdown, eta, options)
        retry = Retry(exc=exc, when=countdown if eta is None else eta)
        if throw:
            raise retry from exc
        return retry

    def _give_up(self, request: Context, exc: BaseException | None) -> NoReturn:
        if exc is not None:
            raise exc
        raise self.MaxRetriesExceededError(
            f"Can't retry {self.name}[{request.id}] args:{request.args} kwargs:{request.kwargs}",
            task_args=request.args,
            task_kwargs=request.kwargs,
        )

    def update_state(self, task_id: str | None = None, state: str | None = None, meta: Any = None, **_: Any) -> None:
        """Store a state of your own, seen as ``AsyncResult.state`` and ``.info``, while the task runs.

        Args:
            task_id: of another task; this one by default.
            state: any name, such as ``"PROGRESS"``.
            meta: any value that can be serialised.
        """
        request = self.request
        task_id = task_id or request.id
        if task_id is None:
            return  # called directly: nobody has an id to look at
        backend = self.app.backend
        state = state or states.STARTED
        backend.store([
            TaskMeta(task_id, state, backend.encode(meta, state), name=self.name, args=request.args,
                     kwargs=request.kwargs, worker=request.hostname or "", retries=request.retries,
                     queue=request.queue or "")
        ])  # fmt: skip

    def __repr__(self) -> str:
        return f"<@task: {self.name}>"

    def __reduce__(self) -> Any:
        return _task_by_name, (self.name,)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "run" in cls.__dict__:
            function = inspect.unwrap(inspect.getattr_static(cls, "run"))
            bound = cls.bind or not isinstance(inspect.getattr_static(cls, "run"), staticmethod)
            check = argument_check(getattr(function, "__func__", function), skip_first=bound)
            cls._check = staticmethod(check) if check is not None and cls.typing else None


def _task_by_name(name: str) -> Any:
    return get_current_app().tasks[name]
