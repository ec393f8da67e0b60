"""Real workers on a Redis of their own, which is killed, frozen and restarted; results are in the test database."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from django_tasks import App
from django_tasks.brokers.base import Size
from tests.processes import WorkerProcess
from tests.running import app_of_test
from tests.servers import Redis, require
from tests.testapp.tasks import add, echo, slow
from tests.waiting import wait_for
from tests.worker import jobs

Spawn = Callable[..., WorkerProcess]
LEASE = 3.0


@pytest.fixture
def server() -> Iterator[Redis]:
    require("redis")
    with Redis() as server:
        yield server


@pytest.fixture
def app(transactional_db: None, server: Redis) -> Iterator[App]:
    with app_of_test(backend="django-db://", broker=server.url(), worker_lease=LEASE) as app:
        yield app


@pytest.fixture
def spawn(app: App, server: Redis, spawn_worker: Spawn) -> Spawn:
    """Start a worker on this Redis."""

    def spawn(*arguments: str, **settings: Any) -> WorkerProcess:
        fixed = {"CELERY_IMPORTS": ["tests.worker.jobs"], "BROKER_URL": server.url(), "WORKER_LEASE": LEASE}
        return spawn_worker("-l", "INFO", *arguments, settings={**fixed, **settings})

    return spawn


def is_empty(app: App) -> bool:
    return app.broker.sizes(["celery"])["celery"] == Size()


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_tasks_run_and_the_idle_worker_waits(app: App, spawn: Spawn, server: Redis, pool: str) -> None:
    worker = spawn("-P", pool, "-c", "2")
    wait_for(lambda: server.connect().info("clients")["blocked_clients"] >= 4)
    assert add.delay(1, 2).get(timeout=20) == 3
    results = echo.delay_many([(number,) for number in range(300)])
    assert [result.get(timeout=20)[0][0] for result in results] == list(range(300))
    delayed = add.apply_async((3, 4), countdown=3)
    assert app.broker.sizes(["celery"])["celery"].delayed == 1
    assert delayed.get(timeout=20) == 7
    worker.send_signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert is_empty(app)
    assert app.broker.browser.workers() == []


def test_a_killed_worker_loses_nothing(app: App, spawn: Spawn, tmp_path: Path) -> None:
    path = tmp_path / "runs"
    first = spawn("-c", "2")
    held = [jobs.hold.delay(str(path)) for _ in range(2)]
    waiting = add.delay(1, 1)
    wait_for(lambda: len(jobs.read(path)) == 2)
    first.kill()
    Path(f"{path}.go").touch()
    spawn("-c", "2")
    for result in (*held, waiting):
        result.get(timeout=30)
    wait_for(lambda: is_empty(app))


def test_workers_go_on_after_their_server_was_killed(app: App, spawn: Spawn, server: Redis) -> None:
    worker = spawn("-c", "2")
    assert add.delay(1, 2).get(timeout=20) == 3
    for _ in range(2):
        server.kill()
        worker.wait_for_log("cannot be reached")
        server.start()
        results = [add.delay(number, 1) for number in range(20)]
        assert [result.get(timeout=20) for result in results] == list(range(1, 21))
    wait_for(lambda: is_empty(app))


def test_workers_go_on_after_their_server_was_frozen(app: App, spawn: Spawn, server: Redis) -> None:
    worker = spawn("-c", "2")
    results = [slow.delay(0.05) for _ in range(20)]
    server.freeze()
    worker.wait_for_log("does not answer")
    server.thaw()
    for result in results:
        result.get(timeout=30)
    assert add.delay(1, 2).get(timeout=20) == 3
    wait_for(lambda: is_empty(app))
