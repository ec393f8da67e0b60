"""Clocks of zones, and an independent way to find out when something is due by them: to look at every minute."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from zoneinfo import ZoneInfo

from django_tasks.schedules import BaseSchedule

UTC = timezone.utc
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
#: Changes of an hour and of half an hour, at two o'clock, at midnight and before it, north and south, around Ramadan,
#: for good, and over a whole day.
ZONES = (
    "Europe/Berlin", "Europe/London", "Europe/Dublin", "Atlantic/Azores", "America/New_York", "America/Los_Angeles",
    "America/St_Johns", "America/Havana", "America/Santiago", "America/Asuncion", "America/Sao_Paulo", "Africa/Cairo",
    "Africa/Casablanca", "Asia/Beirut", "Asia/Jerusalem", "Asia/Tehran", "Asia/Gaza", "Australia/Sydney",
    "Australia/Lord_Howe", "Pacific/Apia",
)  # fmt: skip
#: Ten years with the day that Samoa left out, and with changes of rules in many of these zones.
YEARS = range(2011, 2021)


def shown(instant: datetime, zone: str) -> datetime:
    """Return what the clocks show."""
    return instant.astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0)


@lru_cache
def changes(zone: str) -> list[datetime]:
    """Return the instants at which the clocks of a zone are changed in those years."""
    found = []
    hour, offset = datetime(YEARS[0], 1, 1, tzinfo=UTC), None
    for number in range((YEARS[-1] - YEARS[0] + 1) * 366 * 24):
        instant = hour + number * HOUR
        before, offset = offset, instant.astimezone(ZoneInfo(zone)).utcoffset()
        if before not in (None, offset):
            minutes = [instant - HOUR + step * MINUTE for step in range(1, 61)]
            found.append(next(each for each in minutes if each.astimezone(ZoneInfo(zone)).utcoffset() == offset))
    return found


def walk(
    fits: Callable[[datetime], bool], names_hours: bool, zone: str, start: datetime, end: datetime
) -> Iterator[datetime]:
    """Yield the instants at which something is due, after looking at the clocks each minute.

    Args:
        fits: whether it is due when the clocks show this.
        names_hours: it is due at times that it names, each once; else in every hour that passes.
        zone: the name of the zone.
        start: from then on; it should be some hours away from a change.
        end: until then.
    """
    instant, place = start, ZoneInfo(zone)
    latest = shown(start, zone) - MINUTE
    while instant <= end:
        clock = instant.astimezone(place).replace(tzinfo=None, fold=0)
        if not names_hours or clock - latest == MINUTE:
            due = fits(clock)
        else:
            # What the clocks have passed since they showed the latest time so far.
            due = any(fits(latest + step * MINUTE) for step in range(1, int((clock - latest) / MINUTE) + 1))
        latest = max(latest, clock)
        if due:
            yield instant
        instant += MINUTE


def slots(each: BaseSchedule, zone: str, start: datetime, end: datetime) -> list[datetime]:
    """Return the slots from ``start`` to ``end``, both included."""
    found: list[datetime] = []
    after = start - timedelta(microseconds=1)
    while (slot := each.next_slot(after, anchor=start, zone=ZoneInfo(zone))) is not None and slot <= end:
        assert slot > after
        assert slot.tzinfo is UTC
        found.append(slot)
        after = slot
    return found
