"""``PeriodicTask``: what it refuses, what it can do, fixtures."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone as django_time

from django_tasks import App, Task
from django_tasks.beat.entry import Entry
from django_tasks.models import PeriodicTask, PeriodicVersion
from django_tasks.operations import schedules
from django_tasks.operations.act import read
from django_tasks.operations.look import find
from django_tasks.periodic.rows import row_of
from django_tasks.schedules import clocked
from tests.running import drain, waiting

ADD, ECHO = "tests.testapp.tasks.add", "tests.testapp.tasks.echo"
UTC = timezone.utc


def periodic(name: str = "sums", **values: Any) -> PeriodicTask:
    """Return a row that is not saved yet."""
    return PeriodicTask(**{"name": name, "task": ADD, "schedule": "5 minutes", "args": [1, 2], **values})


def version() -> int:
    return PeriodicVersion.objects.values_list("value", flat=True).filter(pk=1).first() or 0


# -- what is refused


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("name", "x" * 201, "200"),
        ("schedule", "soon", "'soon' is no interval. Write it like 30 seconds"),
        ("timezone", "Berlin", "'Berlin'"),
        ("args", {"a": 1}, "should be a list or tuple"),
        ("kwargs", [1], "should be a dict"),
        ("options", {"cuntdown": 5}, "countdown"),
        ("options", {"queue": ""}, "queue must be the name of a queue"),
        ("options", {"task_id": "me"}, "task_id cannot be given here: each run has an id of its own)"),
        ("args", [float("nan")], "JSON"),
        ("args", ["\0"], "NUL"),
        ("args", [1, 2, 3], "tests.testapp.tasks.add does not take args = [1, 2, 3] and kwargs = {}: add() takes"),
        ("grace", -1.0, "-1.0 is no number of seconds from 0 on."),
        ("jitter", -1.0, "-1.0 is no number of seconds from 0 on."),
        ("expires", -1.0, "-1.0 is no number of seconds from 0 on."),
        ("catch_up", "twice", "twice"),
        ("overlap", "push", "push"),
        ("jitter", float("inf"), "inf is no number of seconds from 0 on."),
        (
            "end_time",
            datetime(2020, 1, 1, tzinfo=UTC),
            "2020-01-01 00:00:00+00:00 is before start_time = 2026-01-01 00:00:00+00:00. Exchange them.",
        ),
    ],
)
def test_a_wrong_value_is_refused_at_its_field(db: None, field: str, value: Any, message: str) -> None:
    row = periodic(start_time=datetime(2026, 1, 1, tzinfo=UTC))
    setattr(row, field, value)
    with pytest.raises(ValidationError) as found:
        row.full_clean()
    assert message in " ".join(found.value.message_dict[field])
    assert list(found.value.message_dict) == [field]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("args", [object()], "Pass something simpler"),
        ("kwargs", {"a": object()}, "Pass something simpler"),
        ("options", {"headers": {"a": {1}}}, "Pass something simpler"),
        ("schedule", None, "None is no text. Write the schedule as a text."),
        ("start_time", "tomorrow", "'tomorrow' should be a datetime, or an ISO 8601 text"),
        ("end_time", "", "'' should be a datetime"),
        ("grace", "long", "'long' is no number of seconds from 0 on. Leave it empty for none."),
        ("grace", timedelta(minutes=1), "must be a float"),
    ],
)
def test_a_value_of_another_type_is_an_error_of_its_field(db: None, field: str, value: Any, message: str) -> None:
    row = periodic(**{field: value})
    with pytest.raises(ValidationError) as found:
        row.full_clean()
    assert message in " ".join(found.value.message_dict[field])
    assert list(found.value.message_dict) == [field]


def test_all_that_is_wrong_is_said_at_once(db: None) -> None:
    row = periodic(task="", kind="cron", schedule="x", args={}, jitter=-1, grace=-1, timezone="Mars")
    with pytest.raises(ValidationError) as found:
        row.full_clean()
    assert set(found.value.message_dict) == {"task", "schedule", "args", "jitter", "grace", "timezone"}


def test_a_name_is_there_once(db: None) -> None:
    periodic().save()
    with pytest.raises(ValidationError) as found:
        periodic().full_clean()
    assert found.value.message_dict == {"name": ["Periodic task with this Name already exists."]}


def test_what_is_right_is_taken(db: None) -> None:
    periodic(
        task=ECHO, kind="crontab", schedule="0 0 1-7 * mon", timezone="Europe/Berlin", kwargs={"x": 1},
        options={"priority": 3}, catch_up="all", catch_up_max=3, grace=60, overlap="skip", jitter=5, one_off=True,
        expires=30, start_time=datetime(2027, 1, 1, tzinfo=UTC), end_time=datetime(2999, 1, 1, tzinfo=UTC),
    ).full_clean()  # fmt: skip
    periodic(relative=True).full_clean()


# -- what it can do


def test_run_now_calls_the_task(database_app: App) -> None:
    row = PeriodicTask.objects.create(
        name="echo", task=ECHO, schedule="1 day", args=[1, date(2027, 1, 31)], kwargs={"a": 2}, enabled=False
    )
    result = PeriodicTask.objects.get(pk=row.pk).run_now()
    drain(database_app)
    assert result.get(timeout=1) == [[1, date(2027, 1, 31)], {"a": 2}]


def test_run_now_heeds_options(database_app: App) -> None:
    row = PeriodicTask.objects.create(name="echo", task=ECHO, schedule="1 day", options={"queue": "slow"}, expires=60)
    before = datetime.now(UTC)
    result = row.run_now()
    message = read(database_app, find(database_app, result.id).messages[0])
    assert message.queue == "slow"
    assert message.headers["periodic_task_name"] == "echo"
    assert timedelta(seconds=55) < message.expires - before < timedelta(seconds=65)


def test_run_now_calls_an_apply_async_of_the_task_s_own(database_app: App) -> None:
    class Tenanted(Task):  # type: ignore[type-arg]
        """Adds a header."""

        def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
            options["headers"] = {**options["headers"], "tenant": "blue"}
            return super().apply_async(args, kwargs, **options)

    database_app.task(name="tests.own", base=Tenanted)(lambda: None)
    rows = [periodic("own", task="tests.own", args=[]), periodic(), periodic("own too", task="tests.own", args=[])]
    PeriodicTask.objects.bulk_create(rows)
    results = schedules.run_now(database_app, rows)
    assert list(results) == ["own", "sums", "own too"]
    headers = {message.id: message.headers for message in waiting(database_app)}
    assert {name: headers[result.id] for name, result in results.items()} == {
        "own": {"periodic_task_name": "own", "tenant": "blue"},
        "sums": {"periodic_task_name": "sums"},
        "own too": {"periodic_task_name": "own too", "tenant": "blue"},
    }


def test_a_row_that_cannot_be_used_is_not_run(database_app: App) -> None:
    row = PeriodicTask.objects.create(name="echo", task=ECHO, schedule="often")
    with pytest.raises(ValidationError, match="'often' is no interval"):
        row.run_now()
    row = PeriodicTask.objects.create(name="misfit", task=ADD, schedule="1 hour", args=[1])
    with pytest.raises(ValidationError, match="missing 1 required positional argument: 'y'"):
        row.run_now()
    assert waiting(database_app) == []


def test_a_task_may_add_arguments_of_its_own(database_app: App) -> None:
    class Filling(Task):  # type: ignore[type-arg]
        def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
            return super().apply_async(args, {**(kwargs or {}), "tenant": "blue"}, **options)

    database_app.task(lambda tenant: tenant, name="tests.filling", base=Filling)
    periodic(task="tests.filling", args=[]).full_clean()


def test_next_runs_are_told(database_app: App) -> None:
    now = datetime(2027, 3, 27, 12, tzinfo=UTC)
    row = PeriodicTask(name="n", task=ADD, kind="cron", schedule="30 7 * * *", timezone="Europe/Berlin")
    assert row.next_runs(3, now) == [
        datetime(2027, 3, 28, 5, 30, tzinfo=UTC),
        datetime(2027, 3, 29, 5, 30, tzinfo=UTC),
        datetime(2027, 3, 30, 5, 30, tzinfo=UTC),
    ]
    row.enabled = False
    assert row.next_runs(3, now) == []


def test_an_instant_is_in_the_zone_of_its_row_or_entry(database_app: App) -> None:
    now = datetime(2026, 11, 21, 18, tzinfo=UTC)
    row = periodic(kind="clocked", schedule="2027-03-28 02:30", timezone="Europe/Berlin")
    assert row.next_runs(3, now) == [datetime(2027, 3, 28, 1, tzinfo=UTC)]  # when the clocks skip it
    definition = {"task": ADD, "schedule": clocked(datetime(2027, 6, 1, 8)), "timezone": "Europe/Berlin"}
    entry = Entry.from_definition("once", definition, database_app)
    assert entry.next_runs(None, now, 3) == [datetime(2027, 6, 1, 6, tzinfo=UTC)]
    shown = row_of(entry, database_app)
    assert shown.schedule_text == "once at 2027-06-01 08:00:00 (Europe/Berlin)"
    assert shown.next_runs(3, now) == [datetime(2027, 6, 1, 6, tzinfo=UTC)]


def test_pause_and_resume(db: None) -> None:
    row = periodic()
    row.save()
    row.pause()
    assert not PeriodicTask.objects.get().enabled
    row.resume()
    assert PeriodicTask.objects.get().enabled
    assert PeriodicTask.objects.pause() == 1
    assert not PeriodicTask.objects.get().enabled
    assert PeriodicTask.objects.resume() == 1


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "every 5 minutes"),
        ({"kind": "cron", "schedule": "30 7 * * *"}, "at 07:30"),
        ({"kind": "cron", "schedule": "30 7 * * *", "timezone": "Asia/Tokyo"}, "at 07:30 (Asia/Tokyo)"),
        ({"kind": "solar", "schedule": "sunset 52.5 13.4"}, "sunset at latitude 52.5, longitude 13.4"),
        ({"kind": "clocked", "schedule": "2027-01-31 08:00Z"}, "once at 2027-01-31 08:00:00 UTC"),
        (
            {"kind": "clocked", "schedule": "2027-01-31 08:00Z", "timezone": "Asia/Tokyo"},
            "once at 2027-01-31 08:00:00 UTC",
        ),
        (
            {"kind": "clocked", "schedule": "2027-01-31 08:00", "timezone": "Asia/Tokyo"},
            "once at 2027-01-31 08:00:00 (Asia/Tokyo)",
        ),
        ({"kind": "custom", "schedule": "<Payday>"}, "<Payday>"),
        ({"schedule": "often"}, "often"),
    ],
)
def test_a_schedule_is_told_in_words(db: None, values: dict[str, Any], words: str) -> None:
    assert periodic(**values).schedule_text == words


# -- that changes are noticed


def test_every_change_has_a_number_of_its_own(transactional_db: None) -> None:
    numbers = [version()]

    def note() -> None:
        numbers.append(version())

    row = periodic()
    row.save()
    note()
    row.pause()
    note()
    PeriodicTask.objects.bulk_create([periodic("b"), periodic("c")])
    note()
    PeriodicTask.objects.filter(name="b").update(enabled=False)
    note()
    changed = PeriodicTask.objects.get(name="c")
    changed.args = [3, 4]
    PeriodicTask.objects.bulk_update([changed], ["args"])
    note()
    PeriodicTask.objects.update_or_create(name="d", defaults={"task": ADD, "schedule": "1 day"})
    note()
    PeriodicTask.objects.filter(name="b").delete()
    note()
    row.delete()
    note()
    assert numbers == sorted(set(numbers))
    assert PeriodicTask.objects.get(name="c").version == numbers[5]


def test_a_change_that_is_rolled_back_has_no_number(transactional_db: None) -> None:
    periodic().save()
    before = version()
    with transaction.atomic():
        PeriodicTask.objects.update(enabled=False)
        transaction.set_rollback(True)
    assert version() == before


def test_an_update_takes_the_same_number_of_queries_for_any_number_of_rows(transactional_db: None) -> None:
    counts = []
    for number in (1, 50):
        PeriodicTask.objects.bulk_create([periodic(f"{number}-{each}") for each in range(number)])
        with CaptureQueriesContext(connection) as queries:
            PeriodicTask.objects.update(enabled=False)
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_rows_that_are_overwritten_are_changed(transactional_db: None) -> None:
    periodic("a").save()
    before = version()
    targets = {"unique_fields": ["name"]} if connection.features.supports_update_conflicts_with_target else {}
    PeriodicTask.objects.bulk_create(
        [periodic("a", schedule="1 second")], update_conflicts=True, update_fields=["schedule"], **targets
    )
    row = PeriodicTask.objects.get()
    assert (row.schedule, row.version) == ("1 second", version())
    assert row.version > before


def test_changes_are_dated_by_the_server(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    hour = timedelta(hours=1)
    monkeypatch.setattr(django_time, "now", lambda: datetime.now(UTC) - hour)  # the host's clock is behind

    def right() -> bool:
        return all(abs(datetime.now(UTC) - row.changed_at) < hour / 2 for row in PeriodicTask.objects.all())

    row = periodic("a")
    row.save()
    assert abs(datetime.now(UTC) - row.changed_at) < hour / 2
    assert right()
    PeriodicTask.objects.bulk_create([periodic("b")])
    assert right()
    PeriodicTask.objects.update(schedule="1 day")
    assert right()
    row.pause()
    assert right()


# -- in the place of entries of the settings


@pytest.mark.parametrize("way", ["create", "save", "full_clean"])
def test_a_new_row_takes_the_place_of_what_shows_the_settings(db: None, way: str) -> None:
    mirror = periodic("nightly", origin=PeriodicTask.SETTINGS, description="shown")
    mirror.save()
    if way == "create":
        PeriodicTask.objects.create(name="nightly", task=ADD, schedule="1 day")
    else:
        row = periodic("nightly", schedule="1 day")
        if way == "full_clean":
            row.full_clean()
        row.save()
    found = PeriodicTask.objects.get()
    assert (found.pk, found.origin, found.schedule, found.description) == (mirror.pk, "database", "1 day", "")
    with pytest.raises(ValidationError, match="already exists"):
        periodic("nightly").full_clean()


# -- fixtures


def test_fixtures_go_out_and_come_back(transactional_db: None, tmp_path: Path) -> None:
    PeriodicTask.objects.create(name="dates", task=ECHO, schedule="1 day", args=[date(2027, 1, 31)], timezone="UTC")
    file = tmp_path / "tasks.json"
    call_command("dumpdata", "django_tasks.periodictask", "--natural-primary", "--natural-foreign", output=str(file))
    (dumped,) = json.loads(file.read_text())
    assert "pk" not in dumped
    PeriodicTask.objects.all().delete()
    before = version()
    call_command("loaddata", str(file), verbosity=0)
    row = PeriodicTask.objects.get()
    assert row.args == [{"__type__": "date", "__value__": "2027-01-31"}]
    assert row.version == version() > before
    dumped["fields"]["schedule"] = "2 days"
    file.write_text(json.dumps([dumped]))
    call_command("loaddata", str(file), verbosity=0)
    assert PeriodicTask.objects.get().schedule == "2 days"


def test_a_fixture_written_by_hand_is_dated_when_it_is_loaded(transactional_db: None, tmp_path: Path) -> None:
    fields = {"name": "a", "task": ADD, "kind": "cron", "schedule": "0 0 * * *"}
    old = {**fields, "name": "b", "changed_at": "2020-01-01T00:00:00Z"}
    file = tmp_path / "tasks.json"
    file.write_text(json.dumps([{"model": "django_tasks.periodictask", "fields": each} for each in (fields, old)]))
    call_command("loaddata", str(file), verbosity=0)
    dates = [row.changed_at for row in PeriodicTask.objects.all()]
    assert len(dates) == 2
    assert all(datetime.now(UTC) - each < timedelta(minutes=30) for each in dates)
