"""Browsing the tables of the ORM broker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from django_tasks.brokers import orm_sql as sql
from django_tasks.brokers.base import new_lease
from django_tasks.brokers.browse import DEAD, DELAYED, RUNNING, WAITING, Browser, SeenWorker, StoredMessage, Wanted
from django_tasks.databases import Database
from django_tasks.models import QueuedMessage, WorkerProcess

if TYPE_CHECKING:
    from django_tasks.backends.base import ResultBackend

STATE_OF = {
    QueuedMessage.READY: WAITING,
    QueuedMessage.ALONE: WAITING,
    QueuedMessage.DELAYED: DELAYED,
    QueuedMessage.RESERVED: RUNNING,
    QueuedMessage.DEAD: DEAD,
}


class ORMBrowser(Browser):
    """Reads ``django_tasks_message`` and ``django_tasks_worker``.

    Args:
        now: the database's time.
        silence: seconds without a heartbeat after which a worker is taken for dead.
    """

    def __init__(self, database: Database, now: Callable[[], float], silence: float) -> None:
        self.database = database
        self.now = now
        self.silence = silence

    def _rows(self) -> Any:
        return QueuedMessage.objects.using(self.database.alias)

    def messages(
        self, wanted: Wanted, limit: int, after: StoredMessage | None = None, *, payload: bool = False
    ) -> list[StoredMessage]:
        """Read rows, newest first."""
        rows = self._rows().filter(status__in=[status for status, state in STATE_OF.items() if state in wanted.states])
        if wanted.queue:
            rows = rows.filter(queue=wanted.queue)
        if wanted.task:
            rows = rows.filter(task=wanted.task)
        if wanted.ids is not None:
            rows = rows.filter(task_id__in=list(wanted.ids))
        if wanted.refused:
            rows = rows.filter(refusals__gt=0)
        if after is not None:
            rows = rows.filter(pk__lt=after.handle)
        if not payload:
            rows = rows.defer("payload")
        return self.database.run(lambda: [_stored(row, payload) for row in rows.order_by("-pk")[:limit]])

    def workers(self) -> list[SeenWorker]:
        """Read the rows of workers."""
        rows = WorkerProcess.objects.using(self.database.alias).order_by("node", "pk")
        now = self.now()
        return self.database.run(lambda: [self._seen(row, now) for row in rows.all()])

    def _seen(self, row: WorkerProcess, now: float) -> SeenWorker:
        age = max(0.0, now - row.seen_at)
        queues = row.queues.split(",") if row.queues else []
        # Heartbeats come six times in that time.
        late = age > self.silence / 3
        return SeenWorker(row.identity, row.node, row.pid, queues, age, age <= self.silence, row.processed, late,
                          row.paused)  # fmt: skip

    def resend(self, letters: Sequence[StoredMessage], backend: ResultBackend) -> list[str]:
        """Forget the results and make the rows ready in one transaction."""
        return self.database.run(lambda: self._resend([letter.handle for letter in letters], backend))

    def _resend(self, ids: list[int], backend: ResultBackend) -> list[str]:
        # It begins with a write, so that SQLite waits for its lock; the lease tells the rows that are ours, since
        # somebody else may be sending back some of them. Nothing is ready before the commit, which comes after forget.
        with self.database.atomic():
            lease = new_lease()
            self._rows().filter(pk__in=ids, status=QueuedMessage.DEAD).update(lease=lease)
            ours = self._rows().filter(lease=lease, pk__in=ids)
            task_ids = [str(each) for each in ours.order_by("-pk").values_list("task_id", flat=True)]
            backend.forget(task_ids)
            changes = {"deaths": 0, "refusals": 0, "reason": "", "redelivered": True, "sent_at": self.now(),
                       "due_at": None, "lease": None, "reserved_at": None}  # fmt: skip
            ours.filter(alone=True).update(status=QueuedMessage.ALONE, **changes)
            ours.filter(alone=False).update(status=QueuedMessage.READY, **changes)
            if task_ids and self.database.vendor == "postgresql":
                self.database.query(sql.NOTIFY)
        return task_ids

    def drop(self, letters: Sequence[StoredMessage]) -> int:
        """Delete rows."""
        rows = self._rows().filter(pk__in=[letter.handle for letter in letters], status=QueuedMessage.DEAD)
        return self.database.run(lambda: int(rows.delete()[0]))


def _stored(row: QueuedMessage, payload: bool) -> StoredMessage:
    return StoredMessage(
        row.pk, row.task_id, row.task, row.queue, STATE_OF[row.status], priority=-row.ranking, sent_at=row.sent_at,
        due_at=row.due_at, worker=row.worker or "", reserved_at=row.reserved_at, deaths=row.deaths,
        refusals=row.refusals, alone=row.alone, redelivered=row.redelivered, reason=row.reason,
        payload=row.payload if payload else None,
    )  # fmt: skip
