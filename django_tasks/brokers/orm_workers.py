"""The table of workers: who lives, who died, and what the dead left behind."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from django.db import connections
from django.db.models import Count, Min

from django_tasks.brokers import orm_sql as sql
from django_tasks.brokers.base import (
    UNKNOWN_RESERVATION_AGE,
    Beat,
    Delivery,
    Settlement,
    Size,
    Verb,
    deliver,
)
from django_tasks.brokers.control import Control, Order
from django_tasks.brokers.orm_table import MessageTable
from django_tasks.chunks import chunked
from django_tasks.databases import Database
from django_tasks.models import QueuedMessage, WorkerOrder, WorkerProcess

#: Messages taken over from dead workers at a time.
RESCUE_LIMIT = 200
#: Seconds for which orders to workers are kept.
ORDER_AGE = 3600.0
#: Numbers by which one order may overtake another.
LOOK_BACK = 1000
#: Seconds between looks at the server's clock.
CLOCK_AGE = 60.0
#: Task ids of one statement.
CHUNK = 500


class ServerClock:
    """The seconds by which the server's clock is ahead of ours.

    Every process that reserves has to know them: else the age of its reservations would be off by as much.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.offset = 0.0
        self._asked_at: float | None = None

    def keep_set(self, clock: Callable[[], float], age: float = CLOCK_AGE) -> None:
        """Ask the server now and then, after so many seconds; ``clock`` gives our own time."""
        if self._asked_at is not None and time.monotonic() - self._asked_at < age:
            return
        if statement := sql.CLOCK.get(self.database.vendor):
            self.offset = self.database.run(lambda: float(self.database.query(statement)[0][0]) - clock())
        self._asked_at = time.monotonic()


def delivery_of(row: QueuedMessage, accept: frozenset[str], lease: int) -> Delivery:
    """Make a delivery of a row that was just reserved under ``lease``."""
    delivery = deliver(row.payload, accept, row.queue, row.pk, lease, deaths=row.deaths, refusals=row.refusals,
                       alone=row.alone, redelivered=row.redelivered, admitted=row.admitted)  # fmt: skip
    if delivery.error is not None and not delivery.message.id:
        delivery.message.task, delivery.message.id = row.task, row.task_id
    return delivery


def _locked(rows: Any) -> Any:
    """Lock rows until the transaction ends; SQLite instead refuses to write after others wrote what was read."""
    return rows.select_for_update() if connections[rows.db].features.has_select_for_update else rows


def _delete(rows: Any) -> None:
    """Delete the few rows that fit, if any: MariaDB would lock all others, too, in looking for them."""
    if found := list(rows.values_list("pk", flat=True)):
        rows.filter(pk__in=found).delete()


class WorkerTable:
    """Statements on ``django_tasks_worker`` and on the messages that workers hold."""

    def __init__(self, database: Database, messages: MessageTable, accept: frozenset[str]) -> None:
        self.database = database
        self.messages = messages
        self.accept = accept

    def _rows(self) -> Any:
        return WorkerProcess.objects.using(self.database.alias)

    def _reserved(self) -> Any:
        return QueuedMessage.objects.using(self.database.alias).filter(status=QueuedMessage.RESERVED)

    def beat(self, beats: Sequence[Beat], now: float) -> None:
        """Renew or make the rows of living workers, and give back what they do not know they hold."""
        for beat in beats:
            row = self._rows().filter(identity=beat.identity)
            if not row.update(seen_at=now, processed=beat.processed, paused=beat.paused):
                self._rows().create(identity=beat.identity, node=beat.node, pid=beat.pid, started_at=now, seen_at=now,
                                    queues=",".join(beat.queues), paused=beat.paused)  # fmt: skip
        self._give_back_unknown({beat.identity: beat.leases for beat in beats}, now)

    def _give_back_unknown(self, leases: dict[str, frozenset[int]], now: float) -> None:
        old = self._reserved().filter(worker__in=list(leases), reserved_at__lt=now - UNKNOWN_RESERVATION_AGE)
        lost = [pk for pk, worker, lease in old.values_list("pk", "worker", "lease") if lease not in leases[worker]]
        if lost:
            with self.database.atomic():
                rows = [row for row in _locked(old.filter(pk__in=lost)) if row.lease not in leases[row.worker]]
                back = [Settlement(delivery_of(row, self.accept, row.lease), Verb.RETURN) for row in rows]
                self.messages.settle_here(back, now)

    def remove(self, identities: Sequence[str]) -> None:
        """Forget workers that hold nothing any more."""
        self._rows().filter(identity__in=list(identities)).delete()

    def take_over(
        self, now: float, silence: float | None, dead: Sequence[str], janitor: str, lease: int
    ) -> list[Delivery]:
        """Reserve for ``janitor`` what dead workers hold.

        Args:
            silence: seconds without a heartbeat after which a worker is dead; None where silence means nothing.
            dead: workers that are known to be dead already.
        """
        if dead:
            self.remove(dead)
        if silence is not None:
            _delete(self._rows().filter(seen_at__lt=now - silence))
        alive = set(self._rows().values_list("identity", flat=True))
        # A worker without a row died, or has yet to beat for the first time: the age of the reservation tells.
        holders = set(self._reserved().exclude(worker__in=alive).values_list("worker", flat=True).distinct())
        if not holders:
            return []
        orphans = self._reserved().filter(worker__in=holders & set(dead))
        if silence is not None:
            orphans |= self._reserved().filter(worker__in=holders, reserved_at__lt=now - silence)
        # In no order: for that of the keys SQLite would go through the whole table.
        found = list(orphans.values_list("pk", flat=True)[:RESCUE_LIMIT])
        if not found:
            return []
        with self.database.atomic():
            # By key: in looking for them MariaDB would lock, or wait for, what living workers hold.
            rows = list(_locked(orphans.filter(pk__in=found).order_by("pk")))
            self.messages.mark([row.pk for row in rows], janitor, lease, now)
        deliveries = [delivery_of(row, self.accept, lease) for row in rows]
        for delivery, row in zip(deliveries, rows, strict=True):
            delivery.holder = row.worker or ""
        return deliveries

    def sizes(self, queues: Sequence[str] | None, now: float) -> dict[str, Size]:
        """Count messages by queue and status."""
        rows = QueuedMessage.objects.using(self.database.alias).filter(status__in=_COUNTED)
        if queues is not None:
            rows = rows.filter(queue__in=list(queues))
        sizes: dict[str, Size] = {queue: Size() for queue in queues or ()}
        counted = rows.values("queue", "status").annotate(count=Count("pk"), oldest=Min("sent_at")).order_by()
        for row in counted:
            size = sizes.setdefault(row["queue"], Size())
            if row["status"] in (QueuedMessage.READY, QueuedMessage.ALONE):
                size.waiting += row["count"]
                size.oldest = max(size.oldest, now - row["oldest"])
            else:
                setattr(size, _FIELDS[row["status"]], row["count"])
        return sizes


_FIELDS = {QueuedMessage.DELAYED: "delayed", QueuedMessage.RESERVED: "reserved", QueuedMessage.DEAD: "dead"}
#: Not those of the outbox, nor those that only a later version knows.
_COUNTED = (QueuedMessage.READY, QueuedMessage.ALONE, *_FIELDS)


class ORMControl(Control):
    """Orders in ``django_tasks_order``."""

    def __init__(self, database: Database, messages: MessageTable, accept: frozenset[str], broker: Any) -> None:
        self.database = database
        self.messages = messages
        self.accept = accept
        self.broker = broker
        #: Numbers of the orders that the last look showed.
        self._seen: set[int] | None = None

    def give_order(self, kind: str, node: str, arguments: dict[str, Any]) -> None:
        """Insert an order, and forget those of long ago."""
        orders = WorkerOrder.objects.using(self.database.alias)
        now = self.broker.now()

        def insert() -> None:
            _delete(orders.filter(created_at__lt=now - ORDER_AGE))
            orders.create(kind=kind, node=node, arguments=json.dumps(arguments), created_at=now)  # last: once is enough

        self.database.run(insert)

    def orders(self, after: int) -> list[Order]:
        """Return orders by number; for a negative ``after`` just the newest.

        Numbers are given when an order is written, not when its transaction commits: one may appear after others that
        have higher numbers. So we look back, and return what was not there before, too.
        """
        orders = WorkerOrder.objects.using(self.database.alias).order_by("pk")
        look_back = orders.filter(pk__gt=after - LOOK_BACK) if after >= 0 else orders
        rows = self.database.run(lambda: list(look_back.all()))
        known = {row.pk for row in rows} if self._seen is None else self._seen
        found = [row for row in rows if row.pk > after or row.pk not in known] if after >= 0 else rows[-1:]
        self._seen = {row.pk for row in rows}
        return [Order(row.pk, row.kind, row.node, json.loads(row.arguments)) for row in found]

    def take(self, task_ids: Sequence[str], lease: int) -> list[Delivery]:
        """Reserve waiting and delayed rows by task id."""
        self.broker.server_clock.keep_set(self.broker.clock)
        chunks = chunked(task_ids, CHUNK)
        return [each for chunk in chunks for each in self.database.run(partial(self._take, chunk, lease))]

    def _take(self, task_ids: Sequence[str], lease: int) -> list[Delivery]:
        waiting = (QueuedMessage.READY, QueuedMessage.ALONE, QueuedMessage.DELAYED)
        rows = self._messages_of(task_ids).filter(status__in=waiting)
        with self.database.atomic():
            found = list(_locked(rows.order_by("pk")))
            self.messages.mark([row.pk for row in found], "control", lease, self.broker.now())
        return [delivery_of(row, self.accept, lease) for row in found]

    def mark_redelivered(self, task_ids: Sequence[str]) -> None:
        """Mark rows by task id."""
        for chunk in chunked(task_ids, CHUNK):
            self.database.run(partial(self._messages_of(chunk).update, redelivered=True))

    def _messages_of(self, task_ids: Sequence[str]) -> Any:
        return QueuedMessage.objects.using(self.database.alias).filter(task_id__in=list(task_ids))
