"""The number of the last change of ``PeriodicTask``."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import Any

from django.conf import settings
from django.db import IntegrityError, connections, models, transaction
from django.db.models.expressions import RawSQL
from django.utils.timezone import get_default_timezone, make_naive

from django_tasks.brokers.orm_sql import CLOCK
from django_tasks.models.tables import free


class PeriodicVersion(models.Model):
    """One row that counts the changes of ``PeriodicTask``, so that a beat learns of them by a look at one number.

    Whoever changes rows counts first, in the same transaction: the lock on this row makes changes become visible in
    the order of their numbers, so that a beat that has seen one has seen all before it.
    """

    id = models.BigAutoField(primary_key=True)
    value = models.BigIntegerField(default=0)

    class Meta:
        db_table = "django_tasks_periodic_version"
        verbose_name = "version of the periodic tasks"

    def __str__(self) -> str:
        return str(self.value)

    @classmethod
    def count(cls, using: str) -> tuple[int, datetime]:
        """Count one change, within the caller's transaction; return its number and its time.

        That is the server's: a host whose clock is behind would have slots fire that were before the change.
        """
        rows = cls.objects.using(using).filter(pk=1)
        with transaction.atomic(using=using):
            if not rows.update(value=models.F("value") + 1):
                try:
                    with transaction.atomic(using=using):
                        cls.objects.using(using).create(pk=1, value=1)
                except IntegrityError:  # somebody else made it a moment ago
                    rows.update(value=models.F("value") + 1)
            number, seconds = rows.values_list("value", _clock(using)).get()
            return int(number), stored(datetime.fromtimestamp(float(seconds), timezone.utc))

    @classmethod
    def is_free(cls, using: str) -> bool:
        """Whether a change can be counted without waiting for somebody's transaction; if so, nobody else can then."""
        rows = cls.objects.using(using).filter(pk=1)
        return bool(free(rows)) or not rows.exists()


def _clock(using: str) -> Any:
    """Return the server's time in seconds, as an expression; SQLite's is ours."""
    statement = CLOCK.get(connections[using].vendor)
    if statement is None:
        return models.Value(time.time(), output_field=models.FloatField())
    return RawSQL(statement, (), output_field=models.FloatField())


def stored(instant: datetime) -> datetime:
    """Return an aware instant as a ``DateTimeField`` takes it, whatever ``USE_TZ`` says."""
    return instant if settings.USE_TZ else make_naive(instant, get_default_timezone())
