"""What runs right now: the request of the current task, per thread and per coroutine."""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django_tasks.message import Message


class Context:
    """The facts of one run, as ``self.request`` (Celery's ``Context``).

    What is not an attribute of its own is looked up in the message, then in the message's custom headers.
    """

    called_directly = True
    is_eager = False
    id: str | None = None
    task: str | None = None
    args: Any = None
    kwargs: Any = None
    retries = 0
    hostname: str | None = None
    delivery_info: dict[str, Any] | None = None
    root_id: str | None = None
    parent_id: str | None = None
    logfile: str | None = None
    loglevel: int | None = None
    utc = True
    headers: dict[str, Any] | None = None
    ignore_result: bool | None = None
    #: Set by ``Task.retry``: the message that makes the next run.
    next_run: Message | None = None

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
        if name.startswith("__") or name in MESSAGE_FREE:
            raise AttributeError(name)
        message = self.__dict__.get("message")
        if message is not None:
            if name in EMBEDDED:
                return (message.embed or {}).get(name)
            try:
                return getattr(message, name)
            except AttributeError:
                return (message.headers or {}).get(name)
        return None

    def get(self, key: str, default: Any = None) -> Any:
        """Return a fact by name, or ``default``."""
        value = getattr(self, key, None)
        return default if value is None else value

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Change facts of this run, as a dict's ``update``."""
        self.__dict__.update(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Context: {self.task}[{self.id}]>"


#: Parts of the message's ``embed`` that Celery shows as attributes of the request.
EMBEDDED = frozenset({"callbacks", "errbacks", "chain", "chord"})
MESSAGE_FREE = frozenset({"message", "owner", "outer", "children"})

_current: ContextVar[Context | None] = ContextVar("django_tasks_request", default=None)


def current_request() -> Context | None:
    """Return the request of the task that runs here now, or None outside a task."""
    return _current.get()


def request_of(owner: Any) -> Context:
    """Return the innermost request of one task here, or an empty one when it does not run here."""
    context = _current.get()
    while context is not None:
        if context.owner is owner:
            return context
        context = context.outer
    return Context(owner, args=(), kwargs={}, headers={})


def push(context: Context) -> Token[Context | None]:
    """Make this the current request, until ``pop``."""
    context.outer = _current.get()
    return _current.set(context)


def pop(token: Token[Context | None]) -> None:
    """Return to the request before ``push``."""
    _current.reset(token)


#: While True, ``get()`` inside a task is allowed (``allow_join_result``).
join_allowed: ContextVar[bool] = ContextVar("django_tasks_join_allowed", default=False)
