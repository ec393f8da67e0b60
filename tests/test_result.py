"""``AsyncResult`` on the test database: what it knows, how it waits, and when it refuses to."""

from __future__ import annotations

import builtins
import threading
import time
import traceback
import uuid
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction

from django_tasks import App, AsyncResult, allow_join_result, shared_task, states
from django_tasks.errors import RemoteTraceback
from django_tasks.exceptions import (
    ContentDisallowed,
    EncodeError,
    ImproperlyConfigured,
    TaskError,
    TaskRevokedError,
    TimeoutError,
)
from tests.running import NODE, app_of_test, drain
from tests.testapp.tasks import add, echo, fail


@pytest.fixture
def app(database_app: App) -> App:
    return database_app


class Refused(Exception):
    """An error of the project's own, which wants more than its message."""

    def __init__(self, reason: str, code: int) -> None:
        super().__init__(f"{reason} ({code})")
        self.code = code


# -- what is known


def test_before_and_after(app: App) -> None:
    result = add.delay(2, 3)
    assert (result.state, result.status, result.result, result.info) == (states.PENDING, states.PENDING, None, None)
    assert not result.ready()
    assert not result.successful()
    assert not result.failed()
    assert (result.date_done, result.name, result.args, result.worker, result.traceback) == (None,) * 5
    assert result.children == []
    drain(app)
    assert (result.state, result.status, result.result, result.info) == (states.SUCCESS, states.SUCCESS, 5, 5)
    assert result.ready()
    assert result.successful()
    assert not result.failed()


def test_the_facts_of_a_run(app: App) -> None:
    @shared_task(bind=True)
    def job(self: Any, x: int, *, y: str) -> None:
        if not self.request.retries:
            self.retry(countdown=0)

    result = job.apply_async((1,), {"y": "z"}, queue="q")
    before = datetime.now(timezone.utc)
    drain(app)
    assert (result.name, result.args, result.kwargs) == ("tests.test_result.job", [1], {"y": "z"})
    assert (result.worker, result.retries, result.queue, result.traceback) == (NODE, 1, "q", None)
    assert result.date_done is not None
    assert result.date_done.utcoffset() == timedelta(0)
    assert before - timedelta(seconds=1) <= result.date_done <= datetime.now(timezone.utc) + timedelta(seconds=1)


def test_an_unknown_id(app: App) -> None:
    result = AsyncResult(str(uuid.uuid4()))
    assert (result.state, result.result, result.ready()) == (states.PENDING, None, False)


@pytest.mark.parametrize("nothing", ["", None])
def test_no_id(nothing: Any) -> None:
    with pytest.raises(ValueError, match="needs a task id"):
        AsyncResult(nothing)


def test_as_a_value() -> None:
    result = AsyncResult("one")
    assert result.id == result.task_id == str(result) == "one"
    assert result == AsyncResult("one") == "one"
    assert result != AsyncResult("two")
    assert result != 1
    assert len({result, AsyncResult("one")}) == 1
    assert repr(result) == "<AsyncResult: one>"
    assert AsyncResult("two", parent=result).as_tuple() == [["two", [["one", None], None]], None]


def test_an_id_may_be_a_uuid(app: App) -> None:
    task_id = uuid.uuid4()
    add.apply_async((1, 2), task_id=str(task_id))
    drain(app)
    assert AsyncResult(task_id).get() == 3  # type: ignore[arg-type]


def test_children(app: App) -> None:
    @shared_task
    def parent() -> None:
        add.delay(1, 2)
        app.send_task(echo.name)

    result = parent.delay()
    outcomes = drain(app)
    assert [child.id for child in result.children] == [each.message.id for each in outcomes[1:]]
    assert [child.get() for child in result.children] == [3, [[], {}]]
    assert {child.parent for child in result.children} == {result}


@pytest.mark.parametrize(
    "value",
    [
        None,
        0,
        "text",
        [1, {"a": None}],
        Decimal("1.50"),
        uuid.UUID(int=5),
        b"\xff",
        datetime(2026, 1, 2, tzinfo=timezone.utc),
    ],
)
def test_values_come_back_as_they_were(app: App, value: Any) -> None:
    result = echo.delay(value)
    drain(app)
    assert result.get() == [[value], {}]


def test_a_value_that_cannot_be_stored(app: App) -> None:
    @shared_task
    def job() -> object:
        return object()

    result = job.delay()
    drain(app)
    assert result.failed()
    with pytest.raises(EncodeError, match=r"tests\.test_result\.job returned what cannot be stored"):
        result.get()


def test_an_ended_task_is_asked_for_once(app: App, django_assert_num_queries: Any) -> None:
    result = add.delay(2, 3)
    drain(app)
    with django_assert_num_queries(1):
        assert [result.get(), result.state, result.ready(), result.result] == [5, states.SUCCESS, True, 5]


# -- waiting


def test_get_waits(app: App) -> None:
    result = add.delay(2, 3)
    thread = threading.Thread(target=run_in_thread, args=(app,))
    thread.start()
    try:
        assert result.get(timeout=30) == 5
    finally:
        thread.join()


def run_in_thread(app: App) -> None:
    try:
        drain(app)
    finally:
        connection.close()


@pytest.mark.parametrize("timeout", [0, 0.05])
@pytest.mark.parametrize("interval", [None, 0.01])
def test_timeout(app: App, timeout: float, interval: float | None) -> None:
    result = add.delay(2, 3)
    with pytest.raises(
        TimeoutError, match=rf"{result.id} had not ended after {timeout} s \(state PENDING\).*runworker"
    ):
        result.get(timeout, interval=interval)


def test_a_timeout_is_pythons_too(app: App) -> None:
    with pytest.raises(builtins.TimeoutError):
        add.delay(2, 3).get(timeout=0)
    assert issubclass(TimeoutError, TaskError)


def test_wait_is_get(app: App) -> None:
    result = add.delay(2, 3)
    drain(app)
    assert result.wait(timeout=1) == 5


def test_callback(app: App) -> None:
    seen: list[Any] = []
    result = add.delay(2, 3)
    drain(app)
    assert result.get(callback=lambda task_id, value: seen.append((task_id, value))) == 5
    assert seen == [(result.id, 5)]


def test_an_interval_of_ones_own(app: App, django_assert_max_num_queries: Any) -> None:
    result = add.delay(2, 3)
    with django_assert_max_num_queries(5), pytest.raises(TimeoutError):
        result.get(timeout=0.2, interval=0.1)


# -- errors


def test_an_error_is_raised_as_it_was(app: App) -> None:
    result = fail.delay("as asked")
    drain(app)
    assert result.failed()
    assert repr(result.result) == "ValueError('as asked')"
    with pytest.raises(ValueError, match="as asked") as raised:
        result.get()
    assert type(raised.value) is ValueError
    assert "ValueError: as asked" in result.traceback
    assert "tests/testapp/tasks.py" in result.traceback.replace("\\", "/")
    # The worker's traceback is shown with the one of the caller, and it begins in the task.
    assert isinstance(raised.value.__cause__, RemoteTraceback)
    assert "tests/testapp/tasks.py" in "".join(traceback.format_exception(raised.value)).replace("\\", "/")
    assert "executor.py" not in result.traceback


def test_errors_of_the_project(app: App) -> None:
    @shared_task
    def job() -> None:
        raise Refused("card", 51)

    result = job.delay()
    drain(app)
    with pytest.raises(Refused, match=r"^card \(51\)$"):
        result.get()


def test_errors_that_are_not_known_here(app: App) -> None:
    class Local(Exception):
        pass

    @shared_task
    def job() -> None:
        raise Local("from the worker", 1)

    result = job.delay()
    drain(app)
    with pytest.raises(Exception, match="from the worker") as raised:
        result.get()
    assert type(raised.value).__name__ == "Local"
    assert type(raised.value) is not Local
    assert raised.value.args == ("from the worker", 1)


def test_propagate_false_returns_the_error(app: App) -> None:
    result = fail.delay()
    drain(app)
    assert repr(result.get(propagate=False)) == "ValueError('as asked')"


def test_what_ends_a_process_there_does_not_end_one_here(app: App) -> None:
    @shared_task
    def job() -> None:
        raise SystemExit(3)

    result = job.delay()
    drain(app)
    with pytest.raises(TaskError, match=r"SystemExit\(3\)"):
        result.get()


def test_a_revoked_task(app: App) -> None:
    result = add.delay(1, 2)
    result.revoke()
    assert result.state == states.REVOKED
    with pytest.raises(TaskRevokedError, match="revoked"):
        result.get(timeout=1)
    assert drain(app) == []


# -- changing


def test_forget(app: App) -> None:
    result = add.delay(1, 2)
    drain(app)
    assert result.get() == 3
    result.forget()
    assert result.state == states.PENDING
    assert AsyncResult(result.id).result is None


# -- when waiting cannot end


def test_get_inside_a_task(app: App) -> None:
    @shared_task
    def job() -> int:
        return add.delay(1, 2).get(timeout=0)

    result = job.delay()
    drain(app)
    with pytest.raises(RuntimeError, match=r"Never call result\.get\(\) within a task"):
        result.get()


def test_get_below_a_task_called_as_a_function(app: App) -> None:
    @shared_task
    def inner() -> int:
        return add.delay(1, 2).get(timeout=0)

    @shared_task
    def outer() -> int:
        return inner()

    result = outer.delay()
    drain(app)
    assert isinstance(result.result, RuntimeError)


def test_allow_join_result(app: App) -> None:
    first = add.delay(1, 2)

    @shared_task
    def job(task_id: str) -> list[int]:
        with allow_join_result():
            allowed = AsyncResult(task_id).get(timeout=1)
        return [allowed, AsyncResult(task_id).get(timeout=1, disable_sync_subtasks=False)]

    result = job.delay(first.id)
    drain(app)
    assert result.get() == [3, 3]


def test_allow_join_result_ends_with_its_block(app: App) -> None:
    first = add.delay(1, 2)
    seen: list[str] = []

    @shared_task
    def job() -> None:
        with allow_join_result():
            pass
        try:
            first.get(timeout=1)
        except RuntimeError as exc:
            seen.append(str(exc))

    job.delay()
    drain(app)
    assert len(seen) == 1


def test_get_of_what_the_transaction_has_not_sent(app: App) -> None:
    with transaction.atomic():
        result = add.delay(1, 2)
        with pytest.raises(RuntimeError, match=r"is sent when the transaction that is open here commits"):
            result.get()
        with transaction.atomic(), pytest.raises(RuntimeError, match="commits"):
            AsyncResult(result.id).get(timeout=10)
    drain(app)
    assert result.get(timeout=1) == 3


def test_get_of_what_the_transaction_sends_later_to_another_broker(transactional_db: None) -> None:
    with app_of_test("memory://", backend="django-db://") as app:
        with transaction.atomic():
            result = add.delay(1, 2)
            with pytest.raises(RuntimeError, match=r"is sent when the transaction that is open here commits"):
                result.get()
        drain(app)
        assert result.get(timeout=1) == 3


@pytest.mark.skipif("connection.vendor == 'postgresql'", reason="PostgreSQL's transactions see what others commit")
def test_get_in_a_transaction_that_would_wait_for_ever(app: App) -> None:
    result = add.delay(1, 2)
    started = time.monotonic()
    with transaction.atomic(), pytest.raises(RuntimeError, match=r"inside transaction\.atomic\(\) would wait for ever"):
        result.get(timeout=60)
    assert time.monotonic() - started < 30
    drain(app)
    with transaction.atomic():
        assert AsyncResult(result.id).state == states.SUCCESS


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="the others refuse, see above")
def test_get_in_a_transaction(app: App) -> None:
    result = add.delay(1, 2)
    thread = threading.Thread(target=run_in_thread, args=(app,))
    with transaction.atomic():
        thread.start()
        assert result.get(timeout=30) == 3
    thread.join()


# -- other backends


def test_no_result_backend() -> None:
    with app_of_test(backend="disabled://") as app:
        result = add.delay(1, 2)
        drain(app)
        with pytest.raises(ImproperlyConfigured, match="RESULT_BACKEND"):
            result.get()
        with pytest.raises(ImproperlyConfigured, match="RESULT_BACKEND"):
            result.state  # noqa: B018 - reading it is what is tested


def test_a_result_asks_the_app_that_it_was_given(memory_app: App) -> None:
    with app_of_test() as other:
        assert AsyncResult("x", app=memory_app).app is memory_app
        assert memory_app.AsyncResult("x").app is memory_app
        assert AsyncResult("x").app is other
    assert AsyncResult("x").app is memory_app


@pytest.mark.parametrize(
    ("settings", "readable"),
    [
        ({}, False),
        ({"result_accept_content": ["json", "pickle"]}, True),
        ({"accept_content": ["json", "pickle"]}, True),
        ({"accept_content": ["json", "pickle"], "result_accept_content": ["json"]}, False),
    ],
)
def test_what_results_may_be_written_in(transactional_db: None, settings: dict[str, Any], readable: bool) -> None:
    with app_of_test("django-db://", result_serializer="pickle") as app:
        result = add.delay(1, 2)
        drain(app)
    with app_of_test("django-db://", **settings) as app:
        result = app.AsyncResult(result.id)
        if readable:
            assert result.get(timeout=0) == 3
        else:
            with pytest.raises(ContentDisallowed, match="pickle"):
                result.get(timeout=0)
