"""What runs right now: the request of the current task, per thread and per coroutine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django_tasks.message import Message


class Context:
    """The facts of one run, as ``self.request`` (Celery's ``Context``, with its names).

    What is not an attribute of its own is looked up in the message, then in the message's custom headers.

    Args:
        owner: the task.
        message: the message that is run; None for a task that is called as a function.
        facts: further attributes.

    Raises:
        AttributeError: on reading what is neither a fact of Celery's requests nor a custom header of this message.
    """

    called_directly = True
    is_eager = False
    id: str | None = None
    task: str | None = None
    args: Any = None
    kwargs: Any = None
    retries = 0
    hostname: str | None = None
    root_id: str | None = None
    parent_id: str | None = None
    logfile: str | None = None
    loglevel: int | None = None
    utc = True
    headers: dict[str, Any] | None = None
    #: Set by ``Task.retry``: the message that makes the next run.
    next_run: Message | None = None
    #: Set once the worker's own call has begun; further calls of the task in it are calls of a function.
    entered = False

    def __init__(self, owner: Any = None, message: Message | None = None, **facts: Any) -> None:
        self.owner = owner
        self.message = message
        self.outer: Context | None = None
        self.children: list[Any] = []
        if message is not None:
            self.called_directly = False
            self.id = message.id
            self.task = message.task
            self.args = message.args
            self.kwargs = message.kwargs
            self.retries = message.retries
            self.root_id = message.root_id
            self.parent_id = message.parent_id
            self.headers = message.headers
        self.__dict__.update(facts)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in _OWN:
            raise AttributeError(name)
        if name in _COMPUTED:
            return _COMPUTED[name](self, name)
        if self.message is not None and hasattr(self.message, name):
            return getattr(self.message, name)
        if self.headers and name in self.headers:
            return self.headers[name]
        if name in _DEFAULTS:
            return _DEFAULTS[name]
        raise AttributeError(f"The request of {self.task}[{self.id}] has no {name!r}, nor has it such a custom header")

    def _embedded(self, name: str) -> Any:
        return (self.message.embed or {}).get(name) if self.message is not None else None

    def _time(self, name: str) -> str | None:
        """Return ``eta`` or ``expires`` as Celery's requests hold them: as ISO 8601 text."""
        instant = getattr(self.message, name, None)
        return instant.isoformat() if instant is not None else None

    def _own_id(self, name: str) -> Any:
        return getattr(self.message, "correlation_id", None) or self.id

    def _group(self, name: str) -> Any:
        return getattr(self.message, "group", None)

    def _ignore_result(self, name: str) -> bool:
        return ignores_result(self.message, self.owner, getattr(self.owner, "app", None))

    def _delivery_info(self, name: str) -> dict[str, Any] | None:
        self.delivery_info = None if self.message is None else delivery_info(self.message)
        return self.delivery_info

    def _properties(self, name: str) -> dict[str, Any] | None:
        if self.message is None:
            return None
        return {
            "correlation_id": self.correlation_id,
            "reply_to": self.message.reply_to or "",
            "delivery_mode": 2,
            "priority": self.message.priority or 0,
            "delivery_info": self.delivery_info,
        }

    def get(self, key: str, default: Any = None) -> Any:
        """Return a fact by name, or ``default`` where there is none."""
        return getattr(self, key, default)

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Change facts of this run, as a dict's ``update``."""
        self.__dict__.update(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Context: {self.task}[{self.id}]>"


def delivery_info(message: Message) -> dict[str, Any]:
    """Return how a message came, in Celery's words."""
    return {"exchange": "", "routing_key": message.queue, "priority": message.priority or 0,
            "redelivered": message.redelivered}  # fmt: skip


#: Set in ``__init__``: looking further for one of them would never end.
_OWN = frozenset({"message", "owner", "outer", "children"})
#: Facts that are made from others, and how.
_COMPUTED: dict[str, Callable[[Context, str], Any]] = {
    **dict.fromkeys(("callbacks", "errbacks", "chain", "chord"), Context._embedded),
    **dict.fromkeys(("eta", "expires"), Context._time),
    "correlation_id": Context._own_id,
    "delivery_info": Context._delivery_info,
    "ignore_result": Context._ignore_result,
    "properties": Context._properties,
    "taskset": Context._group,
}
#: The facts of Celery's requests that a message holds, as they are without one.
_DEFAULTS: dict[str, Any] = {
    **dict.fromkeys((
        "argsrepr", "group", "group_index", "kwargsrepr", "origin", "priority", "queue", "reply_to", "shadow",
        "stamped_headers", "stamps", "timelimit",
    )),
    "replaced_task_nesting": 0,
}  # fmt: skip


def ignores_result(message: Message | None, task: Any, app: Any) -> bool:
    """Whether no result of a call is wanted: as its message says, else its task, else the settings."""
    ignored = getattr(message, "ignore_result", None)
    if ignored is None:
        ignored = getattr(task, "ignore_result", None)
    if ignored is None:
        ignored = app is not None and app.conf.task_ignore_result
    return bool(ignored)


_current: ContextVar[Context | None] = ContextVar("django_tasks_request", default=None)


def innermost_request() -> Context | None:
    """Return the request of the task whose code runs here now, even if it was called as a function."""
    return _current.get()


def runs() -> Iterator[Context]:
    """Yield the requests of the runs that go on here, the innermost first; calls of tasks as functions are none."""
    context = _current.get()
    while context is not None:
        if not context.called_directly:
            yield context
        context = context.outer


def current_request() -> Context | None:
    """Return the request of the run that goes on here, or None outside a task."""
    context = _current.get()
    while context is not None and context.called_directly:
        context = context.outer
    return context


def request_of(owner: Any) -> Context:
    """Return the innermost request of one task here, or an empty one when it does not run here."""
    context = _current.get()
    while context is not None:
        if context.owner is owner:
            return context
        context = context.outer
    return Context(owner, args=(), kwargs={}, headers={})


def enter(owner: Any) -> bool:
    """Say whether a call of the task that begins is the one that the run here is for; that is so only once."""
    context = _current.get()
    if context is None or context.owner is not owner or context.called_directly or context.entered:
        return False
    context.entered = True
    return True


def push(context: Context) -> Token[Context | None]:
    """Make this the current request, until ``pop``."""
    context.outer = _current.get()
    return _current.set(context)


def pop(token: Token[Context | None]) -> None:
    """Return to the request before ``push``."""
    _current.reset(token)


#: While True, ``get()`` inside a task is allowed.
join_allowed: ContextVar[bool] = ContextVar("django_tasks_join_allowed", default=False)


@contextmanager
def allow_join_result() -> Iterator[None]:
    """Allow ``get()`` inside a task: the slot it waits in cannot run what it waits for."""
    token = join_allowed.set(True)
    try:
        yield
    finally:
        join_allowed.reset(token)
