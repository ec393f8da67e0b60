"""What tasks print, in the log of a real worker (``WORKER_REDIRECT_STDOUTS``)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from tests.processes import WorkerProcess
from tests.worker import jobs

Spawn = Callable[..., WorkerProcess]

pytestmark = pytest.mark.skipif(connection.vendor != "sqlite", reason="the same on every database")


@pytest.fixture
def run(spawn_worker: Spawn) -> Callable[..., tuple[WorkerProcess, list[dict[str, Any]]]]:
    """Run a worker until all is done; return it and the lines that were printed in it."""

    def run(*arguments: str, **settings: Any) -> tuple[WorkerProcess, list[dict[str, Any]]]:
        settings = {"CELERY_IMPORTS": ["tests.worker.jobs"], **settings}
        worker = spawn_worker("-c", "1", "-l", "INFO", "--json", "--burst", *arguments, settings=settings)
        assert worker.wait() == 0
        records = [json.loads(line) for line in worker.log.splitlines() if line.startswith("{")]
        return worker, [record for record in records if record["logger"] == "celery.redirected"]

    return run


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_what_tasks_print_is_logged_line_by_line_with_the_task(run: Any, pool: str) -> None:
    first, second = jobs.chat.delay("one"), jobs.chat.delay("two")
    _, records = run("-P", pool, WORKER_REDIRECT_STDOUTS=True)
    assert [(record["task_id"], record["level"], record["message"]) for record in records] == [
        (result.id, "WARNING", text)
        for result, word in ((first, "one"), (second, "two"))
        for text in (f"{word} to stdout", f"{word} to stderr", f"{word} without an end")
    ]


def test_the_banner_is_no_line_of_the_log(spawn_worker: Spawn) -> None:
    worker = spawn_worker("-c", "1", "-l", "INFO", "--burst", settings={"WORKER_REDIRECT_STDOUTS": True})
    assert worker.wait() == 0
    assert "\n[tasks]\n" in worker.log
    assert "WARNING" not in worker.log


def test_the_level(run: Any) -> None:
    jobs.chat.delay("one")
    _, records = run(WORKER_REDIRECT_STDOUTS=True, WORKER_REDIRECT_STDOUTS_LEVEL="info")
    assert [record["level"] for record in records] == ["INFO"] * 3


def test_by_default_it_goes_where_it_goes(run: Any) -> None:
    jobs.chat.delay("one")
    worker, records = run()
    assert records == []
    assert "one to stdout\n" in worker.log


def test_a_project_with_logging_of_its_own_is_left_alone(run: Any) -> None:
    jobs.chat.delay("one")
    worker, records = run(WORKER_REDIRECT_STDOUTS=True, OWN_LOGGING=True)
    assert records == []
    assert "one to stdout\n" in worker.log
