"""The cache backend: when the cache is away, when it refuses, and what others wrote under its keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import caches

from django_tasks.backends.cache import CacheBackend
from django_tasks.brokers.base import Settlement, Verb
from django_tasks.exceptions import EncodeError, OperationalError
from django_tasks.executor import Executor
from django_tasks.finish import finish
from django_tasks.outcome import TaskMeta
from django_tasks.states import STARTED, SUCCESS
from tests.backends.conftest import ACCEPT, LOCMEM, MEMCACHED
from tests.running import NODE, app_of_test, drain, reserve
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
    for value in ('{"status": "SUCCESS", "task_id": "id"}', {"status": "SUCCESS"}, None, 5):
        caches["default"].set("celery-task-meta-id", value)
        assert backend.get(["id"]) == {}
    caches["default"].set("celery-task-meta-id", {"status": "SUCCESS", "task_id": "id", "of_the_future": 1})
    assert backend.get(["id"])["id"].ready
    caches["default"].set("celery-task-meta-id", 5)
    meta = TaskMeta("id", SUCCESS)
    assert backend.store([meta])[0] is meta
    assert list(backend.get(["id"])) == ["id"]


@pytest.mark.parametrize("extended", [False, True])
def test_result_extended(settings: Any, extended: bool) -> None:
    """As in Celery, what was called and by whom it was run is kept only on request."""
    settings.CACHES = {"default": LOCMEM}
    with app_of_test(backend="django-cache://", result_extended=extended) as app:

        @app.task(name="add")
        def add(x: int, y: int) -> int:
            return x + y

        result = add.apply_async((1,), {"y": 2})
        drain(app)
        assert (result.get(), result.retries) == (3, 0)
        facts = (result.name, result.args, result.kwargs, result.queue, result.worker)
        assert facts == (("add", [1], {"y": 2}, "celery", NODE) if extended else ("", None, None, "", ""))


def test_a_redelivered_message_resumes_without_the_extended_facts(settings: Any) -> None:
    """The number of retries, which it needs for that, is always kept."""
    settings.CACHES = {"default": LOCMEM}
    with app_of_test(backend="django-cache://") as app:
        runs, followed = [], []

        @app.task(bind=True, name="again")
        def again(self: Any) -> str:
            runs.append(self.request.retries)
            if self.request.retries == 0:
                raise self.retry(countdown=0)
            return "done"

        @app.task(name="follow")
        def follow(value: str) -> None:
            followed.append(value)

        again.apply_async(link=follow.s())
        (first,) = reserve(app)
        finish(app, [Executor(app).run(first)])
        (second,) = reserve(app)
        app.backend.settle_winners([Executor(app).run(second)])  # and then the worker dies
        second.redelivered = second.message.redelivered = True
        app.broker.settle([Settlement(second, Verb.RETURN)])
        drain(app)
        assert (runs, followed) == ([0, 1], ["done"])
