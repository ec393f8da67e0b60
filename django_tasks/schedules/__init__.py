"""When periodic tasks run: Celery's ``schedule``, ``crontab`` and ``solar``, cron strings, and single instants."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django_tasks.schedules.base import BaseSchedule, schedstate
from django_tasks.schedules.cron import cron
from django_tasks.schedules.crontabs import crontab
from django_tasks.schedules.fields import ParseException, crontab_parser
from django_tasks.schedules.intervals import schedule
from django_tasks.schedules.moments import clocked
from django_tasks.schedules.sun import solar
from django_tasks.schedules.zones import as_zone, zone_of

__all__ = [
    "BaseSchedule",
    "ParseException",
    "as_zone",
    "clocked",
    "cron",
    "crontab",
    "crontab_parser",
    "maybe_schedule",
    "schedstate",
    "schedule",
    "solar",
    "zone_of",
]


def maybe_schedule(value: Any, relative: bool = False, app: Any = None) -> BaseSchedule:
    """Return a schedule from what stands for one.

    Args:
        value: seconds or a timedelta, a cron string, or a schedule, which is returned as it is.
        relative: count an interval from a round time; see ``schedule``.
        app: the app of a schedule that has none.

    Raises:
        TypeError: it is none of these.
        ValueError: an interval is not above 0, or the cron string cannot be read or is never due.
    """
    if isinstance(value, (int, float, timedelta)) and not isinstance(value, bool):
        return schedule(value, relative, app=app)
    if isinstance(value, str):
        return cron(value, app=app)
    if not isinstance(value, BaseSchedule):
        source = type(value).__module__
        remedy = (
            f" Import {type(value).__name__} from django_tasks.schedules instead of {source}."
            if source.split(".")[0] in ("celery", "django_celery_beat")
            else ""
        )
        raise TypeError(
            "A schedule is a number of seconds, a timedelta, a cron string, or an object of a class of "
            f"django_tasks.schedules, not {value!r}.{remedy}"
        )
    if app is not None and value._app is None:
        value._app = app
    return value
