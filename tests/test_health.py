"""``python -m django_tasks.health``: what the probe says of a worker, invented and real."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from django_tasks import health
from django_tasks.worker import shared
from django_tasks.worker.shared import Page
from tests.processes import ROOT, WorkerProcess
from tests.waiting import wait_for

NOW = 100_000.0


@pytest.fixture
def page() -> Page:
    """The page of a worker that is well."""
    page = Page(3)
    page.supervisor_tick = page.janitor_tick = page.broker_tick = NOW - 1
    for seat in page.seats[:2]:
        seat.pid, seat.tick, seat.state = 42, NOW - 1, shared.IDLE
    return page


def problem(page: Page, ready: bool = False) -> str | None:
    return health.problem(bytes(page.memory[:]), NOW, ready)


def test_well(page: Page) -> None:
    assert problem(page) is None
    assert problem(page, ready=True) is None


def test_a_task_may_take_long(page: Page) -> None:
    page.seats[0].begin("1")
    page.seats[0].tick = NOW - 10_000
    assert problem(page) is None


@pytest.mark.parametrize("state", [shared.FREE, shared.STARTING, shared.DEAD])
def test_seats_that_nobody_works_in(page: Page, state: int) -> None:
    page.seats[0].tick, page.seats[0].state = NOW - 10_000, state
    assert problem(page) is None


def test_the_supervisor_hangs(page: Page) -> None:
    page.supervisor_tick = NOW - 16
    assert problem(page) == "the supervisor has not gone round for 16 s"


def test_the_janitor_hangs(page: Page) -> None:
    page.janitor_tick = NOW - 16
    assert problem(page) == "the janitor has not gone round for 16 s"


def test_a_beat_hangs(page: Page) -> None:
    page.beat_tick = NOW - 90
    assert problem(page) is None
    page.beat_tick = NOW - 91
    assert problem(page) == "the beat has not gone round for 91 s"


def test_an_idle_loop_hangs(page: Page) -> None:
    page.seats[1].tick = NOW - 31
    assert problem(page) == "the loop of process 42 has not gone round for 31 s"


@pytest.mark.parametrize("state", [shared.IDLE, shared.BUSY])
def test_a_process_is_stopped(page: Page, state: int) -> None:
    page.seats[1].state, page.seats[1].frozen_since = state, NOW - 3
    assert problem(page) == "process 42 has been stopped for 3 s"


def test_the_broker_is_away(page: Page) -> None:
    page.broker_tick = NOW - 21
    assert problem(page) is None  # a new process would not find it either
    assert problem(page, ready=True) == "no answer of the broker for 21 s"
    page.broker_tick = 0
    assert problem(page, ready=True) == "the broker has not answered yet"


@pytest.mark.parametrize("data", [b"", b"CELERIAC", b"something else" * 10])
def test_files_that_are_something_else(data: bytes) -> None:
    assert health.problem(data, NOW, False) == "the file is not a worker's health file"


def test_a_worker_of_another_version(page: Page) -> None:
    """Nothing else of its page is looked at: it may be anywhere."""
    assert page.version == health.VERSION
    page.version, page.supervisor_tick = 2, 0
    assert problem(page) == (
        "the health file has layout 2 and this probe reads 1: worker and probe are of different versions of "
        "django_tasks; restart the worker after an upgrade"
    )


def probe(*arguments: str) -> tuple[int, str]:
    """Run the probe as an orchestrator does."""
    command = [sys.executable, "-m", "django_tasks.health", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=30)
    return done.returncode, done.stdout.strip()


@pytest.mark.parametrize("arguments", [[], ["--ready"], ["a", "b"], ["--help"]])
def test_misuse(arguments: list[str]) -> None:
    code, text = probe(*arguments)
    assert code == 2
    assert text.startswith("usage: python -m django_tasks.health FILE")


def test_no_file(tmp_path: Path) -> None:
    code, text = probe(str(tmp_path / "nothing"))
    assert code == 1
    assert text.startswith("no worker: ")


def test_the_probe_imports_no_django() -> None:
    code = "import runpy, sys; sys.argv[1:] = ['-']; runpy.run_module('django_tasks.health', run_name='__main__')"
    check = f"try:\n    {code}\nexcept SystemExit:\n    print([m for m in sys.modules if m.startswith('django.')])"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, cwd=ROOT, timeout=30)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"CPU of the probe: {after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime:.3f} s")
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_real_worker(spawn_worker: Callable[..., WorkerProcess], tmp_path: Path, pool: str) -> None:
    path = tmp_path / "health"
    worker = spawn_worker("-c", "2", "-P", pool, "-l", "INFO", "--healthcheck-file", str(path))
    assert probe(str(path)) == (0, "ok")
    wait_for(lambda: probe(str(path), "--ready") == (0, "ok"), message="the worker to be ready")
    worker.send_signal(signal.SIGTERM)
    worker.wait()
    assert not path.exists()


def problem_of(path: Path, later: float = 0) -> str | None:
    """Return what the probe will say some seconds from now, if nothing changes."""
    return health.problem(path.read_bytes(), time.monotonic() + later, False)


def test_a_real_worker_that_is_stopped(spawn_worker: Callable[..., WorkerProcess], tmp_path: Path) -> None:
    path = tmp_path / "health"
    worker = spawn_worker("-c", "1", "-l", "INFO", "--healthcheck-file", str(path))
    janitor = janitor_of(path)
    child = next(each for each in worker.children() if each.pid != janitor.pid)
    os.kill(child.pid, signal.SIGSTOP)
    wait_for(lambda: str(problem_of(path)).startswith(f"process {child.pid} has been stopped"), message="the stop")
    assert probe(str(path))[0] == 1
    os.kill(child.pid, signal.SIGCONT)
    wait_for(lambda: problem_of(path) is None, message="the worker to be well again")
    worker.send_signal(signal.SIGSTOP)
    assert str(problem_of(path, later=16)).startswith("the supervisor has not gone round for")
    worker.send_signal(signal.SIGCONT)
    wait_for(lambda: problem_of(path) is None)


def janitor_of(path: Path) -> psutil.Process:
    return psutil.Process(int.from_bytes(path.read_bytes()[32:40], sys.byteorder))
