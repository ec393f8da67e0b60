"""One instant, as django-celery-beat's ``clocked``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, tzinfo
from typing import Any

from django_tasks.schedules.base import BaseSchedule, in_utc
from django_tasks.schedules.zones import UTC, instant_of


class clocked(BaseSchedule):
    """A schedule with one slot.

    Args:
        clocked_time: the instant; one without a zone is what the clocks of the entry's zone show, else of the app's.
        nowfun: see ``BaseSchedule``.
        app: see ``BaseSchedule``.

    Raises:
        TypeError: ``clocked_time`` is no ``datetime``.
    """

    def __init__(self, clocked_time: datetime, nowfun: Callable[[], datetime] | None = None, app: Any = None) -> None:
        if not isinstance(clocked_time, datetime):
            raise TypeError(f"A clocked schedule needs the datetime of its run, not {clocked_time!r}.")
        super().__init__(nowfun, app)
        self.clocked_time = clocked_time

    def next_slot(self, after: datetime, *, anchor: datetime, zone: tzinfo) -> datetime | None:
        """Return the instant if it is after another; see ``BaseSchedule``. ``anchor`` means nothing here."""
        instant = instant_of(self.clocked_time, zone) if self.heeds_zone else self.clocked_time.astimezone(UTC)
        return instant if instant > in_utc("after", after) else None

    @property
    def heeds_zone(self) -> bool:
        """Whether the instant has no zone of its own."""
        return self.clocked_time.tzinfo is None

    @property
    def human_readable(self) -> str:
        """``once at 2027-01-01 00:00:00 UTC``; without the zone if it has none of its own."""
        return f"once at {self._text()}"

    def _text(self) -> str:
        if self.heeds_zone:
            return str(self.clocked_time)
        return f"{self.clocked_time.astimezone(UTC).replace(tzinfo=None)} UTC"

    def __repr__(self) -> str:
        return f"<clocked: {self._text()}>"

    def __eq__(self, other: object) -> bool:
        """Compare the instants."""
        return self.clocked_time == other.clocked_time if isinstance(other, clocked) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.clocked_time)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.clocked_time,), {"nowfun": self.nowfun}
