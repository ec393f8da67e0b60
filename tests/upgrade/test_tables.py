"""Tables that are not migrated yet: whoever meets them says so, and what to do."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, transaction

from django_tasks import App, AsyncResult
from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.message import Message
from django_tasks.models import QueuedMessage
from django_tasks.outbox import Outbox
from django_tasks.worker.relay import Relay
from django_tasks.worker.run import check_stores
from tests.processes import ROOT, WorkerProcess, environment
from tests.running import app_of_test, drain
from tests.testapp.tasks import add
from tests.upgrade.tables import OF_WORKERS, wider_tables, without_column
from tests.waiting import wait_for

REMEDY = "are missing or old in database 'default': run `python manage.py migrate`. ("


@pytest.mark.parametrize("table", OF_WORKERS)
def test_a_worker_looks_at_every_column_before_it_starts(database_app: App, table: str) -> None:
    for column in (field.column for field in OF_WORKERS[table]._meta.fields):
        check_stores(database_app)
        with without_column(table, column), pytest.raises(ImproperlyConfigured) as caught:
            check_stores(database_app)
        assert REMEDY in str(caught.value)
        assert column in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_worker_does_not_start(database_app: App) -> None:
    with without_column("django_tasks_result", "retries"):
        done = subprocess.run([sys.executable, "-m", "django", "runworker", "-c", "1"], env=environment({}), cwd=ROOT,
                              capture_output=True, text=True, timeout=60)  # fmt: skip
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert REMEDY in line


@pytest.mark.parametrize("block", [False, True])
def test_a_call(database_app: App, block: bool) -> None:
    def call() -> Any:
        if not block:
            return add.delay(1, 2)
        with transaction.atomic():
            return add.delay(1, 2)

    with without_column("django_tasks_message", "cause"), pytest.raises(ImproperlyConfigured) as caught:
        call()
    assert REMEDY in str(caught.value)
    assert QueuedMessage.objects.count() == 0
    result = call()
    drain(database_app)
    assert result.get(timeout=0) == 3


def test_a_result(database_app: App) -> None:
    result = add.delay(1, 2)
    with without_column("django_tasks_result", "meta"), pytest.raises(ImproperlyConfigured) as caught:
        assert result.state
    assert REMEDY in str(caught.value)
    drain(database_app)
    assert result.get(timeout=0) == 3


def test_an_outbox(transactional_db: None, caplog: pytest.LogCaptureFixture) -> None:
    """What it holds is published when the migration has been run; nobody has to restart the worker for that."""
    with app_of_test(backend="django-db://", task_outbox=True) as app:
        relay = Relay(app)
        with transaction.atomic():
            Outbox("default").write([Message(add.name, "id", (1, 2))], app.broker.now() - 60, None)
        for _ in range(2):
            with without_column("django_tasks_message", "status"):
                relay.publish()
        (line,) = [record.getMessage() for record in caplog.records]
        assert line.startswith("The outbox cannot be read: ")
        assert REMEDY in line
        relay.publish()
        drain(app)
        assert AsyncResult("id").get(timeout=0) == 3


def test_tables_change_under_a_worker(database_app: App, spawn_worker: Callable[..., WorkerProcess]) -> None:
    """Migrations run while it works, forth and back."""
    worker = spawn_worker("-c", "2", "-l", "INFO")
    results = [add.delay(-1, 1)]
    done = threading.Event()
    sender = threading.Thread(target=lambda: send_until(done, results))
    sender.start()
    try:
        for _ in range(3):
            with wider_tables():
                wait_for_more(results)
            wait_for_more(results)
    finally:
        done.set()
        sender.join()
    assert [result.get(timeout=20) for result in results] == list(range(len(results)))
    assert "ERROR" not in worker.log


def send_until(done: threading.Event, results: list[Any]) -> None:
    try:
        while not done.is_set():
            results.append(add.delay(len(results) - 1, 1))
    finally:
        connection.close()


def wait_for_more(results: list[Any]) -> None:
    """Wait until one has come back that was sent after this moment."""
    number = len(results)
    wait_for(lambda: len(results) > number)
    assert results[number].get(timeout=20) == number
