"""When a scheduler comes back to which entry."""

from __future__ import annotations

import heapq
from collections.abc import Collection
from dataclasses import dataclass

from django_tasks.beat.policies import Plan
from django_tasks.brokers.beat import EntryState

#: Places of the heap beyond which those that are out of date are thrown out.
SPARE = 100


@dataclass(slots=True)
class Item:
    """What is known of an entry.

    Attributes:
        state: as of the last look into the store.
        at: when to come back to it; None: when it changes.
        first: its first slot that is not done with, where that is known.
    """

    state: EntryState
    at: float | None = None
    first: float | None = None


class Agenda:
    """Entries by the instant at which something is to be done about them."""

    def __init__(self) -> None:
        self._items: dict[str, Item] = {}
        self._heap: list[tuple[float, str]] = []

    def __getitem__(self, name: str) -> Item:
        return self._items[name]

    def __contains__(self, name: str) -> bool:
        return name in self._items

    def note(self, state: EntryState, plan: Plan) -> None:
        """Write down the state of an entry, and come back to it as planned."""
        item = self._items.setdefault(state.name, Item(state))
        item.state, item.at, item.first = state, plan.next, plan.first
        if item.at is not None:
            heapq.heappush(self._heap, (item.at, state.name))
            if len(self._heap) > 2 * len(self._items) + SPARE:  # places that nobody comes back to
                self._heap = [(each.at, name) for name, each in self._items.items() if each.at is not None]
                heapq.heapify(self._heap)

    def drop(self, name: str) -> None:
        """Forget an entry."""
        self._items.pop(name, None)

    def due(self, now: float, most: int) -> list[str]:
        """Return the names of entries to see to now; they stay there until they are noted anew."""
        names: dict[str, None] = {}
        put_back = []
        while self._heap and self._heap[0][0] <= now and len(names) < most:
            place = heapq.heappop(self._heap)
            item = self._items.get(place[1])
            if item is not None and item.at == place[0] and place[1] not in names:
                names[place[1]] = None
                put_back.append(place)
        for place in put_back:
            heapq.heappush(self._heap, place)
        return list(names)

    def next(self) -> float | None:
        """Return the instant at which something is to be done; None where there is none."""
        while self._heap:
            at, name = self._heap[0]
            item = self._items.get(name)
            if item is not None and item.at == at:
                return at
            heapq.heappop(self._heap)
        return None

    def upcoming(self, names: Collection[str]) -> list[tuple[float, str]]:
        """Return when some entries are next seen to, the earliest first."""
        found = [(item.at, name) for name in names if (item := self._items.get(name)) and item.at is not None]
        return sorted(found)
