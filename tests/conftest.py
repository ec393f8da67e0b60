"""Fixtures of the test suite, and the database server it runs on (see databases.py and servers.py)."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings

from django_tasks import App
from tests import databases
from tests.processes import WorkerProcess
from tests.running import app_of_test
from tests.servers import SERVERS, Memcached, Redis, RedisCluster, Valkey, require

# What these test touches the project's database not at all, has one of its own, or uses it only to tell processes what
# to do.
ONCE = (
    "tests/backends/test_celery.py",
    "tests/beat/test_entry.py",
    "tests/beat/test_policies.py",
    "tests/beat/test_scheduler.py",
    "tests/beat/test_settings.py",
    "tests/brokers/test_redis.py",
    "tests/brokers/test_redis_moves.py",
    "tests/brokers/test_redis_finish.py",
    "tests/interop/",
    "tests/schedules/",
    "tests/periodic/test_celery_beat.py",
    "tests/periodic/test_texts.py",
    "tests/test_app.py",
    "tests/test_benchmarks.py",
    "tests/test_chaos_audits.py",
    "tests/test_chaos.py::test_delayed_tasks_outlive_restarts_of_their_worker",
    "tests/test_compression.py",
    "tests/test_docs.py",
    "tests/test_message.py",
    "tests/test_redis_cluster.py",
    "tests/test_redis_cluster_outages.py",
    "tests/test_redis_connections.py",
    "tests/test_serialization.py",
    "tests/test_testing.py",
    "tests/test_testing_plugin.py",
    "tests/typing/",
    "tests/worker/test_autoscale.py",
    *(
        f"tests/worker/test_processes.py::test_{name}"
        for name in (
            *("queues", "resize", "pause_resume_and_shutdown", "a_worker_without_rate_limits"),
            *("soft_limits", "the_limit_of_the_worker", "a_hard_limit_holds_", "max_tasks_per_child"),
            *("max_memory_per_child", "one_signal_that_comes_twice", "shutdown_timeout"),
            *("a_signal_to_all_processes", "a_janitor_that_hangs", "a_process_that_is_stopped"),
        )
    ),
    "tests/worker/test_redis.py",
    "tests/worker/test_sentinels.py",
    "tests/worker/test_worker_signals.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave to the run on SQLite what is the same on every database."""
    name = databases.name_from_environment()
    if name == "sqlite":
        return
    for item in items:
        elsewhere = any(kind in item.nodeid for kind in ("[cluster", "[valkey"))
        # Beats in an invented time have one world for each kind of broker.
        elsewhere |= item.nodeid.startswith("tests/beat/") and any(k in item.nodeid for k in ("[memory", "[redis"))
        if item.nodeid.startswith(ONCE) or elsewhere:
            item.add_marker(pytest.mark.skip(reason=f"the same on {name} as on SQLite, where it is run"))


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Start the database server, unless one is given or, under pytest-xdist, the main process has started it."""
    if "TEST_DATABASE_URL" in os.environ:
        return
    os.environ["TEST_DATABASE_URL"] = url = start_database(config, databases.name_from_environment())
    # Django is set up by now but has not connected; its connections read these same dictionaries.
    address = databases.settings_of(url)
    django_settings.DATABASES["default"]["TEST"].update(address.pop("TEST"))
    django_settings.DATABASES["default"].update(address)


def start_database(config: pytest.Config, name: str) -> str:
    """Return the URL of a new database that lives as long as this run."""
    if name == "sqlite":
        directory = tempfile.mkdtemp(prefix="celeriac-sqlite-")
        config.add_cleanup(lambda: shutil.rmtree(directory))
        return f"sqlite:///{directory}/main.sqlite3"
    reason = SERVERS[name].missing()
    if reason:
        pytest.exit(reason, returncode=pytest.ExitCode.USAGE_ERROR)
    server = SERVERS[name]()
    config.add_cleanup(server.close)
    server.start()
    return server.url("main")


@pytest.fixture
def spawn_worker(transactional_db: None, tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    """Start ``runworker`` on the test database: ``spawn_worker("-c", "2", settings={"TASK_MAX_DELIVERIES": 1})``.

    It returns when the worker says that it is ready. After the test the worker is asked to stop, and must end with 0.
    """
    with contextlib.ExitStack() as stack:

        def spawn(
            *arguments: str,
            settings: Mapping[str, Any] | None = None,
            wrapper: Sequence[str] = (),
            command: str = "runworker",
        ) -> WorkerProcess:
            number = len(list(tmp_path.glob("worker-*.log"))) + 1
            worker = WorkerProcess(arguments, tmp_path / f"worker-{number}.log", settings or {}, wrapper, command)
            stack.callback(worker.finish)
            worker.wait_for_log("ready")
            return worker

        yield spawn


@pytest.fixture
def memory_app() -> Iterator[App]:
    """Make an app in memory the current one; tasks that the test makes are forgotten after it."""
    with app_of_test() as app:
        yield app


@pytest.fixture
def database_app(transactional_db: None) -> Iterator[App]:
    """As ``memory_app``, on the test database."""
    with app_of_test("django-db://") as app:
        yield app


@pytest.fixture(scope="session")
def memcached() -> Iterator[Memcached]:
    """A memcached of our own, shared by all tests."""
    require("memcached")
    with Memcached() as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    """A Redis of our own, shared by the tests that leave it as it is but for its data."""
    require("redis")
    with Redis() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: Redis) -> str:
    """An empty database of it."""
    redis_server.connect().flushall()
    return redis_server.url()


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Valkey]:
    """As ``redis_server``, a Valkey."""
    if sys.version_info < (3, 11):
        pytest.skip("the package that Valkey comes in is for Python 3.11 and newer")
    require("valkey")
    with Valkey() as server:
        yield server


@pytest.fixture
def valkey_url(valkey_server: Valkey) -> str:
    """An empty database of it."""
    valkey_server.connect().flushall()
    return valkey_server.url()


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[RedisCluster]:
    """A cluster of our own, shared by the tests that leave it as it is but for its data."""
    require("redis")
    with RedisCluster() as cluster:
        yield cluster


@pytest.fixture
def cluster_url(redis_cluster: RedisCluster) -> str:
    """The cluster, empty."""
    redis_cluster.flush()
    return redis_cluster.url()
