"""Schedules as texts: how a row of ``PeriodicTask`` writes them."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from functools import lru_cache
from typing import Any

from django_tasks.models import PeriodicTask
from django_tasks.schedules import clocked, cron, crontab, schedule, solar
from django_tasks.serialization import parse_iso

#: Seconds of each unit of an interval, by the beginning of its name or by a short form.
_UNITS = {
    "microseconds": 1e-6, "milliseconds": 1e-3, "seconds": 1.0, "minutes": 60.0, "hours": 3600.0, "days": 86400.0,
    "weeks": 604800.0, "us": 1e-6, "ms": 1e-3, "secs": 1.0, "s": 1.0, "mins": 60.0, "m": 60.0, "hrs": 3600.0,
    "h": 3600.0, "d": 86400.0, "w": 604800.0,
}  # fmt: skip
_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*(?:,|and\b)?", re.ASCII)
#: What each kind's text looks like.
EXAMPLES = {
    PeriodicTask.INTERVAL: "30 seconds, 5 minutes or 1 hour 30 minutes",
    PeriodicTask.CRON: '"30 7 * * mon-fri" (minute, hour, day of month, month, day of week), or @daily',
    PeriodicTask.CRONTAB: '"30 7 1-7 * mon", where a day has to fit both day fields, not one of them as for cron',
    PeriodicTask.SOLAR: '"sunset 52.52 13.40" (event, latitude, longitude)',
    PeriodicTask.CLOCKED: "2027-01-31 08:00, in the zone of the row, or with an offset",
}
#: Where an object is in the memory of one process.
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
#: Seconds of the longest interval: a hundred years.
_LONGEST = 36_525 * 86_400.0


def parse(kind: str, text: str, relative: bool = False) -> Any:
    """Return the schedule that a row's text means.

    Args:
        kind: one of ``PeriodicTask.KINDS``.
        text: as in :data:`EXAMPLES`.
        relative: for intervals, as in ``schedule(relative=...)``.

    Raises:
        ValueError: it means none; says what to write.
        ImproperlyConfigured: a library that it needs is not installed.
    """
    text = text.strip()
    if kind == PeriodicTask.INTERVAL:
        return schedule(timedelta(seconds=_interval(text)), relative)
    if kind == PeriodicTask.CRON:
        return cron(text)
    if kind == PeriodicTask.CRONTAB:
        return crontab.from_string(text)
    if kind == PeriodicTask.SOLAR:
        return _solar(text)
    if kind == PeriodicTask.CLOCKED:
        return _clocked(text)
    raise ValueError(f"A schedule of the kind {kind!r} cannot be read. Kinds are {', '.join(EXAMPLES)}.")


def _interval(text: str) -> float:
    seconds = interval_seconds(text)
    if not 1e-6 <= seconds <= _LONGEST:
        raise ValueError(
            f"{text!r} is not an interval above 0 and up to 100 years. Write it like {EXAMPLES[PeriodicTask.INTERVAL]}."
        )
    return seconds


@lru_cache(maxsize=1024)
def interval_seconds(text: str) -> float:
    """Return the seconds of an interval such as ``1 hour 30 minutes``; a number alone is of seconds.

    Raises:
        ValueError: it is none.
    """
    position, seconds, plain = 0, 0.0, text.strip().lower()
    while position < len(plain):
        part = _PART.match(plain, position)
        unit = _unit(part[2]) if part else None
        if part is None or unit is None or (not part[2] and part.end() - part.start() != len(plain)):
            raise ValueError(f"{text!r} is no interval. Write it like {EXAMPLES[PeriodicTask.INTERVAL]}.")
        seconds += float(part[1]) * unit
        position = part.end()
    # Sums of a day's microseconds are not exact as floats; nobody means less than one.
    return round(seconds, 6)


def _unit(name: str) -> float | None:
    if not name:
        return 1.0
    # "ms" is no plural of "m".
    return _UNITS.get(name) or (_UNITS.get(f"{name}s") if len(name) > 1 else None)


def _solar(text: str) -> Any:
    event, *degrees = text.replace(",", " ").split() or [""]
    try:
        latitude, longitude = map(float, degrees)
    except ValueError:
        raise ValueError(
            f"{text!r} is not an event with its place. Write it like {EXAMPLES[PeriodicTask.SOLAR]}."
        ) from None
    return solar(event, latitude, longitude)


def _clocked(text: str) -> Any:
    try:
        return clocked(parse_iso(text))
    except ValueError:
        raise ValueError(f"{text!r} is no instant. Write it like {EXAMPLES[PeriodicTask.CLOCKED]}.") from None


def of_interval(every: timedelta) -> str:
    """Return an interval as people write it: ``90 minutes``, ``1.5 seconds``."""
    micros = every // timedelta(microseconds=1)
    for name in ("weeks", "days", "hours", "minutes", "seconds"):
        unit = round(_UNITS[name] * 1_000_000)
        if micros >= unit and micros % unit == 0:
            count = micros // unit
            return f"{count} {name if count != 1 else name[:-1]}"
    return f"{micros / 1_000_000:f}".rstrip("0").rstrip(".") + " seconds"


def of_schedule(value: Any) -> tuple[str, str, bool]:
    """Return kind, text and ``relative`` of a schedule, such that ``parse`` makes an equal one of them.

    Raises:
        ValueError: no text says it, such as a class of the project's own.
    """
    known = _WRITERS.get(type(value))
    if known is not None and value.nowfun is None:
        kind, write = known
        text, relative = write(value), bool(getattr(value, "relative", False))
        if parse(kind, text, relative) == value:
            return kind, text, relative
    raise ValueError(
        f"{shown(value)} cannot be written as a text, as only intervals, cron, solar and clocked ones can."
    )


def shown(value: Any) -> str:
    """Return the repr of something of the project's own, the same in every process; its class where that fails."""
    try:
        return _ADDRESS.sub("", repr(value))
    except Exception:
        return f"<{type(value).__module__}.{type(value).__qualname__}>"


def _of_crontab(value: Any) -> str:
    """Return the fields as they were given, which is shorter than ``as_text`` where they have steps."""
    asked = (value._orig_minute, value._orig_hour, value._orig_day_of_month, value._orig_month_of_year,
             value._orig_day_of_week)  # fmt: skip
    if not all(isinstance(each, (int, str)) for each in asked):
        return str(value.as_text())
    return " ".join(str(each).replace(" ", "") for each in asked)


_WRITERS: dict[type, tuple[str, Callable[[Any], str]]] = {
    schedule: (PeriodicTask.INTERVAL, lambda value: of_interval(value.run_every)),
    cron: (PeriodicTask.CRON, lambda value: str(value.expression)),
    crontab: (PeriodicTask.CRONTAB, _of_crontab),
    solar: (PeriodicTask.SOLAR, lambda value: f"{value.event} {value.lat} {value.lon}"),
    clocked: (PeriodicTask.CLOCKED, lambda value: value.clocked_time.isoformat(" ")),
}
