"""The table of workers: who lives, who died, and what the dead left behind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from django.db.models import Count, Min

from django_tasks.brokers import orm_sql as sql
from django_tasks.brokers.base import (
    UNKNOWN_RESERVATION_AGE,
    Beat,
    Control,
    Delivery,
    Order,
    Settlement,
    Size,
    Verb,
    deliver,
)
from django_tasks.brokers.orm_table import MessageTable
from django_tasks.databases import Database
from django_tasks.models import QueuedMessage, WorkerOrder, WorkerProcess

#: Messages taken over from dead workers at a time.
RESCUE_LIMIT = 200
#: Seconds for which orders to workers are kept.
ORDER_AGE = 3600.0


def server_clock_offset(database: Database, clock: float) -> float:
    """Return the seconds by which the server's clock is ahead of ``clock``."""
    statement = sql.CLOCK.get(database.connection.vendor)
    return float(database.query(statement)[0][0]) - clock if statement else 0.0


def delivery_of(row: QueuedMessage, accept: frozenset[str], lease: int) -> Delivery:
    """Make a delivery of a row that was just reserved under ``lease``."""
    return deliver(row.payload, accept, row.queue, row.pk, lease, deaths=row.deaths, refusals=row.refusals,
                   alone=row.alone, redelivered=row.redelivered, admitted=row.admitted)  # fmt: skip


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
        known = set(self._rows().filter(identity__in=[b.identity for b in beats]).values_list("identity", flat=True))
        for beat in beats:
            if beat.identity in known:
                self._rows().filter(identity=beat.identity).update(seen_at=now, processed=beat.processed)
            else:
                self._rows().create(identity=beat.identity, node=beat.node, pid=beat.pid, started_at=now, seen_at=now,
                                    queues=",".join(beat.queues))  # fmt: skip
        self._give_back_unknown({beat.identity: beat.leases for beat in beats}, now)

    def _give_back_unknown(self, leases: dict[str, frozenset[int]], now: float) -> None:
        old = self._reserved().filter(worker__in=list(leases), reserved_at__lt=now - UNKNOWN_RESERVATION_AGE)
        lost = [row for row in old if row.lease not in leases[row.worker]]
        if lost:
            back = [Settlement(delivery_of(row, self.accept, row.lease), Verb.RETURN) for row in lost]
            self.messages.settle(self.messages.held(back), now)

    def remove(self, identities: Sequence[str]) -> None:
        """Forget workers that hold nothing any more."""
        self._rows().filter(identity__in=list(identities)).delete()

    def take_over(self, now: float, silence: float, dead: Sequence[str], janitor: str, lease: int) -> list[Delivery]:
        """Reserve for ``janitor`` what dead workers hold.

        Args:
            silence: seconds without a heartbeat after which a worker is dead.
            dead: workers that are known to be dead already.
        """
        self._rows().filter(seen_at__lt=now - silence).delete()
        self.remove(dead)
        alive = set(self._rows().values_list("identity", flat=True))
        # A worker without a row died, or has yet to beat for the first time: the age of the reservation tells.
        holders = set(self._reserved().exclude(worker__in=alive).values_list("worker", flat=True).distinct())
        orphans = self._reserved().filter(worker__in=holders & set(dead))
        orphans |= self._reserved().filter(worker__in=holders, reserved_at__lt=now - silence)
        with self.database.atomic():
            if self.database.connection.features.has_select_for_update:
                orphans = orphans.select_for_update()
            rows = list(orphans.order_by("pk")[:RESCUE_LIMIT])
            self.messages.mark([row.pk for row in rows], janitor, lease, now)
        deliveries = [delivery_of(row, self.accept, lease) for row in rows]
        for delivery, row in zip(deliveries, rows, strict=True):
            delivery.holder = row.worker or ""
        return deliveries

    def sizes(self, queues: Sequence[str] | None, now: float) -> dict[str, Size]:
        """Count messages by queue and status."""
        rows = QueuedMessage.objects.using(self.database.alias)
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


class ORMControl(Control):
    """Orders in ``django_tasks_order``."""

    def __init__(self, database: Database, messages: MessageTable, accept: frozenset[str], broker: Any) -> None:
        self.database = database
        self.messages = messages
        self.accept = accept
        self.now = broker.now

    def give_order(self, kind: str, node: str, arguments: dict[str, Any]) -> None:
        """Insert an order, and forget those of long ago."""
        orders = WorkerOrder.objects.using(self.database.alias)
        now = self.now()

        def insert() -> None:
            orders.create(kind=kind, node=node, arguments=json.dumps(arguments), created_at=now)
            orders.filter(created_at__lt=now - ORDER_AGE).delete()

        self.database.run(insert)

    def orders(self, after: int) -> list[Order]:
        """Return orders by number; for a negative ``after`` just the newest."""
        orders = WorkerOrder.objects.using(self.database.alias)
        wanted = orders.filter(pk__gt=after).order_by("pk") if after >= 0 else orders.order_by("-pk")[:1]
        rows = self.database.run(lambda: list(wanted.all()))
        return [Order(row.pk, row.kind, row.node, json.loads(row.arguments)) for row in rows]

    def take(self, task_ids: Sequence[str], lease: int) -> list[Delivery]:
        """Reserve waiting and delayed rows by task id."""
        return self.database.run(lambda: self._take(task_ids, lease))

    def _take(self, task_ids: Sequence[str], lease: int) -> list[Delivery]:
        waiting = (QueuedMessage.READY, QueuedMessage.ALONE, QueuedMessage.DELAYED)
        rows = QueuedMessage.objects.using(self.database.alias).filter(task_id__in=list(task_ids), status__in=waiting)
        with self.database.atomic():
            if self.database.connection.features.has_select_for_update:
                rows = rows.select_for_update()
            found = list(rows)
            self.messages.mark([row.pk for row in found], "control", lease, self.now())
        return [delivery_of(row, self.accept, lease) for row in found]
