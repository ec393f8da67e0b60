"""Claiming messages from the table, fairly over queues."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence

from django_tasks.brokers import orm_sql as sql
from django_tasks.brokers.base import Delivery, deliver
from django_tasks.brokers.orm_frontier import Frontier
from django_tasks.brokers.orm_table import ALONE, READY, MessageTable, Row
from django_tasks.databases import Database

#: Seconds between looks at the messages that are to be reserved alone.
ALONE_INTERVAL = 1.0


class Claims:
    """Chooses where to claim next."""

    def __init__(self, database: Database, messages: MessageTable, accept: frozenset[str]) -> None:
        self.database = database
        self.messages = messages
        self.accept = accept
        self._looked_at = 0.0
        self._turn = 0
        #: By queue.
        self.frontiers: defaultdict[str, Frontier] = defaultdict(Frontier)

    def reserve(self, worker: str, queues: Sequence[str], limit: int, lease: int, now: float) -> list[Delivery]:
        """Claim up to ``limit`` messages, each time beginning with another queue."""
        if alone := self._reserve_alone(worker, queues, lease, now):
            return alone
        self._turn += 1
        deliveries: list[Delivery] = []
        for position in range(len(queues)):
            queue = queues[(self._turn + position) % len(queues)]
            rows = self._claim_ready(queue, worker, limit - len(deliveries), lease, now)
            deliveries += self._deliveries(rows, lease)
            if len(deliveries) >= limit:
                break
        return deliveries

    def _reserve_alone(self, worker: str, queues: Sequence[str], lease: int, now: float) -> list[Delivery]:
        if abs(now - self._looked_at) >= ALONE_INTERVAL:  # a clock may be set back
            for queue in queues:
                if found := self._claim(ALONE, queue, worker, 1, lease, now):
                    return self._deliveries(found, lease)
            self._looked_at = now
        return []

    def _claim_ready(self, queue: str, worker: str, limit: int, lease: int, now: float) -> list[Row]:
        """Claim from the beginning or, where that takes too long, what is more urgent than the frontier and beyond."""
        if self.database.vendor != "postgresql":
            return self._claim(READY, queue, worker, limit, lease, now)
        frontier, begin = self.frontiers[queue], time.monotonic()
        if (start := frontier.start(begin)) is None:
            rows = self._claim(READY, queue, worker, limit, lease, now)
            frontier.looked(time.monotonic() - begin, begin)
        else:
            rows = self._claim_part(sql.CLAIM_BEFORE, start[:1], queue, worker, limit, lease, now)
            if len(rows) < limit:
                rows += self._claim_part(sql.CLAIM_FROM, start, queue, worker, limit - len(rows), lease, now)
        if rows:
            frontier.reached((rows[-1][7], rows[-1][0]), begin)
        return rows

    def _claim(self, status: int, queue: str, worker: str, limit: int, lease: int, now: float) -> list[Row]:
        return self.database.run(lambda: self.messages.claim(status, queue, limit, worker, lease, now))

    def _claim_part(
        self, part: str, place: Sequence[int], queue: str, worker: str, limit: int, lease: int, now: float
    ) -> list[Row]:
        return self.database.run(lambda: self.messages.claim_part(part, place, queue, limit, worker, lease, now))

    def _deliveries(self, rows: Sequence[Row], lease: int) -> list[Delivery]:
        deliveries = [
            deliver(
                payload, self.accept, queue, pk, lease, deaths, refusals, bool(alone), bool(redelivered), bool(admitted)
            )
            for pk, queue, deaths, refusals, alone, redelivered, admitted, _, payload in rows
        ]
        self._name([delivery for delivery in deliveries if delivery.error is not None])
        return deliveries

    def _name(self, unreadable: list[Delivery]) -> None:
        """Say which task it was, so that whoever waits for it hears of its end."""
        nameless = {delivery.handle: delivery.message for delivery in unreadable if not delivery.message.id}
        if nameless:
            for pk, task, task_id in self.database.run(lambda: self.messages.names(list(nameless))):
                nameless[pk].task, nameless[pk].id = task, task_id
