"""Entries that nobody can mean: findings of ``manage.py check``, errors of new rows, warnings of the admin."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from django_tasks import App
from django_tasks.beat.doubts import doubts
from django_tasks.beat.entry import Entry
from django_tasks.beat_checks import unfit_entries
from django_tasks.models import PeriodicTask
from django_tasks.schedules import BaseSchedule, clocked, crontab, schedule
from tests.running import app_of_test

NOW = datetime(2026, 11, 21, 18, 0, 30, tzinfo=timezone.utc)
ADD = "tests.testapp.tasks.add"


@pytest.fixture
def app() -> Iterator[App]:
    with app_of_test() as app:
        yield app


def found(app: App, **definition: Any) -> dict[str, str]:
    """Return what is doubtful about an entry."""
    whole = {"task": ADD, "schedule": 60, **definition}
    return dict(doubts(Entry.from_definition("sums", whole, app), whole, NOW, timezone.utc))


@pytest.mark.parametrize(
    ("definition", "key", "text"),
    [
        ({"schedule": clocked(datetime(2020, 1, 1))}, "schedule",
         "it never runs any more: 'once at 2020-01-01 00:00:00', its only run has passed."),
        ({"schedule": "0 0 1 1 * 0 2020"}, "schedule", "all its runs have passed. Give a later one"),
        ({"end_time": "2026-11-21T18:00Z"}, "end_time", "never runs any more: 2026-11-21 18:00:00+00:00 has passed"),
        ({"schedule": "0 8 * * *", "end_time": "2026-11-22T07:00Z"}, "end_time",
         "2026-11-22 07:00:00+00:00 is before its next run at 2026-11-22 08:00:00+00:00."),
        ({"expires": 0}, "expires", "its calls expire before they begin: expires = 0 s is not after the run at"),
        ({"expires": 1, "options": {"countdown": 3}}, "expires", "and the 3 s that they may wait. Give a later one."),
        ({"options": {"expires": 1, "countdown": 3}}, "options", 'options["expires"] = 1 s is not after the run at'),
        ({"options": {"expires": timedelta(seconds=5)}, "jitter": 9}, "options", "and the 9 s that they may wait."),
        ({"options": {"expires": 5}, "jitter": 9}, "options", "some of its calls expire before they begin: "),
        ({"options": {"expires": datetime(2020, 1, 1)}}, "options", 'options["expires"] = 2020-01-01 00:00:00 is not'),
        ({"options": {"expires": "2020-01-01T00:00Z"}}, "options", "is not after the run at 2026-11-21 18:01:30 UTC"),
        ({"schedule": "0 8 * * *", "relative": True}, "relative", "it means nothing beside 'at 08:00'. It is for inte"),
        ({"schedule": schedule(60), "relative": True}, "relative", "Give it to schedule(...) itself."),
    ],
)  # fmt: skip
def test_what_nobody_can_mean(app: App, definition: dict[str, Any], key: str, text: str) -> None:
    doubtful = found(app, **definition)
    assert list(doubtful) == [key]
    assert text in doubtful[key]


class Asked(BaseSchedule):
    """A schedule that does not know its slots."""

    def __repr__(self) -> str:
        return "<asked>"

    def is_due(self, last_run_at: Any) -> Any:
        raise AssertionError("nobody is to ask it")


@pytest.mark.parametrize(
    "definition",
    [
        {}, {"relative": True}, {"expires": 1}, {"expires": 5, "options": {"countdown": 3}}, {"schedule": Asked()},
        {"schedule": clocked(datetime(2020, 1, 1)), "enabled": False}, {"schedule": clocked(datetime(2026, 11, 22))},
        {"end_time": "2026-11-21T18:01:30Z"}, {"options": {"expires": "2026-11-21T18:01:31Z"}},
        {"options": {"expires": 60, "eta": NOW}}, {"schedule": schedule(60, relative=True), "relative": True},
        {"expires": 60, "jitter": 60}, {"options": {"expires": 60}, "jitter": 60}, {"options": {"expires": 2.52e11}},
        {"start_time": "2027-01-01", "end_time": "2027-01-02"}, {"schedule": crontab(0, 0, day_of_month=29)},
    ],
    ids=repr,
)  # fmt: skip
def test_what_somebody_may_mean(app: App, definition: dict[str, Any]) -> None:
    assert found(app, **definition) == {}


def test_check_warns_of_them(app: App) -> None:
    class Failing(BaseSchedule):
        def next_slot(self, after: Any, *, anchor: Any, zone: Any) -> Any:
            raise RuntimeError("no moon")

    add = {"task": ADD, "args": [1, 2]}
    once = {**add, "schedule": clocked(datetime(2020, 1, 1))}
    app.conf.beat_schedule = {"once": once, "moon": {**add, "schedule": Failing()}}
    [finding] = unfit_entries(app.conf)
    assert (finding.id, finding.is_serious()) == ("django_tasks.W010", False)
    assert finding.msg.startswith("Entry 'once' of the schedule, schedule: it never runs any more: ")


def test_a_new_row_is_refused_and_one_that_had_its_time_is_not(database_app: App) -> None:
    row = PeriodicTask(name="once", task=ADD, args=[1, 2], kind="clocked", schedule="2020-01-01 08:00")
    with pytest.raises(ValidationError) as refused:
        row.full_clean()
    assert list(refused.value.message_dict) == ["schedule"]
    assert "its only run has passed" in refused.value.message_dict["schedule"][0]
    row.save()
    row.full_clean()
    PeriodicTask(name="off", task=ADD, args=[1, 2], schedule="1 day", relative=True, enabled=False).full_clean()


@pytest.mark.parametrize(
    "options",
    [{"countdown": "60"}, {"countdown": 1e300}, {"expires": 1e300}, {"expires": float("nan")}, {"eta": 1}],
    ids=repr,
)
def test_what_cannot_be_sent_is_a_mistake_at_its_place(database_app: App, options: dict[str, Any]) -> None:
    entry = {"task": ADD, "args": [1, 2], "schedule": 60, "options": options}
    database_app.conf.beat_schedule = {"sums": entry}
    errors = [each.msg for each in unfit_entries(database_app.conf) if each.id == "django_tasks.E006"]
    assert [message[:44] for message in errors] == ["Entry 'sums' of the schedule cannot be sent:"]
    row = PeriodicTask(name="more", task=ADD, args=[1, 2], schedule="1 day", options=options)
    with pytest.raises(ValidationError) as refused:
        row.full_clean()
    [problem] = refused.value.message_dict["options"]
    assert problem


def test_a_number_beyond_all_floats_is_a_mistake(app: App) -> None:
    app.conf.beat_schedule = {"sums": {"task": ADD, "args": [1, 2], "schedule": 60, "grace": 10**400}}
    [finding] = unfit_entries(app.conf)
    assert (finding.id, "grace" in finding.msg) == ("django_tasks.E006", True)
