"""``runbeat``, ``python -m django_tasks beat`` and ``runworker -B``, as real processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from django_tasks import App, health
from django_tasks.beat.entry import Entry
from django_tasks.beat.listing import banner
from django_tasks.beat.messages import run_id
from django_tasks.beat.service import make_scheduler
from django_tasks.brokers.beat import EntryState
from django_tasks.models import PeriodicTask
from django_tasks.schedules import crontab
from tests.processes import ROOT, WorkerProcess, environment
from tests.running import app_of_test, waiting
from tests.waiting import wait_for

pytestmark = pytest.mark.django_db(transaction=True)

Spawn = Callable[..., WorkerProcess]
SCHEDULE = {"BEAT_SCHEDULE": {"tick": {"task": "tests.testapp.tasks.add", "schedule": 0.5, "args": [1, 2]}}}
DAILY = {"BEAT_SCHEDULE": {"noon": {"task": "tests.testapp.tasks.add", "schedule": "0 12 * * *", "args": [1, 2]}}}


def run(*arguments: str, settings: dict[str, Any], timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run ``runbeat`` to its end."""
    command = [sys.executable, "-m", "django", "runbeat", *arguments]
    return subprocess.run(command, env=environment(settings), capture_output=True, text=True, timeout=timeout)


@pytest.fixture
def app(database_app: App) -> App:
    return database_app


def sent(app: App) -> list[str]:
    """Return the ids of all messages of the entry."""
    return [each.id for each in waiting(app) if each.headers.get("periodic_task_name") == "tick"]


def test_beat_starts_fires_and_stops(app: App, spawn_worker: Spawn, tmp_path: Path) -> None:
    pidfile, healthfile = tmp_path / "beat.pid", tmp_path / "beat.health"
    options = ("-l", "INFO", "--pidfile", str(pidfile), "--healthcheck-file", str(healthfile))
    beat = spawn_worker(*options, settings=SCHEDULE, command="runbeat")
    assert "[next runs]" in beat.log
    assert re.search(r"\d\d:\d\d:\d\d \+0000  tick  tests.testapp.tasks.add  every 0.5 seconds", beat.log)
    assert int(pidfile.read_text()) == beat.pid
    wait_for(lambda: len(sent(app)) >= 3)
    assert health.main([str(healthfile), "--ready"]) == 0
    assert re.search(r"INFO/MainProcess\] Entry 'tick': sent tests.testapp.tasks.add\[", beat.log)
    second = run("--pidfile", str(pidfile), settings=SCHEDULE)
    assert second.returncode == 1
    assert f"belongs to process {beat.pid}, which is running" in second.stderr
    began = time.monotonic()
    beat.send_signal(signal.SIGTERM)
    assert beat.wait() == 0
    assert time.monotonic() - began < 3
    assert not pidfile.exists()
    assert not healthfile.exists()
    assert "Beat stopped." in beat.log
    ids = sent(app)
    state = app.broker.claim_store.states(["tick"])["tick"]  # type: ignore[union-attr]
    assert sorted(ids) == sorted(run_id("tick", round(state.anchor + n / 2, 6)) for n in range(1, len(ids) + 1))
    assert state.runs == len(ids)


def test_the_banner_names_time_zones_where_they_matter(app: App) -> None:
    add = {"task": "tests.testapp.tasks.add", "timezone": "Europe/Berlin"}
    app.conf.beat_schedule = {
        "digest": {**add, "schedule": crontab(30, 6)},
        "plain": {**add, "schedule": crontab(0, 7), "timezone": app.conf.timezone or "UTC"},
        "tick": {**add, "schedule": 30},
    }
    scheduler = make_scheduler(app)
    scheduler.tick(app.broker.claim_store.now())  # type: ignore[union-attr]
    words = sorted(line.rpartition("add  ")[2] for line in banner(app, scheduler).splitlines() if "add  " in line)
    assert words == ["at 06:30 (Europe/Berlin)", "at 07:00", "every 30 seconds"]


def test_a_dry_run_tells_and_does_nothing(app: App) -> None:
    done = run("--dry-run", "3", settings=DAILY)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert all(
        re.fullmatch(r"  \d{4}-\d\d-\d\d 12:00:00 \+0000  noon  tests.testapp.tasks.add", line) for line in lines
    )
    assert app.broker.claim_store.states() == {}  # type: ignore[union-attr]
    assert not PeriodicTask.objects.exists()
    assert len(run("--dry-run", settings=DAILY).stdout.splitlines()) == 20
    told = [json.loads(line) for line in run("--dry-run", "2", "--json", settings=DAILY).stdout.splitlines()]
    assert [(each["at"][10:], each["name"], each["task"]) for each in told] == [
        ("T12:00:00+00:00", "noon", "tests.testapp.tasks.add")
    ] * 2


def test_the_schedule_is_told_before_anything_is_sent(app: App, spawn_worker: Spawn) -> None:
    entry = Entry.from_definition("noon", DAILY["BEAT_SCHEDULE"]["noon"], app)
    ago = time.time() - 5 * 86400
    app.broker.claim_store.add([EntryState("noon", ago, ago, definition=entry.definition)])  # type: ignore[union-attr]
    beat = spawn_worker("-l", "INFO", settings=DAILY, command="runbeat")
    wait_for(lambda: "Entry 'noon': sent" in beat.log)
    assert beat.log.index("[next runs]") < beat.log.index("Beat ready") < beat.log.index("Entry 'noon': sent")


@pytest.mark.parametrize(
    ("arguments", "settings", "words"),
    [
        (("--max-interval", "0"), {}, "--max-interval must be above 0 seconds"),
        (("--dry-run", "0"), {}, "--dry-run lists that many runs, at least 1"),
        (("--pidfile", str(ROOT)), {}, f"--pidfile {ROOT} cannot be written: Is a directory."),
        (("-f", "/nonexistent/x"), {}, "--logfile /nonexistent/x cannot be written: No such file or directory."),
        (("--healthcheck-file", "/nonexistent/x"), {}, "--healthcheck-file /nonexistent/x cannot be written"),
        ((), {"BROKER_URL": "memory://"}, "lives in one process only"),
        ((), {"BEAT_SCHEDULE": {"a": {"task": "t", "schedule": "0 0 31 2 *"}}}, "Entry 'a' of the schedule, schedule:"),
    ],
)
def test_what_it_does_not_start_with(arguments: tuple[str, ...], settings: dict[str, Any], words: str) -> None:
    done = run(*arguments, settings=settings)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_celerys_options_are_known(app: App) -> None:
    done = run("-S", "django_celery_beat.schedulers:DatabaseScheduler", "--dry-run", "1", settings=DAILY)
    assert done.returncode == 0
    assert "-s and -S have no effect" in done.stderr


def test_beat_of_an_app_in_a_module(app: App) -> None:
    command = [sys.executable, "-m", "django_tasks", "beat", "--dry-run", "1"]
    done = subprocess.run(command, env=environment(DAILY), cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "noon" in done.stdout


MODULE = """
from django_tasks import App

app = App("proj", broker="django-db://", backend="django-db://")

@app.task
def say(text): ...

@app.on_after_configure.connect
def setup(sender, **kwargs):
    sender.add_periodic_task(10.0, say.s("hello"), name="add every 10")
    sender.add_periodic_task(30.0, say.s("world"), expires=10, catch_up="none")
"""


def test_periodic_tasks_of_celerys_documentation(app: App, tmp_path: Path) -> None:
    (tmp_path / "proj.py").write_text(MODULE)
    command = [sys.executable, "-m", "django_tasks", "-A", "proj", "beat", "--dry-run", "4"]
    env = environment({})
    env["PYTHONPATH"] = os.pathsep.join([str(tmp_path), env["PYTHONPATH"]])
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    names = [line[29:].rsplit("  ", 1)[0].strip() for line in done.stdout.splitlines()]
    assert names.count("add every 10") == 3
    assert names.count("proj.say('world')") == 1


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_worker_with_a_beat(app: App, spawn_worker: Spawn, pool: str) -> None:
    worker = spawn_worker("-B", "-c", "1", "-P", pool, "-l", "INFO", settings=SCHEDULE)
    wait_for(lambda: worker.log.count("Entry 'tick': sent") >= 2)
    wait_for(lambda: worker.log.count("tests.testapp.tasks.add") >= 2 and "succeeded" in worker.log)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert "is killed" not in worker.log


def test_a_worker_replaces_its_beat(app: App, spawn_worker: Spawn) -> None:
    worker = spawn_worker("-B", "-c", "1", "-l", "INFO", settings=SCHEDULE)
    wait_for(lambda: "INFO/Beat] Entry 'tick': sent" in worker.log)
    beat = next(each for each in worker.children() if each.pid == _beat_pid(worker))
    beat.kill()
    worker.wait_for_log("The beat was killed by SIGKILL and is replaced")
    count = worker.log.count("Entry 'tick': sent")
    wait_for(lambda: worker.log.count("Entry 'tick': sent") > count)


def _beat_pid(worker: WorkerProcess) -> int:
    """Return the youngest child: the beat is started last, often in the same hundredth of a second as the others."""
    return int(max(worker.children(), key=lambda each: (each.create_time(), each.pid)).pid)


def test_another_beat_takes_over_from_one_that_was_killed(app: App, spawn_worker: Spawn) -> None:
    first, second = (spawn_worker("-l", "INFO", settings=SCHEDULE, command="runbeat") for _ in range(2))
    wait_for(lambda: len(sent(app)) >= 2)
    first.kill()
    count = len(sent(app))
    wait_for(lambda: len(sent(app)) >= count + 3)
    second.send_signal(signal.SIGTERM)
    assert second.wait() == 0
    ids, state = sent(app), app.broker.claim_store.states(["tick"])["tick"]  # type: ignore[union-attr]
    assert len(ids) == len(set(ids)) == state.runs


def test_beats_and_workers_on_redis(redis_url: str, spawn_worker: Spawn) -> None:
    settings = {**SCHEDULE, "BROKER_URL": redis_url, "RESULT_BACKEND": redis_url}
    with app_of_test(redis_url) as app:
        beats = [spawn_worker("-l", "INFO", settings=settings, command="runbeat") for _ in range(2)]
        wait_for(lambda: len(sent(app)) >= 3)
        beats[0].kill()
        count = len(sent(app))
        wait_for(lambda: len(sent(app)) >= count + 3)
        ids = sent(app)
        assert len(ids) == len(set(ids))
        worker = spawn_worker("-c", "1", "-l", "INFO", settings=settings)
        wait_for(lambda: worker.log.count("succeeded") >= len(ids))
