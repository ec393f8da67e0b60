"""The cache backend: when the cache is away, when it refuses, and what others wrote under its keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import caches

from django_tasks.backends.cache import CacheBackend
from django_tasks.exceptions import EncodeError, OperationalError
from django_tasks.outcome import TaskMeta
from django_tasks.states import STARTED, SUCCESS
from tests.backends.conftest import ACCEPT, LOCMEM, MEMCACHED
from tests.servers import Memcached, require
from tests.waiting import wait_for


@pytest.fixture
def server(settings: Any) -> Iterator[Memcached]:
    """A memcached that the test may kill."""
    require("memcached")
    with Memcached() as server:
        settings.CACHES = {"default": LOCMEM, "private": MEMCACHED | {"LOCATION": f"127.0.0.1:{server.port}"}}
        yield server


@pytest.fixture
def backend(server: Memcached) -> CacheBackend:
    return CacheBackend("django-cache://private", accept=ACCEPT)


def test_a_result_that_is_too_large_is_no_outage(backend: CacheBackend) -> None:
    """To try again would not help: the worker is told to store the error instead."""
    large = TaskMeta("large", SUCCESS, backend.encode("x" * 2_000_000, SUCCESS), name="app.task")
    with pytest.raises(EncodeError, match=r"does not take the results of app\.task\[large\].*memcached: 1 MB"):
        backend.store([large])
    backend.store([TaskMeta("small", SUCCESS)])
    assert list(backend.get(["large", "small"])) == ["small"]


def test_an_outage(backend: CacheBackend, server: Memcached) -> None:
    meta = TaskMeta("id", SUCCESS)
    backend.store([TaskMeta("before", SUCCESS)])
    server.kill()
    for _ in range(5):  # clients stop asking after some errors, and say so in another way
        with pytest.raises(OperationalError, match="Cache 'private': "):
            backend.store([meta])
    server.start()

    def works() -> bool:
        try:
            return backend.store([meta])[0].ready
        except OperationalError:
            return False

    wait_for(works, timeout=20)
    assert list(backend.get(["id"])) == ["id"]


def test_results_expire_by_themselves(settings: Any) -> None:
    settings.CACHES = {"default": LOCMEM}
    backend = CacheBackend("django-cache://", accept=ACCEPT, expires=0.05)
    backend.store([TaskMeta("ended", SUCCESS), TaskMeta("started", STARTED)])
    wait_for(lambda: not backend.get(["ended"]))
    assert list(backend.get(["started"])) == ["started"]


def test_what_others_wrote_under_our_keys(settings: Any) -> None:
    settings.CACHES = {"default": LOCMEM}
    backend = CacheBackend("django-cache://", accept=ACCEPT)
    caches["default"].set("celery-task-meta-id", '{"status": "SUCCESS", "task_id": "id"}')
    assert backend.get(["id"]) == {}
    meta = TaskMeta("id", SUCCESS)
    assert backend.store([meta])[0] is meta
    assert list(backend.get(["id"])) == ["id"]
