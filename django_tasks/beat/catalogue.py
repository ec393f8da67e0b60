"""All entries of a beat, from all its sources."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from django_tasks.beat.entry import Entry
from django_tasks.beat.sources import Source
from django_tasks.exceptions import OperationalError

logger = logging.getLogger("django_tasks.beat")

#: Seconds between two reports that a source is away.
REPORT = 60.0


class Catalogue:
    """Puts sources together: of entries with one name, that of the later source counts.

    Args:
        sources: those that win over others last.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = sources
        self._entries: list[dict[str, Entry]] = [{} for _ in sources]
        self._paused: list[frozenset[str]] = [frozenset() for _ in sources]
        self._report_after = 0.0

    def load(self) -> None:
        """Read all entries."""
        for number, source in enumerate(self.sources):
            self._entries[number] = {entry.name: entry for entry in source.entries()}
            self._paused[number] = frozenset(source.paused())

    def refresh(self) -> set[str]:
        """Ask the sources what has changed; return the names that this is about. One that is away has not changed."""
        touched: set[str] = set()
        for number, source in enumerate(self.sources):
            try:
                changes, paused = source.changes(), frozenset(source.paused())
            except OperationalError as exc:
                self._report(exc)
                continue
            known = self._entries[number]
            for entry in changes.changed:
                known[entry.name] = entry
            for name in changes.removed:
                known.pop(name, None)
            touched.update((entry.name for entry in changes.changed), changes.removed, paused ^ self._paused[number])
            self._paused[number] = paused
        return touched

    def confirm(self, names: Sequence[str]) -> tuple[set[str], set[str]]:
        """Ask the sources whether these entries are still as they were.

        Returns:
            The names of those that are not, and of those whose source is away.
        """
        touched: set[str] = set()
        away: set[str] = set()
        for number, asked in self._by_owner(names).items():
            known = self._entries[number]
            try:
                valid = self.sources[number].still_valid(asked)
            except OperationalError as exc:
                self._report(exc)
                away.update(asked)
                continue
            for name, entry in valid.items():
                if entry is None:
                    known.pop(name, None)
                    touched.add(name)
                elif entry != known.get(name):
                    known[name] = entry
                    touched.add(name)
        return touched, away

    def _report(self, exc: OperationalError) -> None:
        now = time.monotonic()
        if now >= self._report_after:
            logger.error("A part of the schedule cannot be read, the rest is served: %s", exc)
            self._report_after = now + REPORT

    def _by_owner(self, names: Iterable[str]) -> dict[int, list[str]]:
        """Return names by the number of the source that has the last word about them."""
        owners: dict[int, list[str]] = {}
        for name in names:
            if (owner := self._owner(name)) is not None:
                owners.setdefault(owner, []).append(name)
        return owners

    def get(self, name: str) -> Entry | None:
        """Return an entry as it counts; None if there is none."""
        owner = self._owner(name)
        if owner is None:
            return None
        entry = self._entries[owner][name]
        paused = entry.enabled and any(name in names for names in self._paused[owner + 1 :])
        return replace(entry, enabled=False) if paused else entry

    def _owner(self, name: str) -> int | None:
        """Return the number of the source that has the last word about an entry."""
        numbers = range(len(self._entries) - 1, -1, -1)
        return next((number for number in numbers if name in self._entries[number]), None)

    def names(self) -> list[str]:
        """Return the names of all entries."""
        return list(dict.fromkeys(name for known in self._entries for name in known))

    def __iter__(self) -> Iterator[Entry]:
        return (entry for name in self.names() if (entry := self.get(name)) is not None)

    def __len__(self) -> int:
        return len(self.names())

    def tell_fired(self, names: Iterable[str]) -> None:
        """Tell the sources whose entries have been sent."""
        for number, fired in self._by_owner(names).items():
            self.sources[number].fired(fired)
