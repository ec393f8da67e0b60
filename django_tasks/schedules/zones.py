"""Time zones as they are given, and the local times of one that come twice or not at all."""

from __future__ import annotations

import zoneinfo
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any

from django.conf import settings
from django.utils.timezone import get_default_timezone

from django_tasks.current import find_current_app

UTC = timezone.utc
_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)


def as_zone(value: str | tzinfo) -> tzinfo:
    """Return a time zone from its name or object.

    Args:
        value: a name (``"Europe/Berlin"``), or a ``tzinfo``; one of pytz is replaced by that of ``zoneinfo``, since its
            arithmetic needs calls of its own.

    Raises:
        ValueError: there is no zone of this name.
        TypeError: it is neither.
    """
    name = value if isinstance(value, str) else getattr(value, "zone", None) or ""
    if name:
        try:
            return zoneinfo.ZoneInfo(name)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as exc:  # OSError: it is a directory
            raise ValueError(
                f"There is no time zone {name!r}: give a name such as 'Europe/Berlin' "
                "(zoneinfo.available_timezones() has them all)."
            ) from exc
    if isinstance(value, tzinfo):
        return value
    raise TypeError(f"A time zone is a name such as 'Europe/Berlin' or a tzinfo, not {value!r}.")


def zone_of(app: Any = None) -> tzinfo:
    """Return the zone of an app's times without one: its ``TIMEZONE``, else Django's, else UTC.

    Args:
        app: the app; the current one by default, if there is one.
    """
    app = app or find_current_app()
    if app is not None:
        # Celery's apps, which schedules of projects that move may still name, have the zone itself.
        name = getattr(getattr(app, "conf", None), "timezone", None)
        if name:
            return as_zone(name)
    return as_zone(get_default_timezone()) if settings.configured else UTC


def aware(instant: datetime) -> datetime:
    """Return an instant with its zone; one without a zone is in UTC, as in Celery."""
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant


def wall(instant: datetime, zone: tzinfo) -> datetime:
    """Return what the clocks of a zone show, as a ``datetime`` without a zone."""
    return instant.astimezone(zone).replace(tzinfo=None, fold=0)


def instant_of(local: datetime, zone: tzinfo) -> datetime:
    """Return the instant (UTC) of what the clocks of a zone show.

    The first one, if they show it twice; if they skip it, the one at which they do so, which is the next valid instant.

    Args:
        local: date and time without a zone.
        zone: the zone.
    """
    instant = local.replace(tzinfo=zone).astimezone(UTC)
    if wall(instant, zone) == local:
        return instant
    # Read with the offset from after the gap it is before it, read with the one from before it is after it (PEP 495).
    return transition(local.replace(tzinfo=zone, fold=1).astimezone(UTC), instant, zone)


def exists(local: datetime, zone: tzinfo) -> bool:
    """Return whether the clocks of a zone ever show this."""
    return wall(local.replace(tzinfo=zone).astimezone(UTC), zone) == local


def offset_at(instant: datetime, zone: tzinfo) -> timedelta:
    """Return how far the clocks of a zone are ahead of UTC at an instant."""
    return instant.astimezone(zone).utcoffset() or timedelta()


def transition(before: datetime, after: datetime, zone: tzinfo) -> datetime:
    """Return when the clocks of a zone are changed, to the second.

    Args:
        before: an instant before that (UTC).
        after: an instant after it, or it, with no other change between them.
        zone: the zone.
    """
    offset = offset_at(before, zone)
    low = before.replace(microsecond=0)
    seconds = int((after - low).total_seconds()) + 1  # not yet is low, changed is low + seconds
    changed, unchanged = seconds, 0
    while changed - unchanged > 1:
        middle = (changed + unchanged) // 2
        if offset_at(low + middle * _SECOND, zone) == offset:
            unchanged = middle
        else:
            changed = middle
    return low + changed * _SECOND
