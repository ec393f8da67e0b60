"""The next runs of a periodic task that somebody is typing."""

from __future__ import annotations

from datetime import datetime, timezone, tzinfo
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.timezone import get_current_timezone, now

from django_tasks.exceptions import CeleriacError
from django_tasks.management.tables import distance
from django_tasks.models import PeriodicTask
from django_tasks.schedules import as_zone

#: How many are shown.
COUNT = 5
#: Columns that decide when it runs.
DECISIVE = ("kind", "schedule", "timezone", "relative", "start_time", "end_time", "one_off")


def preview(row: PeriodicTask, errors: dict[str, Any], saved: PeriodicTask | None = None) -> dict[str, Any]:
    """Return the next runs of a row, or what is wrong with its schedule, as JSON.

    Args:
        errors: what its form complains about, by field.
        saved: the row as it is stored: what its next runs are depends on what became of it.
    """
    wrong = [str(message) for key in DECISIVE for message in errors.get(key, ())]
    if not wrong:
        name = row.name if "name" not in errors and row.name else "preview"
        plain = PeriodicTask(name=name, task="preview", **{key: getattr(row, key) for key in DECISIVE})
        plain.changed_at = now()  # as it will be when it is saved
        plain.pk = saved.pk if saved is not None else None
        try:
            return {"runs": told(plain.next_runs(COUNT), row.timezone), "errors": []}
        except ValidationError as exc:
            wrong = exc.messages
        except CeleriacError as exc:  # the broker is away
            wrong = [str(exc)]
    return {"runs": [], "errors": wrong}


def told(runs: list[datetime], zone_name: str = "") -> list[dict[str, str]]:
    """Return instants for people: the time in a zone, and how far it is.

    Args:
        zone_name: the zone, as for ``zone_of_row``.
    """
    zone = zone_of_row(zone_name)
    return [
        {
            "at": run.isoformat(),
            "text": f"{in_zone(run, zone):%a %Y-%m-%d %H:%M:%S %Z}",
            "distance": distance((run - datetime.now(timezone.utc)).total_seconds()),
        }
        for run in runs
    ]


def zone_of_row(name: str) -> tzinfo:
    """Return a zone by its name; that of the page for none, and for one that there is not."""
    here: tzinfo = get_current_timezone()
    try:
        return as_zone(name) if name else here
    except ValueError:
        return here


def in_zone(when: datetime, zone: tzinfo) -> datetime:
    """Return an instant in a zone; in UTC at the end of the calendar, beyond which it would be there."""
    try:
        return when.astimezone(zone)
    except OverflowError:
        return when
