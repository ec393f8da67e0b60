"""Signals that tell a worker to stop, at every moment of its life."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from django_tasks.worker.stop import ECHO, Stopped, StopSignals
from tests.processes import ROOT, WorkerProcess, environment
from tests.waiting import wait_for
from tests.worker.parts import Clock

TERM, INT, HUP = signal.SIGTERM, signal.SIGINT, signal.SIGHUP


@pytest.fixture(autouse=True)
def own_handlers() -> Iterator[None]:
    """Leave the handlers of the test run as they are."""
    before = {signum: signal.getsignal(signum) for signum in (TERM, INT, HUP)}
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


def kill(signum: int) -> None:
    os.kill(os.getpid(), signum)


# -- in this process


@pytest.mark.parametrize("signum", [TERM, INT, HUP])
def test_a_start_is_not_waited_for(signum: int) -> None:
    with StopSignals() as stop:
        kill(signum)
        raise AssertionError("not reached")
    assert stop.received == [signum]


def test_what_is_held_is_only_noted() -> None:
    clock = Clock()
    with StopSignals(clock=clock) as stop:
        stop.hold()
        kill(TERM)
        clock.advance(ECHO)
        kill(INT)
        assert stop.received == [TERM, INT]


def test_what_comes_at_once_is_the_same_signal_again() -> None:
    clock = Clock()
    with StopSignals(clock=clock) as stop:
        stop.hold()
        kill(TERM)
        clock.advance(ECHO * 0.6)
        kill(INT)
        assert stop.received == [TERM]
        clock.advance(ECHO * 0.6)  # a second after the first, not after the one before
        kill(TERM)
        assert stop.received == [TERM, TERM]


def test_every_signal_ends_a_start() -> None:
    with StopSignals() as stop:
        with contextlib.suppress(Stopped):
            kill(INT)
        kill(TERM)
        raise AssertionError("not reached")
    assert stop.received == [INT]


def test_a_listener_hears_what_came_before_it() -> None:
    heard: list[int] = []
    clock = Clock()
    with StopSignals(clock=clock) as stop:
        stop.hold()
        kill(TERM)
        stop.listen(heard.append)
        clock.advance(ECHO)
        kill(INT)
        assert heard == stop.received == [TERM, INT]


def test_a_signal_whose_exception_is_swallowed_is_not_lost() -> None:
    with StopSignals() as stop:
        with contextlib.suppress(Stopped):
            kill(INT)
        stop.hold()
        assert stop.received == [INT]


def test_other_errors_are_not_its_business() -> None:
    with pytest.raises(ValueError, match="mine"), StopSignals():
        raise ValueError("mine")


def test_afterwards_the_handlers_are_those_before() -> None:
    signal.signal(TERM, signal.SIG_DFL)
    signal.signal(INT, signal.default_int_handler)
    with StopSignals() as stop:
        stop.hold()
    assert signal.getsignal(TERM) is signal.SIG_DFL
    with pytest.raises(KeyboardInterrupt):
        kill(INT)


def test_when_the_process_ends_too_late_signals_mean_nothing() -> None:
    with StopSignals(ends_process=True) as stop:
        stop.hold()
    kill(TERM)
    kill(INT)
    assert stop.received == []


def test_ctrl_c_is_heard_where_the_parent_ignored_it_but_nohup_is_obeyed() -> None:
    signal.signal(INT, signal.SIG_IGN)
    signal.signal(HUP, signal.SIG_IGN)
    with StopSignals() as stop:
        stop.hold()
        kill(HUP)
        kill(INT)
    assert stop.received == [INT]


# -- in workers


@pytest.fixture
def worker(transactional_db: None, tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Run a worker to its end, with signals at moments of its life; return its exit code and what it printed."""

    def run(moments: dict[str, list[int]], *arguments: str, **settings: Any) -> tuple[int, str]:
        files = ["--pidfile", str(tmp_path / "pid"), "--healthcheck-file", str(tmp_path / "health")]
        settings = {"CELERY_IMPORTS": ["tests.worker.jobs"], "TOLD_TO_STOP": moments, **settings}
        command = [sys.executable, "-m", "django", "runworker", "-c", "1", "-l", "INFO", *files, *arguments]
        done = subprocess.run(command, env=environment(settings), cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert not list(tmp_path.iterdir())
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout + done.stderr

    return run


Run = Callable[..., "tuple[int, str]"]
sqlite_only = pytest.mark.skipif(connection.vendor != "sqlite", reason="the same on every database")


@sqlite_only
@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
@pytest.mark.parametrize("moment", ["celeryd_init", "worker_init"])
@pytest.mark.parametrize("signum", [TERM, INT])
def test_a_worker_that_starts_ends_at_once(worker: Run, pool: str, moment: str, signum: int) -> None:
    code, output = worker({moment: [signum]}, "-P", pool)
    assert code == 0
    assert "ready." not in output


@sqlite_only
@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_worker_does_not_forget_a_signal_that_a_receiver_swallowed(worker: Run, pool: str) -> None:
    code, output = worker({"worker_init": [INT]}, "-P", pool, SWALLOW=True)
    assert code == 0
    assert "Stopping (SIGINT)" in output


@sqlite_only
@pytest.mark.parametrize("pool", ["prefork", "solo"])
@pytest.mark.parametrize("moment", ["worker_shutdown", "exit"])
def test_a_second_signal_at_the_very_end_changes_nothing(worker: Run, pool: str, moment: str) -> None:
    code, output = worker({"worker_ready": [TERM], moment: [TERM, INT]}, "-P", pool)
    assert code == 0
    assert "stopped." in output


def test_a_terminal_that_closes_stops_the_worker_in_good_order(spawn_worker: Any) -> None:
    worker: WorkerProcess = spawn_worker("-c", "2", "-l", "INFO")
    os.killpg(worker.pid, HUP)
    assert worker.wait(20) == 0
    assert "Stopping (SIGHUP): no task runs" in worker.log
    assert "was killed" not in worker.log


@sqlite_only
@pytest.mark.parametrize("signum", [TERM, INT, HUP])
def test_a_worker_that_watches_for_changes_ends_with_its_child(spawn_worker: Any, signum: signal.Signals) -> None:
    worker: WorkerProcess = spawn_worker("-c", "1", "-l", "INFO", "--reload")
    children = worker.children()
    worker.send_signal(signum)
    assert worker.wait(20) == 0
    assert worker.log.count("Stopping") == 1
    wait_for(lambda: not any(child.is_running() for child in children), message="the end of all processes")


@sqlite_only
@pytest.mark.parametrize("signum", [TERM, INT])
def test_a_worker_that_watches_for_changes_ends_well_before_its_child_has_begun(
    transactional_db: None, tmp_path: Path, signum: signal.Signals
) -> None:
    """The child is killed by the signal then, which is no failure."""
    worker = WorkerProcess(("-c", "1", "-l", "INFO", "--reload"), tmp_path / "log", {})
    try:
        wait_for(worker.children, 20, "a child")
        worker.send_signal(signum)
        assert worker.wait(20) == 0
        assert "ready." not in worker.log
    finally:
        worker.finish()


@sqlite_only
@pytest.mark.parametrize("signum", [TERM, INT])
def test_while_django_is_loaded_a_signal_does_what_it_does_to_any_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signum: int
) -> None:
    (tmp_path / "slow_settings.py").write_text(f"import os\nos.kill(os.getpid(), {signum:d})\n")
    command = [sys.executable, "-m", "django", "runworker", "--settings", "slow_settings"]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    assert subprocess.run(command, env=variables, capture_output=True, timeout=60).returncode == -signum
