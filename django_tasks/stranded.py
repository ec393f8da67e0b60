"""Messages in the project's databases that nobody looks for any more, since the settings name another broker by now."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from django.db import Error
from django.db.models import Count, Q

from django_tasks.exceptions import ImproperlyConfigured, OperationalError
from django_tasks.models import QueuedMessage
from django_tasks.outbox import Outbox, outboxes

if TYPE_CHECKING:
    from django_tasks.app import App

_OUTBOX = Q(status=QueuedMessage.OUTBOX)
_WAITING = Q(status__in=(QueuedMessage.READY, QueuedMessage.ALONE, QueuedMessage.DELAYED, QueuedMessage.RESERVED))


def stranded(app: App) -> Iterator[str]:
    """Yield how many messages are left where, and what brings them to workers; one query for each database."""
    # With the broker in one of them, another that has its rows is most likely a copy for readers.
    if app.broker.transaction_alias or not (app.broker.shared and app.uses_database):
        return
    for outbox in outboxes():
        alias = outbox.database.alias
        waiting, unpublished = _count(outbox)
        if waiting:
            yield (
                f"{messages_wait(waiting)} in django-db://{alias}, which BROKER_URL does not name. A worker with "
                f"BROKER_URL = 'django-db://{alias}' runs what is left there."
            )
        if unpublished and not app.conf.task_outbox:
            yield (
                f"{messages_wait(unpublished)} in the outbox of database {alias!r}, and no worker publishes them. "
                "Workers with TASK_OUTBOX = True do."
            )


def _count(outbox: Outbox) -> tuple[int, int]:
    """Return how many messages wait for workers of this database, and how many for another broker."""
    rows = QueuedMessage.objects.using(outbox.database.alias).filter(_WAITING | _OUTBOX)
    counts = {"waiting": Count("pk", filter=_WAITING), "unpublished": Count("pk", filter=_OUTBOX)}
    try:
        found = outbox.database.run(lambda: rows.aggregate(**counts))
    except (ImproperlyConfigured, OperationalError, Error):
        return 0, 0  # not our tables, or away: a worker has to start whatever a database beside its broker says
    return found["waiting"], found["unpublished"]


def messages_wait(count: int) -> str:
    """Return the beginning of a sentence about messages that wait somewhere."""
    return "1 message waits" if count == 1 else f"{count:,} messages wait"
