"""The relay: publishes what the processes that wrote it to an outbox could not."""

from __future__ import annotations

import logging
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

from django_tasks import publishing, states
from django_tasks.backends.base import utc_now
from django_tasks.exceptions import ImproperlyConfigured, OperationalError, ReplicationError, RequestRefused
from django_tasks.message import Message, decode_envelope
from django_tasks.models import QueuedMessage
from django_tasks.outbox import BATCH, Outbox, outboxes
from django_tasks.outcome import TaskMeta

if TYPE_CHECKING:
    from django_tasks.app import App

logger = logging.getLogger("django_tasks.worker")

#: Batches of one round, for the sake of the heartbeat.
MOST_BATCHES = 10


_queue = attrgetter("queue")


class Relay:
    """Looks into the outboxes of all databases; the janitor does it.

    Args:
        app: the app.
    """

    def __init__(self, app: App) -> None:
        self.app = app
        self.outboxes: list[Outbox] = []
        if app.conf.task_outbox and app.uses_database:
            self.outboxes = outboxes()
        elif alias := app.broker.transaction_alias:
            self.outboxes = [Outbox(alias)]  # there may be messages from before this was the broker
        self._trouble: dict[str, str] = {}
        self._refused: set[str] = set()

    def publish(self) -> None:
        """Publish what is due.

        Raises:
            OperationalError: the broker is away.
        """
        for outbox in list(self.outboxes):
            for _ in range(MOST_BATCHES):
                rows = self._claim(outbox)
                # Queue by queue, since one may be refused when another has taken its messages already.
                for _, some in groupby(sorted(rows, key=_queue), _queue):
                    self._publish(outbox, list(some))
                if len(rows) < BATCH:
                    break

    def _claim(self, outbox: Outbox) -> list[QueuedMessage]:
        alias = outbox.database.alias
        try:
            rows = outbox.claim(self.app.broker.now())
        except (ImproperlyConfigured, OperationalError) as exc:
            if isinstance(exc, ImproperlyConfigured) and not outbox.exists():
                self.outboxes.remove(outbox)  # not every database of a project has our tables
            elif self._trouble.get(alias) != str(exc):
                logger.error("The outbox cannot be read: %s", exc)
            self._trouble[alias] = str(exc)
            return []
        self._trouble.pop(alias, None)
        return rows

    def _publish(self, outbox: Outbox, rows: list[QueuedMessage]) -> None:
        """Publish rows together; if that is refused, each by itself."""
        try:
            publishing.send(self.app, [self._message(row) for row in rows], {"retry": False})
        except ReplicationError as exc:
            logger.error("From the outbox of database %r: %s", outbox.database.alias, exc)
        except Exception as exc:
            if isinstance(exc, OperationalError) and not isinstance(exc, RequestRefused):
                raise
            # Whatever is wrong with one message, the others have to go.
            if len(rows) > 1:
                for row in rows:
                    self._publish(outbox, [row])
            elif isinstance(exc, RequestRefused):
                self._keep(outbox, exc)
            else:
                self._give_up(outbox, rows[0], exc)
            return
        else:
            logger.info("Messages published from the outbox of database %r: %d", outbox.database.alias, len(rows))
        outbox.remove(rows)

    def _message(self, row: QueuedMessage) -> Message:
        message = decode_envelope(row.payload, self.app.broker.accept)
        message.queue = row.queue
        # It may have been published before, or revoked since: a worker is to look whether it has ended.
        message.redelivered = True
        # Of a batch that was sent in part, what was sent is not to be sent again.
        message.cause = f"outbox/{row.pk}"
        return message

    def _keep(self, outbox: Outbox, exc: RequestRefused) -> None:
        """Leave a row for later, when somebody has changed what its broker refuses; say so once."""
        if str(exc) not in self._refused:
            self._refused.add(str(exc))
            logger.error("Messages stay in the outbox of database %r: %s", outbox.database.alias, exc)

    def _give_up(self, outbox: Outbox, row: QueuedMessage, exc: Exception) -> None:
        logger.error("Task %s[%s] cannot be published: %r. It stays in table %s of database %r as a dead letter.",
                     row.task, row.task_id, exc, row._meta.db_table, outbox.database.alias)  # fmt: skip
        backend, now = self.app.backend, utc_now(self.app.broker.now())
        backend.store([TaskMeta(row.task_id, states.FAILURE, backend.encode(exc, states.FAILURE), date_done=now)])
        outbox.bury(row, f"It could not be published: {exc!r}")
