"""What stands for a schedule, single instants, and classes of somebody's own."""

from __future__ import annotations

import pickle
from datetime import datetime, timedelta, timezone, tzinfo
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.test import override_settings

from django_tasks.schedules import (
    BaseSchedule,
    as_zone,
    clocked,
    cron,
    crontab,
    maybe_schedule,
    schedstate,
    schedule,
    solar,
    zone_of,
)
from tests.running import app_of_test
from tests.schedules.clocks import DAY, UTC

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


def now() -> datetime:
    return NEW_YEAR


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (10, schedule(10)),
        (0.5, schedule(0.5)),
        (DAY, schedule(DAY)),
        ("20 20 * * 1", cron("20 20 * * 1")),
        ("@daily", cron("@daily")),
    ],
)
def test_what_stands_for_a_schedule(value: Any, expected: BaseSchedule) -> None:
    each = maybe_schedule(value)
    assert type(each) is type(expected)
    assert each == expected


def test_schedules_stay_as_they_are() -> None:
    app = object()
    for each in (schedule(10), crontab(), clocked(NEW_YEAR), solar("sunset", 0, 0)):
        assert maybe_schedule(each) is each
        assert each._app is None
        assert maybe_schedule(each, app=app) is each
        assert each.app is app
    relative = maybe_schedule(10, relative=True, app=app)
    assert (relative.relative, relative.app) == (True, app)  # type: ignore[attr-defined]


@pytest.mark.parametrize("value", [None, True, [], object(), datetime.now, {"every": 10}])
def test_what_does_not(value: Any) -> None:
    with pytest.raises(
        TypeError, match="A schedule is a number of seconds, a timedelta, a cron string, or an object of"
    ):
        maybe_schedule(value)


def test_celerys_own_are_named() -> None:
    theirs = type("crontab", (), {"__module__": "celery.schedules"})()
    with pytest.raises(TypeError, match=r"Import crontab from django_tasks\.schedules instead of celery\.schedules\."):
        maybe_schedule(theirs)


def test_a_single_instant() -> None:
    each = clocked(datetime(2026, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin")), nowfun=now)
    noon = datetime(2026, 7, 1, 10, tzinfo=UTC)
    assert each.next_slot(NEW_YEAR, anchor=NEW_YEAR, zone=UTC) == noon
    assert each.next_slot(noon, anchor=NEW_YEAR, zone=UTC) is None
    assert each.is_due(NEW_YEAR) == (False, (noon - NEW_YEAR).total_seconds())
    assert clocked(noon, nowfun=lambda: noon).is_due(NEW_YEAR)[0]
    assert clocked(noon, nowfun=lambda: noon).is_due(noon) == (False, None)
    copy = pickle.loads(pickle.dumps(each))
    assert copy == each == clocked(noon) != clocked(NEW_YEAR)
    assert (hash(copy), copy.nowfun) == (hash(each), now)
    assert each != noon
    assert repr(each) == repr(clocked(noon)) == "<clocked: 2026-07-01 10:00:00 UTC>"
    assert each.human_readable == "once at 2026-07-01 10:00:00 UTC"
    with pytest.raises(TypeError, match="A clocked schedule needs the datetime of its run, not '2026'"):
        clocked("2026")  # type: ignore[arg-type]


@override_settings(TIME_ZONE="America/New_York")
def test_a_single_instant_without_a_zone() -> None:
    def at(hour: int, day: int, month: int = 1, minute: int = 0) -> datetime:
        return datetime(2026, month, day, hour, minute, tzinfo=UTC)

    each = clocked(datetime(2026, 1, 1, 7), nowfun=lambda: at(11, 1))
    assert each.is_due(NEW_YEAR - timedelta(days=1)) == (False, 3600)  # by itself it is in the settings' zone
    berlin = ZoneInfo("Europe/Berlin")
    assert each.next_slot(at(0, 1), anchor=NEW_YEAR, zone=berlin) == at(6, 1)
    assert each.next_slot(at(6, 1), anchor=NEW_YEAR, zone=berlin) is None
    assert (each.human_readable, each.heeds_zone) == ("once at 2026-01-01 07:00:00", True)
    assert pickle.loads(pickle.dumps(clocked(each.clocked_time))) == each != clocked(at(12, 1))
    # Where clocks are changed, as with a crontab: at the change if they skip it, the first time if they show it twice.
    skipped, twice = clocked(datetime(2026, 3, 29, 2, 30)), clocked(datetime(2026, 10, 25, 2, 30))
    assert skipped.next_slot(NEW_YEAR, anchor=NEW_YEAR, zone=berlin) == at(1, 29, 3)
    assert twice.next_slot(NEW_YEAR, anchor=NEW_YEAR, zone=berlin) == at(0, 25, 10, 30)


@pytest.mark.parametrize(
    ("each", "heeds"),
    [(schedule(3600), False), (schedule(3600, relative=True), True), (crontab(), True), (cron("@daily"), True),
     (solar("sunset", 0, 0), False), (clocked(NEW_YEAR), False)],
    ids=repr,
)  # fmt: skip
def test_which_depend_on_the_clocks_of_a_zone(each: BaseSchedule, heeds: bool) -> None:
    assert each.heeds_zone == heeds


class Asked(schedule):
    """A class as Celery's documentation has it."""

    def is_due(self, last_run_at: datetime) -> schedstate:
        return schedstate(self.now() - last_run_at > DAY, 5)


class Estimated(crontab):
    """One that changes only the estimate."""

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        return super().remaining_estimate(last_run_at) + DAY


class Slotted(Asked):
    """One that knows its slots after all."""

    def next_slot(self, after: datetime, *, anchor: datetime, zone: tzinfo) -> datetime | None:
        return after + DAY


class Unchanged(crontab):
    """One that changes neither."""


class Bare(BaseSchedule):
    """One from the base."""

    def is_due(self, last_run_at: datetime) -> schedstate:
        return schedstate(False, 1)


@pytest.mark.parametrize(
    ("kind", "knows"),
    [(schedule, True), (crontab, True), (cron, True), (solar, True), (clocked, True), (Unchanged, True),
     (Slotted, True), (Asked, False), (Estimated, False), (Bare, False), (BaseSchedule, False)],
)  # fmt: skip
def test_whether_a_class_knows_its_slots(kind: type[BaseSchedule], knows: bool) -> None:
    assert kind.knows_slots is knows


def test_a_class_of_somebody() -> None:
    # It needs no interval, and what it has for Celery works.
    each = Asked(nowfun=now)
    assert each.is_due(NEW_YEAR - 2 * DAY) == (True, 5)
    assert each.is_due(NEW_YEAR) == (False, 5)
    assert Estimated(0, 0, nowfun=now).is_due(NEW_YEAR - DAY) == (False, 86400)
    with pytest.raises(NotImplementedError, match=r"Bare has no next_slot: beat asks its is_due instead\."):
        Bare().next_slot(NEW_YEAR, anchor=NEW_YEAR, zone=UTC)
    assert each.maybe_make_aware(datetime(2026, 1, 1)) == NEW_YEAR
    assert each.to_local(NEW_YEAR) == NEW_YEAR


def test_the_zone_is_that_of_the_app_or_of_django() -> None:
    tokyo = SimpleNamespace(conf=SimpleNamespace(timezone="Asia/Tokyo"))
    with override_settings(TIME_ZONE="Europe/Berlin"):
        assert zone_of() == ZoneInfo("Europe/Berlin")
        assert crontab(app=tokyo).tz == ZoneInfo("Asia/Tokyo")
        with app_of_test(timezone="America/New_York") as app:
            assert crontab().tz == zone_of(app) == ZoneInfo("America/New_York")
    # Half past midnight in Tokyo is still yesterday here.
    each = crontab(30, 0, nowfun=now, app=tokyo)
    assert each.remaining_estimate(NEW_YEAR) == timedelta(hours=15, minutes=30)
    assert each.maybe_make_aware(datetime(2026, 1, 1), naive_as_utc=False) == NEW_YEAR - timedelta(hours=9)


class Pytz(tzinfo):
    """What is seen of a zone of pytz."""

    zone = "Europe/Berlin"


def test_zones() -> None:
    assert as_zone("Europe/Berlin") is as_zone(Pytz()) is ZoneInfo("Europe/Berlin")
    assert as_zone(timezone.utc) is timezone.utc
    for name in ("Europe/Berln", "Europe", "../etc/passwd"):
        with pytest.raises(ValueError, match=f"There is no time zone '{name}': give a name such as 'Europe/Berlin'"):
            as_zone(name)
    for value in (5, "", None):
        with pytest.raises(TypeError, match="A time zone is a name such as 'Europe/Berlin' or a tzinfo, not"):
            as_zone(value)  # type: ignore[arg-type]
