"""``manage.py tasks schedule``."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.utils.timezone import now

from django_tasks import App
from django_tasks.brokers.beat import EntryState
from django_tasks.models import PeriodicTask
from django_tasks.periodic.mirror import settings_entries
from django_tasks.schedules import crontab
from tests.running import drain, waiting
from tests.test_tasks_command import manage, tasks

Make = Callable[..., PeriodicTask]
ADD, FAIL = "tests.testapp.tasks.add", "tests.testapp.tasks.fail"


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing say how wide the output may be: pytest-xdist does."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def scheduled_app(database_app: App) -> App:
    """An app with two entries in its settings."""
    database_app.conf.beat_schedule = {
        "nightly": {"task": ADD, "schedule": crontab(30, 2), "args": [1, 2], "options": {"priority": 5}},
        "often": {"task": ADD, "schedule": 10.0, "args": [3, 4]},
    }
    return database_app


def fired(app: App, name: str, task_id: str, ago: float) -> None:
    """Let the store say that an entry has fired."""
    store = app.broker.claim_store
    at = now().timestamp() - ago
    store.add([EntryState(name, at - 60, at - 60, slot=at, fired=at, runs=3, last_id=task_id)])


def by_name(data: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in data}


def test_it_lists_the_settings_and_the_database(scheduled_app: App, make: Make) -> None:
    make("sums", kind="cron", schedule="0 7 * * mon", timezone="Europe/Berlin")
    ran = tasks("schedule")
    assert ran.code == 0, ran.err
    assert [line.split()[0] for line in ran.out.splitlines()] == ["NAME", "nightly", "often", "sums"]
    assert "every 10 seconds" in ran.out
    assert "at 07:00 on Monday (Europe/Berlin)" in ran.out
    data = by_name(tasks("schedule", "--json").json)
    assert (data["often"]["from"], data["sums"]["from"]) == ("settings", "database")
    assert data["nightly"]["next_run"].endswith("02:30:00Z")
    assert data["nightly"]["last_run"] is None


def test_it_tells_of_last_runs(scheduled_app: App, make: Make) -> None:
    good, bad = scheduled_app.send_task(ADD, [1, 2]), scheduled_app.send_task(FAIL)
    drain(scheduled_app)
    waits = scheduled_app.send_task(ADD, [1, 2])
    for name, result in (("good", good), ("bad", bad), ("waits", waits)):
        make(name)
        fired(scheduled_app, name, result.id, 20)
    data = by_name(tasks("schedule", "--json").json)
    assert [data[name]["last_state"] for name in ("good", "bad", "waits", "often")] == [
        "SUCCESS", "FAILURE", "waiting", None
    ]  # fmt: skip
    assert data["good"]["last_id"] == good.id
    assert data["good"]["runs"] == 3
    (line,) = [line for line in tasks("schedule").out.splitlines() if line.startswith("good")]
    assert "20 s ago" in line or "21 s ago" in line


def test_it_chooses(scheduled_app: App, make: Make) -> None:
    make("fails", task=FAIL, args=[])
    assert [each["name"] for each in tasks("schedule", "--json", "--task", FAIL).json] == ["fails"]
    assert [each["name"] for each in tasks("schedule", "--json", "--name", "NIGHT").json] == ["nightly"]
    ran = tasks("schedule", "--limit", 2)
    assert len(ran.out.splitlines()) == 3
    assert "These are the first 2; --limit N shows more" in ran.err
    for all_of_them in (["--limit", 3], ["--name", "night", "--limit", 1]):
        assert tasks("schedule", *all_of_them).err == ""
    assert "no periodic task with 'zzz' in its name. " in tasks("schedule", "--name", "zzz").out
    ran = tasks("schedule", "--name", "night", "--task", FAIL)
    assert f"no periodic task with 'night' in its name and of the task '{FAIL}'" in ran.out


def test_there_are_none(database_app: App) -> None:
    assert "BEAT_SCHEDULE is empty" in tasks("schedule").out


def test_it_says_what_is_broken(scheduled_app: App, make: Make) -> None:
    make("sums", schedule="often")
    ran = tasks("schedule")
    assert "broken" in ran.out
    assert "sums never runs: 'often' is no interval" in ran.err


def test_it_says_what_is_wrong_in_the_settings(scheduled_app: App) -> None:
    wrong = {"hdr": {"task": ADD, "schedule": 5.0, "queue": "x"}}
    scheduled_app.conf.beat_schedule = {**scheduled_app.conf.beat_schedule, **wrong}
    text = "Entry 'hdr' of the schedule, queue: there is no such key. It is an option of the call: "
    assert f"Note: {text}" in tasks("schedule").err
    assert f"Note: {text}" in tasks("schedule", "--name", "HD").err
    assert tasks("schedule", "--name", "often").err == ""
    assert tasks("schedule", "show", "hdr").err.startswith(text)


def test_what_is_gone_from_the_settings(scheduled_app: App) -> None:
    tasks("schedule", "pause", "nightly")
    del scheduled_app.conf.beat_schedule["nightly"]
    ran = tasks("schedule")
    (line,) = [line for line in ran.out.splitlines() if line.startswith("nightly")]
    assert " gone " in line
    assert "nightly never runs: it is shown for the settings, and they have no such entry any more." in ran.err
    assert "The next beat that starts takes it off the list." in tasks("schedule", "resume", "nightly").err


def test_show_lists_next_runs(scheduled_app: App) -> None:
    ran = tasks("schedule", "show", "nightly", "-n", 3, "--json")
    assert [run[11:] for run in ran.json["next_runs"]] == ["02:30:00Z"] * 3
    text = tasks("schedule", "show", "nightly").out
    assert "Next runs" in text
    assert text.count(" 02:30:00 UTC (in ") == 5


def test_pause_and_resume(scheduled_app: App, make: Make) -> None:
    make("sums")
    ran = tasks("schedule", "pause", "sums", "often")
    assert ran.out.splitlines() == [f"{name} is paused; beats heed it within 2 s." for name in ("sums", "often")]
    data = by_name(tasks("schedule", "--json").json)
    assert {name: each["condition"] for name, each in data.items()} == {"nightly": "on", "often": "off", "sums": "off"}
    assert "Nothing to pause" in tasks("schedule", "pause", "sums").out
    assert tasks("schedule", "resume", "--all", "--json").json == {"verb": "resume", "names": ["often", "sums"]}


def test_resume_says_what_does_not_fire_nevertheless(scheduled_app: App, make: Make) -> None:
    more = {"off": {"task": ADD, "schedule": 10.0, "args": [1, 2], "enabled": False},
            "once": {"task": ADD, "schedule": 10.0, "args": [1, 2], "one_off": True},
            "past": {"task": ADD, "schedule": 10.0, "args": [1, 2], "end_time": "2020-01-01"}}  # fmt: skip
    scheduled_app.conf.beat_schedule = {**scheduled_app.conf.beat_schedule, **more}
    (once,) = (entry for entry in settings_entries(scheduled_app).values() if entry.name == "once")
    at = now().timestamp()
    state = EntryState("once", at - 60, at - 60, slot=at, fired=at, runs=1, definition=once.definition)
    scheduled_app.broker.claim_store.add([state])
    make("broken", schedule="often")
    tasks("schedule", "pause", "off", "often")
    ran = tasks("schedule", "resume", "often", "off", "once", "past", "broken")
    assert ran.code == 1
    assert ran.out == "often fires again; what was missed meanwhile is not made up for.\n"
    assert [line.partition(". ")[0] for line in ran.err.splitlines()] == [
        "off does not fire: it is off in the settings",
        "once does not fire: it was to fire once, and has",
        "past does not fire: it has no runs any more",
        "broken does not fire: 'often' is no interval",
    ]
    assert "`tasks schedule override 'off'` and resume it then." in ran.err
    tasks("schedule", "override", "off")
    assert tasks("schedule", "resume", "off").out.startswith("off fires again")
    assert tasks("schedule", "resume", "off").out.startswith("Nothing to resume")


def test_run(scheduled_app: App, make: Make) -> None:
    make("sums", enabled=False)
    ran = tasks("schedule", "run", "sums", "nightly", "--json")
    assert [each["name"] for each in ran.json] == ["sums", "nightly"]
    drain(scheduled_app)
    assert [scheduled_app.AsyncResult(each["id"]).get(timeout=1) for each in ran.json] == [3, 3]


def test_calls_that_cannot_run_are_told(scheduled_app: App, make: Make) -> None:
    make("unknown", task="tests.testapp.tasks.ad")
    make("misfit", args=[1])
    unknown = "No task 'tests.testapp.tasks.ad' is known here; a worker must know it. Did you mean tests.testapp.tasks."
    misfit = f"{ADD} does not take args = [1] and kwargs = {{}}: add() missing 1 required positional argument: 'y'."
    listed = tasks("schedule")
    assert f"Note: unknown: {unknown}" in listed.err
    assert f"Note: misfit: {misfit}" in listed.err
    assert unknown in tasks("schedule", "show", "unknown").out
    assert tasks("schedule", "show", "misfit", "--json").json["warning"] == misfit
    ran = tasks("schedule", "run", "unknown")
    assert (ran.code, len(ran.out.splitlines())) == (0, 1)
    assert f"Note: unknown: {unknown}" in ran.err
    ran = tasks("schedule", "run", "often", "misfit")
    assert (ran.code, ran.out) == (1, "")
    assert f"Periodic task 'misfit' cannot be run: {misfit} Nothing was called." in ran.err
    assert len(waiting(scheduled_app)) == 1


def test_override_and_restore(scheduled_app: App) -> None:
    assert tasks("schedule", "override", "nightly").code == 0
    row = PeriodicTask.objects.get(name="nightly")
    assert (row.origin, row.kind, row.schedule, row.options) == ("database", "crontab", "30 2 * * *", {"priority": 5})
    row.schedule = "0 5 * * *"
    row.save()
    assert by_name(tasks("schedule", "--json").json)["nightly"]["schedule"] == "at 05:00"
    assert tasks("schedule", "restore", "--all", "--json").json["names"] == ["nightly"]
    assert by_name(tasks("schedule", "--json").json)["nightly"]["from"] == "settings"
    tasks("schedule", "pause", "nightly")
    assert tasks("schedule", "restore", "nightly").out.startswith("Nothing to restore")
    assert by_name(tasks("schedule", "--json").json)["nightly"]["condition"] == "off"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["pause", "oftne"], 1, "There is no periodic task 'oftne'. Did you mean often?"),
        (["run"], 2, "Give the names of periodic tasks, or --all"),
        (["override", "sums"], 1, "Periodic task 'sums' is not of the settings"),
        (["restore", "sums"], 1, "The settings have no entry 'sums'"),
        (["run", "broken"], 1, "Periodic task 'broken' cannot be run: 'often' is no interval"),
        (["override", "own"], 1, "Periodic task 'own' cannot be kept in the database"),
    ],
)
def test_what_cannot_be_done(scheduled_app: App, make: Make, arguments: list[str], code: int, message: str) -> None:
    make("sums")
    make("broken", schedule="often")
    own = {"own": {"task": ADD, "schedule": Payday()}}
    scheduled_app.conf.beat_schedule = {**scheduled_app.conf.beat_schedule, **own}
    before = list(PeriodicTask.objects.filter(origin="database").values())
    ran = tasks("schedule", *arguments)
    assert (ran.code, ran.out) == (code, "")
    assert message in ran.err
    assert list(PeriodicTask.objects.filter(origin="database").values()) == before


class Payday(crontab):
    """A schedule of a project's own."""


def test_a_schedule_of_one_s_own_is_listed(scheduled_app: App) -> None:
    scheduled_app.conf.beat_schedule = {"own": {"task": ADD, "schedule": Payday(0, 9), "args": [1, 1]}}
    (each,) = tasks("schedule", "--json").json
    assert (each["kind"], each["condition"]) == ("custom", "on")
    ran = tasks("schedule", "run", "own", "--json")
    drain(scheduled_app)
    assert scheduled_app.AsyncResult(ran.json[0]["id"]).get(timeout=1) == 2


def test_json_is_json(scheduled_app: App) -> None:
    assert json.loads(tasks("schedule", "show", "often", "--json").out)["args"] == [3, 4]


class NoTables:
    """A router that keeps our tables out of the database."""

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return False if app_label == "django_tasks" else None


SETTINGS = {
    "beta": {"task": ADD, "schedule": 10.0, "args": [1, 2]},
    "alpha": {"task": FAIL, "schedule": "0 7 * * *"},
}


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"DATABASES": {}}, "DATABASES has none for them"),
        ({"DATABASE_ROUTERS": ["tests.periodic.test_command.NoTables"]}, "its database router keeps them out"),
    ],
)
def test_without_tables_the_settings_are_listed(
    settings: dict[str, Any], why: str, redis_url: str, transactional_db: None
) -> None:
    settings = {**settings, "BROKER_URL": redis_url, "RESULT_BACKEND": redis_url, "BEAT_SCHEDULE": SETTINGS}
    ran = manage("tasks", "schedule", settings=settings)
    assert ran.code == 0, ran.err
    assert [line.split()[0] for line in ran.out.splitlines()] == ["NAME", "alpha", "beta"]
    ran = manage("tasks", "schedule", "--name", "ALP", "--task", FAIL, "--json", settings=settings)
    assert [(each["name"], each["from"], each["condition"]) for each in ran.json] == [("alpha", "settings", "on")]
    assert manage("tasks", "schedule", "show", "beta", "--json", settings=settings).json["args"] == [1, 2]
    ran = manage("tasks", "schedule", "run", "--all", "--json", settings=settings)
    assert [each["name"] for each in ran.json] == ["alpha", "beta"]
    for arguments in (["pause", "beta"], ["resume", "--all"], ["override", "--all"], ["restore", "beta"]):
        ran = manage("tasks", "schedule", *arguments, settings=settings)
        assert (ran.code, ran.out) == (1, "")
        assert f"`{arguments[0]}` is not possible: this project keeps no tables of periodic tasks ({why})" in ran.err
    ran = manage("tasks", "schedule", "show", "bta", settings=settings)
    assert ran.err.startswith("CommandError: There is no periodic task 'bta'. Did you mean beta?")
