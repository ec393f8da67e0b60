"""The schedule in settings and code: Celery's names, Celery's ways to say it, and what ``manage.py check`` finds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import DatabaseError

from django_tasks import App
from django_tasks.beat.sources import SettingsSource
from django_tasks.beat_checks import unfit_entries
from django_tasks.databases import Database
from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.schedules import crontab
from tests.beat.simulation import every
from tests.running import app_of_test

ADD = "tests.testapp.tasks.add"


@pytest.fixture
def app() -> Iterator[App]:
    with app_of_test() as app:
        yield app


@pytest.mark.parametrize("name", ["BEAT_SCHEDULE", "CELERY_BEAT_SCHEDULE", "CELERYBEAT_SCHEDULE"])
def test_names_of_the_setting(app: App, settings: Any, name: str) -> None:
    setattr(settings, name, {"clean": every(crontab(minute=0))})
    assert [each.name for each in SettingsSource(app).entries()] == ["clean"]


def test_entries_in_the_program(app: App) -> None:
    app.conf.beat_schedule = {"clean": every(10)}
    app.conf.beat_schedule["more"] = every(20)
    assert [each.name for each in SettingsSource(app).entries()] == ["clean", "more"]


def test_entries_that_are_added(app: App, job: Any) -> None:
    name = app.add_periodic_task(10.0, job.s("hello").set(queue="q"), name="add every 10", expires=5)
    assert name == "add every 10"
    app.add_periodic_task(crontab(hour=7), job.s("a", k=1), args=("first",), kwargs={"m": 2}, catch_up="none", jitter=3)
    app.add_periodic_task(60, job)
    app.add_periodic_task(60, "elsewhere.task")
    first, second, third, fourth = SettingsSource(app).entries()
    assert (first.name, first.task, first.args) == ("add every 10", "tests.job", ("hello",))
    assert first.options == {"queue": "q", "expires": 5}
    assert (second.args, second.kwargs, second.catch_up, second.jitter) == (("first", "a"), {"k": 1, "m": 2}, "none", 3)
    assert second.name == repr(job.s("first", "a", k=1, m=2))
    assert (third.task, fourth.task) == ("tests.job", "elsewhere.task")


def test_receivers_are_told_once_when_the_app_is_ready(app: App) -> None:
    told: list[str] = []

    @app.on_after_configure.connect
    def configured(sender: App, **kwargs: Any) -> None:
        told.append(f"configured {kwargs['source'].beat_schedule}")
        sender.add_periodic_task(1, "t", name="x")

    @app.on_after_finalize.connect
    def finalized(sender: App, **kwargs: Any) -> None:
        told.append("finalized")

    app.finalize()
    app.finalize()
    assert told == ["configured {}", "finalized"]
    assert list(app.periodic_tasks) == ["x"]


def test_receivers_that_come_late_are_told_at_once(app: App) -> None:
    """As of an app that stands behind django_tasks in INSTALLED_APPS and connects in its ready()."""
    app.finalize()

    @app.on_after_configure.connect
    def configured(sender: App, **kwargs: Any) -> None:
        sender.add_periodic_task(1, "t", name="late")

    assert list(app.periodic_tasks) == ["late"]


def test_names_that_are_made(app: App, job: Any, caplog: pytest.LogCaptureFixture) -> None:
    long = app.add_periodic_task(10, job.s("x" * 500))
    assert len(long) == 200
    assert app.add_periodic_task(10, job.s("x" * 499 + "y")) != long
    assert len(SettingsSource(app).entries()) == 2
    app.add_periodic_task(10, job.s("x" * 500))
    assert caplog.text == ""
    app.add_periodic_task(20, job.s("x" * 500))
    assert "is there with another schedule, which is replaced" in caplog.text


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, True),
        ({"acks_late": False}, False),
        ({"acks_late": False, "track_started": True}, True),
        ({"acks_late": False, "track_started": True, "ignore_result": True}, False),
    ],
)
def test_overlap_that_nobody_can_tell(app: App, options: dict[str, Any], told: bool) -> None:
    app.task(name="tests.other", **options)(lambda: None)
    app.conf.beat_schedule = {"a": {"task": "tests.other", "schedule": 5, "overlap": "skip"}}
    assert [number for number, *_ in findings(app)] == ([] if told else ["django_tasks.E007"])


def findings(app: App) -> list[tuple[str | None, str, str]]:
    return [(each.id, each.msg, str(each.hint)) for each in unfit_entries(app.conf)]


def test_nothing_is_found_in_what_is_right(app: App) -> None:
    app.conf.beat_schedule = {"clean": every(10, timezone="Europe/Berlin", args=[1], options={"queue": "q"})}
    assert findings(app) == []


@pytest.mark.parametrize(
    ("definition", "words"),
    [
        (every(10, tiemzone="UTC"), "tiemzone: there is no such key. Did you mean timezone?"),
        (every("0 0 31 2 *"), "never due"),
        (every(10, args=[object()]), "cannot be sent"),
        (every(10, options={"priority": "high"}), "cannot be sent: priority must be a whole number"),
        ({"schedule": 5}, "task: it is missing"),
        ({"task": ADD, "schedule": 10}, f"args: {ADD} does not take args = [] and kwargs = {{}}: add() missing 2"),
        ({"task": ADD, "schedule": 10, "args": [1, 2, 3]}, "add() takes 2 positional arguments but 3 were given"),
    ],
)
def test_entries_that_cannot_be(app: App, definition: dict[str, Any], words: str) -> None:
    app.conf.beat_schedule = {"clean": definition}
    [(number, text, hint)] = findings(app)
    assert number == "django_tasks.E006"
    assert "Entry 'clean' of the schedule" in text
    assert words in text
    assert hint


def test_all_that_is_wrong_is_found_at_once(app: App) -> None:
    wrong = every(0, arg=[1], catchup="all", overlapp="skip", time_zone="UTC", jitter=True)
    app.conf.beat_schedule = {"clean": wrong, "": every(5, arg=[1]), "list": ["tests.job"], 5: every(5)}
    told = [text.removeprefix("Entry 'clean' of the schedule, ") for _, text, _ in findings(app)]
    keys = ["arg", "catchup", "overlapp", "time_zone", "jitter", "schedule"]
    assert [text.partition(":")[0] for text in told[:6]] == keys
    assert [text.rpartition("mean ")[2] for text in told[:4]] == ["args?", "catch_up?", "overlap?", "timezone?"]
    for text, words in zip(told[6:], ["its name '' must be", "must be a dict", "its name 5 must be"], strict=True):
        assert words in text


def test_a_task_that_there_is_not(app: App) -> None:
    app.conf.beat_schedule = {"clean": {"task": "tests.jbo", "schedule": 5}}
    [(number, text, hint)] = findings(app)
    assert number == "django_tasks.W007"
    assert (
        text
        == "Entry 'clean' of the schedule is for the task 'tests.jbo', which there is not here. Did you mean tests.job?"
    )
    assert "Correct the name" in hint


def test_added_entries_are_looked_at_too(app: App) -> None:
    app.add_periodic_task(0, "tests.job", name="never")
    assert [number for number, *_ in findings(app)] == ["django_tasks.E006"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"catchup": "all"}, "Entry 'first' of the schedule, catchup: there is no such key. Did you mean catch_up?"),
        ({"cuntdown": 5}, "Entry 'first' of the schedule, cuntdown: there is no such key."),
        ({"time_limit": -1}, "Entry 'first' of the schedule, options: "),
        ({"args": "all"}, "Entry 'first' of the schedule, args: 'all' should be a list or tuple"),
        ({"options": {"queue": "q"}}, "Entry 'first' of the schedule, options: "),
        ({"timezone": "Europe/Berln"}, "Entry 'first' of the schedule, timezone: "),
    ],
)
def test_mistakes_in_added_entries_are_theirs_alone(app: App, job: Any, more: dict[str, Any], words: str) -> None:
    @app.on_after_configure.connect
    def configured(sender: App, **kwargs: Any) -> None:
        sender.add_periodic_task(3.0, job.s("x"), name="first", **more)
        sender.add_periodic_task(5.0, job.s("x"), name="second")

    app.finalize()
    [(number, text, _)] = findings(app)
    assert number == "django_tasks.E006"
    assert text.startswith(words)
    assert [each.name for each in SettingsSource(app).entries()] == ["second"]


def test_stamps_of_added_entries(app: App, job: Any) -> None:
    app.add_periodic_task(3.0, job.s("x"), name="first", stamped_headers=["site"], site="berlin")
    assert findings(app) == []


def test_a_receiver_that_raises(app: App, job: Any) -> None:
    @app.on_after_configure.connect
    def configured(sender: App, **kwargs: Any) -> None:
        sender.add_periodic_task(3.0, job.s("x"), name="first")
        sender.add_periodic_task(crontab(minute=99), job.s("x"), name="second")

    @app.on_after_finalize.connect
    def asking(sender: App, **kwargs: Any) -> None:
        raise DatabaseError("no such table: shop_report")  # as before `migrate`, which this must not keep from running

    app.finalize()
    [(number, text, _)] = findings(app)
    assert number == "django_tasks.E006"
    assert "configured of on_after_configure failed, so that entries of the schedule may be missing: " in text
    line = configured.__code__.co_firstlineno + 3
    assert text.endswith(f"({__file__}, line {line})")


@pytest.mark.django_db
def test_a_receiver_that_needs_our_tables_does_not_keep_migrate_from_running(app: App) -> None:
    database = Database("default")

    def insert() -> None:
        with database.atomic():
            database.change("INSERT INTO django_tasks_to_come VALUES (1)")

    @app.on_after_finalize.connect
    def sending(sender: App, **kwargs: Any) -> None:
        database.run(insert)

    app.finalize()
    [(_, error)] = app.on_after_finalize.failures
    assert isinstance(error, ImproperlyConfigured)  # what `delay` raises before `migrate`
    assert findings(app) == []


def test_a_value_that_the_setting_does_not_take(app: App, settings: Any) -> None:
    settings.BEAT_SCHEDULE = ["clean"]
    assert findings(app) == []  # E001 says it
