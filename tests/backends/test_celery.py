"""Results on Redis that Celery reads, and that Celery has written: with Celery itself."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from django_tasks.backends.redis import RedisBackend
from django_tasks.exceptions import TaskRevokedError
from django_tasks.outcome import TaskMeta
from django_tasks.states import FAILURE, RETRY, REVOKED, SUCCESS
from tests.backends.conftest import ACCEPT
from tests.celery_environment import VERSIONS, celery_side
from tests.servers import Redis
from tests.waiting import wait_for

# The first of them makes the environments, which takes a minute or two.
pytestmark = [pytest.mark.timeout(900), pytest.mark.parametrize("version", VERSIONS)]
NOW = datetime(2026, 11, 21, 1, 30, 10, 642185, tzinfo=timezone.utc)


class Custom(Exception):
    """An error that Celery's side does not have."""


@pytest.fixture
def backend(redis_url: str) -> Iterator[RedisBackend]:
    backend = RedisBackend(redis_url, accept=ACCEPT, extended=True)
    yield backend
    backend.close()


def done(backend: RedisBackend, task_id: str, value: Any, state: str, **fields: Any) -> TaskMeta:
    return TaskMeta(task_id, state, backend.encode(value, state), date_done=NOW, **fields)


def lines(process: subprocess.Popen[str], number: int) -> list[Any]:
    assert process.stdout is not None
    return [json.loads(process.stdout.readline()) for _ in range(number)]


def test_celery_reads_ours(version: str, backend: RedisBackend, tmp_path: Path) -> None:
    extra = {"name": "app.task", "args": [1], "kwargs": {}, "worker": "w@host", "retries": 2, "queue": "q"}
    failed = done(backend, "failed", ValueError("bad", 42), FAILURE, traceback="Traceback ...\nValueError")
    backend.store(
        [
            done(backend, "good", {"a": [1, "zwölf"]}, SUCCESS, children=[[["child", None], None]], **extra),
            failed,
            done(backend, "own", Custom("own"), FAILURE),
            done(backend, "revoked", TaskRevokedError("expired"), REVOKED),
            TaskMeta("again", RETRY, backend.encode(KeyError("k"), RETRY)),
            TaskMeta("progress", "PROGRESS", backend.encode({"done": 1}, "PROGRESS")),
            done(backend, "typed", [Decimal("1.50"), NOW], SUCCESS),
        ]
    )
    ids = ["good", "failed", "own", "revoked", "again", "progress", "typed", "unknown"]
    with celery_side(version, backend.url, "read", *ids, log=tmp_path / "celery.log") as side:
        good, failed, own, revoked, again, progress, typed, unknown = lines(side, len(ids))
    assert (good["state"], good["value"], good["children"]) == (SUCCESS, {"a": [1, "zwölf"]}, ["child"])
    assert (good["name"], good["args"], good["worker"], good["retries"]) == ("app.task", [1], "w@host", 2)
    assert good["done"].startswith("2026-11-21 01:30:10.642185")
    assert (failed["state"], failed["value"]) == (FAILURE, ["builtins", "ValueError", ["bad", "42"]])
    assert failed["traceback"] == "Traceback ...\nValueError"
    assert (own["value"][1], own["value"][2]) == ("Custom", ["own"])
    assert (revoked["state"], revoked["value"]) == (REVOKED, ["celery.exceptions", "TaskRevokedError", ["expired"]])
    assert (again["state"], again["ready"], again["value"][1]) == (RETRY, False, "KeyError")
    assert (progress["state"], progress["ready"], progress["value"]) == ("PROGRESS", False, {"done": 1})
    assert typed["value"] == ["1.50", str(NOW)]
    assert (unknown["state"], unknown["value"]) == ("PENDING", None)


def test_celery_waits_for_ours(version: str, backend: RedisBackend, redis_server: Redis, tmp_path: Path) -> None:
    """It listens, and does not ask again: what is stored has to be published."""
    with celery_side(version, backend.url, "wait", "good", "bad", log=tmp_path / "celery.log") as side:
        assert lines(side, 1) == ["listening"]
        channel = "celery-task-meta-bad"
        wait_for(lambda: channel in redis_server.connect().pubsub_channels())
        backend.store([TaskMeta("good", "STARTED")])
        backend.store([done(backend, "good", 5, SUCCESS), done(backend, "bad", KeyError("k"), FAILURE)])
        assert lines(side, 2) == [5, ["builtins", "KeyError", ["k"]]]
