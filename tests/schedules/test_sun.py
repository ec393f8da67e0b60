"""The sun, by ephem."""

from __future__ import annotations

import pickle
import sys
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import ephem
import pytest

from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.schedules import solar
from django_tasks.schedules.sun import EVENTS
from tests.schedules.clocks import DAY, HOUR, MINUTE, UTC, slots

BERLIN, TROMSO = (52.52, 13.405), (69.65, 18.96)
NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        # As almanacs have them for Berlin on 21 June, in UTC.
        ("sunrise", "02:43"),
        ("solar_noon", "11:08"),
        ("sunset", "19:33"),
    ],
)
def test_a_day_in_berlin(event: str, expected: str) -> None:
    midnight = datetime(2026, 6, 21, tzinfo=UTC)
    slot = solar(event, *BERLIN).next_slot(midnight, anchor=midnight, zone=UTC)
    assert slot is not None
    assert f"{slot:%d %H:%M}" == f"21 {expected}"


def test_the_events_of_a_day_in_their_order() -> None:
    midnight = datetime(2026, 3, 21, tzinfo=UTC)
    found = [solar(event, *BERLIN).next_slot(midnight, anchor=midnight, zone=UTC) for event in EVENTS]
    assert found == sorted(slot for slot in found if slot is not None)
    assert {slot.date() for slot in found if slot} == {midnight.date()}


@pytest.mark.parametrize("event", EVENTS)
def test_it_is_the_same_from_wherever_one_looks(event: str) -> None:
    # Two beats that look from different instants have to find the same slot.
    for place in (BERLIN, (-33.87, 151.21), (0, -179.9), (21.3, -157.9), (1.87, -157.4)):
        each = solar(event, *place)
        year = slots(each, "UTC", NEW_YEAR, NEW_YEAR + 20 * DAY)
        assert len(year) == 20
        for before, slot in pairwise(year):
            assert 23 * HOUR < slot - before < 25 * HOUR
            for after in (before, before + MINUTE, before + 7 * HOUR, slot - timedelta(microseconds=1)):
                assert each.next_slot(after, anchor=after, zone=UTC) == slot


def test_polar_night_and_polar_day() -> None:
    # Tromsø sees no sun from the end of November to the middle of January, and no sunset from May to July.
    rises = slots(solar("sunrise", *TROMSO), "UTC", NEW_YEAR, NEW_YEAR + 365 * DAY)
    days = [slot.date() for slot in rises]
    pauses = [(before, after) for before, after in pairwise(days) if after - before > 2 * DAY]
    assert [(before.month, after.month) for before, after in pauses] == [(5, 7)]
    assert (days[0].month, days[-1].month) == (1, 11)


@pytest.mark.parametrize("latitude", [60.5, 66.6, 69.65])
@pytest.mark.parametrize("event", ["sunrise", "dusk_nautical"])
def test_no_event_of_a_year_is_left_out_or_doubled(event: str, latitude: float) -> None:
    # Independently: how high the sun is every four minutes.
    place, sun = ephem.Observer(), ephem.Sun()
    place.lat, place.lon, place.pressure = str(latitude), "18.96", 0
    _, horizon, centre = EVENTS[event]
    height = float(ephem.degrees(horizon))
    expected = []
    # The weeks around the beginnings and ends of polar day, polar night and white nights.
    starts = [NEW_YEAR + number * 7 * DAY for number in (1, 2, 19, 28, 29, 46)]
    for start in starts:
        above = None
        for minute in range(0, 7 * 1440, 4):
            instant = start + minute * MINUTE
            place.date = instant.replace(tzinfo=None)
            sun.compute(place)
            before, above = above, float(sun.alt) + (0 if centre else float(sun.radius)) > height
            if before is not None and above != before and above is (event == "sunrise" or event.startswith("dawn")):
                expected.append(instant)
    found = [slot for start in starts for slot in slots(solar(event, latitude, 18.96), "UTC", start, start + 7 * DAY)]
    assert len(found) == pytest.approx(len(expected), abs=1)
    for slot in expected:
        assert any(slot - 6 * MINUTE < each < slot + 2 * MINUTE for each in found), slot


def test_what_never_happens() -> None:
    assert solar("sunrise", 90, 0).next_slot(NEW_YEAR, anchor=NEW_YEAR, zone=UTC) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sunup", 0, 0), "The sun has no event 'sunup': give one of dawn_astronomical, dawn_nautical, dawn_civil, "),
        (("sunset", 91, 0), "The latitude 91 is not between -90 and 90 degrees."),
        (("sunset", 0, -180.5), "The longitude -180.5 is not between -180 and 180 degrees."),
        (("sunset", float("nan"), 0), "The latitude nan is not between -90 and 90 degrees."),
    ],
)
def test_what_is_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=r" (event|latitude|longitude) ") as caught:
        solar(*arguments)
    assert str(caught.value).startswith(message)


def test_without_ephem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ephem", None)
    with pytest.raises(ImproperlyConfigured, match=r"the library ephem: pip install 'django-celeriac\[solar\]'\."):
        solar("sunset", *BERLIN)


def test_equality_pickling_and_texts() -> None:
    each = solar("sunset", *BERLIN)
    copy = pickle.loads(pickle.dumps(each))
    assert copy == each != solar("sunrise", *BERLIN)
    assert hash(copy) == hash(each)
    assert each != "sunset"
    assert repr(copy) == "<solar: sunset at latitude 52.52, longitude: 13.405>"
    assert solar("dusk_civil", 1, 2).human_readable == "dusk civil at latitude 1, longitude 2"


def test_what_celery_asks() -> None:
    each = solar("solar_noon", *BERLIN, nowfun=lambda: NEW_YEAR + 12 * HOUR)
    due, following = each.is_due(NEW_YEAR)
    assert due
    assert following == pytest.approx(23 * 3600 + 600, abs=300)
    assert each.is_due(NEW_YEAR + 12 * HOUR) == (False, following)
