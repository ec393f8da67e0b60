"""The outbox: messages for a broker elsewhere, written in the transaction that they belong to.

They are rows of ``django_tasks_message`` with the status OUTBOX, which the ORM broker passes over. ``due_at`` says from
when on a janitor may publish a row: its writer has ``GRACE`` seconds to do it, and a janitor that begins to publish it
moves the time on by ``CLAIM``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.conf import settings
from django.db import models, router

from django_tasks.brokers.base import new_lease
from django_tasks.brokers.rules import stored_envelope
from django_tasks.databases import Database, storable
from django_tasks.message import Message
from django_tasks.models import QueuedMessage

#: Seconds for which a row is left to the process that wrote it, and to a janitor that has begun to publish it.
GRACE, CLAIM = 5.0, 30.0
#: Messages that a janitor publishes at a time.
BATCH = 100


class Outbox:
    """The outbox of one database.

    Args:
        alias: key of ``DATABASES``.
    """

    def __init__(self, alias: str) -> None:
        self.database = Database(alias)

    def _rows(self) -> Any:
        return QueuedMessage.objects.using(self.database.alias).filter(status=QueuedMessage.OUTBOX)

    def write(self, messages: Sequence[Message], now: float, max_size: int | None) -> int:
        """Write messages in the transaction that is open; return the token that marks them.

        Raises:
            MessageTooLarge, EncodeError: one of them cannot be written; none is.
        """
        token = new_lease()
        rows = [
            QueuedMessage(task_id=message.id, task=message.task, queue=message.queue, status=QueuedMessage.OUTBOX,
                          sent_at=now, due_at=now + GRACE, lease=token, payload=stored_envelope(message, max_size))
            for message in messages
        ]  # fmt: skip
        with self.database.translated_errors():
            QueuedMessage.objects.using(self.database.alias).bulk_create(rows)
        return token

    def forget(self, messages: Sequence[Message], token: int) -> None:
        """Delete what was published."""
        ids = [message.id for message in messages]
        self.database.run(lambda: self._rows().filter(task_id__in=ids, lease=token).delete())

    def claim(self, now: float) -> list[QueuedMessage]:
        """Return rows that are due, oldest first, and keep other janitors from them for a while."""
        return self.database.run(lambda: self._claim(self._rows().filter(due_at__lte=now), now))

    def take(self, now: float, ids: Sequence[str] | None = None, queue: str = "") -> list[QueuedMessage]:
        """Return rows that are not to be published, due or not, and keep janitors from them until they are removed.

        Args:
            ids: of the tasks; None for any.
            queue: name of the queue; empty for any.
        """
        return self.database.run(lambda: self._claim(self._wanted(ids, queue), now))

    def _claim(self, wanted: Any, now: float) -> list[QueuedMessage]:
        found = list(wanted.order_by("due_at", "pk").values_list("pk", flat=True)[:BATCH])
        if not found:
            return []
        # By the token, since another janitor may have come first.
        token = new_lease()
        wanted.filter(pk__in=found).update(due_at=now + CLAIM, lease=token)
        return list(self._rows().filter(pk__in=found, lease=token).order_by("pk"))

    def _wanted(self, ids: Sequence[str] | None, queue: str = "", task: str = "") -> Any:
        facts = {"queue": queue, "task": task, "task_id__in": None if ids is None else list(ids)}
        return self._rows().filter(**{name: value for name, value in facts.items() if value not in ("", None)})

    def remove(self, rows: Iterable[QueuedMessage]) -> None:
        """Delete rows that were claimed and published."""
        ids = [row.pk for row in rows]
        self.database.run(lambda: self._rows().filter(pk__in=ids).delete())

    def bury(self, row: QueuedMessage, reason: str) -> None:
        """Make a row a dead letter that no broker will ever take."""
        dead = {"status": QueuedMessage.DEAD, "due_at": None, "lease": None, "reason": storable(reason)}
        self.database.run(lambda: self._rows().filter(pk=row.pk).update(**dead))

    def exists(self) -> bool:
        """Whether its database has our table, migrated or not."""
        tables = self.database.run(self.database.connection.introspection.table_names)
        return QueuedMessage._meta.db_table in tables

    def sizes(self) -> dict[str, int]:
        """Return how many messages wait here for the broker, by queue."""
        counts = self._rows().order_by("queue").values_list("queue").annotate(models.Count("pk"))
        return self.database.run(lambda: dict(counts.all()))

    def newest(self, ids: Sequence[str] | None, queue: str, task: str, limit: int) -> list[QueuedMessage]:
        """Return the newest rows of these ids (None: of any), this queue and this task (empty: of any)."""
        return self.database.run(lambda: list(self._wanted(ids, queue, task).order_by("-pk")[:limit]))


def outboxes() -> list[Outbox]:
    """Return the outboxes of all databases that may have our tables."""
    return [Outbox(alias) for alias in settings.DATABASES if router.allow_migrate_model(alias, QueuedMessage)]


def existing_outboxes() -> list[Outbox]:
    """Return those of databases that do have our tables."""
    return [outbox for outbox in outboxes() if outbox.exists()]
