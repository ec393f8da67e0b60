"""What operators see of the outboxes: messages that wait in a database of the project until the broker has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from django_tasks.brokers.browse import StoredMessage
from django_tasks.outbox import Outbox, existing_outboxes

if TYPE_CHECKING:
    from django_tasks.app import App
    from django_tasks.models import QueuedMessage

#: The state of such messages, beside those that a broker knows.
UNPUBLISHED = "unpublished"


def _outboxes(app: App) -> list[Outbox]:
    return existing_outboxes() if app.conf.task_outbox and app.uses_database else []


def sizes(app: App) -> dict[str, dict[str, int]]:
    """Return how many messages wait, by database and queue; databases without any are left out."""
    found = {outbox.database.alias: outbox.sizes() for outbox in _outboxes(app)}
    return {alias: counts for alias, counts in found.items() if counts}


def by_queue(app: App) -> dict[str, int]:
    """Return how many messages wait for each queue, in all databases together."""
    total: dict[str, int] = {}
    for counts in sizes(app).values():
        for queue, count in counts.items():
            total[queue] = total.get(queue, 0) + count
    return total


def messages(
    app: App, limit: int, *, ids: Sequence[str] | None = None, queue: str = "", task: str = ""
) -> list[StoredMessage]:
    """Return the newest messages with their envelopes.

    Args:
        limit: how many at most.
        ids: their task ids; None for any.
        queue: name of their queue; empty for any.
        task: name of their task; empty for any.
    """
    found = [
        _stored(row, outbox.database.alias)
        for outbox in _outboxes(app)
        for row in outbox.newest(ids, queue, task, limit)
    ]
    return sorted(found, key=lambda message: message.sent_at or 0.0, reverse=True)[:limit]


def _stored(row: QueuedMessage, alias: str) -> StoredMessage:
    reason = f"in the outbox of database {alias!r}"
    return StoredMessage(row.pk, row.task_id, row.task, row.queue, UNPUBLISHED, sent_at=row.sent_at, reason=reason,
                         payload=row.payload)  # fmt: skip
