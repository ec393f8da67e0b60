"""Browsing the memory broker."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from django_tasks.brokers.browse import DEAD, DELAYED, RUNNING, WAITING, Browser, SeenWorker, StoredMessage, Wanted

if TYPE_CHECKING:
    from django_tasks.backends.base import ResultBackend
    from django_tasks.brokers.memory import Entry, MemoryBroker


class MemoryBrowser(Browser):
    """Reads the entries of this process."""

    def __init__(self, broker: MemoryBroker) -> None:
        self.broker = broker

    def messages(
        self, wanted: Wanted, limit: int, after: StoredMessage | None = None, *, payload: bool = False
    ) -> list[StoredMessage]:
        """Look through all entries, newest first."""
        with self.broker.lock:
            numbers = sorted(self.broker.entries, reverse=True)
            stored = [self._stored(self.broker.entries[number], payload) for number in numbers]
        found = [
            each for each in stored
            if each.state in wanted.states
            and wanted.queue in ("", each.queue)
            and wanted.task in ("", each.task)
            and (wanted.ids is None or each.id in wanted.ids)
            and (each.refusals or not wanted.refused)
            and (after is None or each.handle < after.handle)
        ]  # fmt: skip
        return found[:limit]

    def _stored(self, entry: Entry, payload: bool) -> StoredMessage:
        return StoredMessage(
            entry.number, entry.id, entry.task, entry.queue, self._state(entry), priority=entry.priority,
            sent_at=entry.sent_at, due_at=entry.due_at or None, worker=entry.worker or "",
            reserved_at=entry.reserved_at or None, deaths=entry.deaths, refusals=entry.refusals, alone=entry.alone,
            redelivered=entry.redelivered, reason=entry.reason or "", payload=entry.payload if payload else None,
        )  # fmt: skip

    def _state(self, entry: Entry) -> str:
        if entry.reason is not None:
            return DEAD
        if entry.worker:
            return RUNNING
        return DELAYED if entry.due_at > self.broker.now() else WAITING

    def workers(self) -> list[SeenWorker]:
        """Return what has sent a heartbeat; all of it is in this process."""
        now = self.broker.now()
        with self.broker.lock:
            seen = sorted(self.broker.seen.items())
        return [
            SeenWorker(identity, identity.partition("/")[0], os.getpid(), [], now - at, now - at <= self.broker.lease)
            for identity, at in seen
        ]

    def resend(self, letters: Sequence[StoredMessage], backend: ResultBackend) -> list[str]:
        """Forget the results, then let the entries wait, under the broker's lock."""
        with self.broker.lock:
            entries = self._dead(letters)
            backend.forget([entry.id for entry in entries])
            for entry in entries:
                entry.reason, entry.worker, entry.lease = None, None, None
                entry.deaths = entry.refusals = 0
                entry.due_at, entry.sent_at, entry.redelivered = 0.0, self.broker.now(), True
            return [entry.id for entry in entries]

    def drop(self, letters: Sequence[StoredMessage]) -> int:
        """Remove entries."""
        with self.broker.lock:
            entries = self._dead(letters)
            for entry in entries:
                del self.broker.entries[entry.number]
            return len(entries)

    def _dead(self, letters: Sequence[StoredMessage]) -> list[Entry]:
        found = [self.broker.entries.get(letter.handle) for letter in letters]
        return [entry for entry in found if entry is not None and entry.reason is not None]
