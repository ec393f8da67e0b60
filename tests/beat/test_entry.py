"""Entries: what they may be, and what is said of one that cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from django_tasks import App
from django_tasks.beat.entry import Entry, EntryError
from django_tasks.schedules import crontab, schedule
from tests.beat.simulation import START, entry, every
from tests.running import app_of_test


@pytest.fixture
def app() -> Iterator[App]:
    with app_of_test(timezone="Europe/Berlin") as app:
        yield app


def test_the_least_that_an_entry_is(app: App) -> None:
    made = entry(app, {"task": "t", "schedule": 5})
    assert made.schedule == schedule(5)
    assert (made.args, made.kwargs, made.options) == ((), {}, {})
    assert (made.catch_up, made.most, made.grace, made.overlap, made.jitter) == ("once", 1, None, "allow", 0.0)
    assert str(made.zone) == "Europe/Berlin"


@pytest.mark.parametrize("more", [{}, {"grace": None}])
def test_to_catch_up_nothing_has_a_grace(app: App, more: dict[str, Any]) -> None:
    assert entry(app, every(5, catch_up="none", **more)).grace == 60
    assert entry(app, every(5, catch_up="none", grace=5)).grace == 5


def test_times_without_a_zone_are_in_that_of_the_entry(app: App) -> None:
    made = entry(app, every(5, start_time="2027-01-04 08:00", timezone="Asia/Tokyo"))
    assert made.start_time == datetime(2027, 1, 3, 23, tzinfo=timezone.utc)


def test_relative_intervals(app: App) -> None:
    assert entry(app, every(3600, relative=True)).schedule.relative


@pytest.mark.parametrize(
    ("wrong", "key", "words"),
    [
        ({"schedule": None}, "schedule", "None is no schedule"),
        ({"schedule": "61 * * * *"}, "schedule", "is no schedule"),
        ({"schedule": "0 0 31 2 *"}, "schedule", "never due"),
        ({"schedule": 0}, "schedule", "longer than 0 seconds"),
        ({"schedule": 0.001}, "schedule", "at most every 0.01 seconds"),
        ({"schedule": 1e300}, "schedule", "is no schedule"),
        ({"jitter": 20, "expires": 10}, "jitter", "is more than expires"),
        ({"start_time": "0001-01-01T00:00:00+14:00"}, "start_time", "beyond the years"),
        ({"task": ""}, "task", "should be the name of a task"),
        ({"args": "ab"}, "args", "should be a list or tuple, for example (16, 16)"),
        ({"kwargs": [1]}, "kwargs", "should be a dict"),
        ({"kwargs": {1: 2}}, "kwargs", "should be a dict"),
        ({"options": {"cuntdown": 1}}, "options", "Did you mean countdown?"),
        ({"options": {"task_id": "x"}}, "options", "each run has an id of its own"),
        ({"timezone": "Europe/Berln"}, "timezone", "There is no time zone 'Europe/Berln'"),
        ({"catch_up": "some"}, "catch_up", '"none", "once", "all"'),
        ({"catch_up": 0}, "catch_up", '"none", "once", "all"'),
        ({"catch_up": {"all": True}}, "catch_up", '"none", "once", "all"'),
        ({"grace": -1}, "grace", "a number of seconds"),
        ({"overlap": "never"}, "overlap", '"allow", "skip" or "queue"'),
        ({"jitter": True}, "jitter", "a number of seconds"),
        ({"one_off": 1}, "one_off", "True or False"),
        ({"start_time": "soon"}, "start_time", "a datetime, or an ISO 8601 text"),
        (
            {"start_time": "2027-01-02", "end_time": "2027-01-01"},
            "end_time",
            "2027-01-01 is before start_time = 2027-01-02",
        ),
        ({"schedul": 5}, "schedul", "there is no such key. Did you mean schedule?"),
        ({"last_run_at": None}, "last_run_at", "there is no such key. An entry takes task, schedule, args,"),
        ({"queue": "slow"}, "queue", "It is an option of the call: write 'options': {'queue': ...}."),
    ],
)
def test_what_cannot_be(app: App, wrong: dict[str, Any], key: str, words: str) -> None:
    with pytest.raises(EntryError) as error:
        entry(app, {"task": "t", "schedule": 5, **wrong}, "clean")
    assert (error.value.entry, error.value.key) == ("clean", key)
    assert str(error.value).startswith(f"Entry 'clean' of the schedule, {key}: ")
    assert words in str(error.value)


@pytest.mark.parametrize("missing", ["task", "schedule"])
def test_what_is_missing(app: App, missing: str) -> None:
    definition = {"task": "t", "schedule": 5}
    del definition[missing]
    with pytest.raises(EntryError, match=f"Entry 'clean' of the schedule, {missing}: it is missing. Add '{missing}'"):
        entry(app, definition, "clean")


@pytest.mark.parametrize("name", ["", "x" * 201, "a\0", 5])
def test_names_that_cannot_be(app: App, name: Any) -> None:
    with pytest.raises(EntryError, match="must be a text of 1 to 200 characters"):
        entry(app, every(5), name)


def test_an_entry_is_a_dict(app: App) -> None:
    with pytest.raises(EntryError, match="must be a dict with 'task' and 'schedule'"):
        Entry.from_definition("clean", crontab(), app)  # type: ignore[arg-type]


def test_what_its_slots_depend_on(app: App) -> None:
    base = entry(app, every(5))
    assert base.definition == entry(app, every(5, args=[1], options={"queue": "x"}, overlap="skip")).definition
    others = [
        every(5.001),
        every(5, relative=True),
        every(5, timezone="Asia/Tokyo"),
        every(5, enabled=False),
        every(5, one_off=True),
        every(5, start_time="2027-01-01"),
        every(crontab()),
    ]
    assert len({entry(app, each).definition for each in others} | {base.definition}) == 8


def test_next_runs(app: App) -> None:
    now = datetime.fromtimestamp(START, timezone.utc)
    runs = entry(app, every("0 12 * * *", end_time="2027-01-06")).next_runs(None, now, 5)
    assert runs == [now + timedelta(hours=11), now + timedelta(hours=35)]
    assert entry(app, every(5, one_off=True)).next_runs(None, now, 5) == [now + timedelta(seconds=5)]
    assert entry(app, every(5, enabled=False)).next_runs(None, now, 5) == []
