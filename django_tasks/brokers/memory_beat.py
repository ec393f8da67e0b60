"""Claims of periodic tasks in memory."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from django_tasks.brokers.beat import Claim, ClaimStore, EntryState
from django_tasks.brokers.rules import stored_envelope

if TYPE_CHECKING:
    from django_tasks.brokers.memory import MemoryBroker


class MemoryClaims(ClaimStore):
    """States in a dict of the broker's, changed under its lock."""

    def __init__(self, broker: MemoryBroker) -> None:
        self.broker = broker

    def now(self) -> float:
        """Return the broker's time."""
        return self.broker.now()

    def states(self, names: Sequence[str] | None = None) -> dict[str, EntryState]:
        """Return the states of entries."""
        with self.broker.lock:
            wanted = list(self.broker.claims) if names is None else names
            return {name: self.broker.claims[name] for name in wanted if name in self.broker.claims}

    def add(self, states: Sequence[EntryState]) -> None:
        """Store states of entries that have none yet."""
        with self.broker.lock:
            for state in states:
                self.broker.claims.setdefault(state.name, state)

    def prepare(self, claim: Claim) -> None:
        """Make sure that the messages can be sent."""
        for message in claim.messages:
            stored_envelope(message, self.broker.max_size)

    def claim(self, claims: Sequence[Claim]) -> set[str]:
        """Change states and send, both under the lock."""
        won = set()
        with self.broker.lock:
            for claim in claims:
                name = claim.before.name
                known = self.broker.claims.get(name)
                if known is not None and known.version == claim.before.version:
                    self.broker.send(claim.messages)
                    self.broker.claims[name] = claim.after
                    won.add(name)
        self.call(claim for claim in claims if claim.before.name in won)
        return won

    def running(self, task_ids: Collection[str]) -> set[str]:
        """Return the ids of entries that are no dead letters."""
        with self.broker.lock:
            return {e.id for e in self.broker.entries.values() if e.reason is None and e.id in task_ids}

    def forget(self, names: Sequence[str]) -> None:
        """Delete states."""
        with self.broker.lock:
            for name in names:
                self.broker.claims.pop(name, None)
