"""The worker's command line: what it prints, the files it keeps, and what it says when it cannot start."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from django_tasks.current import get_current_app
from tests.processes import ROOT, WorkerProcess, environment
from tests.testapp.tasks import add, fail
from tests.waiting import wait_for
from tests.worker import jobs

Spawn = Callable[..., WorkerProcess]

pytestmark = pytest.mark.skipif(connection.vendor != "sqlite", reason="the same on every database")


def run(
    *arguments: str, settings: Mapping[str, Any] | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run ``runworker`` to its end."""
    command = [sys.executable, "-m", "django", "runworker", *arguments]
    env = {**environment(settings or {}), **variables}
    return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=60)


# -- what it prints


def test_the_banner(spawn_worker: Spawn) -> None:
    worker = spawn_worker("-c", "3", "-l", "INFO", "-n", "shown@test", "-Q", "one,two")
    banner, _, after = worker.log.partition("[tasks]")
    for text in ("shown@test  django-celeriac", "django-db://", "3 (prefork)", "[queues]\n  one\n  two\n", "Django "):
        assert text in banner
    assert "  tests.testapp.tasks.add\n" in after


@pytest.mark.parametrize(
    ("arguments", "settings", "words"),
    [
        (["--time-limit", "5"], {}, r"--time-limit or TASK_TIME_LIMIT \(5 s\)\. Use another pool"),
        ([], {"TASK_TIME_LIMIT": 7.5}, r"--time-limit or TASK_TIME_LIMIT \(7\.5 s\)\."),
        ([], {"TASK_ANNOTATIONS": {add.name: {"time_limit": 9}}}, rf": time_limit of {add.name} \(9 s\)\."),
        (["--soft-time-limit", "5"], {}, None),
    ],
)
def test_the_solo_pool_says_which_limits_it_does_not_keep(
    arguments: list[str], settings: dict[str, Any], words: str | None, transactional_db: None
) -> None:
    done = run("-P", "solo", "--burst", *arguments, settings=settings)
    assert done.returncode == 0
    assert ("not kept in the solo pool" in done.stderr) == (words is not None)
    assert re.search(words or "", done.stderr)


def test_the_solo_pool_says_that_it_runs_one_task_at_a_time(transactional_db: None) -> None:
    assert "The solo pool runs one task at a time: -c 5" in run("-P", "solo", "-c", "5", "--burst").stderr


def test_without_a_level_only_warnings_are_logged(spawn_worker: Spawn, tmp_path: Path) -> None:
    done = run("--burst", "-c", "1")
    assert done.returncode == 0
    assert "ready" not in done.stderr
    assert "[tasks]" in done.stdout


def test_json(spawn_worker: Spawn, tmp_path: Path) -> None:
    """All that a worker prints is JSON, line by line, and what became of a task need not be read from its text."""
    good, bad = add.delay(1, 1), fail.delay("two\nlines, \u20ac")
    unsure, loud = jobs.retry_once.delay(), jobs.warn.delay()
    late = jobs.hold.apply_async((str(tmp_path / "runs"),), time_limit=0.5)
    unknown = get_current_app().send_task("nobody.knows")
    arguments = ["-c", "2", "-l", "INFO", "--json", "--burst", "-n", "json@test"]
    worker = spawn_worker(*arguments, settings={"CELERY_IMPORTS": ["tests.worker.jobs"]})
    assert worker.wait() == 0
    records = [json.loads(line) for line in worker.log.splitlines()]
    assert records[0]["message"] == "json@test starts."
    assert (records[0]["concurrency"], records[0]["pool"], records[0]["queues"]) == (2, "prefork", ["celery"])
    assert {"time", "level", "logger", "process", "message"} <= set.intersection(*map(set, records))

    def of(result: Any) -> list[tuple[str, str, bool]]:
        found = [record for record in records if record.get("task_id") == result.id and "state" in record]
        return [(record["task_name"], record["state"], "runtime" in record) for record in found]

    assert of(good) == [(add.name, "RECEIVED", False), (add.name, "SUCCESS", True)]
    assert of(bad) == [(fail.name, "RECEIVED", False), (fail.name, "FAILURE", True)]
    assert of(late) == [(jobs.hold.name, "RECEIVED", False), (jobs.hold.name, "FAILURE", False)]
    assert [state for _, state, _ in of(unsure)] == ["RECEIVED", "RETRY", "RECEIVED", "SUCCESS"]
    assert of(unknown)[0] == ("nobody.knows", "RECEIVED", False)
    (failure,) = [record for record in records if record.get("task_id") == bad.id and "exc" in record]
    assert failure["exc"].startswith("Traceback (most recent call last):\n")
    assert failure["exc"].endswith("ValueError: two\nlines, \u20ac")
    assert any("careful" in record["message"] and record["task_id"] == loud.id for record in records)


def test_json_of_a_worker_that_scales_itself(spawn_worker: Spawn) -> None:
    worker = spawn_worker("--autoscale", "3,1", "-l", "INFO", "--json", "--burst")
    assert worker.wait() == 0
    first = json.loads(worker.log.splitlines()[0])
    assert (first["concurrency"], first["least"]) == (3, 1)


def test_logfile(spawn_worker: Spawn, tmp_path: Path) -> None:
    add.delay(1, 1)
    path = tmp_path / "log"
    done = run("-c", "1", "-l", "INFO", "--burst", "-f", str(path))
    assert done.returncode == 0
    assert f"Task {add.name}" in path.read_text()
    assert "stopped." in path.read_text()
    assert done.stderr == ""


@pytest.mark.parametrize("url", ["nosuch://me:s3cret@host/", "amqp://me:s3cret@127.0.0.1:1//"])
def test_no_password_of_the_broker_is_shown(url: str, transactional_db: None) -> None:
    done = run("-l", "DEBUG", settings={"BROKER_URL": url})
    assert done.returncode != 0
    assert url.partition(":")[0] in done.stdout + done.stderr
    assert "s3cret" not in done.stdout + done.stderr


# -- files


def test_pidfile(spawn_worker: Spawn, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text("999999999\n")  # of a worker that was killed
    worker = spawn_worker("-c", "1", "-l", "INFO", "--pidfile", str(path))
    assert path.read_text() == f"{worker.pid}\n"
    other = run("--pidfile", str(path))
    assert other.returncode == 1
    assert f"belongs to process {worker.pid}, which is running" in other.stderr
    assert path.read_text() == f"{worker.pid}\n"
    worker.send_signal(signal.SIGTERM)
    worker.wait()
    assert not path.exists()


def test_reload(spawn_worker: Spawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "edited_module.py"
    source = "from django_tasks import shared_task\n@shared_task\ndef answer(): return {}\n"
    module.write_text(source.format(1))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    worker = spawn_worker("-c", "1", "-l", "INFO", "--rel", settings={"CELERY_IMPORTS": ["edited_module"]})
    send = get_current_app().send_task
    assert send("edited_module.answer").get(timeout=20) == 1
    module.write_text(source.format(2))
    later = module.stat().st_mtime + 10
    os.utime(module, (later, later))
    wait_for(lambda: worker.log.count("ready.") == 2, 20, lambda: f"the worker to start again:\n{worker.log}")
    assert send("edited_module.answer").get(timeout=20) == 2
    worker.send_signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert worker.log.count("stopped.") == 2


# -- what it says when it cannot start


def test_a_database_without_our_tables(tmp_path: Path, transactional_db: None) -> None:
    done = run(TEST_DATABASE_URL=f"sqlite:///{tmp_path}/empty.sqlite3")
    assert done.returncode == 1
    assert "python manage.py migrate" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_module_with_an_import_error(tmp_path: Path, transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_module.py").write_text("import this_does_not_exist\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = run(settings={"CELERY_IMPORTS": ["broken_module"]})
    assert done.returncode != 0
    assert "broken_module.py" in done.stderr
    assert "ModuleNotFoundError: No module named 'this_does_not_exist'" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--concurency", "2"], 2, "unrecognized arguments: --concurency"),
        (["--pool", "eventlet"], 2, "invalid choice: 'eventlet'"),
        (["-c", "many"], 2, "invalid int value: 'many'"),
        (["-l", "LOUD"], 1, "Unknown log level 'LOUD'"),
        (["-c", "-1"], 1, "--concurrency must not be below 0"),
        (["--autoscale", "1,2"], 1, "--autoscale 1,2 is not MAX,MIN"),
        (["--pidfile", "/nonexistent/x"], 1, "--pidfile /nonexistent/x cannot be written: No such file or directory."),
        (["--pidfile", str(ROOT)], 1, f"--pidfile {ROOT} cannot be written: Is a directory. Name a file in"),
        (["-f", "/nonexistent/x"], 1, "--logfile /nonexistent/x cannot be written"),
        (["--healthcheck-file", "/nonexistent/x"], 1, "--healthcheck-file /nonexistent/x cannot be written"),
    ],
)
def test_options_that_cannot_be(arguments: list[str], code: int, words: str, transactional_db: None) -> None:
    done = run(*arguments)
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broker_in_memory(transactional_db: None) -> None:
    done = run(settings={"BROKER_URL": "memory://"})
    assert done.returncode == 1
    assert "lives in one process only" in done.stderr


# -- without manage.py

SCRIPT = """
from django_tasks import App

app = App("script")

@app.task
def add(x, y):
    return x + y
"""


def run_module(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in os.environ.items() if key not in ("DJANGO_SETTINGS_MODULE", "PYTHONPATH")}
    env["PYTHONPATH"] = str(ROOT)
    return subprocess.run([sys.executable, *arguments], env=env, cwd=cwd, capture_output=True, text=True, timeout=60)


def test_an_app_in_a_plain_module(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    worker = ["-m", "django_tasks", "-A", "script", "worker", "--burst", "-c", "1", "-l", "INFO"]
    first = run_module(tmp_path, *worker)
    assert first.returncode == 0, first.stderr
    sent = run_module(tmp_path, "-c", "import script; print(script.add.delay(2, 3).id)")
    assert sent.returncode == 0, sent.stderr
    second = run_module(tmp_path, *worker)
    assert second.returncode == 0, second.stderr
    asked = run_module(tmp_path, "-c", f"import script; print(script.app.AsyncResult({sent.stdout.strip()!r}).get(5))")
    assert asked.stdout.strip() == "5", asked.stderr


def test_findings_about_the_settings_are_told_with_and_without_manage_py(
    tmp_path: Path, transactional_db: None
) -> None:
    settings = {"CELERY_BEAT_SCHEDULE": {"nightly": {"task": "x", "schedule": 60}}, "CELERY_NONSENSE": 1}
    command = [sys.executable, "-m", "django_tasks", "worker", "--burst", "-c", "1"]
    done = subprocess.run(command, env=environment(settings), cwd=ROOT, capture_output=True, text=True, timeout=60)
    for ran in (done, run("--burst", "-c", "1", settings=settings)):
        assert ran.returncode == 0, ran.stderr
        assert "(django_tasks.W001) CELERY_NONSENSE" in ran.stderr
        assert "(django_tasks.W007) Entry 'nightly' of the schedule is for the task 'x'" in ran.stderr


MODULES = {
    "script.py": SCRIPT,
    "empty.py": "from django_tasks import current_app",
    "two.py": "from django_tasks import App\none, other, again = App('1'), App('2'), None\nagain = one\n",
    "broken.py": "import this_does_not_exist\n",
    "package/__init__.py": "",
    "package/celery.py": "from django_tasks import App, current_app\nmain = App('main')\nsame = main\n",
    "package/broken.py": "raise ZeroDivisionError\n",
}


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    """Modules with and without apps, in the directory that is returned."""
    (tmp_path / "package").mkdir()
    for name, source in MODULES.items():
        (tmp_path / name).write_text(source)
    return tmp_path


def run_with_app(cwd: Path, name: str | None) -> subprocess.CompletedProcess[str]:
    arguments = ["worker", "--burst", "-c", "1", "-P", "solo"]
    return run_module(cwd, "-m", "django_tasks", *(["-A", name] if name is not None else []), *arguments)


@pytest.mark.parametrize("name", ["package", "package.celery", "package.celery:main", "package.celery.main"])
def test_where_an_app_may_be(modules: Path, name: str) -> None:
    done = run_with_app(modules, name)
    assert done.returncode == 0, done.stderr
    assert re.search(r"app: +main", done.stdout)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nope", "-A nope: there is no module 'nope', neither in this directory ("),
        ("package.nope", "-A package.nope: there is no module 'package.nope'"),
        ("nope.celery:app", "-A nope.celery:app: there is no module 'nope.celery'"),
        ("script:add", "-A script:add: no django_tasks.App called add was found in script. It has app."),
        ("package.celery:app", "no django_tasks.App called app was found in package.celery. It has main, same."),
        ("script.add", "-A script.add: no django_tasks.App called add was found in script. It has app."),
        ("empty", "-A empty: no django_tasks.App was found in empty."),
        ("two", "-A two: two has several apps: one, other, again. Name one, as in -A two:one"),
        ("script.py", "-A script.py: there is no module 'script.py'"),
        ("./script", "-A ./script: write the module as in an import, such as proj.celery or proj.celery:app."),
        (".script", "-A .script: write the module as in an import"),
        (None, "-A MODULE is missing"),
    ],
)
def test_no_app(modules: Path, name: str | None, words: str) -> None:
    done = run_with_app(modules, name)
    assert done.returncode in (1, 2)
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == (2 if name is None else 1)


@pytest.mark.parametrize(
    ("name", "last_line"),
    [
        ("broken", "ModuleNotFoundError: No module named 'this_does_not_exist'"),
        ("package.broken", "ZeroDivisionError"),
    ],
)
def test_what_a_module_raises_itself_is_shown_where_it_is(modules: Path, name: str, last_line: str) -> None:
    done = run_with_app(modules, name)
    assert done.returncode == 1
    assert f'{name.replace(".", "/")}.py", line 1' in done.stderr
    assert done.stderr.rstrip().endswith(last_line)
