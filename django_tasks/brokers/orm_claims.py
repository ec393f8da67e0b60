"""Claiming messages from the table, fairly over queues."""

from __future__ import annotations

from collections.abc import Sequence

from django_tasks.brokers.base import Delivery, deliver
from django_tasks.brokers.orm_table import ALONE, READY, MessageTable
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

    def reserve(self, worker: str, queues: Sequence[str], limit: int, lease: int, now: float) -> list[Delivery]:
        """Claim up to ``limit`` messages, each time beginning with another queue."""
        if alone := self._reserve_alone(worker, queues, lease, now):
            return alone
        self._turn += 1
        deliveries: list[Delivery] = []
        for position in range(len(queues)):
            queue = queues[(self._turn + position) % len(queues)]
            deliveries += self._claim(READY, queue, worker, limit - len(deliveries), lease, now)
            if len(deliveries) >= limit:
                break
        return deliveries

    def _reserve_alone(self, worker: str, queues: Sequence[str], lease: int, now: float) -> list[Delivery]:
        if abs(now - self._looked_at) >= ALONE_INTERVAL:  # a clock may be set back
            for queue in queues:
                if found := self._claim(ALONE, queue, worker, 1, lease, now):
                    return found
            self._looked_at = now
        return []

    def _claim(self, status: int, queue: str, worker: str, limit: int, lease: int, now: float) -> list[Delivery]:
        rows = self.database.run(lambda: self.messages.claim(status, queue, limit, worker, lease, now))
        deliveries = [
            deliver(payload, self.accept, queue, pk, lease, deaths=deaths, refusals=refusals, alone=bool(alone),
                    redelivered=bool(redelivered), admitted=bool(admitted))
            for pk, queue, deaths, refusals, alone, redelivered, admitted, _, payload in rows
        ]  # fmt: skip
        self._name([delivery for delivery in deliveries if delivery.error is not None])
        return deliveries

    def _name(self, unreadable: list[Delivery]) -> None:
        """Say which task it was, so that whoever waits for it hears of its end."""
        nameless = {delivery.handle: delivery.message for delivery in unreadable if not delivery.message.id}
        if nameless:
            for pk, task, task_id in self.database.run(lambda: self.messages.names(list(nameless))):
                nameless[pk].task, nameless[pk].id = task, task_id
