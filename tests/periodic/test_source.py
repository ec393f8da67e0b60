"""The database as a source of entries: what a beat hears of, when, and by how many queries."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timezone

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from django_tasks import App
from django_tasks.beat.sources import Changes, sources_of
from django_tasks.models import PeriodicTask, PeriodicVersion
from django_tasks.periodic.source import CHUNK, DatabaseSource
from django_tasks.schedules import crontab, schedule
from tests.threads import meanwhile
from tests.upgrade.tables import LATER, alter

Make = Callable[..., PeriodicTask]
ADD = "tests.testapp.tasks.add"


def loaded(app: App) -> DatabaseSource:
    """Return a source that has been asked for its entries, and for changes."""
    source = DatabaseSource(app)
    source.entries()
    assert names(source.changes()) == ([], [])
    return source


def names(changes: Changes) -> tuple[list[str], list[str]]:
    return sorted(entry.name for entry in changes.changed), sorted(changes.removed)


def test_a_beat_finds_the_source(database_app: App) -> None:
    assert any(isinstance(source, DatabaseSource) for source in sources_of(database_app))


def test_a_row_is_an_entry(database_app: App, make: Make) -> None:
    row = make(
        "all", kind="crontab", schedule="30 7 * * mon", timezone="Europe/Berlin", kwargs={"z": 1}, catch_up="all",
        catch_up_max=7, grace=60.0, overlap="skip", jitter=5.0, one_off=True, expires=30.0, enabled=False,
        options={"queue": "slow"}, start_time=datetime(2027, 1, 1, tzinfo=timezone.utc),
    )  # fmt: skip
    (entry,) = DatabaseSource(database_app).entries()
    assert (entry.name, entry.task, entry.schedule) == ("all", ADD, crontab(30, 7, day_of_week="mon"))
    assert (entry.args, entry.kwargs, entry.options) == ((1, 2), {"z": 1}, {"queue": "slow"})
    assert (str(entry.zone), entry.catch_up, entry.most, entry.grace) == ("Europe/Berlin", "all", 7, 60)
    assert (entry.overlap, entry.jitter, entry.one_off, entry.expires, entry.enabled) == ("skip", 5, True, 30, False)
    assert entry.start_time == row.start_time
    assert abs((entry.since - row.changed_at).total_seconds()) < 0.001


def test_a_look_without_changes_is_one_query(database_app: App, make: Make) -> None:
    make()
    source = loaded(database_app)
    with CaptureQueriesContext(connection) as queries:
        assert names(source.changes()) == ([], [])
    assert len(queries) == 1


def test_changes_are_heard_of_by_a_fixed_number_of_queries(database_app: App, make: Make) -> None:
    for number in range(20):
        make(f"row-{number}")
    source = loaded(database_app)
    counts = []
    for count in (1, 15):
        for row in PeriodicTask.objects.all()[:count]:
            row.schedule = f"{count} hours"
            row.save()
        with CaptureQueriesContext(connection) as queries:
            changed = source.changes().changed
        assert {entry.schedule for entry in changed} == {schedule(count * 3600)}
        assert len(changed) == count
        counts.append(len(queries))
    assert counts == [2, 2]


@pytest.mark.parametrize(
    "change",
    [
        lambda: PeriodicTask.objects.get(name="a").pause(),
        lambda: PeriodicTask.objects.filter(name="a").update(enabled=False),
        lambda: PeriodicTask.objects.filter(name="a").pause(),
    ],
)
def test_a_pause_comes_as_an_entry_that_is_off(database_app: App, make: Make, change: Callable[[], None]) -> None:
    make("a")
    make("b")
    source = loaded(database_app)
    change()
    changes = source.changes()
    assert names(changes) == (["a"], [])
    assert not changes.changed[0].enabled
    assert names(source.changes()) == ([], [])


def test_a_new_row_and_a_broken_one(database_app: App, make: Make, caplog: pytest.LogCaptureFixture) -> None:
    make("a")
    source = loaded(database_app)
    make("b")
    PeriodicTask.objects.filter(name="a").update(schedule="often")
    with caplog.at_level(logging.ERROR, "django_tasks.beat"):
        assert names(source.changes()) == (["b"], ["a"])
        assert source.still_valid(["a"]) == {"a": None}
    (record,) = caplog.records
    assert "'a'" in record.message
    assert "'often' is no interval" in record.message
    PeriodicTask.objects.filter(name="a").update(schedule="2 days")
    assert names(source.changes()) == (["a"], [])


def test_what_was_changed_past_django_is_noticed_when_it_fires(database_app: App, make: Make) -> None:
    for name in ("gone", "off", "same"):
        make(name)
    source = DatabaseSource(database_app)
    same = next(entry for entry in source.entries() if entry.name == "same")
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_tasks_periodic WHERE name = 'gone'")
        cursor.execute("UPDATE django_tasks_periodic SET schedule = '7 hours' WHERE name = 'off'")
    assert names(source.changes()) == ([], [])
    with CaptureQueriesContext(connection) as queries:
        valid = source.still_valid(["gone", "off", "same"])
    assert len(queries) == 1
    assert valid["gone"] is None
    assert valid["off"].schedule == schedule(7 * 3600)
    assert valid["same"] is same


def test_a_deleted_row_is_noticed_when_it_fires(database_app: App, make: Make) -> None:
    make("a").delete()
    make("b")
    source = loaded(database_app)
    PeriodicTask.objects.all().delete()
    assert source.still_valid(["b"]) == {"b": None}


def test_emptied_tables_are_noticed(database_app: App, make: Make) -> None:
    make("a")
    make("b")
    source = loaded(database_app)
    PeriodicTask.objects.all().delete()
    PeriodicVersion.objects.all().delete()
    make("c")
    assert names(source.changes()) == (["c"], ["a", "b"])


def test_what_is_for_once_is_off_when_it_has_fired(database_app: App, make: Make) -> None:
    make("once", one_off=True)
    make("often")
    source = loaded(database_app)
    source.fired(["once", "often"])
    assert dict(PeriodicTask.objects.values_list("name", "enabled")) == {"once": False, "often": True}
    assert names(source.changes()) == (["once"], [])


def test_nobody_s_transaction_is_waited_for(database_app: App, make: Make) -> None:
    if not connection.features.has_select_for_update_skip_locked:
        pytest.skip("all who write wait for each other here")
    make("once", one_off=True)
    source = loaded(database_app)
    database_app.conf.beat_schedule = {"nightly": {"task": ADD, "schedule": crontab(30, 2)}}
    new = DatabaseSource(database_app)
    new.entries()
    held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            make("held")
            held.set()
            let_go.wait(10)

    def rows() -> dict[str, bool]:
        return dict(PeriodicTask.objects.values_list("name", "enabled"))

    with meanwhile(hold) as holding:
        assert held.wait(30)
        source.fired(["once"])
        assert names(new.changes()) == ([], [])
        assert not holding.done()
        assert rows() == {"once": True}
        let_go.set()
    assert names(source.changes()) == (["held", "once"], [])
    assert names(new.changes()) == (["held", "once"], [])
    assert rows() == {"once": False, "held": True, "nightly": True}


def test_columns_of_a_later_version_do_no_harm(database_app: App, make: Make) -> None:
    make("before")
    table = PeriodicTask._meta.db_table
    try:
        for name, kind in LATER.items():
            alter(table, f"ADD COLUMN {name} {kind}")
        make("after").pause()
        source = DatabaseSource(database_app)
        assert {entry.name: entry.enabled for entry in source.entries()} == {"before": True, "after": False}
        assert set(source.still_valid(["before"])) == {"before"}
    finally:
        for name in LATER:
            alter(table, f"DROP COLUMN {name}")


def test_many_rows_are_read_by_few_queries(database_app: App, make: Make) -> None:
    make("first")
    counts = []
    for count in (0, CHUNK + 1):
        rows = [PeriodicTask(name=f"row-{n}", task=ADD, schedule="1 day", args=[n, n]) for n in range(count)]
        PeriodicTask.objects.bulk_create(rows, batch_size=500)
        source = DatabaseSource(database_app)
        with CaptureQueriesContext(connection) as queries:
            assert len(source.entries()) == count + 1
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 2
