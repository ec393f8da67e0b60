"""The signals that a worker sends about itself: each, in order, and in the process that it is about."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from django_tasks.models import QueuedMessage
from tests.processes import WorkerProcess
from tests.waiting import wait_for
from tests.worker import jobs, moments

Spawn = Callable[..., WorkerProcess]


@pytest.fixture
def spawn(spawn_worker: Spawn, tmp_path: Path) -> Spawn:
    """Start a worker whose receivers write what they hear to ``tmp_path / "moments"``."""

    def spawn(*arguments: str, **settings: Any) -> WorkerProcess:
        ours = {"CELERY_IMPORTS": ["tests.worker.moments"], "MOMENTS": str(tmp_path / "moments")}
        return spawn_worker("-l", "INFO", *arguments, settings={**ours, **settings})

    return spawn


def heard(tmp_path: Path) -> list[tuple[str, int]]:
    return jobs.read(tmp_path / "moments")


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_the_life_of_a_worker(spawn: Spawn, tmp_path: Path, pool: str) -> None:
    worker = spawn("-c", "1", "-P", pool)
    wait_for(lambda: {"worker_process_init", "worker_ready"} <= dict(heard(tmp_path)).keys())
    worker.process.terminate()
    assert worker.wait() == 0
    child = dict(heard(tmp_path))["worker_process_init"]
    assert (child == worker.pid) == (pool == "solo")
    assert heard(tmp_path) == [
        ("celeryd_init", worker.pid),
        ("worker_init", worker.pid),
        ("worker_process_init", child),
        ("worker_ready", worker.pid),
        ("worker_shutting_down", worker.pid),
        ("worker_process_shutdown", child),
        ("worker_shutdown", worker.pid),
    ]


def test_a_receiver_configures_one_worker(spawn: Spawn, tmp_path: Path) -> None:
    """``celeryd_init`` comes before anything is read from the settings."""
    path = tmp_path / "runs"
    for _ in range(2):
        moments.limited.delay(str(path))
    worker = spawn("-n", "special@host")
    assert "concurrency:  3" in worker.log
    wait_for(lambda: len(jobs.read(path)) == 1, message="the first run")
    wait_for(lambda: QueuedMessage.objects.filter(status=QueuedMessage.DELAYED).exists(), message="the second, parked")
    wait_for(lambda: len(heard(tmp_path)) > 3 + 3, message="the process after the one that ran a task")
    assert len(jobs.read(path)) == 1


def test_the_command_line_stands_above_receivers(spawn: Spawn) -> None:
    worker = spawn("-n", "special@host", "-c", "1")
    assert "concurrency:  1" in worker.log
    assert len(worker.children()) == 2  # and a janitor
