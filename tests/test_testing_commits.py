"""The task queue and transactions: what is sent when, inside and outside of Django's ``TestCase``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import TestCase, TransactionTestCase, override_settings

from django_tasks.testing import TaskTestMixin, task_queue
from tests.testapp.models import Note
from tests.testapp.tasks import add, count_notes, create_note, echo


class Rollback(Exception):
    """Raised by a test to roll back a block."""


def rolled_back(work: Callable[[], Any], **options: Any) -> None:
    """Do some work in a block that is rolled back."""
    with contextlib.suppress(Rollback), transaction.atomic(**options):
        work()
        raise Rollback


class Common(TaskTestMixin):
    """What holds in both kinds of test case."""

    def sent(self) -> list[Any]:
        return [message.args[0] for message in self.tasks.sent]

    def test_outside_of_a_block_a_call_is_sent_at_once(self) -> None:
        create_note.delay("one")
        assert [message.args for message in self.tasks.messages] == [["one"]]

    def test_a_call_is_sent_when_its_block_commits(self) -> None:
        with transaction.atomic():
            result = add.delay(1, 2)
            assert self.tasks.messages == self.tasks.sent == self.tasks.run() == []
        assert [message.id for message in self.tasks.messages] == [result.id]
        self.tasks.run()
        assert result.get() == 3

    def test_each_way_to_look_sends_what_is_committed(self) -> None:
        for look in (
            self.tasks.run_next,
            lambda: self.tasks.run()[0],
            lambda: self.tasks.advance(0)[0],
            lambda: self.tasks.assert_sent(add, times=1),
        ):
            self.tasks.clear()
            with transaction.atomic():
                add.delay(1, 2)
            assert look() is not None

    def test_a_call_is_dropped_when_its_block_rolls_back(self) -> None:
        rolled_back(lambda: add.delay(1, 2))
        self.tasks.assert_nothing_sent()
        assert self.tasks.run() == []

    def test_savepoints(self) -> None:
        with transaction.atomic():
            echo.delay("outer")
            rolled_back(lambda: echo.delay("lost"))
            with transaction.atomic():
                echo.delay("inner")
            echo.delay("after")
            assert self.sent() == []
        assert self.sent() == ["outer", "inner", "after"]

    def test_an_outer_block_takes_its_inner_ones_with_it(self) -> None:
        def work() -> None:
            with transaction.atomic():
                echo.delay("inner")
            assert self.sent() == []

        rolled_back(work)
        assert self.sent() == []

    def test_blocks_without_savepoint(self) -> None:
        with transaction.atomic():
            with transaction.atomic(savepoint=False):
                echo.delay("inner")
            assert self.sent() == []
        assert self.sent() == ["inner"]

    def test_the_order_is_that_of_the_calls(self) -> None:
        with transaction.atomic():
            echo.delay("first")
        with transaction.atomic():
            echo.delay_many([("second",), ("third",)])
        self.tasks.run()
        with transaction.atomic():
            echo.delay("fourth")
        assert self.sent() == ["first", "second", "third", "fourth"]

    def test_tasks_have_blocks_too(self) -> None:
        with transaction.atomic():
            result = create_note.delay("from a task")
        self.tasks.run()
        assert Note.objects.get(pk=result.get()).title == "from a task"
        count = count_notes.delay("from a task")
        self.tasks.run()
        assert count.get() == 1

    def test_a_durable_block(self) -> None:
        with transaction.atomic(durable=True):
            echo.delay("durable")
        assert self.sent() == ["durable"]

    def test_without_waiting_for_the_commit(self) -> None:
        rolled_back(lambda: echo.apply_async(("at once",), on_commit=False))
        assert self.sent() == ["at once"]

    @override_settings(TASK_ENQUEUE_ON_COMMIT=False)
    def test_waiting_for_the_commit_when_told_so(self) -> None:
        rolled_back(lambda: echo.delay_on_commit("lost"))
        rolled_back(lambda: echo.delay("at once"))
        assert self.sent() == ["at once"]

    def test_a_countdown_begins_with_the_call(self) -> None:
        with transaction.atomic():
            add.apply_async((1, 2), countdown=60)
        assert self.tasks.advance(59) == []
        assert len(self.tasks.advance(1)) == 1

    def test_a_failed_assertion_tells_of_the_open_block(self) -> None:
        with transaction.atomic():
            add.delay(1, 2)
            with pytest.raises(AssertionError, match=r"Nothing was sent\.\nNot sent yet, .* to commit: 1\."):
                self.tasks.assert_sent(add)

    def test_the_result_of_a_call_in_an_open_block(self) -> None:
        with transaction.atomic():
            result = add.delay(1, 2)
            with pytest.raises(RuntimeError, match=result.id):
                result.get()
        with pytest.raises(RuntimeError, match=r"run\(\) of the task queue"):
            result.get()
        self.tasks.run()
        assert result.get() == 3


class InTestCase(Common, TestCase):
    """Django wraps each test in a transaction that never commits."""

    setup_ids: list[str]

    @classmethod
    def setUpTestData(cls) -> None:
        with task_queue(), transaction.atomic():
            cls.setup_ids = [echo.delay("before the test").id]

    def test_calls_from_before_the_queue_are_not_its_business(self) -> None:
        self.tasks.assert_nothing_sent()

    def test_nor_those_of_another_queue(self) -> None:
        with task_queue() as inner:
            with transaction.atomic():
                echo.delay("inner")
            inner.assert_sent(echo)
        self.tasks.assert_nothing_sent()

    def test_other_callbacks_are_left_alone(self) -> None:
        called: list[str] = []
        with transaction.atomic():
            transaction.on_commit(lambda: called.append("theirs"))
            echo.delay("ours")
        before = list(connection.run_on_commit)
        self.tasks.run()
        assert called == []
        assert connection.run_on_commit == before

    def test_callbacks_that_django_runs_send_once(self) -> None:
        with self.captureOnCommitCallbacks(execute=True) as callbacks, transaction.atomic():
            echo.delay("once")
        assert len(callbacks) == 1
        assert self.sent() == ["once"]
        for callback in callbacks:
            callback()
        assert self.sent() == ["once"]

    def test_callbacks_that_the_queue_has_run_send_once(self) -> None:
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            with transaction.atomic():
                echo.delay("once")
            assert self.sent() == ["once"]
        assert len(callbacks) == 1
        assert self.sent() == ["once"]

    def test_a_block_without_savepoint_that_fails_dooms_the_whole_test(self) -> None:
        rolled_back(lambda: echo.delay("lost"), savepoint=False)
        assert self.sent() == []
        assert self.tasks.run() == []
        connection.needs_rollback = False  # else Django refuses to end the test

    def test_a_call_before_an_open_block_is_sent(self) -> None:
        with transaction.atomic():
            echo.delay("committed")
        with transaction.atomic():
            echo.delay("open")
            assert self.sent() == ["committed"]


class InTransactionTestCase(Common, TransactionTestCase):
    """Transactions are real."""

    def test_inside_of_an_open_transaction_nothing_is_as_good_as_committed(self) -> None:
        with transaction.atomic():
            with transaction.atomic():
                echo.delay("inner")
            assert self.sent() == []
        assert self.sent() == ["inner"]


del Common  # has no database of its own


@pytest.mark.django_db
def test_with_pytest() -> None:
    with task_queue() as tasks:
        with transaction.atomic():
            result = create_note.delay("pytest")
        tasks.run()
        assert Note.objects.filter(pk=result.get()).exists()


@pytest.mark.django_db(transaction=True)
def test_with_pytest_and_real_transactions() -> None:
    with task_queue() as tasks:
        with transaction.atomic():
            result = create_note.delay("pytest")
            assert tasks.run() == []
        tasks.run()
        assert Note.objects.filter(pk=result.get()).exists()
