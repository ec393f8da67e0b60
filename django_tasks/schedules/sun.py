"""What the sun does over a place."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import Any, NamedTuple

from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.schedules.base import BaseSchedule, in_utc
from django_tasks.schedules.zones import UTC


class _Event(NamedTuple):
    """How ephem is asked: by which method, how high the sun is then, and whether that is its centre or its edge."""

    method: str
    horizon: str
    centre: bool


#: The events, with the horizons that Celery uses.
EVENTS = {
    "dawn_astronomical": _Event("next_rising", "-18", True),
    "dawn_nautical": _Event("next_rising", "-12", True),
    "dawn_civil": _Event("next_rising", "-6", True),
    "sunrise": _Event("next_rising", "-0:34", False),
    "solar_noon": _Event("next_transit", "0", False),
    "sunset": _Event("next_setting", "-0:34", False),
    "dusk_civil": _Event("next_setting", "-6", True),
    "dusk_nautical": _Event("next_setting", "-12", True),
    "dusk_astronomical": _Event("next_setting", "-18", True),
}
#: How many days ahead an event is looked for: beyond the polar circles it may not come for half a year.
SEARCH_DAYS = 367
_DAY, _HOUR, _SECOND = timedelta(days=1), timedelta(hours=1), timedelta(seconds=1)


class solar(BaseSchedule):
    """A schedule of an event of the sun, to the second; it needs the library ephem (``django-celeriac[solar]``).

    Args:
        event: one of ``EVENTS``.
        lat: degrees north of the equator, -90 to 90.
        lon: degrees east of Greenwich, -180 to 180.
        nowfun: see ``BaseSchedule``.
        app: see ``BaseSchedule``.

    Raises:
        ImproperlyConfigured: ephem is not installed.
        ValueError: there is no such event or place.
    """

    def __init__(
        self, event: str, lat: float, lon: float, nowfun: Callable[[], datetime] | None = None, app: Any = None
    ) -> None:
        _ephem()
        if event not in EVENTS:
            raise ValueError(f"The sun has no event {event!r}: give one of {', '.join(EVENTS)}.")
        for name, degrees, most in (("latitude", lat, 90), ("longitude", lon, 180)):
            if not (math.isfinite(degrees) and -most <= degrees <= most):
                raise ValueError(f"The {name} {degrees!r} is not between -{most} and {most} degrees.")
        self.event, self.lat, self.lon = event, lat, lon
        super().__init__(nowfun, app)

    def next_slot(self, after: datetime, *, anchor: datetime, zone: tzinfo) -> datetime | None:
        """Return the next event after an instant; see ``BaseSchedule``. Nothing else counts here."""
        after = in_utc("after", after)
        first = after.date() - _DAY
        for number in range(SEARCH_DAYS):
            instant = _event_of(self.event, float(self.lat), float(self.lon), first + number * _DAY)
            if instant is not None and instant > after:
                return instant
        return None

    @property
    def heeds_zone(self) -> bool:
        """Whether clocks matter: not to the sun."""
        return False

    @property
    def human_readable(self) -> str:
        """``sunset at latitude 52.52, longitude 13.4``."""
        return f"{self.event.replace('_', ' ')} at latitude {self.lat}, longitude {self.lon}"

    def __repr__(self) -> str:
        return f"<solar: {self.event} at latitude {self.lat}, longitude: {self.lon}>"

    def __eq__(self, other: object) -> bool:
        """Compare events and places."""
        if not isinstance(other, solar):
            return NotImplemented
        return (self.event, self.lat, self.lon) == (other.event, other.lat, other.lon)

    def __hash__(self) -> int:
        return hash((self.event, self.lat, self.lon))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.event, self.lat, self.lon), {"nowfun": self.nowfun}


@lru_cache(maxsize=16384)
def _event_of(event: str, lat: float, lon: float, day: date) -> datetime | None:
    """Return the instant of an event between one midnight by the sun and the next; it comes once or not at all.

    All who ask begin at that midnight: ephem's answers differ by parts of a second if it starts elsewhere, and beats
    that do not agree on a slot would run it twice.
    """
    ephem = _ephem()
    method, horizon, centre = EVENTS[event]
    place = _place(lat, lon)
    place.horizon, place.pressure = horizon, 0
    start = _midnight(lat, lon, day) + _SECOND
    options = {"use_center": True} if centre else {}
    try:
        instant: datetime = getattr(place, method)(ephem.Sun(), start=start, **options).datetime()
    except ephem.CircumpolarError:
        return None
    if instant >= _midnight(lat, lon, day + _DAY):
        return None
    return (instant + _SECOND / 2).replace(microsecond=0, tzinfo=UTC)


@lru_cache(maxsize=16384)
def _midnight(lat: float, lon: float, day: date) -> datetime:
    """Return when the sun is lowest, in UTC without a zone, around the beginning of a day."""
    # It is a quarter of an hour early or late at most.
    about = datetime.combine(day, time()) - timedelta(hours=lon / 15)
    midnight: datetime = _place(lat, lon).next_antitransit(_ephem().Sun(), start=about - _HOUR / 2).datetime()
    return midnight


def _place(lat: float, lon: float) -> Any:
    place = _ephem().Observer()
    place.lat, place.lon = str(lat), str(lon)
    return place


def _ephem() -> Any:
    try:
        import ephem
    except ImportError as exc:
        raise ImproperlyConfigured(
            "Schedules of the sun need the library ephem: pip install 'django-celeriac[solar]'."
        ) from exc
    return ephem
