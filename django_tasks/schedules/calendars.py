"""The times that a crontab or a cron string names, on a clock that is never changed.

croniter does the arithmetic of days: lengths of months, leap years, weekdays, ``L``, ``#`` and ``W``. Its answers are
kept, since many schedules name the same days; the time of day is only looked up in lists.
"""

from __future__ import annotations

import copy
from bisect import bisect_left
from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from functools import lru_cache

from croniter import CroniterBadDateError, croniter

_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)
#: What croniter begins at: a cron expression of seven fields names years from here on.
_EPOCH = date(1970, 1, 1)
#: How many years lie between two days at most: until 2099, the last year that croniter knows by its number.
_MOST_YEARS = 130


class Days:
    """The days that three or four fields of a cron expression name.

    Args:
        fields: day of the month, month and day of the week, and maybe the year, as croniter reads them.
        either: a day has to fit the day of the month or that of the week (as in cron) where both are given, not both.

    Raises:
        ValueError: croniter cannot read them.
    """

    def __init__(self, fields: tuple[str, ...], either: bool) -> None:
        expression = " ".join(("0 0", *fields[:3], *(("0", fields[3]) if len(fields) > 3 else ())))
        self.key = (expression, either)
        self.all = set(fields) <= {"*", "?"}
        if not self.all:
            _croniter(*self.key)

    def has(self, day: date) -> bool:
        """Return whether a day is one of them."""
        return self.all or _day_after(*self.key, day - _DAY) == day

    def after(self, day: date) -> date | None:
        """Return the first of them after a day; None if there is none."""
        return day + _DAY if self.all else _day_after(*self.key, day)

    def never(self) -> bool:
        """Return whether there is none at all, such as 31 February."""
        return self.after(_EPOCH - _DAY) is None


@lru_cache(maxsize=2048)
def _croniter(expression: str, either: bool) -> croniter:
    start = datetime.combine(_EPOCH, time())
    return croniter(expression, start, ret_type=datetime, day_or=either, max_years_between_matches=_MOST_YEARS)


@lru_cache(maxsize=65536)
def _day_after(expression: str, either: bool, day: date) -> date | None:
    # A copy, because croniter keeps its place, and threads share what is cached.
    days = copy.copy(_croniter(expression, either))
    try:
        found: datetime = days.get_next(datetime, start_time=datetime.combine(day, time()))
    except CroniterBadDateError:
        return None
    return found.date()


class Calendar:
    """Days and, on each of them, times: every hour of ``hours`` with every minute of ``minutes`` and so on.

    Args:
        days: the days.
        hours: numbers from 0 to 23.
        minutes: numbers from 0 to 59.
        seconds: numbers from 0 to 59.
    """

    __slots__ = ("days", "every_hour", "first", "hours", "minutes", "seconds")

    def __init__(self, days: Days, hours: Iterable[int], minutes: Iterable[int], seconds: Iterable[int] = (0,)) -> None:
        self.days = days
        self.hours, self.minutes, self.seconds = sorted(hours), sorted(minutes), sorted(seconds)
        self.first = time(self.hours[0], self.minutes[0], self.seconds[0])
        #: It names no hour: what it says is said of every hour that passes.
        self.every_hour = len(self.hours) == 24

    def after(self, local: datetime) -> datetime | None:
        """Return the first time after another, both without a zone; None if there is none.

        Args:
            local: the other one.
        """
        start = local.replace(microsecond=0) + _SECOND
        day: date | None = start.date()
        if day is not None and self.days.has(day):
            found = self._from(start.hour, start.minute, start.second)
            if found is not None:
                return datetime.combine(day, found)
        day = self.days.after(start.date())
        return None if day is None else datetime.combine(day, self.first)

    def _from(self, hour: int, minute: int, second: int) -> time | None:
        """Return the first time of day from one on, that one included."""
        hour_index = bisect_left(self.hours, hour)
        if hour_index < len(self.hours) and self.hours[hour_index] == hour:
            minute_index = bisect_left(self.minutes, minute)
            if minute_index < len(self.minutes) and self.minutes[minute_index] == minute:
                second_index = bisect_left(self.seconds, second)
                if second_index < len(self.seconds):
                    return time(hour, minute, self.seconds[second_index])
                minute_index += 1
            if minute_index < len(self.minutes):
                return time(hour, self.minutes[minute_index], self.seconds[0])
            hour_index += 1
        if hour_index < len(self.hours):
            return time(self.hours[hour_index], self.minutes[0], self.seconds[0])
        return None
