"""From the times that a calendar names to instants, where clocks are changed, too.

- **A calendar that names hours** (``30 2 * * *``): a time that the clocks skip runs once, at the next valid instant,
  and so do all that they skip together; a time that they show twice runs the first time.
- **One that does not** (``*/15 * * * *``) is a rhythm: it follows the minutes of every hour that passes, so that it has
  no hole when an hour comes twice, and makes nothing up when one is left out.
"""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo

from django_tasks.schedules.calendars import Calendar
from django_tasks.schedules.zones import UTC, exists, instant_of, offset_at, transition

_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)


def next_instant(calendar: Calendar, after: datetime, zone: tzinfo) -> datetime | None:
    """Return the first instant (UTC) after another at which a calendar is due by the clocks of a zone; None if never.

    Args:
        calendar: what the clocks are to show.
        after: the other instant, in UTC.
        zone: the zone.
    """
    return _next_in_rhythm(calendar, after, zone) if calendar.every_hour else _next_named(calendar, after, zone)


def _next_named(calendar: Calendar, after: datetime, zone: tzinfo) -> datetime | None:
    local = calendar.after(after.astimezone(zone).replace(tzinfo=None))
    while local is not None:
        instant = instant_of(local, zone)
        if instant > after:
            return instant
        # The clocks show an hour for the second time, and what it holds has run in the first.
        local = calendar.after(local)
    return None


def _next_in_rhythm(calendar: Calendar, after: datetime, zone: tzinfo) -> datetime | None:
    here = after.astimezone(zone)
    clock, offset = here.replace(tzinfo=None), here.utcoffset() or timedelta()
    while True:
        local = calendar.after(clock)
        if local is None:
            return None
        instant = local.replace(tzinfo=UTC) - offset
        # Between changes of the clocks the offset stays, and no zone changes twice within a day.
        look = min(instant, after + _DAY)
        if offset_at(look, zone) == offset:
            return instant if look is instant else _first_shown(calendar, local, zone)
        # They are changed before: on from there, that instant included.
        after = transition(after, look, zone)
        offset = offset_at(after, zone)
        clock = after.replace(tzinfo=None) + offset - _SECOND


def _first_shown(calendar: Calendar, local: datetime | None, zone: tzinfo) -> datetime | None:
    """Return the instant of the first of a calendar's times, from one on, that the clocks do show."""
    while local is not None and not exists(local, zone):
        local = calendar.after(local)
    return None if local is None else instant_of(local, zone)
