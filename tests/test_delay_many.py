"""``delay_many``: any number of calls in few round trips."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection, transaction
from pytest_django import DjangoAssertNumQueries

from django_tasks import App, AsyncResult, shared_task, signals
from django_tasks.exceptions import EncodeError
from tests.running import drain, message_of, waiting
from tests.testapp.tasks import add, echo


@pytest.fixture
def app(database_app: App) -> App:
    return database_app


def test_results_come_in_the_order_of_the_calls(app: App) -> None:
    results = add.delay_many([(2, 3), (4, 5), (6, 7)])
    assert all(isinstance(each, AsyncResult) for each in results)
    assert [each.id for each in waiting(app)] == [each.id for each in results]
    drain(app)
    assert [each.get() for each in results] == [5, 9, 13]


def test_signatures(app: App) -> None:
    results = echo.delay_many([echo.s(1, x=2), [3], echo.si().set(queue="other", task_id="mine")])
    assert results[2].id == "mine"
    assert {message.id: message.queue for message in waiting(app)} == {
        results[0].id: "celery", results[1].id: "celery", "mine": "other",
    }  # fmt: skip
    drain(app)
    assert [each.get() for each in results] == [[[1], {"x": 2}], [[3], {}], [[], {}]]


def test_options_hold_for_all_and_a_signature_wins(app: App) -> None:
    add.delay_many([(1, 2), add.s(1, 2).set(priority=9)], queue="numbers", priority=1)
    assert [(message.queue, message.priority) for message in waiting(app)] == [("numbers", 9), ("numbers", 1)]


def test_nothing(app: App) -> None:
    assert add.delay_many([]) == []
    assert waiting(app) == []


@pytest.mark.parametrize("count", [1, 400])
def test_few_queries(app: App, count: int, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    add.delay(1, 2)  # whatever is done once is done now
    begins = connection.vendor == "sqlite" and count > 1
    with django_assert_num_queries(3 if begins else 1):  # BEGIN, COMMIT
        add.delay_many([(n, n) for n in range(count)])
    assert len(waiting(app)) == count + 1


def test_a_thousand_and_more(app: App) -> None:
    results = add.delay_many([(n, n) for n in range(1234)])
    assert [each.id for each in waiting(app)] == [each.id for each in results]


@pytest.mark.parametrize(
    ("calls", "error", "complaint"),
    [
        ([(1, 2), 3], TypeError, r"not 3; for one argument write \(3,\)"),
        ([(1, 2), "ab"], TypeError, r"not 'ab'"),
        ([(1, 2), (1,)], TypeError, r"add\(\) missing 1 required positional argument: 'y'"),
        ([(1, 2), (1, object())], EncodeError, r"tests\.testapp\.tasks\.add"),
        ([echo.s()], ValueError, r"delay_many of tests\.testapp\.tasks\.add was given .* tests\.testapp\.tasks\.echo"),
    ],
)
def test_one_wrong_call_and_none_is_sent(app: App, calls: Any, error: type[Exception], complaint: str) -> None:
    with pytest.raises(error, match=complaint):
        add.delay_many(calls)
    assert waiting(app) == []


def test_in_a_transaction(app: App) -> None:
    with transaction.atomic():
        add.delay_many([(1, 2), (3, 4)])
        transaction.set_rollback(True)
    assert waiting(app) == []


@pytest.mark.django_db(transaction=True)
def test_each_signature_is_sent_as_it_says(memory_app: App) -> None:
    with transaction.atomic():
        results = add.delay_many([(1, 1), add.s(2, 2).set(on_commit=False), (3, 3)])
        assert message_of(memory_app).id == results[1].id
    assert {message.id for message in waiting(memory_app)} == {each.id for each in results}


def test_signals_are_sent_for_each(app: App) -> None:
    seen: list[str] = []

    def before(headers: dict[str, Any], **_: Any) -> None:
        seen.append(headers["id"])

    signals.before_task_publish.connect(before)
    try:
        results = add.delay_many([(1, 2), (3, 4)])
    finally:
        signals.before_task_publish.disconnect(before)
    assert seen == [each.id for each in results]


def test_children(app: App) -> None:
    @shared_task
    def parent() -> None:
        add.delay_many([(1, 2), (3, 4)])

    result = parent.delay()
    outcomes = drain(app)
    assert [child.id for child in result.children] == [each.message.id for each in outcomes[1:]]
    assert {each.message.parent_id for each in outcomes[1:]} == {result.id}
