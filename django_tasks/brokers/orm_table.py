"""The table of messages: what the ORM broker does to its rows."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

from django_tasks.brokers import orm_sql as sql
from django_tasks.brokers.base import Settlement, Verb
from django_tasks.brokers.rules import stored_envelope
from django_tasks.databases import Database, storable
from django_tasks.exceptions import LeaseLost
from django_tasks.message import Message
from django_tasks.models import QueuedMessage

READY, ALONE, DELAYED = QueuedMessage.READY, QueuedMessage.ALONE, QueuedMessage.DELAYED
#: Rows and characters of one INSERT: far below MariaDB's usual packet size.
CHUNK_ROWS, CHUNK_SIZE = 2000, 1024 * 1024
#: Statements after which promoting makes a pause, for the sake of the heartbeat.
MOST_PROMOTIONS = 20

Row = Sequence[Any]


class MessageTable:
    """Statements on ``django_tasks_message``; each is one short transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def insert(self, rows: Sequence[Row]) -> None:
        """Insert rows (values in the order of ``orm_sql.COLUMNS``), all or none."""
        if len(rows) == 1:
            self.database.check_size([rows[0][-1]])
            self._insert(rows)
            return
        chunks = list(_chunks(rows))
        with self.database.atomic() if len(chunks) > 1 else nullcontext():
            for chunk in chunks:
                self._insert(chunk)

    def _insert(self, rows: Sequence[Row]) -> None:
        vendor = self.database.vendor
        insert = sql.insert_once if any(row[-2] is not None for row in rows) else sql.insert
        listened = vendor == "postgresql" and any(row[3] == READY for row in rows)
        self.database.write(insert(vendor, len(rows), listened), sql.COLUMNS, rows)

    def claim(self, status: int, queue: str, limit: int, worker: str, lease: int, now: float) -> list[Row]:
        """Reserve up to ``limit`` rows; return ``orm_sql.RESERVED_COLUMNS`` in order of urgency and age."""
        vendor = self.database.vendor
        if vendor == "sqlite" and not self.database.query(sql.ANY_READY, [status, queue]):
            return []  # an UPDATE would take the one write lock even to find nothing
        if vendor in sql.CLAIM:
            rows = self.database.query(sql.CLAIM[vendor], [worker, lease, now, status, queue, limit])
            rows.sort(key=lambda row: (row[7], row[0]))
            return rows
        with self.database.atomic():
            rows = self.database.query(sql.SELECT_FOR_CLAIM + self._lock(), [status, queue, limit])
            self.mark([row[0] for row in rows], worker, lease, now)
        return rows

    def claim_part(
        self, part: str, place: Sequence[int], queue: str, limit: int, worker: str, lease: int, now: float
    ) -> list[Row]:
        """As ``claim``, for the part of a queue that a statement of ``orm_sql`` looks at (PostgreSQL)."""
        rows = self.database.query(part, [worker, lease, now, READY, queue, *place, limit])
        rows.sort(key=lambda row: (row[7], row[0]))
        return rows

    def _lock(self) -> str:
        return " FOR UPDATE SKIP LOCKED" if self.database.skip_locked else " FOR UPDATE"

    def mark(self, ids: Sequence[int], worker: str, lease: int, now: float) -> None:
        """Reserve locked rows."""
        if ids:
            self.database.change(sql.mark_claimed(ids), [worker, lease, now])

    def promote(self, now: float) -> None:
        """Make delayed rows ready whose time has come."""
        for _ in range(MOST_PROMOTIONS):
            if not self.database.query(sql.ANY_DUE, [now]):
                return
            promoted = self._promote(now)
            self._notify()
            if promoted < sql.PROMOTED:
                return

    def _promote(self, now: float) -> int:
        vendor = self.database.vendor
        if vendor in sql.PROMOTE:
            return self.database.change(sql.PROMOTE[vendor], [now])
        with self.database.atomic():
            ids = [row[0] for row in self.database.query(sql.SELECT_DUE + self._lock(), [now])]
            return self.database.change(sql.mark_ready(ids)) if ids else 0

    def names(self, ids: Sequence[int]) -> list[Row]:
        """Return id, task name and task id of rows."""
        return self.database.query(sql.names(ids))

    def _notify(self) -> None:
        """Wake idle workers where the database can."""
        if self.database.vendor == "postgresql":
            self.database.query(sql.NOTIFY)

    def settle(self, settlements: Sequence[Settlement], now: float) -> None:
        """Settle all of them, or change nothing.

        Raises:
            LeaseLost: one of them is no longer its worker's.
        """
        with self.database.atomic():
            self.settle_here(settlements, now)

    def settle_here(self, settlements: Sequence[Settlement], now: float) -> None:
        """Settle all of them in the open transaction, which has to be rolled back if that fails. Raises: as above."""
        done = 0
        for (lease,), ids in _grouped(settlements, Verb.ACK, lambda s: ()):
            done += self.database.change(sql.acknowledge(ids), [lease])
        returned = False
        for (lease, *values), ids in _grouped(settlements, Verb.RETURN, lambda s: _returned_values(s, now)):
            done += self.database.change(sql.give_back(ids), [*values, lease])
            returned = True
        for s in settlements:
            if s.verb is Verb.DEAD:
                done += self.database.change(sql.BURY, [storable(s.reason), s.delivery.handle, s.delivery.lease])
        wanted = len({(s.delivery.handle, s.delivery.lease) for s in settlements})
        if done != wanted:
            raise LeaseLost(f"{wanted - done} of {wanted} messages were taken over by others")
        if returned:
            self._notify()

    def held(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        """Return those whose lease holds; inside a transaction their rows stay locked until its end."""
        ids = sorted(s.delivery.handle for s in settlements)
        if not ids:
            return []
        rows = self.database.query(sql.held(ids) + self.database.locking_clause)
        held = {(pk, lease) for pk, lease in rows}
        return [s for s in settlements if (s.delivery.handle, s.delivery.lease) in held]


def row_of(message: Message, now: float, max_size: int | None) -> Row:
    """Return the values of ``orm_sql.COLUMNS`` for a new message."""
    due = message.eta.timestamp() if message.eta else 0.0
    status, due_at = (DELAYED, due) if due > now else (READY, None)
    payload = stored_envelope(message, max_size)
    cause = None if message.cause is None else _number(message.cause)
    return (message.id, message.task, message.queue, status, -(message.priority or 0), now, due_at, cause, payload)


def _number(cause: str) -> int:
    """Return 63 bits that stand for a cause; beside the task id they have to tell apart only what one id comes from."""
    return int.from_bytes(hashlib.blake2b(cause.encode(), digest_size=8).digest(), "big") >> 1


def _chunks(rows: Sequence[Row]) -> Iterator[list[Row]]:
    chunk: list[Row] = []
    size = 0
    for row in rows:
        if chunk and (len(chunk) == CHUNK_ROWS or size + len(row[-1]) > CHUNK_SIZE):
            yield chunk
            chunk, size = [], 0
        chunk.append(row)
        size += len(row[-1])
    if chunk:
        yield chunk


def _grouped(
    settlements: Sequence[Settlement], verb: Verb, values: Callable[[Settlement], Row]
) -> Iterable[tuple[Row, list[int]]]:
    """Return the ids of rows by their lease and the values they get, so that a batch takes few statements."""
    groups: defaultdict[Row, set[int]] = defaultdict(set)
    for s in settlements:
        if s.verb is verb:
            key = (s.delivery.lease, *values(s))
            groups[key].add(s.delivery.handle)
    return [(key, sorted(ids)) for key, ids in groups.items()]


def _returned_values(s: Settlement, now: float) -> tuple[Any, ...]:
    delivery = s.delivery
    alone = delivery.alone or s.died
    status = DELAYED if s.delay > 0 else ALONE if alone else READY
    due = round(now + s.delay, 3) if s.delay > 0 else None
    deaths = delivery.deaths + (1 if s.died and delivery.alone else 0)
    refusals = delivery.refusals + (1 if s.refused else 0)
    return (status, due, deaths, refusals, alone, delivery.redelivered or s.died, delivery.admitted or s.admitted)
