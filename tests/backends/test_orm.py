"""The ORM backend: its rows, what its columns cannot hold, time zones, the caller's transaction."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import override_settings
from django.utils import timezone as django_timezone

from django_tasks.backends.base import UNFINISHED_AGE
from django_tasks.backends.orm import ORMBackend
from django_tasks.exceptions import EncodeError, MessageTooLarge
from django_tasks.models import TaskResult
from django_tasks.outcome import TaskMeta
from django_tasks.serialization import Encoded
from django_tasks.states import FAILURE, RETRY, STARTED, SUCCESS
from tests.backends.conftest import ACCEPT
from tests.tables import our_tables
from tests.threads import elsewhere, together

pytestmark = our_tables


@pytest.fixture
def backend() -> ORMBackend:
    return ORMBackend("django-db://", accept=ACCEPT)


def now() -> datetime:
    return datetime.now(timezone.utc)


def test_a_row_can_be_read_by_people(backend: ORMBackend) -> None:
    backend.store([
        TaskMeta("id", SUCCESS, backend.encode({"a": "ü"}, SUCCESS), name="app.task", args=[1, "zwölf"],
                 kwargs={"k": None}, queue="celery", worker="celery@host", retries=2, children=[["c", None], None]),
    ])  # fmt: skip
    row = TaskResult.objects.get()
    assert (row.task_id, row.status, row.task_name, row.queue, row.worker, row.retries) == (
        "id", SUCCESS, "app.task", "celery", "celery@host", 2,
    )  # fmt: skip
    assert json.loads(row.result) == {"a": "ü"}
    assert json.loads(row.args) == [1, "zwölf"]
    assert json.loads(row.kwargs) == {"k": None}
    assert str(row) == "app.task[id] SUCCESS"


def test_bytes_are_kept_as_base64(backend: ORMBackend) -> None:
    backend.store([TaskMeta("id", SUCCESS, Encoded("application/x-python-serialize", "binary", b"\x80\x00\xff"))])
    assert TaskResult.objects.get().result == "gAD/"
    assert backend.get(["id"])["id"].result == ("application/x-python-serialize", "binary", b"\x80\x00\xff")


def test_a_row_of_nothing_but_an_id(backend: ORMBackend) -> None:
    """As somebody may make one by hand."""
    TaskResult.objects.create(task_id="id", status=SUCCESS, date_done=now(), meta="")
    meta = backend.get(["id"])["id"]
    assert (meta.children, meta.args, backend.decode(meta)) == ([], None, None)


# -- what the columns cannot hold


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"task_id": "i" * 256}, "The task id 'iii.*it may have at most 255 characters"),
        ({"task_id": "a\0b"}, "none of them NUL"),
        ({"status": "S" * 51}, "The state 'SSS.*of task 'app.task' cannot be stored: it may have at most 50"),
    ],
)
def test_what_cannot_be_stored_is_told_before(backend: ORMBackend, fields: dict[str, Any], says: str) -> None:
    with transaction.atomic():
        with pytest.raises(EncodeError, match=says):
            backend.store(
                [TaskMeta("good", SUCCESS), TaskMeta(**{"task_id": "id", "status": "", **fields}, name="app.task")]
            )
        TaskResult.objects.create(task_id="still usable", status=SUCCESS, date_done=now())
    assert list(TaskResult.objects.values_list("task_id", flat=True)) == ["still usable"]


def test_long_names_are_cut(backend: ORMBackend) -> None:
    meta = TaskMeta("id", SUCCESS, name="\U0001f40d" * 300, queue="q" * 300, worker="w\0" * 300, traceback="t" * 300)
    assert backend.store([meta])[0] is meta
    row = TaskResult.objects.get()
    assert row.task_name == "\U0001f40d" * 255
    assert len(row.queue) == 255
    assert row.traceback == "t" * 300


def test_what_postgresql_does_not_take_is_escaped(backend: ORMBackend) -> None:
    backend.store([TaskMeta("id", FAILURE, traceback="a\0b\ud800c", worker="w\0", name="n\0", args=("\0", b"\0"))])
    meta = backend.get(["id"])["id"]
    assert (meta.traceback, meta.worker, meta.name) == ("a\\x00b\\ud800c", "w\\x00", "n\\x00")
    assert list(meta.args) == ["\0", b"\0"]


def test_a_result_larger_than_mariadb_takes(backend: ORMBackend) -> None:
    """Its server closes the connection, which must not be taken for an outage that another try could mend."""
    metas = [TaskMeta(str(n), SUCCESS, backend.encode("x" * 6_000_000, SUCCESS)) for n in range(4)]
    assert backend.store(metas) == metas  # together they would be too large
    large = TaskMeta("large", SUCCESS, backend.encode("x" * 17_000_000, SUCCESS))
    if connection.vendor == "mysql":
        with pytest.raises(MessageTooLarge, match="max_allowed_packet"):
            backend.store([large])
    else:
        backend.store([large])
    assert len(backend.get(["0", "3"])) == 2


# -- time


@pytest.mark.parametrize("use_tz", [True, False])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu"])
def test_instants_whatever_the_settings_say(backend: ORMBackend, use_tz: bool, zone: str) -> None:
    instant = datetime(2026, 7, 1, 23, 30, 15, 250000, tzinfo=timezone(timedelta(hours=-3)))
    with override_settings(USE_TZ=use_tz, TIME_ZONE=zone), django_timezone.override("America/New_York"):
        backend.store([TaskMeta("id", SUCCESS, date_done=instant, date_started=instant - timedelta(minutes=1))])
        meta = backend.get(["id"])["id"]
        assert (meta.date_done, meta.date_started) == (instant, instant - timedelta(minutes=1))
        assert (TaskResult.objects.get().date_done.tzinfo is not None) == use_tz


@pytest.mark.parametrize("use_tz", [True, False])
@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_pruning_whatever_the_settings_say(use_tz: bool, zone: str) -> None:
    backend = ORMBackend("django-db://", accept=ACCEPT, expires=3600)
    with override_settings(USE_TZ=use_tz, TIME_ZONE=zone):
        for task_id, minutes in (("old", 61), ("young", 59)):
            backend.store([TaskMeta(task_id, SUCCESS, date_done=now() - timedelta(minutes=minutes))])
        assert backend.prune(10) == 1
        assert list(backend.get(["old", "young"])) == ["young"]


def test_what_lost_tasks_left_goes_in_the_end() -> None:
    backend = ORMBackend("django-db://", accept=ACCEPT, expires=60)
    long_ago = now() - timedelta(seconds=UNFINISHED_AGE)
    for task_id, state in (("started", STARTED), ("retry", RETRY), ("progress", "PROGRESS")):
        backend.store([TaskMeta(task_id, state, date_done=long_ago - timedelta(minutes=1))])
        backend.store([TaskMeta(f"{task_id} later", state, date_done=long_ago + timedelta(minutes=1))])
    assert [backend.prune(2) for _ in range(3)] == [2, 1, 0]
    assert sorted(TaskResult.objects.values_list("task_id", flat=True)) == [
        "progress later", "retry later", "started later",
    ]  # fmt: skip


def test_two_that_prune_at_once() -> None:
    backend = ORMBackend("django-db://", accept=ACCEPT, expires=60)
    old = now() - timedelta(hours=1)
    backend.store([TaskMeta(str(n), SUCCESS, date_done=old) for n in range(400)])

    def prune() -> int:
        return sum(iter(partial(backend.prune, 30), 0))

    assert sum(together(prune, prune, prune)) == 400
    assert TaskResult.objects.count() == 0


# -- the caller's transaction


def test_stored_in_the_callers_transaction(backend: ORMBackend) -> None:
    """As by ``update_state`` in a task that has opened a block."""
    with contextlib.suppress(KeyError), transaction.atomic():
        backend.store([TaskMeta("id", "PROGRESS")])
        assert elsewhere(lambda: backend.get(["id"])) == {}
        raise KeyError
    assert backend.get(["id"]) == {}
    with transaction.atomic():
        backend.store([TaskMeta("id", "PROGRESS")])
    assert list(elsewhere(lambda: backend.get(["id"]))) == ["id"]


def test_waiting_where_it_cannot_end(backend: ORMBackend) -> None:
    def wait() -> list[TaskMeta]:
        return list(backend.wait(["id"], 0.05, None))

    with transaction.atomic():
        if connection.vendor == "postgresql":
            with pytest.raises(Exception, match="timed out"):
                wait()
        else:
            with pytest.raises(RuntimeError, match="would wait for ever"):
                wait()


def test_in_transaction_of(backend: ORMBackend) -> None:
    assert backend.in_transaction_of("default")
    assert not backend.in_transaction_of("other")


# -- statements


def statements(call: Callable[[], Any]) -> list[str]:
    """Return the first words of the statements that a call runs."""
    seen: list[str] = []

    def note(execute: Any, statement: str, *args: Any) -> Any:
        seen.append(statement.split()[0])
        return execute(statement, *args)

    connection.ensure_connection()
    with connection.execute_wrapper(note):
        call()
    return seen


def test_a_batch_is_one_statement(backend: ORMBackend) -> None:
    metas: Sequence[TaskMeta] = [TaskMeta(str(n), SUCCESS) for n in range(100)]
    stored = statements(lambda: backend.store(metas))
    wanted = {"sqlite": ["BEGIN", "INSERT"], "mysql": ["INSERT", "SELECT"]}
    assert stored == wanted.get(connection.vendor, ["INSERT"])
    assert statements(lambda: backend.get([meta.task_id for meta in metas])) == ["SELECT"]
