"""Tasks: functions that can be called elsewhere and later."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Generic, NoReturn, ParamSpec, TypeVar

from asgiref.sync import sync_to_async

from django_tasks import context, producer, publishing, states
from django_tasks.async_result import AsyncResult, result_of
from django_tasks.backends.base import utc_now
from django_tasks.call_options import check_call_options, check_limits
from django_tasks.calls import argument_check, check_arguments
from django_tasks.canvas import Signature
from django_tasks.context import Context, request_of
from django_tasks.current import get_current_app
from django_tasks.exceptions import ImproperlyConfigured, MaxRetriesExceededError, Retry
from django_tasks.hooks import Hooks
from django_tasks.message import Message
from django_tasks.outcome import TaskMeta

if TYPE_CHECKING:
    import typing_extensions

    from django_tasks.app import App
    from django_tasks.eager_result import EagerResult

    # A plain ``Task`` stands for one of any parameters and any result.
    P = typing_extensions.ParamSpec("P", default=...)
    R = typing_extensions.TypeVar("R", default=Any)
else:
    P = ParamSpec("P")
    R = TypeVar("R")


#: Options of a task that go into each of its messages.
_MESSAGE_OPTIONS = ("queue", "exchange", "routing_key", "priority", "expires", "serializer", "compression",
                    "ignore_result", "time_limit", "soft_time_limit")  # fmt: skip
_message_options = attrgetter(*_MESSAGE_OPTIONS)
_NO_OPTIONS = (None,) * len(_MESSAGE_OPTIONS)


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
    exchange: str | None = None
    routing_key: str | None = None
    #: Keep the ids of the calls it makes, as ``AsyncResult.children``.
    trail = True
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

    def run(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Do the work."""
        raise NotImplementedError(f"Task {self.name or type(self).__qualname__} has to define run().")

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function here and now; inside, ``self.request`` is one of its own, as for any call."""
        if context.enter(self):
            return self.run(*args, **kwargs)
        token = context.push(Context(self, task=self.name, args=args, kwargs=kwargs, headers={}))
        try:
            return self.run(*args, **kwargs)
        finally:
            context.pop(token)

    # -- calling elsewhere

    def delay(self, /, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """Send a call with these arguments; they are the function's own.

        Raises:
            TypeError: the function does not take them.
            OperationalError: the broker is away.
        """
        return self.apply_async(args, kwargs)

    def delay_on_commit(self, /, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """As ``delay``, when the open transaction commits, whatever ``TASK_ENQUEUE_ON_COMMIT`` says."""
        return self.apply_async(args, kwargs, on_commit=True)

    def apply_async_on_commit(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> AsyncResult[R]:
        """As ``apply_async``, when the open transaction commits, whatever ``TASK_ENQUEUE_ON_COMMIT`` says."""
        return self.apply_async(args, kwargs, **{**options, "on_commit": True})

    async def adelay(self, /, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
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
                ``serializer``, ``compression``, ``ignore_result``, ``shadow``, ``link``, ``link_error``, ``retry``
                (try again when the broker is away), ``retry_policy``, ``on_commit``, ``using`` (database alias of the
                transaction to wait for).

        Raises:
            TypeError: the function does not take these arguments, or there is no such option.
            ValueError: an option cannot have this value.
            OperationalError: the broker is away.
        """
        app = self.app
        if options:
            check_call_options(options, self.name)
        if app.conf.task_always_eager:
            self.check_arguments(args, kwargs)
            eager: AsyncResult[R] = app.run_eagerly(self, args, kwargs, options, sent=True)
            return eager
        message = self._message(app, args, kwargs, options)
        publishing.publish(app, [message], options)
        return result_of(message, app, self._app, options)

    async def aapply_async(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> AsyncResult[R]:
        """As ``apply_async``, for coroutines."""
        return await sync_to_async(self.apply_async)(args, kwargs, **options)

    def delay_many(self, calls: Iterable[Any], **options: Any) -> list[AsyncResult[R]]:
        """Send any number of calls in few round trips.

        Args:
            calls: a tuple of positional arguments for each, or signatures of this task.
            options: of ``apply_async``, for all of them.

        Returns:
            Their results, in the order of the calls.
        """
        app = self.app
        check_call_options(options, self.name)
        prepared = [self._call(call, options) for call in calls]
        if app.conf.task_always_eager:
            return [self.apply_async(args, kwargs, **each) for args, kwargs, each in prepared]
        messages = [self._message(app, args, kwargs, each) for args, kwargs, each in prepared]
        ways = [{key: each.get(key) for key in publishing.PUBLISH_OPTIONS} for _, _, each in prepared]
        for way, group in itertools.groupby(zip(ways, messages, strict=True), key=lambda pair: pair[0]):
            publishing.publish(app, [message for _, message in group], way)
        return [
            result_of(message, app, self._app, each) for message, (_, _, each) in zip(messages, prepared, strict=True)
        ]

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
        self.check_arguments(args, kwargs)
        return producer.build_message(app, self.name, args, kwargs, options, self)

    def check_arguments(self, args: Any, kwargs: Any) -> None:
        """Make sure that the function takes these arguments, as far as ``typing`` asks for it.

        Raises:
            TypeError: it does not.
        """
        check_arguments(args, kwargs)
        if self.typing and self._check is not None:
            self._check(*(args or ()), **(kwargs or {}))

    def message_options(self) -> dict[str, Any]:
        """Return the options of the task that go into each of its messages."""
        values = _message_options(self)
        if values == _NO_OPTIONS:
            return {}
        return {name: value for name, value in zip(_MESSAGE_OPTIONS, values, strict=True) if value is not None}

    # -- calling here

    def apply(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> EagerResult[R]:
        """Run the task here and now through the real executor, retries included, without waiting for them.

        Args:
            args: positional arguments.
            kwargs: keyword arguments.
            options: of ``apply_async``, and ``throw``: raise what the task raises; by default
                ``TASK_EAGER_PROPAGATES``.
        """
        check_arguments(args, kwargs)
        check_call_options(options, self.name)
        result: EagerResult[R] = self.app.run_eagerly(self, args, kwargs, options)
        return result

    # -- writing calls down

    def signature(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Signature:
        """Return a signature of a call of this task; ``options`` are those of ``apply_async``, and ``immutable``."""
        return Signature(self, args, kwargs, app=self._app, **options)

    subtask = signature

    def s(self, /, *args: Any, **kwargs: Any) -> Signature:
        """Return a signature with these arguments."""
        return self.signature(args, kwargs)

    def si(self, /, *args: Any, **kwargs: Any) -> Signature:
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
            throw: raise ``Retry``; if false, return it and let the run go on to its end, whose value is not kept.
            eta: when, or
            countdown: in how many seconds; ``default_retry_delay`` without either.
            max_retries: for this call only.
            options: of ``apply_async``; what is not given stays as it was.

        Raises:
            Retry: to end the run.
            MaxRetriesExceededError: no retry is left and ``exc`` is not given.
            TypeError: there is no such option, or the arguments are none.
            ValueError: an option cannot have this value.
            Exception: ``exc``, when no retry is left, or when the task was called as a function.
        """
        request = self.request
        check_arguments(args, kwargs)
        check_call_options(options, self.name)
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
        stored = TaskMeta(task_id, state, backend.encode(meta, state))
        if state in states.READY_STATES:
            stored.date_done = utc_now(self.app.broker.now())
        if task_id == request.id:
            stored.name, stored.args, stored.kwargs = self.name, request.args, request.kwargs
            stored.worker, stored.retries, stored.queue = request.hostname or "", request.retries, request.queue or ""
        backend.store([stored])

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            hint = ": workflows come with a later release" if name in _LATER else ""
            raise AttributeError(f"The task {self.name} has no {name!r}{hint}")

    def __repr__(self) -> str:
        return f"<@task: {self.name}>"

    def __reduce__(self) -> Any:
        return _task_by_name, (self.name,)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "run" in cls.__dict__:
            run = cls.__dict__["run"]
            check = argument_check(getattr(run, "__func__", run), skip_first=not isinstance(run, staticmethod))
            cls._check = staticmethod(check) if check is not None else None
        for option in _EXCEPTIONS:
            if option in cls.__dict__:
                setattr(cls, option, _exception_classes(f"{cls.name or cls.__name__}: {option}", cls.__dict__[option]))
        check_limits(cls.name or cls.__name__, cls.__dict__)


#: What Celery's tasks have and this release does not.
_LATER = ("replace", "chunks", "map", "starmap", "add_to_chord")
#: Options that hold exception classes.
_EXCEPTIONS = ("autoretry_for", "dont_autoretry_for", "throws")


def _exception_classes(what: str, value: Any) -> tuple[type[BaseException], ...]:
    """Return one class, or several, as a tuple."""
    classes = (value,) if isinstance(value, type) else tuple(value)
    if not all(isinstance(each, type) and issubclass(each, BaseException) for each in classes):
        raise ImproperlyConfigured(f"{what} = {value!r} has to be a tuple of exception classes, such as (OSError,).")
    return classes


def _task_by_name(name: str) -> Any:
    return get_current_app().tasks[name]
