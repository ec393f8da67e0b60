"""Times on the clock and days on the calendar, as in crontab(5) and Celery's ``crontab``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from datetime import datetime, tzinfo
from functools import lru_cache
from typing import Any

from django_tasks.schedules import fields
from django_tasks.schedules.base import BaseSchedule, in_utc
from django_tasks.schedules.calendars import Calendar, Days
from django_tasks.schedules.clocks import next_instant
from django_tasks.schedules.fields import Cronspec, expand
from django_tasks.schedules.words import day_words, time_words

_ALL_DAYS, _ALL_MONTHS, _ALL_WEEKDAYS = range(1, 32), range(1, 13), range(7)


class crontab(BaseSchedule):
    """A schedule of minutes, hours and days, with Celery's arguments.

    Each is a number, a text (``"*/15"``, ``"8-17"``, ``"0,30"``, ``"mon-fri"``) or an iterable of these. A day has to
    fit day of the month, month and day of the week, all three.

    Args:
        minute: 0 to 59.
        hour: 0 to 23.
        day_of_week: 0 (Sunday) to 6, or names of days.
        day_of_month: 1 to 31.
        month_of_year: 1 to 12, or names of months.
        nowfun: see ``BaseSchedule``.
        app: see ``BaseSchedule``.

    Raises:
        TypeError: an argument is of another type.
        ParseException: a text is not written as one.
        ValueError: a number is out of range, or there is no such day, such as 31 February.
    """

    def __init__(
        self,
        minute: Cronspec = "*",
        hour: Cronspec = "*",
        day_of_week: Cronspec = "*",
        day_of_month: Cronspec = "*",
        month_of_year: Cronspec = "*",
        nowfun: Callable[[], datetime] | None = None,
        app: Any = None,
    ) -> None:
        # What was given, under the names that programs for Celery read it by.
        self._orig_minute = _kept(minute)
        self._orig_hour = _kept(hour)
        self._orig_day_of_week = _kept(day_of_week)
        self._orig_day_of_month = _kept(day_of_month)
        self._orig_month_of_year = _kept(month_of_year)
        self.minute = expand(fields.MINUTE, self._orig_minute)
        self.hour = expand(fields.HOUR, self._orig_hour)
        self.day_of_week = expand(fields.DAY_OF_WEEK, self._orig_day_of_week)
        self.day_of_month = expand(fields.DAY_OF_MONTH, self._orig_day_of_month)
        self.month_of_year = expand(fields.MONTH_OF_YEAR, self._orig_month_of_year)
        days = _days(self.day_of_month, self.month_of_year, self.day_of_week)
        if days is None:
            raise ValueError(
                f"This crontab is never due: day_of_month {_text(self._orig_day_of_month)} does not occur in "
                f"month_of_year {_text(self._orig_month_of_year)}. Correct one of them; the last day of a month, "
                "whichever that is, is L in a cron string, such as '0 0 L * *'."
            )
        self._calendar = Calendar(days, self.hour, self.minute)
        super().__init__(nowfun, app)

    @classmethod
    def from_string(cls, crontab: str) -> crontab:
        """Make one from the five fields of a line of crontab(5), with Celery's meaning: a day has to fit all of them.

        Args:
            crontab: minute, hour, day of the month, month, day of the week, with spaces between.

        Raises:
            ValueError: these are not five fields; see the class for the rest.
        """
        parts = crontab.split()
        if len(parts) != 5:
            raise ValueError(
                f"A crontab has five fields (minute, hour, day of the month, month, day of the week), not "
                f"{len(parts)} as {crontab!r} has."
            )
        minute, hour, day_of_month, month_of_year, day_of_week = parts
        return cls(minute, hour, day_of_week, day_of_month, month_of_year)

    def as_text(self) -> str:
        """Return the five fields of crontab(5) from which ``from_string`` makes an equal one."""
        return " ".join(
            "*" if len(numbers) == field.last - field.first + 1 else ",".join(map(str, sorted(numbers)))
            for field, numbers in (
                (fields.MINUTE, self.minute), (fields.HOUR, self.hour), (fields.DAY_OF_MONTH, self.day_of_month),
                (fields.MONTH_OF_YEAR, self.month_of_year), (fields.DAY_OF_WEEK, self.day_of_week),
            )
        )  # fmt: skip

    def next_slot(self, after: datetime, *, anchor: datetime, zone: tzinfo) -> datetime | None:
        """Return the first time after an instant; see ``BaseSchedule``. ``anchor`` means nothing here."""
        return next_instant(self._calendar, in_utc("after", after), zone)

    @property
    def human_readable(self) -> str:
        """``every 15 minutes on Monday to Friday``."""
        times = time_words(self._calendar.hours, self._calendar.minutes)
        return times + day_words(self.day_of_month, self.month_of_year, self.day_of_week)

    def __repr__(self) -> str:
        fields_ = (self._orig_minute, self._orig_hour, self._orig_day_of_month, self._orig_month_of_year,
                   self._orig_day_of_week)  # fmt: skip
        return f"<crontab: {' '.join(map(_text, fields_))} (m/h/dM/MY/d)>"

    def __eq__(self, other: object) -> bool:
        """Compare what the fields mean, however they are written, and ``nowfun``."""
        if not isinstance(other, crontab):
            return NotImplemented
        return self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[Any, ...]:
        return (self.minute, self.hour, self.day_of_week, self.day_of_month, self.month_of_year, self.nowfun)

    def __reduce__(self) -> tuple[Any, ...]:
        # Without the app: it means the current one wherever this is read.
        arguments = (self._orig_minute, self._orig_hour, self._orig_day_of_week, self._orig_day_of_month,
                     self._orig_month_of_year)  # fmt: skip
        return type(self), arguments, {"nowfun": self.nowfun}


def _kept(spec: Any) -> Any:
    """Return what was given; what can be gone through once only, as a list."""
    return "*" if spec is None else list(spec) if isinstance(spec, Iterator) else spec


def _text(spec: Any) -> str:
    """Return what was given, the same in every process: sets have no order."""
    if isinstance(spec, str):
        return spec
    return f"{{{', '.join(sorted(map(repr, spec)))}}}" if isinstance(spec, (set, frozenset)) else repr(spec)


@lru_cache(maxsize=16384)
def _days(days: frozenset[int], months: frozenset[int], weekdays: frozenset[int]) -> Days | None:
    """Return the days of a crontab; None if there are none."""
    parts = tuple(_cron_field(*each) for each in ((days, _ALL_DAYS), (months, _ALL_MONTHS), (weekdays, _ALL_WEEKDAYS)))
    found = Days(parts, either=False)
    return None if found.never() else found


def _cron_field(numbers: Collection[int], everything: range) -> str:
    return "*" if len(numbers) == len(everything) else ",".join(map(str, sorted(numbers)))
