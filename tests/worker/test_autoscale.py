"""Workers that have as many processes as there is work for."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from django_tasks import App
from django_tasks.current import get_current_app
from django_tasks.operations import act
from django_tasks.operations.look import OperationFailed
from django_tasks.worker import shared
from django_tasks.worker.autoscale import KEEPALIVE, Autoscaler, Load
from django_tasks.worker.options import WorkerOptions
from django_tasks.worker.process import take_seat
from django_tasks.worker.shared import Page
from tests.processes import WorkerProcess
from tests.testapp.tasks import add
from tests.waiting import wait_for
from tests.worker import jobs

OPTIONS = WorkerOptions("scaled@test", ("celery",), concurrency=5, least=2)


@pytest.fixture
def page() -> Page:
    page = Page(18)
    page.wanted = OPTIONS.processes
    return page


# -- what the janitor tells


def take(page: Page, *states: int) -> None:
    """Let these be the states of the worker's processes."""
    for seat, state in zip(page.seats, states, strict=False):
        if not seat.identity:
            take_seat(seat, "scaled@test", os.getpid())
        seat.state = state


def test_what_waits_counts_when_no_process_rests(memory_app: App, page: Page) -> None:
    add.delay_many([(1, 1)] * 7)
    load = Load(memory_app, OPTIONS, page)
    take(page, shared.BUSY, shared.IDLE)
    load.report()
    assert (page.demand, page.reports) == (1, 1)  # the other one will take them
    take(page, shared.BUSY, shared.BUSY)
    load.report()
    assert (page.demand, page.reports) == (9, 2)


def test_between_two_short_tasks_a_process_does_not_rest(memory_app: App, page: Page) -> None:
    load = Load(memory_app, OPTIONS, page)
    take(page, shared.IDLE, shared.IDLE)
    page.seats[0].processed = 3
    load.report()
    assert page.demand == 1
    load.report()
    assert page.demand == 0


def test_nothing_is_counted_for_a_worker_that_could_not_grow(memory_app: App, page: Page) -> None:
    add.delay(1, 1)
    load = Load(memory_app, OPTIONS, page)
    take(page, *[shared.BUSY] * 5)
    page.wanted = 5
    load.report()
    assert page.demand == 5
    page.wanted, page.paused = 2, 1
    take(page, shared.BUSY, shared.BUSY, shared.FREE, shared.FREE, shared.FREE)
    load.report()
    assert page.demand == 2


# -- what the supervisor decides


def tell(page: Page, demand: int) -> None:
    page.demand = demand
    page.reports += 1


def test_it_grows_at_once_as_far_as_it_may(page: Page) -> None:
    scaler = Autoscaler(OPTIONS, page)
    wanted = []
    for demand in (1, 3, 100):
        tell(page, demand)
        scaler.scale(1000.0)
        wanted.append(page.wanted)
    assert wanted == [2, 3, 5]


def test_it_shrinks_after_a_while_to_what_was_needed_meanwhile(page: Page) -> None:
    scaler = Autoscaler(OPTIONS, page)
    tell(page, 5)
    scaler.scale(1000.0)
    for demand, seconds, wanted in [(0, 1.0, 5), (3, KEEPALIVE / 2, 5), (0, KEEPALIVE - 1, 5), (0, KEEPALIVE, 3),
                                    (0, KEEPALIVE + 1, 3), (0, 2 * KEEPALIVE, 2), (0, 9 * KEEPALIVE, 2)]:  # fmt: skip
        tell(page, demand)
        scaler.scale(1000.0 + seconds)
        assert page.wanted == wanted


def test_what_is_needed_again_starts_the_while_anew(page: Page) -> None:
    scaler = Autoscaler(OPTIONS, page)
    for demand, seconds in [(5, 0.0), (0, KEEPALIVE - 1), (5, KEEPALIVE - 0.5), (0, KEEPALIVE + 1)]:
        tell(page, demand)
        scaler.scale(1000.0 + seconds)
    assert page.wanted == 5


def test_without_news_nothing_changes(page: Page) -> None:
    """A janitor that cannot reach the broker has none."""
    scaler = Autoscaler(OPTIONS, page)
    tell(page, 4)
    scaler.scale(1000.0)
    scaler.scale(1000.0 + 2 * KEEPALIVE)
    assert page.wanted == 4


# -- with real processes

Spawn = Callable[..., WorkerProcess]


@pytest.fixture
def spawn(spawn_worker: Spawn, monkeypatch: pytest.MonkeyPatch) -> Spawn:
    """Start a worker that knows our jobs and does not keep what is too many for long."""
    monkeypatch.setenv("AUTOSCALE_KEEPALIVE", "2")

    def spawn(*arguments: str, **settings: Any) -> WorkerProcess:
        return spawn_worker("-l", "INFO", *arguments, settings={"CELERY_IMPORTS": ["tests.worker.jobs"], **settings})

    return spawn


def processes(worker: WorkerProcess) -> list[int]:
    """Return the worker's processes, without its janitor."""
    living = [child for child in worker.children() if child.status() != psutil.STATUS_ZOMBIE]
    return [child.pid for child in living][1:]


def wait_for_processes(worker: WorkerProcess, number: int) -> None:
    wait_for(lambda: len(processes(worker)) == number, 30, lambda: f"{number} processes; its log:\n{worker.log}")


def test_a_worker_grows_under_load_and_shrinks_without_killing_what_runs(spawn: Spawn, tmp_path: Path) -> None:
    worker = spawn("--autoscale", "3,1")
    assert "concurrency:  {min=1, max=3} (prefork)" in worker.log
    assert len(processes(worker)) == 1
    paths = [tmp_path / f"runs-{number}" for number in range(3)]
    results = [jobs.hold.delay(str(path)) for path in paths]
    wait_for_processes(worker, 3)
    wait_for(lambda: all(jobs.read(path) for path in paths), 20, "three tasks at once")
    # The youngest process is the one that is still busy when there are too many.
    last = max(range(3), key=lambda number: processes(worker).index(jobs.read(paths[number])[0][1]))
    for number, path in enumerate(paths):
        if number != last:
            Path(f"{path}.go").touch()
    wait_for_processes(worker, 1)
    assert processes(worker) == [jobs.read(paths[last])[0][1]]
    Path(f"{paths[last]}.go").touch()
    assert [result.get(timeout=20) for result in results] == [False] * 3
    assert add.delay(1, 1).get(timeout=20) == 2
    assert "killed" not in worker.log


def test_a_process_that_is_killed_is_replaced(spawn: Spawn, tmp_path: Path) -> None:
    worker = spawn("--autoscale", "2,1")
    path = tmp_path / "runs"
    result = jobs.hold.delay(str(path))
    wait_for(lambda: jobs.read(path), 20, "the task to begin")
    (pid,) = processes(worker)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: len(jobs.read(path)) == 2, 20, lambda: f"another run; its log:\n{worker.log}")
    assert pid not in processes(worker)
    assert len(processes(worker)) <= 2
    Path(f"{path}.go").touch()
    assert result.get(timeout=20) is True


def test_orders_to_resize_are_not_for_a_worker_that_scales_itself(spawn: Spawn) -> None:
    worker = spawn("--autoscale", "3,1", "-n", "scaled@test")
    with pytest.raises(OperationFailed, match=r"^scaled@test would not obey"):
        act.tell(get_current_app(), act.GROW, ["scaled@test"])
    get_current_app().control.pool_grow(1, ["scaled@test"])
    worker.wait_for_log("Order 'resize' cannot be carried out by this worker: it scales itself (--autoscale)")
    assert len(processes(worker)) == 1
