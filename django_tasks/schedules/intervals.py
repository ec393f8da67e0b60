"""Every so many seconds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from typing import Any

from django_tasks.schedules.base import BaseSchedule, in_utc, schedstate
from django_tasks.schedules.words import duration, human_duration
from django_tasks.schedules.zones import UTC, instant_of

_DAY, _HOUR, _MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)


class schedule(BaseSchedule):
    """An interval: every ``run_every``, whatever the clocks do.

    Args:
        run_every: seconds, or a timedelta.
        relative: count from a round time: from midnight for days, from the full hour for hours, from the full minute
            for minutes. Days are then those on the calendar, which a change of the clocks makes longer or shorter.
        nowfun: see ``BaseSchedule``.
        app: see ``BaseSchedule``.

    Raises:
        TypeError: ``run_every`` is neither.
        ValueError: it is not above 0.
    """

    run_every: timedelta

    def __init__(
        self,
        run_every: Any = None,
        relative: bool = False,
        nowfun: Callable[[], datetime] | None = None,
        app: Any = None,
    ) -> None:
        if isinstance(run_every, (int, float)) and not isinstance(run_every, bool):
            run_every = timedelta(seconds=run_every)
        if isinstance(run_every, timedelta):
            self.run_every = run_every
        # A class with an is_due of its own may have no interval, as in Celery.
        if self.knows_slots:
            _check(run_every)
        self.relative = relative
        super().__init__(nowfun=nowfun, app=app)

    def next_slot(self, after: datetime, *, anchor: datetime, zone: tzinfo) -> datetime | None:
        """Return the first of ``anchor``, ``anchor + run_every`` and so on after an instant; see ``BaseSchedule``."""
        after, anchor = in_utc("after", after), in_utc("anchor", anchor)
        if not self.relative:
            return anchor + max((after - anchor) // self.run_every + 1, 0) * self.run_every
        start = _rounded(anchor.astimezone(zone).replace(tzinfo=None), self.run_every)
        if self.run_every < _DAY:
            # Back by what was cut off, so that it is the same pass of an hour that comes twice.
            anchor -= anchor.astimezone(zone).replace(tzinfo=None) - start
            return anchor + max((after - anchor) // self.run_every + 1, 0) * self.run_every
        steps = max((after.astimezone(zone).replace(tzinfo=None) - start) // self.run_every, 0)
        # The clocks may have been put back: then that one is still to come, or comes a second time.
        while (slot := instant_of(start + steps * self.run_every, zone)) <= after:
            steps += 1
        return slot

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        """Return how long it is until the next run, as Celery has it; below 0 when it should have begun.

        With ``relative`` the round time before ``last_run_at + run_every``, if that is after ``last_run_at``.
        """
        last = self.maybe_make_aware(last_run_at)
        end = last.astimezone(UTC) + self.run_every
        if self.relative:
            end = self._round_end(last, end, last.tzinfo or UTC)
        return end - self.now()

    def _round_end(self, last: datetime, end: datetime, zone: tzinfo) -> datetime:
        if self.run_every >= _DAY:
            rounded = instant_of(_rounded(last.replace(tzinfo=None) + self.run_every, self.run_every), zone)
        else:
            clock = end.astimezone(zone).replace(tzinfo=None)
            rounded = end - (clock - _rounded(clock, self.run_every))
        return rounded if rounded > last else end

    def is_due(self, last_run_at: datetime) -> schedstate:
        """Return whether to run now, and in how many seconds to ask again, as Celery has it.

        Args:
            last_run_at: when it ran last; UTC if it has no zone.
        """
        remaining = self.remaining_estimate(last_run_at).total_seconds()
        if remaining > 0:
            return schedstate(False, remaining)
        after = 0.0
        if self.relative:
            zone = self.maybe_make_aware(last_run_at).tzinfo
            after = self.remaining_estimate(self.now().astimezone(zone)).total_seconds()
        return schedstate(True, after if after > 0 else self.seconds)

    @property
    def seconds(self) -> float:
        """The interval in seconds."""
        return max(self.run_every.total_seconds(), 0)

    @property
    def human_seconds(self) -> str:
        """The interval in the largest unit that fits, such as ``1.50 hours`` (Celery's name)."""
        return duration(self.run_every)

    @property
    def heeds_zone(self) -> bool:
        """Whether it counts from round times, which are those of a zone's clocks."""
        return self.relative

    @property
    def human_readable(self) -> str:
        """``every 90 seconds``."""
        if not hasattr(self, "run_every"):
            return repr(self)
        return f"every {human_duration(self.run_every)}" + (", on round times" if self.relative else "")

    def __repr__(self) -> str:
        if not hasattr(self, "run_every"):  # of a class with an is_due of its own
            return f"<{type(self).__module__}.{type(self).__qualname__}>"
        return f"<freq: {self.human_seconds}{', relative' if self.relative else ''}>"

    def __eq__(self, other: object) -> bool:
        """Compare intervals, also with a timedelta; as in Celery ``relative`` does not count."""
        if isinstance(other, schedule):
            return self.run_every == other.run_every
        return self.run_every == other

    def __hash__(self) -> int:
        return hash(self.run_every)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.run_every, self.relative, self.nowfun)


def _check(run_every: Any) -> None:
    if not isinstance(run_every, timedelta):
        raise TypeError(f"The interval of a schedule is a number of seconds or a timedelta, not {run_every!r}.")
    if run_every <= timedelta():
        raise ValueError(f"The interval of a schedule has to be longer than 0 seconds, not {run_every!r}.")


def _rounded(local: datetime, interval: timedelta) -> datetime:
    """Return a time of day cut off as Celery's ``relative`` does: to days, hours, minutes, or not at all."""
    if interval >= _DAY:
        return local.replace(hour=0, minute=0, second=0, microsecond=0)
    if interval >= _HOUR:
        return local.replace(minute=0, second=0, microsecond=0)
    if interval >= _MINUTE:
        return local.replace(second=0, microsecond=0)
    return local.replace(microsecond=0)
