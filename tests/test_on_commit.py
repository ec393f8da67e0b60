"""Calls inside transactions: sent with the commit, dropped with the rollback, whatever carries them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.test import TestCase

from django_tasks import App, shared_task, signals
from django_tasks.exceptions import MessageTooLarge
from tests.running import app_of_test, drain, waiting
from tests.testapp.models import Note
from tests.testapp.tasks import add, count_notes

BROKERS = ["memory://", "django-db://"]


@pytest.fixture(params=BROKERS)
def app(request: pytest.FixtureRequest, transactional_db: None) -> Iterator[App]:
    with app_of_test(request.param, backend="memory://") as app:
        yield app


@pytest.fixture
def memory(transactional_db: None) -> Iterator[App]:
    with app_of_test("memory://") as app:
        yield app


def seen_by_others(app: App) -> list[str]:
    """Return the ids of the messages that a worker, on a connection of its own, can see."""
    found: list[str] = []

    def look() -> None:
        try:
            found.extend(message.id for message in waiting(app))
        finally:
            connections.close_all()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    return found


def call_and_fail() -> None:
    """Call a task in a block that ends with an error."""
    with contextlib.suppress(KeyError), transaction.atomic():
        add.delay(1, 2)
        raise KeyError


def test_outside_a_transaction_it_is_sent_at_once(app: App) -> None:
    result = add.delay(1, 2)
    assert seen_by_others(app) == [result.id]


def test_with_the_commit(app: App) -> None:
    with transaction.atomic():
        result = add.delay(1, 2)
        assert result.id
        assert seen_by_others(app) == []
    assert seen_by_others(app) == [result.id]
    drain(app)
    assert result.get(timeout=1) == 3


def test_the_task_sees_what_the_transaction_wrote(app: App) -> None:
    with transaction.atomic():
        Note.objects.create(title="written")
        result = count_notes.delay("written")
    drain(app)
    assert result.get(timeout=1) == 1


def test_dropped_with_the_rollback(app: App) -> None:
    call_and_fail()
    assert seen_by_others(app) == []
    with transaction.atomic():
        add.delay(1, 2)
        transaction.set_rollback(True)
    assert seen_by_others(app) == []


def test_savepoints(app: App) -> None:
    with transaction.atomic():
        first = add.delay(1, 1)
        call_and_fail()
        with transaction.atomic():
            third = add.delay(3, 3)
        assert seen_by_others(app) == []
    assert seen_by_others(app) == [first.id, third.id]


def test_the_order_of_the_calls_is_kept(app: App) -> None:
    with transaction.atomic():
        ids = [add.delay(n, n).id for n in range(5)]
    assert [outcome.message.id for outcome in drain(app)] == ids


def test_delay_on_commit(app: App) -> None:
    app.conf.task_enqueue_on_commit = False
    with transaction.atomic():
        results = [add.delay_on_commit(1, 2), add.apply_async_on_commit((3, 4), queue="other")]
        assert seen_by_others(app) == []
    assert sorted(seen_by_others(app)) == sorted(each.id for each in results)
    drain(app)
    assert [each.get(timeout=1) for each in results] == [3, 7]


def test_delay_on_commit_without_a_transaction(app: App) -> None:
    result = add.delay_on_commit(1, 2)
    assert seen_by_others(app) == [result.id]


def test_functions_with_atomic_around_them(app: App) -> None:
    @transaction.atomic
    def view(fail: bool) -> None:
        add.delay(1, 2)
        if fail:
            raise KeyError

    view(False)
    with pytest.raises(KeyError):
        view(True)
    assert len(seen_by_others(app)) == 1


def test_manual_transactions(app: App) -> None:
    """Without autocommit Django knows no hook for the commit: what can take part in the transaction does."""
    transaction.set_autocommit(False)
    try:
        add.delay(1, 2)
        transaction.rollback()
    finally:
        transaction.set_autocommit(True)
    expected = 0 if app.conf.broker_url == "django-db://" else 1
    assert len(waiting(app)) == expected


def test_calls_made_by_a_task(app: App) -> None:
    @shared_task
    def parent(fail: bool) -> None:
        with transaction.atomic():
            add.delay(1, 2)
            if fail:
                raise KeyError

    parent.delay(False)
    assert [each.message.task for each in drain(app)] == [parent.name, add.name]
    parent.delay(True)
    assert [each.message.task for each in drain(app)] == [parent.name]


# -- sent at once, if the caller or the settings say so


@pytest.mark.parametrize("by", ["the call", "the settings"])
def test_at_once(memory: App, by: str) -> None:
    memory.conf.task_enqueue_on_commit = by == "the call"
    options = {"on_commit": False} if by == "the call" else {}
    with transaction.atomic():
        result = add.apply_async((1, 2), **options)
        assert [message.id for message in waiting(memory)] == [result.id]
        transaction.set_rollback(True)
    drain(memory)
    assert result.get(timeout=1) == 3


def test_the_database_broker_writes_into_the_transaction_all_the_same(transactional_db: None) -> None:
    with app_of_test("django-db://") as app, transaction.atomic():
        result = add.apply_async((1, 2), on_commit=False)
        assert [message.id for message in waiting(app)] == [result.id]
        assert seen_by_others(app) == []
        transaction.set_rollback(True)


# -- several databases


@pytest.fixture
def two_databases(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Add an alias ``other``, which is the test database once more, with connections of its own."""
    with django_db_blocker.unblock():
        connections.settings["other"] = {**connection.settings_dict}
        try:
            yield
        finally:
            # Tests without a database come later, and must not find a connection.
            connections.close_all()
            del connections["other"]
            del connections.settings["other"]


def test_using_names_the_transaction_to_wait_for(two_databases: None) -> None:
    with app_of_test("memory://") as app:
        with transaction.atomic(using="other"):
            at_once = add.delay(1, 2)
            later = add.apply_async((3, 4), using="other")
            assert [message.id for message in waiting(app)] == [at_once.id]
            with pytest.raises(RuntimeError, match="is sent when the transaction"):
                later.get(timeout=1)
        assert {message.id for message in waiting(app)} == {at_once.id, later.id}


def test_using_a_database_without_a_transaction(two_databases: None) -> None:
    with app_of_test("memory://") as app, transaction.atomic():
        add.apply_async((1, 2), using="other")
        assert len(waiting(app)) == 1


def test_a_broker_in_another_database_waits_for_the_commit_here(two_databases: None) -> None:
    with app_of_test("django-db://other", backend="memory://") as app:
        with transaction.atomic():
            add.delay(1, 2)
            transaction.set_rollback(True)
        assert waiting(app) == []
        with transaction.atomic():
            result = add.delay(3, 4)
            assert waiting(app) == []
        drain(app)
        assert result.get(timeout=1) == 7


# -- what can go wrong at the commit


def test_signals_are_sent_when_it_is_sent(memory: App) -> None:
    seen: list[str] = []

    def published(**_: Any) -> None:
        seen.append("sent")

    signals.after_task_publish.connect(published)
    try:
        with transaction.atomic():
            add.delay(1, 2)
            assert seen == []
        assert seen == ["sent"]
    finally:
        signals.after_task_publish.disconnect(published)


def test_a_broker_that_refuses_at_the_commit(memory: App) -> None:
    """The data is committed by then, and the caller hears of the error."""
    memory.broker.max_size = 100

    @transaction.atomic
    def view() -> None:
        Note.objects.create(title="kept")
        add.delay(1, 2)

    with pytest.raises(MessageTooLarge):
        view()
    assert Note.objects.filter(title="kept").exists()
    assert waiting(memory) == []


# -- TestCase wraps each test in blocks that do not count


class TestInsideTestCase(TestCase):
    def run_with(self, url: str) -> App:
        manager = app_of_test(url, backend="memory://")
        app = manager.__enter__()
        self.addCleanup(manager.__exit__, None, None, None)
        return app

    def test_a_call_is_sent_at_once(self) -> None:
        for url in BROKERS:
            with self.subTest(url):
                app = self.run_with(url)
                result = add.delay(1, 2)
                drain(app)
                assert result.get(timeout=1) == 3

    def test_a_call_in_a_block_is_part_of_it(self) -> None:
        app = self.run_with("django-db://")
        with transaction.atomic():
            kept = add.delay(1, 2)
        with transaction.atomic():
            add.delay(3, 4)
            transaction.set_rollback(True)
        assert [message.id for message in waiting(app)] == [kept.id]
        drain(app)
        assert kept.get(timeout=1) == 3

    def test_other_brokers_follow_djangos_hooks(self) -> None:
        app = self.run_with("memory://")
        with self.captureOnCommitCallbacks(execute=True):
            with transaction.atomic():
                result = add.delay(1, 2)
            with transaction.atomic():
                add.delay(3, 4)
                transaction.set_rollback(True)
            assert waiting(app) == []
        assert [message.id for message in waiting(app)] == [result.id]

    def test_get_in_a_block(self) -> None:
        self.run_with("django-db://")
        with transaction.atomic():
            result = add.delay(1, 2)
            with pytest.raises(RuntimeError, match="is sent when the transaction"):
                result.get(timeout=1)
