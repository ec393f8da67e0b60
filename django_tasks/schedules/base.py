"""What all schedules have in common."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from typing import Any, ClassVar, NamedTuple

from django_tasks.current import get_current_app
from django_tasks.schedules.zones import UTC, aware, zone_of


class schedstate(NamedTuple):
    """The answer of ``is_due``, as Celery has it.

    Attributes:
        is_due: whether to run now.
        next: seconds until it is worth asking again; None for never.
    """

    is_due: bool
    next: float | None


class BaseSchedule:
    """Base of schedules, for classes of your own, too.

    A class has ``is_due`` and ``remaining_estimate``, as in Celery, and beat asks it every few seconds. If it has
    ``next_slot`` instead, its slots are known in advance, and all that beat does with slots (catching up, time zones,
    previews) works with it.

    Args:
        nowfun: returns the current time; the clock by default.
        app: the app whose time zone holds; the current one by default.
    """

    #: Whether beat can ask for slots: false for a class that overrides ``is_due`` or ``remaining_estimate`` only.
    knows_slots: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "next_slot" in cls.__dict__:
            cls.knows_slots = True
        elif "is_due" in cls.__dict__ or "remaining_estimate" in cls.__dict__:
            cls.knows_slots = False

    def __init__(self, nowfun: Callable[[], datetime] | None = None, app: Any = None) -> None:
        self.nowfun = nowfun
        self._app = app

    @property
    def app(self) -> Any:
        """The app it was made for, else the current one."""
        return self._app or get_current_app()

    @app.setter
    def app(self, app: Any) -> None:
        self._app = app

    @property
    def tz(self) -> tzinfo:
        """The zone in which ``is_due`` reads clocks."""
        return zone_of(self._app)

    @property
    def heeds_zone(self) -> bool:
        """Whether its slots depend on the clocks of the zone that ``next_slot`` is given."""
        return True

    @property
    def human_readable(self) -> str:
        """What it says, in words."""
        return repr(self)

    def now(self) -> datetime:
        """Return the current time, with a zone."""
        return self.maybe_make_aware(self.nowfun()) if self.nowfun else datetime.now(UTC)

    def maybe_make_aware(self, dt: datetime, naive_as_utc: bool = True) -> datetime:
        """Return a time with a zone.

        Args:
            dt: it, with or without one.
            naive_as_utc: one without is in UTC, else in the zone of this schedule.
        """
        if dt.tzinfo is not None:
            return dt
        return aware(dt).astimezone(self.tz) if naive_as_utc else dt.replace(tzinfo=self.tz)

    def to_local(self, dt: datetime) -> datetime:
        """Return a time as it is: all are in UTC or have a zone (there for classes made for Celery)."""
        return dt

    def next_slot(self, after: datetime, *, anchor: datetime, zone: tzinfo) -> datetime | None:
        """Return the first time to run after an instant.

        Args:
            after: the instant, with a zone.
            anchor: the instant that intervals are counted from, with a zone.
            zone: the zone whose clocks and days are meant.

        Returns:
            An instant in UTC; None if there is none any more.

        Raises:
            ValueError: ``after`` or ``anchor`` has no zone.
        """
        raise NotImplementedError(f"{type(self).__name__} has no next_slot: beat asks its is_due instead.")

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        """Return how long it is until the next run, as Celery has it; below 0 when it should have begun.

        Args:
            last_run_at: when it ran last; UTC if it has no zone.
        """
        last = aware(last_run_at)
        slot = self.next_slot(last.astimezone(UTC), anchor=last, zone=self.tz)
        return timedelta.max if slot is None else slot - self.now()

    def is_due(self, last_run_at: datetime) -> schedstate:
        """Return whether to run now, and in how many seconds to ask again, as Celery has it.

        Args:
            last_run_at: when it ran last; UTC if it has no zone.
        """
        remaining = self.remaining_estimate(last_run_at)
        due = remaining <= timedelta()
        if due:
            remaining = self.remaining_estimate(self.now())
        return schedstate(due, None if remaining == timedelta.max else max(remaining.total_seconds(), 0))


def in_utc(name: str, instant: datetime) -> datetime:
    """Return an instant in UTC.

    Args:
        name: what it is called, for the error.
        instant: it, with a zone.

    Raises:
        ValueError: it has none.
    """
    if instant.tzinfo is None:
        raise ValueError(f"{name} has no time zone: {instant!r}. Give an aware datetime, such as timezone.now().")
    return instant.astimezone(UTC)
