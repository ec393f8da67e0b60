"""What a run came to, and the record of it that a result backend keeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django_tasks import states
from django_tasks.message import Message
from django_tasks.serialization import Encoded

if TYPE_CHECKING:
    from django_tasks.brokers.base import Settlement


@dataclass(slots=True)
class TaskMeta:
    """What a result backend remembers of one task id (Celery's result meta, celery-wire section 4.1).

    ``result`` is serialised: the return value, or the exception as ``errors.exception_to_dict`` gives it.
    """

    task_id: str
    status: str
    result: Encoded | None = None
    traceback: str | None = None
    children: list[Any] = field(default_factory=list)
    date_done: datetime | None = None
    date_started: datetime | None = None
    group_id: str | None = None
    parent_id: str | None = None
    name: str = ""
    args: Any = None
    kwargs: Any = None
    worker: str = ""
    retries: int = 0
    queue: str = ""

    @property
    def ready(self) -> bool:
        """Whether the task has ended."""
        return self.status in states.READY_STATES


@dataclass(slots=True)
class Outcome:
    """What one run of a message came to.

    Attributes:
        state: the task's state after this run; ``IGNORED`` and ``REJECTED`` are never stored.
        value: the return value, or the exception.
        meta: what to store; None when nothing is to be stored.
        settlement: what becomes of the message; None when no delivery stands behind this.
        next_run: the message of the next run, after a retry.
        follow: whether callbacks, errbacks and the rest of a chain are to be sent.
        runtime: seconds the call took.
        tell: calls the task's hooks and receivers with this outcome, once it is stored; None where nobody listens.
        discarded: why what the run came to does not count, once that is known; empty if it does.
    """

    message: Message
    state: str
    value: Any = None
    traceback: str | None = None
    meta: TaskMeta | None = None
    settlement: Settlement | None = None
    next_run: Message | None = None
    follow: bool = True
    runtime: float = 0.0
    tell: Callable[[Outcome], None] | None = None
    discarded: str = ""
