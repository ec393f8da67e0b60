"""What people see of a broker, and what they do to its dead letters: a browser, where the broker has one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django_tasks.backends.base import ResultBackend

#: Where a message is: on its queue, on its queue from a later time on, in a worker's hands, among the dead letters.
WAITING, DELAYED, RUNNING, DEAD = "waiting", "delayed", "running", "dead"
STATES = (WAITING, DELAYED, RUNNING, DEAD)


@dataclass(frozen=True)
class Wanted:
    """Which messages are meant: those that fit everything given.

    Attributes:
        states: some of ``STATES``.
        queue: name of their queue; empty for any.
        task: name of their task; empty for any.
        ids: task ids; None for any.
        refused: only those that a worker gave back because it does not know their task.
    """

    states: Sequence[str] = STATES
    queue: str = ""
    task: str = ""
    ids: Sequence[str] | None = None
    refused: bool = False


#: How the part of a janitor's identity after that of its worker begins, also where the worker keeps its size.
JANITOR, FIXED = "janitor-", "janitor-fixed-"


@dataclass(slots=True)
class StoredMessage:
    """A message as the broker keeps it. Instants are seconds since the epoch.

    Attributes:
        handle: how the broker finds it again.
        state: one of ``STATES``.
        due_at: when a delayed message comes to its queue.
        worker: identity of the worker that holds it.
        reserved_at: when that worker, or for a dead letter the last one, took it.
        deaths: workers that died while they held it alone.
        refusals: times it was given back by workers that do not know its task.
        alone: it is handed out alone, because a worker died with it.
        redelivered: a worker died with it.
        reason: why it is a dead letter.
        payload: the envelope; None unless it was asked for.
    """

    handle: Any
    id: str
    task: str
    queue: str
    state: str
    priority: int = 0
    sent_at: float | None = None
    due_at: float | None = None
    worker: str = ""
    reserved_at: float | None = None
    deaths: int = 0
    refusals: int = 0
    alone: bool = False
    redelivered: bool = False
    reason: str = ""
    payload: str | bytes | None = None


@dataclass(slots=True)
class SeenWorker:
    """One slot of a worker as its heartbeats show it (a worker's janitor has a row of its own).

    Attributes:
        identity: its name, which no other start of a worker has.
        node: ``name@host`` of its worker.
        age: seconds since its last heartbeat.
        alive: whether that is recent enough for its messages to stay its own.
        processed: tasks it has run.
        late: whether the next heartbeat should have come long since.
        paused: whether it was told to take nothing more.
    """

    identity: str
    node: str
    pid: int
    queues: Sequence[str]
    age: float
    alive: bool
    processed: int = 0
    late: bool = False
    paused: bool = False

    @property
    def janitor(self) -> bool:
        """Whether it is a worker's janitor, which runs no tasks."""
        return self.identity.startswith(f"{self.node}/{JANITOR}")

    @property
    def fixed(self) -> bool:
        """Whether it is the janitor of a worker that does not obey orders to grow or shrink."""
        return self.identity.startswith(f"{self.node}/{FIXED}")


class Browser:
    """Base of all browsers."""

    def messages(
        self, wanted: Wanted, limit: int, after: StoredMessage | None = None, *, payload: bool = False
    ) -> list[StoredMessage]:
        """Return messages, newest first.

        Args:
            limit: how many at most.
            after: the last one of the page before.
            payload: whether to read the envelopes, too.
        """
        raise NotImplementedError

    def workers(self) -> list[SeenWorker]:
        """Return all slots with a heartbeat, ordered by node."""
        raise NotImplementedError

    def resend(self, letters: Sequence[StoredMessage], backend: ResultBackend) -> list[str]:
        """Let dead letters wait on their queues again, as if no worker had ever refused them or died with them.

        What the result backend knows of them is forgotten before any worker can take them, since it would stand in the
        way of their new outcome.

        Returns:
            The task ids of those that were still dead letters.
        """
        raise NotImplementedError

    def drop(self, letters: Sequence[StoredMessage]) -> int:
        """Delete dead letters; return how many there were. Their results stay."""
        raise NotImplementedError
