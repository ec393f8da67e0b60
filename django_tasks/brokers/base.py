"""What a broker is: six methods to write, and defaults that an implementation overrides where it can do better."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

from django_tasks.brokers.rules import still_held
from django_tasks.exceptions import DecodeError
from django_tasks.message import Message, decode_envelope
from django_tasks.pipes import drain, readable

if TYPE_CHECKING:
    from django_tasks.backends.base import ResultBackend
    from django_tasks.brokers.beat import ClaimStore
    from django_tasks.brokers.browse import Browser
    from django_tasks.brokers.control import Control
    from django_tasks.outcome import Outcome

#: Makes the messages that follow an outcome, once it is known which outcome was stored.
Follow = Callable[["Outcome"], list[Message]]

#: Seconds after which a reservation that its worker does not know of is taken for a lost reply.
UNKNOWN_RESERVATION_AGE = 10.0


@dataclass(slots=True)
class Delivery:
    """A message in a worker's hands.

    Attributes:
        handle: how the broker finds the message again.
        lease: the token of the one ``reserve`` that took it.
        deaths: workers that died while they held this message alone.
        refusals: times it was given back by workers that do not know its task.
        admitted: the rate limit has let it through already.
        holder: the dead worker that it was rescued from.
        error: why the message cannot be read; ``message`` then holds what little is known.
        more: asks the broker for what it has not told yet; None where it has told all.
    """

    message: Message
    queue: str
    handle: Any
    lease: int
    deaths: int = 0
    refusals: int = 0
    alone: bool = False
    redelivered: bool = False
    admitted: bool = False
    holder: str = ""
    error: DecodeError | None = None
    more: Callable[[], object] | None = None

    def complete(self) -> None:
        """Make sure that ``refusals`` and ``admitted`` are known, which few tasks need before they begin.

        Raises:
            OperationalError: the broker is away.
        """
        if self.more is not None:
            self.more()


class Verb(Enum):
    """What becomes of a delivery."""

    ACK = "ack"
    RETURN = "return"
    DEAD = "dead"


@dataclass(slots=True)
class Settlement:
    """How one delivery ends.

    Attributes:
        delay: with RETURN, seconds before it can be reserved again.
        reason: with DEAD, what to tell the operator.
        died: with RETURN, its worker died: it comes back to be reserved alone, and counts if it was alone already.
        refused: with RETURN, this worker does not know the task.
        admitted: with RETURN, its turn under the rate limit is the end of ``delay``.
    """

    delivery: Delivery
    verb: Verb
    delay: float = 0.0
    reason: str = ""
    died: bool = False
    refused: bool = False
    admitted: bool = False


@dataclass(slots=True)
class Beat:
    """One sign of life of one worker slot, with the leases it holds."""

    identity: str
    node: str
    pid: int
    queues: Sequence[str] = ()
    leases: frozenset[int] = frozenset()
    processed: int = 0
    paused: bool = False


@dataclass(slots=True)
class Size:
    """How many messages a queue has, by what they wait for."""

    waiting: int = 0
    delayed: int = 0
    reserved: int = 0
    dead: int = 0
    #: Seconds that the oldest waiting message has waited.
    oldest: float = 0.0


class Broker:
    """Base of all brokers.

    Args:
        url: the whole broker URL.
        accept: content types that may be decoded.
        max_size: bytes that a message may have; None for no limit.
        lease: seconds after its last heartbeat at which a worker is taken for dead.
        options: ``BROKER_TRANSPORT_OPTIONS``.
        timeout: seconds that the server has to take a connection, and to answer.
        tls: ``BROKER_USE_SSL``.
    """

    #: Other processes see the messages.
    shared: ClassVar[bool] = True
    #: Whether ``close`` closes what nobody else uses: then it is called when the settings come to name another broker.
    owns_connections: ClassVar[bool] = False
    #: Attributes with what is kept in this process alone: another broker of the same class and URL goes on with them.
    kept_here: ClassVar[tuple[str, ...]] = ()
    #: The database in whose transactions ``send`` takes part; None where it sends at once.
    transaction_alias: str | None = None
    #: Where orders to workers are left, and messages taken back by task id; None where that is not possible.
    control: Control | None = None
    #: What shows people its messages and workers (``browse.py``); None where that is not possible.
    browser: Browser | None = None
    #: Where beats claim what is due (``beat.py``); None where periodic tasks cannot be sent.
    claim_store: ClaimStore | None = None

    def __init__(
        self,
        url: str,
        *,
        accept: frozenset[str],
        max_size: int | None = None,
        lease: float = 30.0,
        options: dict[str, Any] | None = None,
        timeout: float = 2.0,
        tls: dict[str, Any] | None = None,
    ) -> None:
        self.url = url
        self.accept = accept
        self.max_size = max_size
        self.lease = lease
        self.options = options or {}
        self.timeout = timeout
        self.tls = tls
        self.clock: Callable[[], float] = time.time

    # -- required

    def send(self, messages: Sequence[Message]) -> None:
        """Put messages on their queues, all or none.

        One with a ``cause`` is passed over while another of its id and cause waits or runs, where that can be told.

        Raises:
            OperationalError: the broker cannot be reached.
            MessageTooLarge, EncodeError: one of them cannot be written; none is sent.
        """
        raise NotImplementedError

    def reserve(self, worker: str, queues: Sequence[str], limit: int, lease: int) -> list[Delivery]:
        """Take up to ``limit`` due messages for a worker, most urgent and oldest first, without waiting.

        ``lease`` is the caller's own new token, listed in its heartbeat from before the call, so that a reply that is
        lost on the way can be told from a message in work.
        """
        raise NotImplementedError

    def settle(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        """End deliveries; return those whose lease was lost, which stay as they are."""
        raise NotImplementedError

    def heartbeat(self, beats: Sequence[Beat]) -> None:
        """Renew the leases of living workers, and take back what the broker thinks they hold and they do not."""
        raise NotImplementedError

    def rescue(self, now: float, janitor: str, lease: int, dead: Iterable[str] = ()) -> list[Delivery]:
        """Bring due messages to their queues, and take over what dead workers held.

        Args:
            now: the broker's time (``self.now()``).
            janitor: identity that the deliveries belong to from here on, under ``lease``.
            dead: workers known to be dead, beside those without a recent heartbeat.
        """
        raise NotImplementedError

    def sizes(self, queues: Sequence[str] | None = None) -> dict[str, Size]:
        """Count messages by queue; of all queues that have any when ``queues`` is None."""
        raise NotImplementedError

    # -- defaults

    def now(self) -> float:
        """Return the server's time in seconds since the epoch."""
        return self.clock()

    def check(self) -> None:
        """Make sure that the broker can be used, or raise what to do about it."""
        self.sizes(["celery"])

    def close(self) -> None:
        """Drop this process's connections (before a fork, after a fork, at the end)."""

    def goodbye(self, identities: Sequence[str]) -> None:
        """Forget workers that stopped in good order."""

    def wait(self, queues: Sequence[str], timeout: float, wakeup: int) -> None:
        """Wait until there may be something to reserve or ``wakeup``, a file descriptor, is readable.

        Args:
            queues: those that this thread reserves from; none where it is not going to reserve for now.
        """
        if readable([wakeup], timeout):
            drain(wakeup)

    def confirm(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        """Return those whose lease still holds."""
        return list(settlements)

    def finish(self, backend: ResultBackend, outcomes: Sequence[Outcome], follow: Follow) -> list[Outcome]:
        """Store, send what follows, settle, in this order, so that a death in between makes a task run again.

        Returns:
            The outcomes that count: of those whose lease was lost nothing is stored or sent.
        """
        held = still_held(self, outcomes)
        backend.settle_winners(held)
        self.send([message for outcome in held for message in follow(outcome)])
        self.settle([o.settlement for o in held if o.settlement])
        return held

    def unsent(self, task_id: str) -> bool:
        """Whether the transaction that is open here has yet to send this id."""
        return False


def deliver(
    payload: str | bytes, accept: frozenset[str], queue: str, handle: Any, lease: int, deaths: int = 0,
    refusals: int = 0, alone: bool = False, redelivered: bool = False, admitted: bool = False, holder: str = "",
) -> Delivery:  # fmt: skip
    """Make a delivery of a stored envelope; one that cannot be read carries its error."""
    error = None
    try:
        message = decode_envelope(payload, accept)
    except DecodeError as exc:
        message = Message(task=exc.task or "?", id=exc.id or "")
        error = exc
    message.queue = queue
    message.redelivered = message.redelivered or redelivered
    return Delivery(message, queue, handle, lease, deaths, refusals, alone, redelivered, admitted, holder, error)


def new_lease() -> int:
    """Return a new lease token: 63 random bits."""
    return int.from_bytes(os.urandom(8), "big") >> 1
