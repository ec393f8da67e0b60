"""What periodic tasks need of a broker: to keep what has become of each entry, and to let each slot be sent once.

However many beats there are, none is the leader. Each one sees by itself that an entry is due, and the store decides:
of all that claim it from one and the same state, one wins.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from django_tasks.message import Message

logger = logging.getLogger("django_tasks.beat")

#: Characters that the name of an entry may have.
NAME_LENGTH = 200
#: Seconds for which a claim without its messages is left to the beat that made it; then any beat sends them.
UNSENT_AGE = 5.0


class EntryState(NamedTuple):
    """What has become of an entry so far. Instants are seconds since the epoch on the server's clock.

    Attributes:
        name: of the entry.
        anchor: when it began: the origin of the slots of an interval.
        begun: when its schedule became what it is: only slots after that count.
        slot: all slots up to this instant are done with; None while there was none.
        fired: the slot of its last message; None while there was none.
        runs: how many messages it has sent.
        last_id: task id of the last one.
        definition: fingerprint of that schedule (``Entry.definition``).
        claimed_at: when this state was written.
        version: grows by one with each change.
    """

    name: str
    anchor: float
    begun: float
    slot: float | None = None
    fired: float | None = None
    runs: int = 0
    last_id: str = ""
    definition: str = ""
    claimed_at: float = 0.0
    version: int = 1

    @property
    def done(self) -> float:
        """The instant up to which all slots are done with."""
        return self.begun if self.slot is None else max(self.slot, self.begun)

    @property
    def has_fired(self) -> bool:
        """Whether it has sent a message since its schedule became what it is."""
        return self.fired is not None and self.fired > self.begun


@dataclass(slots=True, frozen=True)
class Call:
    """A slot whose message the task sends by itself.

    Attributes:
        slot: the slot.
        task: name of the task.
        id: the task id that it is told to take.
        make: lets it send.
    """

    slot: float
    task: str
    id: str
    make: Callable[[], object]


@dataclass(slots=True)
class Claim:
    """A wish to bring an entry from one state to the next, and to send the messages that belong to that.

    Attributes:
        before: the state that it was decided from.
        after: the state that is to hold, with the next version.
        messages: what is to be sent with it, the oldest slot first; each has an id of its entry and slot.
        slots: the slots of these messages.
        calls: made by whoever wins the claim, within its transaction where there is one; it has no messages then.
    """

    before: EntryState
    after: EntryState
    messages: Sequence[Message] = ()
    slots: Sequence[float] = ()
    calls: Sequence[Call] = ()
    #: What the store has made of the messages, in its own form.
    written: list[object] = field(default_factory=list)


class ClaimStore:
    """Base of all stores of claims."""

    def now(self) -> float:
        """Return the server's time in seconds since the epoch; it is compared with ours every ten seconds.

        Raises:
            OperationalError: it is away.
        """
        raise NotImplementedError

    def check(self) -> None:
        """Make sure that it can be used, or raise what to do about it."""

    def states(self, names: Sequence[str] | None = None) -> dict[str, EntryState]:
        """Return the states of entries by name, those without one left out; of all when ``names`` is None."""
        raise NotImplementedError

    def add(self, states: Sequence[EntryState]) -> None:
        """Store states of entries that have none yet; those that have one are passed over."""
        raise NotImplementedError

    def prepare(self, claim: Claim) -> None:
        """Write the messages of a claim as they are sent.

        Raises:
            EncodeError, MessageTooLarge: one cannot be written.
        """
        raise NotImplementedError

    def claim(self, claims: Sequence[Claim]) -> set[str]:
        """Make all claims whose entry is still in the state that they come from, and send their messages.

        Returns:
            The names of those entries; the messages of all of them are sent or, when this process dies before, will be.

        Raises:
            OperationalError: the server is away; each claim may have been made or not.
        """
        raise NotImplementedError

    def call(self, claims: Iterable[Claim]) -> None:
        """Make the calls of claims that hold already, whatever becomes of the calls: of one that fails nothing is left.

        For stores in which that cannot be one transaction.
        """
        for claim in claims:
            try:
                for call in claim.calls:
                    call.make()
            except Exception as exc:  # what the user's own code raises
                logger.error("Entry %r cannot be sent, its run is left out: %s", claim.before.name, exc,
                             exc_info=True)  # fmt: skip
                claim.calls = ()

    def send_left(self) -> int:
        """Send what beats have claimed and not sent within ``UNSENT_AGE``; return how many entries that was."""
        return 0

    def running(self, task_ids: Collection[str]) -> set[str]:
        """Return which of these calls the broker still has: waiting, delayed, or in a worker's hands."""
        raise NotImplementedError

    def forget(self, names: Sequence[str]) -> None:
        """Delete states, so that entries of these names begin anew."""
        raise NotImplementedError
