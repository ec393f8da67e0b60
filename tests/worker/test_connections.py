"""Connections of real workers: after the fork, after a restart of the server, persistent and pooled ones."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import django
import pytest
from django.db import connection

from django_tasks.current import get_current_app
from tests.processes import WorkerProcess
from tests.testapp.tasks import slow
from tests.waiting import wait_for
from tests.worker import jobs

Spawn = Callable[..., WorkerProcess]

pytestmark = pytest.mark.skipif(connection.vendor == "sqlite", reason="there is no server")

#: Ways to set the database up that change how Django keeps connections.
PLAIN: dict[str, Any] = {}
SHORT = {"CONN_MAX_AGE": 0, "CONN_HEALTH_CHECKS": True}
LONG = {"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True}
POOL = {"OPTIONS": {"pool": True}}
WAYS = {"plain": PLAIN, "short": SHORT, "long": LONG, "pool": POOL}


def cases(pools: str, *ways: str) -> list[Any]:
    """Return each pool of the worker's with each way."""
    return [pytest.param(pool, WAYS[way], id=f"{pool}-{way}") for pool in pools.split() for way in ways]


@pytest.fixture
def spawn(spawn_worker: Spawn) -> Spawn:
    """Start a worker that knows our jobs and reaches the test database in some way."""

    def spawn(way: dict[str, Any], *arguments: str, **settings: Any) -> WorkerProcess:
        if "pool" in way.get("OPTIONS", ()):
            _require_pools()
        keys = ("ENGINE", "NAME", "HOST", "PORT", "USER", "PASSWORD")
        database = {**{key: connection.settings_dict[key] for key in keys}, **way}
        database["OPTIONS"] = {**connection.settings_dict["OPTIONS"], **way.get("OPTIONS", {})}
        settings = {"CELERY_IMPORTS": ["tests.worker.jobs"], "DATABASES": {"default": database}, **settings}
        return spawn_worker("-l", "INFO", *arguments, settings=settings)

    return spawn


def _require_pools() -> None:
    if connection.vendor != "postgresql" or django.VERSION < (5, 1):
        pytest.skip("Django has pools for PostgreSQL, since 5.1")
    if importlib.util.find_spec("psycopg_pool") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("psycopg_pool is not installed, and with CI=true nothing is skipped")
        pytest.skip("psycopg_pool is not installed here")


def backends() -> int:
    """Return how many connections the server has but for ours."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                           " AND pid <> pg_backend_pid()")  # fmt: skip
        else:
            cursor.execute("SELECT count(*) FROM information_schema.processlist WHERE db = DATABASE()"
                           " AND id <> CONNECTION_ID()")  # fmt: skip
        return int(cursor.fetchone()[0])


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_processes_share_no_connection_with_their_parent(spawn: Spawn, way: dict[str, Any]) -> None:
    """Nor do they change theirs from task to task, whatever Django does after web requests."""
    worker = spawn(way, "-c", "2", CARELESS_PROJECT=True)
    results = [jobs.own_connection.delay() for _ in range(12)]
    found = {tuple(result.get(timeout=20)) for result in results}
    assert len(found) == len({pid for pid, _ in found}) == len({backend for _, backend in found})
    assert "Threads run before the fork (careless)" in worker.log


@pytest.mark.parametrize("how", ["autocommit", "failed transaction", "closed"])
def test_a_task_that_spoils_its_connection_harms_nobody(spawn: Spawn, tmp_path: Path, how: str) -> None:
    spawn(PLAIN, "-c", "1")
    path = tmp_path / "runs"
    for number in (1, 2):
        assert jobs.break_connection.delay(str(path), how).get(timeout=20) == how
        assert len(jobs.read(path)) == number
        assert jobs.look_around.delay().get(timeout=20)[1:] == ["en-us", "UTC", False, 0]


@pytest.mark.parametrize(("pool", "way"), cases("prefork threads solo", "plain", "pool"))
def test_a_worker_takes_as_many_connections_as_the_docs_say(spawn: Spawn, way: dict[str, Any], pool: str) -> None:
    before = backends()
    spawn(way, "-P", pool, "-c", "6")
    results = [slow.delay(0.05) for _ in range(60)]
    assert [result.get(timeout=30) for result in results] == [0.05] * 60
    slots, minders = {"prefork": (6, 6), "threads": (6, 1), "solo": (1, 1)}[pool]
    assert slots <= backends() - before <= slots + 1 + minders


@pytest.mark.parametrize(
    ("pool", "way"), [*cases("prefork", *WAYS), *cases("threads", "plain", "pool"), *cases("solo", "plain")]
)
def test_the_database_is_restarted(
    private_database: Any, spawn: Spawn, tmp_path: Path, way: dict[str, Any], pool: str
) -> None:
    """The worker goes on by itself, and what ran in the meantime is stored when the server is back."""
    path = tmp_path / "runs"
    worker = spawn(way, "-P", pool, "-c", "2")
    running, before = jobs.hold.delay(str(path)), [slow.delay(0.01) for _ in range(30)]
    wait_for(lambda: jobs.read(path), 20, lambda: f"the task to begin:\n{worker.log}")
    private_database.stop()
    Path(f"{path}.go").touch()
    wait_for(lambda: len(jobs.read(path)) == 2, message="the task to end without a database")
    worker.wait_for_log("cannot be reached")
    private_database.start()
    connection.close()
    assert running.get(timeout=30) is False
    assert [result.get(timeout=30) for result in before] == [0.01] * 30
    assert jobs.own_connection.delay().get(timeout=30)
    assert len(jobs.read(path)) == 2
    wait_for(lambda: not get_current_app().broker.sizes(), 20, lambda: f"{get_current_app().broker.sizes()}")
