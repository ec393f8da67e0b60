"""The worker where services and containers run it: as process 1, and under systemd."""

from __future__ import annotations

import functools
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from django.db import connection

from tests.processes import ROOT, WorkerProcess
from tests.waiting import wait_for
from tests.worker import jobs

Spawn = Callable[..., WorkerProcess]

#: Runs a command as process 1 of a namespace of its own, as in a container.
CONTAINER = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
pytestmark = pytest.mark.skipif(connection.vendor != "sqlite", reason="the same on every database")


@functools.cache
def why_not() -> str:
    """Return why there can be no such namespace here; nothing if there can."""
    if shutil.which("unshare") is None:
        return "there is no unshare here"
    tried = subprocess.run([*CONTAINER, "true"], capture_output=True, text=True)
    return tried.stderr.strip()


@pytest.fixture
def container(spawn_worker: Spawn, tmp_path: Path) -> Callable[..., tuple[WorkerProcess, psutil.Process]]:
    """Start a worker with the options of the container file in the docs; return it, and its process 1."""
    if why_not():
        pytest.skip(f"no namespace of processes: {why_not()}")

    def spawn(*arguments: str) -> tuple[WorkerProcess, psutil.Process]:
        options = ["-l", "INFO", "--json", "-c", "2", "--healthcheck-file", str(tmp_path / "health"), *arguments]
        worker = spawn_worker(*options, settings={"CELERY_IMPORTS": ["tests.worker.jobs"]}, wrapper=CONTAINER)
        (init,) = psutil.Process(worker.pid).children()
        return worker, init

    return spawn


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_process_1_ends_in_good_order(container: Spawn, tmp_path: Path, pool: str) -> None:
    worker, init = container("-P", pool)
    result = jobs.hold.delay(str(tmp_path / "runs"))
    wait_for(lambda: jobs.read(tmp_path / "runs"), 20, lambda: f"the task to begin:\n{worker.log}")
    init.send_signal(signal.SIGTERM)
    worker.wait_for_log("Stopping (SIGTERM)")
    (tmp_path / "runs.go").touch()
    assert worker.wait(20) == 0
    assert result.result is False


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_process_1_reaps_what_tasks_leave_behind(container: Spawn, tmp_path: Path, pool: str) -> None:
    worker, init = container("-P", pool)
    jobs.leave_an_orphan.delay(str(tmp_path / "orphan")).get(timeout=20)

    def orphans() -> list[psutil.Process]:
        found = psutil.process_iter(["ppid", "cmdline"])
        children = [each for each in found if each.info["ppid"] == init.pid]
        return [child for child in children if (child.info["cmdline"] or [])[-1:] == ["orphan"]]

    (orphan,) = wait_for(orphans, 20, "a process without a parent to become a child of process 1")
    (tmp_path / "orphan.go").touch()
    wait_for(lambda: not psutil.pid_exists(orphan.pid), 20, "it to be reaped")
    init.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0


def test_the_probe_of_a_container(container: Spawn, tmp_path: Path) -> None:
    worker, init = container()
    probe = [sys.executable, "-m", "django_tasks.health", str(tmp_path / "health"), "--ready"]
    done = subprocess.run(probe, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "ok\n")
    init.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0
    assert subprocess.run(probe, cwd=ROOT, capture_output=True).returncode == 1


@pytest.mark.parametrize("page", ["README.md", "docs/operations.md"])
def test_systemd_has_nothing_to_say_against_the_unit(page: str, tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("there is no systemd-analyze here")
    (text,) = re.findall(r"```ini\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    unit = tmp_path / "mysite-worker.service"
    unit.write_text(text.replace("/srv/mysite/venv/bin/python", sys.executable))
    done = subprocess.run([program, "verify", str(unit)], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
