"""The settings' entries as rows, and what a scheduler makes of rows, in a time that the test moves."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_tasks import App
from django_tasks.beat.listing import dry_run
from django_tasks.beat.scheduler import Scheduler
from django_tasks.beat.service import make_scheduler
from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.models import PeriodicTask, QueuedMessage
from django_tasks.operations import schedules
from django_tasks.periodic import mirror
from django_tasks.periodic.mirror import synchronise, synchronise_for_beat
from django_tasks.schedules import BaseSchedule, crontab, schedstate, schedule

Make = Callable[..., PeriodicTask]
ADD = "tests.testapp.tasks.add"


@pytest.fixture
def scheduled_app(database_app: App) -> App:
    """An app with two entries in its settings."""
    database_app.conf.beat_schedule = {
        "nightly": {"task": ADD, "schedule": crontab(30, 2), "args": [1, 2]},
        "often": {"task": ADD, "schedule": 10.0, "args": [3, 4]},
    }
    return database_app


def shown() -> dict[str, tuple[str, str, bool]]:
    return {row.name: (row.origin, row.schedule, row.enabled) for row in PeriodicTask.objects.all()}


def test_rows_follow_the_settings(scheduled_app: App, make: Make) -> None:
    make("own")
    assert sorted(synchronise(scheduled_app)) == ["nightly", "often"]
    assert shown() == {
        "nightly": ("settings", "30 2 * * *", True),
        "often": ("settings", "10 seconds", True),
        "own": ("database", "5 minutes", True),
    }
    PeriodicTask.objects.filter(name="often").pause()
    with CaptureQueriesContext(connection) as queries:
        synchronise(scheduled_app)
    assert len(queries) == 1
    scheduled_app.conf.beat_schedule = {"often": {"task": ADD, "schedule": 20.0, "timezone": "Asia/Tokyo"}}
    synchronise(scheduled_app)
    assert shown()["often"] == ("settings", "20 seconds", False)
    assert PeriodicTask.objects.get(name="often").timezone == "Asia/Tokyo"
    assert synchronise_for_beat(scheduled_app)
    assert shown() == {"often": ("settings", "20 seconds", False), "own": ("database", "5 minutes", True)}


def test_other_settings_take_no_pause_and_no_past_away(scheduled_app: App) -> None:
    world = World(scheduled_app)
    assert world.fired(30.5)["often"] == 3
    PeriodicTask.objects.filter(name="nightly").pause()
    states = world.scheduler.store.states()
    assert states["often"].runs == 3
    # Another process has not got one of them (yet, or any more), and cannot read the other one.
    scheduled_app.conf.beat_schedule = {"often": {"task": ADD, "schedule": "every now and then"}}
    found = {each.row.name: each for each in schedules.listed(scheduled_app)}
    assert "no such entry any more" in found["nightly"].problem
    assert "every now and then" in found["often"].problem
    assert World(scheduled_app).fired(2) == {}
    assert shown() == {"nightly": ("settings", "30 2 * * *", False), "often": ("settings", "10 seconds", True)}
    assert world.scheduler.store.states() == states
    # What is not paused goes when a beat starts, but what became of it is kept: other beats may go on with it.
    scheduled_app.conf.beat_schedule = {}
    synchronise_for_beat(scheduled_app)
    assert set(shown()) == {"nightly"}
    assert world.scheduler.store.states() == states


def test_deleting_what_stood_in_its_place_forgets_no_entry_of_the_settings(scheduled_app: App, make: Make) -> None:
    world = World(scheduled_app)
    world.fired(10.5)
    schedules.override(scheduled_app, [PeriodicTask.objects.get(name="often")])
    states = world.scheduler.store.states()
    PeriodicTask.objects.get(name="often").delete()
    PeriodicTask.objects.all().delete()
    assert world.scheduler.store.states() == states


def test_looking_what_is_due_writes_nothing(scheduled_app: App, make: Make) -> None:
    make("sums")
    with CaptureQueriesContext(connection) as queries:
        assert " often " in dry_run(scheduled_app, make_scheduler(scheduled_app), 100)
    assert not {query["sql"].split()[0] for query in queries} & {"INSERT", "UPDATE", "DELETE"}


def test_a_row_of_the_database_s_own_stays_though_the_settings_have_the_name(scheduled_app: App, make: Make) -> None:
    make("often", schedule="1 day")
    synchronise(scheduled_app)
    assert shown()["often"] == ("database", "1 day", True)
    scheduled_app.conf.beat_schedule = {}
    synchronise_for_beat(scheduled_app)
    assert shown() == {"often": ("database", "1 day", True)}


class Payday(crontab):
    """A schedule of a project's own."""


def test_what_cannot_be_written_down_is_shown_all_the_same(scheduled_app: App) -> None:
    scheduled_app.conf.beat_schedule = {"own": {"task": ADD, "schedule": Payday(0, 9), "args": [object()]}}
    synchronise(scheduled_app)
    row = PeriodicTask.objects.get()
    assert (row.kind, row.schedule) == ("custom", repr(Payday(0, 9)))
    assert row.args == ["<object object>"]  # without an address, so that all processes show the same


class Open(schedule):
    """One that says when it is due and nothing else, as a class made for Celery may."""

    def __init__(self) -> None:
        super().__init__()

    def is_due(self, last_run_at: Any) -> schedstate:
        return schedstate(False, 3600)


class Failing(BaseSchedule):
    """One that does not work."""

    def next_slot(self, after: Any, *, anchor: Any, zone: Any) -> Any:
        raise RuntimeError("no moon")

    def __repr__(self) -> str:
        return "<failing>"


def test_what_the_database_does_not_take_keeps_no_other_from_being_shown(scheduled_app: App) -> None:
    hourly = {"task": ADD, "schedule": 3600}
    scheduled_app.conf.beat_schedule = {
        "long": {**hourly, "task": "x" * 300},
        "nul": {**hourly, "options": {"headers": {"a": "b\0"}}},
        "half": {**hourly, "args": ["\ud800"]},
        "open": {"task": ADD, "schedule": Open()},
        "right": hourly,
    }
    synchronise(scheduled_app)
    assert {"open", "right"} <= set(shown())
    PeriodicTask.objects.all().delete()
    World(scheduled_app)
    assert {"open", "right"} <= set(shown())


def test_a_schedule_that_fails_keeps_no_other_from_being_listed(scheduled_app: App) -> None:
    failing = {"failing": {"task": ADD, "schedule": Failing()}}
    scheduled_app.conf.beat_schedule = {**scheduled_app.conf.beat_schedule, **failing}
    found = {each.row.name: each for each in schedules.listed(scheduled_app)}
    assert {name: each.condition for name, each in found.items()} == {
        "failing": "broken", "nightly": "on", "often": "on"
    }  # fmt: skip
    assert found["failing"].problem == "its schedule fails: RuntimeError('no moon')."
    assert " often " in dry_run(scheduled_app, make_scheduler(scheduled_app), 100)


# -- what a scheduler makes of it


class World:
    """A scheduler and a clock."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.scheduler: Scheduler = make_scheduler(app)
        self.now = app.broker.claim_store.now()
        self.scheduler.tick(self.now - 1.1)
        self.scheduler.tick(self.now)  # the first look for changes

    def fired(self, seconds: float) -> dict[str, int]:
        """Let seconds pass; return how often each entry has fired."""
        before = set(QueuedMessage.objects.values_list("pk", flat=True))
        end = self.now + seconds
        while self.now < end:
            self.now = min(self.now + 1, end)
            self.scheduler.tick(self.now)
        names: dict[str, int] = {}
        for message in QueuedMessage.objects.exclude(pk__in=before):
            name = next(name for name in shown_names() if f'"{name}"' in message.payload)
            names[name] = names.get(name, 0) + 1
        return names


def shown_names() -> list[str]:
    return ["often", "sums", "other", "nightly"]


@pytest.fixture
def world(scheduled_app: App, make: Make) -> World:
    make("sums", schedule="5 seconds")
    return World(scheduled_app)


def test_rows_and_settings_fire(world: World) -> None:
    assert world.fired(20.5) == {"often": 2, "sums": 4}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda rows: rows["sums"].pause(), {"often": 2}),
        (lambda rows: rows["sums"].delete(), {"often": 2}),
        (lambda rows: PeriodicTask.objects.filter(name="sums").update(enabled=False), {"often": 2}),
        (lambda rows: rows["often"].pause(), {"sums": 4}),
        (lambda rows: raw("UPDATE django_tasks_periodic SET enabled = FALSE WHERE name = 'sums'"), {"often": 2}),
        (lambda rows: raw("DELETE FROM django_tasks_periodic WHERE name = 'sums'"), {"often": 2}),
    ],
    ids=["pause", "delete", "update", "pause the settings'", "past Django", "delete past Django"],
)
def test_what_is_changed_is_heeded(world: World, change: Callable[[Any], Any], expected: dict[str, int]) -> None:
    world.fired(0.5)
    change({row.name: row for row in PeriodicTask.objects.all()})
    assert world.fired(20.5) == expected


def raw(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def test_an_edit_counts_within_two_seconds(world: World) -> None:
    world.fired(4)
    row = PeriodicTask.objects.get(name="sums")
    row.schedule = "1 hour"
    row.save()
    assert "sums" not in world.fired(30)
    row.schedule = "1 second"
    row.save()
    assert world.fired(2)["sums"] >= 1


def test_a_new_row_fires(world: World, make: Make) -> None:
    make("other", schedule="2 seconds", one_off=True)
    assert world.fired(10.5)["other"] == 1
    assert not PeriodicTask.objects.get(name="other").enabled


def test_overriding_and_going_back(world: World) -> None:
    row = PeriodicTask.objects.get(name="often")
    schedules.override(world.app, [row])
    row.schedule = "1 hour"
    row.save()
    assert "often" not in world.fired(60)
    schedules.restore(world.app, [row])
    assert world.fired(30)["often"] >= 2


@pytest.mark.parametrize("way", ["save", "some columns", "update_or_create", "bulk_create"])
def test_changing_what_shows_an_entry_overrides_it(world: World, way: str) -> None:
    row = PeriodicTask.objects.get(name="often")
    row.schedule = "1 hour"
    if way == "save":
        row.full_clean()
        row.save()
    elif way == "some columns":
        row.save(update_fields=["schedule"])
    elif way == "update_or_create":
        PeriodicTask.objects.update_or_create(name="often", defaults={"task": ADD, "schedule": "1 hour"})
    else:
        again = PeriodicTask(name="often", task=ADD, schedule="1 hour", args=[3, 4])
        unique = {} if connection.vendor == "mysql" else {"unique_fields": ["name"]}
        PeriodicTask.objects.bulk_create([again], update_conflicts=True, update_fields=["schedule"], **unique)
    assert shown()["often"] == ("database", "1 hour", True)
    assert PeriodicTask.objects.get(name="often").args == [3, 4]
    assert "often" not in world.fired(60)


def test_what_is_wrong_with_a_change_is_told(world: World) -> None:
    row = PeriodicTask.objects.get(name="often")
    row.full_clean()
    row.schedule = "rubbish"
    with pytest.raises(ValidationError, match="'rubbish' is no interval"):
        row.full_clean()


@pytest.mark.parametrize("columns", [None, ["enabled", "description"]])
def test_what_a_row_has_beside_the_entry_overrides_nothing(world: World, columns: list[str] | None) -> None:
    row = PeriodicTask.objects.get(name="often")
    row.enabled, row.description = False, "not now"
    row.save(update_fields=columns)
    PeriodicTask.objects.filter(name="often").update(description="not now, either")
    assert shown()["often"] == ("settings", "10 seconds", False)


def test_many_rows_are_not_changed_past_the_settings(world: World) -> None:
    synchronise(world.app)
    rows = PeriodicTask.objects.filter(task=ADD)
    with pytest.raises(ValidationError) as caught:
        rows.update(schedule="1 hour")
    assert caught.value.messages == [
        "'nightly' shows an entry of the settings, which this would not change. Override it first (`manage.py tasks "
        "schedule override nightly`), or leave such rows out with filter(origin=PeriodicTask.DATABASE). Nothing was "
        "changed."
    ]
    often = PeriodicTask.objects.get(name="often")
    often.schedule = "1 hour"
    with pytest.raises(ValidationError, match="'often' shows an entry of the settings"):
        PeriodicTask.objects.bulk_update([often], ["schedule"])
    assert rows.filter(origin=PeriodicTask.DATABASE).update(schedule="1 hour") == 1
    assert {name: schedule for name, (_, schedule, _) in shown().items()} == {
        "nightly": "30 2 * * *", "often": "10 seconds", "sums": "1 hour",
    }  # fmt: skip


def test_what_is_off_in_the_settings_stays_off_unless_it_is_switched_on(scheduled_app: App) -> None:
    scheduled_app.conf.beat_schedule["often"]["enabled"] = False
    synchronise(scheduled_app)
    PeriodicTask.objects.update_or_create(name="often", defaults={"schedule": "1 hour"})
    assert shown()["often"] == ("database", "1 hour", False)
    schedules.restore(scheduled_app, [PeriodicTask.objects.get(name="often")])
    PeriodicTask.objects.update_or_create(name="often", defaults={"schedule": "1 hour", "enabled": True})
    assert shown()["often"] == ("database", "1 hour", True)


def test_what_a_row_cannot_say_is_not_overridden_by_half(scheduled_app: App) -> None:
    scheduled_app.conf.beat_schedule["often"]["args"] = [object()]
    synchronise(scheduled_app)
    row = PeriodicTask.objects.get(name="often")
    row.schedule = "1 hour"
    for columns in (["schedule"], None):
        with pytest.raises(ValidationError, match=r"(?s)'often'.*Make a new PeriodicTask of this name"):
            row.save(update_fields=columns)
    assert shown()["often"] == ("settings", "10 seconds", True)
    PeriodicTask.objects.create(name="often", task=ADD, schedule="1 hour", args=[1, 2])
    assert shown()["often"] == ("database", "1 hour", True)


def test_deleting_what_overrides_brings_the_settings_back(world: World) -> None:
    row = PeriodicTask.objects.get(name="often")
    schedules.override(world.app, [row])
    row.schedule = "1 hour"
    row.save()
    assert "often" not in world.fired(60)
    row.delete()
    assert world.fired(30)["often"] >= 2


@pytest.mark.parametrize("enabled", [True, False])
def test_a_row_that_cannot_be_used_does_not_let_the_settings_entry_fire(
    scheduled_app: App, make: Make, enabled: bool
) -> None:
    row = make("often", schedule="rubbish", enabled=enabled)
    world = World(scheduled_app)
    assert "often" not in world.fired(30)
    row.schedule, row.enabled = "5 seconds", True
    row.save()
    assert world.fired(30)["often"] >= 5
    raw("UPDATE django_tasks_periodic SET schedule = 'rubbish' WHERE name = 'often'")
    assert "often" not in world.fired(30)
    row.delete()
    assert world.fired(30)["often"] >= 2


def test_without_its_tables_a_beat_waits(scheduled_app: App) -> None:
    PeriodicTask.objects.create(name="often", task=ADD, schedule="10 seconds", enabled=False)
    scheduler = make_scheduler(scheduled_app)
    now = scheduled_app.broker.claim_store.now()
    raw("ALTER TABLE django_tasks_periodic RENAME TO django_tasks_away")
    try:
        with pytest.raises(ImproperlyConfigured, match=r"python manage\.py migrate"):
            scheduler.tick(now)
    finally:
        raw("ALTER TABLE django_tasks_away RENAME TO django_tasks_periodic")
    for seconds in range(30):
        scheduler.tick(now + seconds)
    assert not QueuedMessage.objects.exists()


def test_times_are_kept_without_time_zones(scheduled_app: App, settings: Any) -> None:
    settings.USE_TZ, settings.TIME_ZONE = False, "Asia/Tokyo"
    start = datetime(2030, 1, 1, tzinfo=timezone.utc)
    scheduled_app.conf.beat_schedule = {"later": {"task": ADD, "schedule": 10, "start_time": start}}
    synchronise(scheduled_app)
    row = PeriodicTask.objects.get()
    assert row.start_time == datetime(2030, 1, 1, 9)
    here = datetime.now(timezone.utc).astimezone(ZoneInfo("Asia/Tokyo")).replace(tzinfo=None)
    assert abs(here - row.changed_at) < timedelta(minutes=5)
    with CaptureQueriesContext(connection) as queries:
        synchronise(scheduled_app)
    assert len(queries) == 1


@pytest.mark.parametrize("adding", [True, False])
def test_a_copy_of_what_shows_an_entry_is_a_row_of_its_own(scheduled_app: App, adding: bool) -> None:
    """Made as Django's documentation says; no entry of the settings has its name."""
    synchronise(scheduled_app)
    row = PeriodicTask.objects.get(name="often")
    row.pk, row._state.adding, row.name = None, adding, "other"
    row.save()
    assert synchronise_for_beat(scheduled_app)
    assert shown() == {
        "nightly": ("settings", "30 2 * * *", True),
        "often": ("settings", "10 seconds", True),
        "other": ("database", "10 seconds", True),
    }
    assert World(scheduled_app).fired(10.5) == {"often": 1, "other": 1}


def test_a_beat_writes_many_rows_in_several_looks(scheduled_app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what is due meanwhile does not wait for all of them."""
    monkeypatch.setattr(mirror, "MOST", 1)
    assert [(synchronise_for_beat(scheduled_app), len(shown())) for _ in range(2)] == [(False, 1), (True, 2)]
    for entry in scheduled_app.conf.beat_schedule.values():
        entry["schedule"] = 20.0
    done = [(synchronise_for_beat(scheduled_app), sorted(row[1] for row in shown().values())) for _ in range(2)]
    assert [each[0] for each in done] == [False, True]
    assert "10 seconds" in done[0][1] or "30 2 * * *" in done[0][1]
    assert done[1][1] == ["20 seconds", "20 seconds"]


def test_many_new_rows_are_more_than_one_statement(scheduled_app: App) -> None:
    """MariaDB takes 16 MB in one."""
    scheduled_app.conf.beat_schedule = {f"e{n}": {"task": ADD, "schedule": 60, "args": [1, n]} for n in range(1200)}
    with CaptureQueriesContext(connection) as queries:
        synchronise(scheduled_app)
    rows = [
        each["sql"] for each in queries if each["sql"].startswith("INSERT") and "_periodic_version" not in each["sql"]
    ]
    assert len(rows) >= 3
    assert PeriodicTask.objects.count() == 1200
