"""Databases as broker and backend see them: races that are run again, errors in our words, what they can store."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import pytest
from django.core.management import call_command
from django.db import connection, transaction

from django_tasks import databases
from django_tasks.databases import Database, keep_connections_open, statement_size, storable
from django_tasks.exceptions import OperationalError
from django_tasks.models import WorkerOrder, WorkerProcess
from tests.tables import our_tables
from tests.threads import meanwhile, together
from tests.waiting import wait_for

pytestmark = our_tables

needs_row_locks = pytest.mark.skipif("connection.vendor == 'sqlite'", reason="SQLite has one lock for all")
needs_sqlite = pytest.mark.skipif("connection.vendor != 'sqlite'", reason="about SQLite's one lock")


@pytest.fixture
def database() -> Database:
    return Database("default")


# -- lost races


class Crossing:
    """Two transactions that want the same two rows, in opposite order: one of them loses."""

    def __init__(self) -> None:
        self.rows = [WorkerProcess.objects.create(identity=str(n), pid=n, started_at=0, seen_at=0) for n in range(2)]
        self.barrier = threading.Barrier(2)
        self.attempts: list[int] = []

    def work(self, first: int) -> None:
        with transaction.atomic():
            self.attempts.append(first)
            self.change(first)
            if len(self.attempts) <= 2:
                self.barrier.wait(20)
            self.change(1 - first)

    def change(self, number: int) -> None:
        row = WorkerProcess.objects.select_for_update().get(pk=self.rows[number].pk)
        row.processed += 1
        row.save()

    def processed(self) -> list[int]:
        return list(WorkerProcess.objects.order_by("pk").values_list("processed", flat=True))


@needs_row_locks
def test_who_loses_a_race_tries_again_on_the_same_connection(database: Database) -> None:
    """Temporary tables, LISTEN and the like would be gone with the connection; only a broken one is dropped."""
    crossing = Crossing()

    def run(first: int) -> bool:
        connection.ensure_connection()
        before = connection.connection
        database.run(partial(crossing.work, first))
        return connection.connection is before

    assert together(*(partial(run, first) for first in range(2))) == [True, True]
    assert crossing.processed() == [2, 2]
    assert len(crossing.attempts) > 2


@needs_row_locks
def test_who_loses_inside_the_callers_transaction_does_not(database: Database) -> None:
    crossing = Crossing()

    def in_a_transaction(first: int) -> str:
        try:
            with transaction.atomic():
                database.run(partial(crossing.work, first))
        except OperationalError as exc:
            return str(exc)
        return ""

    errors = together(*(partial(in_a_transaction, first) for first in range(2)))
    assert len([error for error in errors if error]) == 1
    assert "Database 'default': " in "".join(errors)
    assert "deadlock" in "".join(errors).lower()
    assert len(crossing.attempts) == 2
    assert crossing.processed() == [1, 1]


def hold_the_lock(held: threading.Event, release: threading.Event) -> None:
    with transaction.atomic():
        WorkerOrder.objects.create(kind="held", created_at=0)
        held.set()
        assert release.wait(30)


@needs_sqlite
def test_a_lock_that_takes_longer_than_sqlite_waits(database: Database) -> None:
    held, release = threading.Event(), threading.Event()
    attempts = []

    def write() -> int:
        attempts.append(1)
        return int(WorkerOrder.objects.create(kind="written", created_at=0).pk)

    with meanwhile(partial(hold_the_lock, held, release)):
        assert held.wait(20)
        with meanwhile(partial(impatiently, lambda: database.run(write))) as writing:
            wait_for(lambda: len(attempts) > 2)
            assert not writing.done()
            release.set()
    assert sorted(WorkerOrder.objects.values_list("kind", flat=True)) == ["held", "written"]


@needs_sqlite
def test_a_lock_in_the_callers_transaction_is_an_error_at_once(database: Database) -> None:
    held, release = threading.Event(), threading.Event()
    attempts = []

    def write() -> None:
        attempts.append(1)
        WorkerOrder.objects.create(kind="written", created_at=0)

    def in_a_transaction() -> None:
        with connection.cursor() as cursor:
            cursor.execute("BEGIN DEFERRED")
        connection.in_atomic_block = True  # as in a block that has only read so far
        try:
            with pytest.raises(OperationalError, match="database is locked"):
                database.run(write)
        finally:
            connection.in_atomic_block = False
            connection.close()

    with meanwhile(partial(hold_the_lock, held, release)):
        assert held.wait(20)
        with meanwhile(partial(impatiently, in_a_transaction)) as writing:
            writing.result(20)
        release.set()
    assert len(attempts) == 1


@needs_sqlite
def test_a_lock_that_sqlite_has_waited_for_itself(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another round would take longer than there is patience left."""
    monkeypatch.setattr(databases, "PATIENCE", 0.9)
    held, release = threading.Event(), threading.Event()
    attempts = []

    def write() -> None:
        attempts.append(1)
        WorkerOrder.objects.create(kind="written", created_at=0)

    def patiently() -> None:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA busy_timeout = 600")
        with pytest.raises(OperationalError, match="database is locked"):
            database.run(write)

    with meanwhile(partial(hold_the_lock, held, release)):
        assert held.wait(20)
        with meanwhile(patiently) as writing:
            writing.result(20)
        release.set()
    assert len(attempts) == 1


def impatiently(call: Callable[[], object]) -> object:
    """Call something on a connection that does not wait for locks by itself."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout = 0")
    return call()


# -- text


def test_storable_text() -> None:
    assert storable("plain") == "plain"
    assert storable("zwölf \U0001f40d") == "zwölf \U0001f40d"
    assert storable("a\0b") == "a\\x00b"
    assert storable("ü\0\ud800\udcff") == "ü\\x00\\ud800\\udcff"


def test_the_size_of_a_statement() -> None:
    assert statement_size("abc") == 3
    assert statement_size("ü\U0001f40d") == 6
    assert statement_size("\\\"'\n\r\0\x1a") == 14


# -- the connections of a worker


def test_a_worker_keeps_its_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", connection.settings_dict["OPTIONS"])
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 0)
    connection.ensure_connection()
    before = connection.connection
    keep_connections_open()
    connection.close_if_unusable_or_obsolete()
    assert connection.connection is before


def test_the_migration_says_what_the_models_say() -> None:
    call_command("makemigrations", "django_tasks", check=True, dry_run=True, verbosity=0)
