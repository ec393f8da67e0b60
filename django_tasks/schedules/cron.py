"""Cron strings, as croniter reads them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime, tzinfo
from functools import lru_cache
from typing import Any, NamedTuple

from croniter import CroniterError, croniter

from django_tasks.schedules.base import BaseSchedule, in_utc
from django_tasks.schedules.calendars import Calendar, Days
from django_tasks.schedules.clocks import next_instant
from django_tasks.schedules.words import MONTHS, ORDINALS, WEEKDAYS, listed, runs, time_words

#: What stands for five fields.
ALIASES = {
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}  # fmt: skip
# croniter takes a range from a number to itself for the whole field.
_SAME = re.compile(r"(?<!\w)(\w+)-\1(?:/\d+)?(?=$|[\s,])", re.IGNORECASE)
_INTERVAL = re.compile(r"\d+(\.\d+)?( ?[a-z]+)?|every .*", re.IGNORECASE)
#: What each field is called, and takes beside what all take.
_TAKES = (
    ("minute", "0 to 59"),
    ("hour", "0 to 23"),
    ("day of the month", "1 to 31, L (the last one), 15W (a single one: the nearest weekday)"),
    ("month", "1 to 12 or jan to dec"),
    ("day of the week", "0 (Sunday) to 7 or sun to sat, 2#3 (the third Tuesday), L5 (the last Friday)"),
    ("second", "0 to 59"),
    ("year", "1970 to 2099"),
)
_HASHED = re.compile(r"(?:^|[\s,])[hr](?:$|[\s,/(])", re.IGNORECASE)


class _Parsed(NamedTuple):
    calendar: Calendar
    words: str


class cron(BaseSchedule):
    """A schedule written as a line of crontab(5): ``cron("20 20 * * 1")``.

    Where both the day of the month and the day of the week are given, a day has to fit one of them, as in cron; in
    ``crontab`` it has to fit both.

    Args:
        expression: minute, hour, day of the month, month and day of the week, then maybe the second, then maybe the
            year; or one of ``ALIASES`` such as ``@daily``. Beside the usual forms croniter has ``L`` (last day),
            ``15W`` (the weekday nearest to the 15th), ``2#3`` (third Tuesday), ``L5`` (last Friday) and ``?``.
        nowfun: see ``BaseSchedule``.
        app: see ``BaseSchedule``.

    Raises:
        TypeError: ``expression`` is not a text.
        ValueError: croniter cannot read it, or there is no such day, such as 31 February.
    """

    def __init__(self, expression: str, nowfun: Callable[[], datetime] | None = None, app: Any = None) -> None:
        if not isinstance(expression, str):
            raise TypeError(f"A cron string is a text such as '20 20 * * 1', not {expression!r}.")
        self.expression = " ".join(expression.split())
        self._calendar, self._words = _parse(self.expression)
        super().__init__(nowfun, app)

    def next_slot(self, after: datetime, *, anchor: datetime, zone: tzinfo) -> datetime | None:
        """Return the first time after an instant; see ``BaseSchedule``. ``anchor`` means nothing here."""
        return next_instant(self._calendar, in_utc("after", after), zone)

    @property
    def human_readable(self) -> str:
        """``at 20:20 on Monday``."""
        return self._words

    def __repr__(self) -> str:
        return f"<cron: {self.expression}>"

    def __eq__(self, other: object) -> bool:
        """Compare the texts and ``nowfun``."""
        if not isinstance(other, cron):
            return NotImplemented
        return self.expression == other.expression and self.nowfun == other.nowfun

    def __hash__(self) -> int:
        return hash((self.expression, self.nowfun))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.expression,), {"nowfun": self.nowfun}


@lru_cache(maxsize=16384)
def _parse(expression: str) -> _Parsed:
    """Read a cron string; see the class for what is raised."""
    if expression.startswith("@") and expression.lower() not in ALIASES:
        raise ValueError(f"There is no cron string {expression!r}: those with a name are {', '.join(ALIASES)}.")
    text = _SAME.sub(r"\1", ALIASES.get(expression.lower(), expression))
    parts = text.split()
    if not 5 <= len(parts) <= 7:
        raise ValueError(f"The cron string {expression!r} {_miscounted(parts)}")
    if _HASHED.search(text):
        # Several beats have to mean the same by it.
        raise ValueError(f"The cron string {expression!r} has H or R, which stand for any number: write the number.")
    try:
        minutes, hours, seconds = _times(*parts[:2], *parts[5:6])
        days, day_text = _days(*parts[2:5], *parts[6:])
    except CroniterError as exc:
        raise ValueError(f"The cron string {expression!r} {_unreadable(parts, exc)}") from exc
    except ValueError as exc:
        raise ValueError(f"The cron string {expression!r} {exc}") from None
    return _Parsed(Calendar(days, hours, minutes, seconds), time_words(hours, minutes, seconds) + day_text)


def _miscounted(parts: Sequence[str]) -> str:
    """Return what is wrong with a number of fields; it goes on after the name of the cron string."""
    text = f"has {len(parts) or 'no'} field{'' if len(parts) == 1 else 's'}: it takes five (minute, hour, day of the "
    text += "month, month, day of the week), then maybe the second, then maybe the year."
    if _INTERVAL.fullmatch(" ".join(parts)):
        text += (
            " An interval is a number of seconds or a timedelta, not a text; in the database it has a kind of its own."
        )
    return text


def _unreadable(parts: Sequence[str], error: CroniterError) -> str:
    """Return which field croniter does not take; it goes on after the name of the cron string."""
    alone = ["*", "*", "*", "*", "*", "0", "*"]
    for number, (part, (name, takes)) in enumerate(zip(parts, _TAKES, strict=False)):
        try:
            croniter.expand(" ".join([*alone[:number], part, *alone[number + 1 :]]))
        except CroniterError:
            return f"has no {name} {part!r}: it takes {takes}, '*', ranges (1-5), steps (*/5), and lists of these."
    return f"cannot be read: {str(error).splitlines()[-1].rstrip('.')}."


# What croniter reads is kept in two parts, since 100,000 cron strings have few times of day and fewer days.
@lru_cache(maxsize=16384)
def _times(minute: str, hour: str, second: str = "0") -> tuple[list[int], list[int], list[int]]:
    expanded, _ = croniter.expand(f"{minute} {hour} * * * {second}")
    return _numbers(expanded[0], 60), _numbers(expanded[1], 24), _numbers(expanded[5], 60)


@lru_cache(maxsize=16384)
def _days(*fields: str) -> tuple[Days, str]:
    """Return the days that three or four fields name, and what to call them.

    Raises:
        ValueError: there are none, or it is not defined which; the message goes on after the name of the cron string.
    """
    expanded, nth = croniter.expand(" ".join(("0 0", *fields[:3], *(("0", fields[3]) if len(fields) > 3 else ()))))
    special = bool(nth or "w" in fields[0].lower())
    if special and ["*"] not in (expanded[2], expanded[4]):
        # croniter sometimes passes over the other one, and sometimes finds nothing.
        raise ValueError(
            "has a day with W, # or L and the other kind of day beside it: give one of them as '*', and make two "
            "entries of it if both are meant."
        )
    days = Days(fields, either=True)
    if days.never():
        raise ValueError("is never due: there is no such day.")
    return days, _day_words(fields, expanded, nth)


def _numbers(expanded: list[Any], size: int) -> list[int]:
    return list(range(size)) if expanded == ["*"] else sorted(expanded)


def _day_words(fields: tuple[str, ...], expanded: list[list[Any]], nth: dict[int, set[Any]]) -> str:
    """Return the days in words, as something to put after the times; empty for every day.

    Args:
        fields: as in ``_days``.
        expanded: what croniter makes of them.
        nth: the numbers of weekdays in a month, as croniter has them.
    """
    days = "" if expanded[2] == ["*"] else _days_of_month(fields[0], expanded[2])
    weekdays = "" if expanded[4] == ["*"] else _days_of_week(expanded[4], nth)
    text = f" on {' or on '.join(filter(None, (days, weekdays)))}" if days or weekdays else ""
    months = "" if expanded[3] == ["*"] else runs(expanded[3], MONTHS, 1)
    years = "" if len(fields) < 4 or expanded[6] == ["*"] else runs(expanded[6])
    return text + (f" in {' of '.join(filter(None, (months, years)))}" if months or years else "")


def _days_of_month(field: str, numbers: list[Any]) -> str:
    if "w" in field.lower():
        return f"the weekday nearest to day {numbers[0]} of the month"
    plain = [number for number in numbers if number != "l"]
    parts = [f"day {runs(plain)}"] if plain else []
    return listed([*parts, "the last day"] if "l" in numbers else parts) + " of the month"


def _days_of_week(numbers: list[int], nth: dict[int, set[Any]]) -> str:
    if not nth:
        return runs(numbers, WEEKDAYS)
    which = ((day, each) for day in sorted(nth) for each in sorted(nth[day], key=str))
    return listed(f"the {ORDINALS[each]} {WEEKDAYS[day]}" for day, each in which) + " of the month"
