"""Remote control on the test database: cancelling tasks that wait, run or have ended, and orders to workers."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from django.db import transaction

from django_tasks import App, AsyncResult, shared_task, signals, states
from django_tasks.brokers.base import Settlement, Verb, new_lease
from django_tasks.control import signal_number
from django_tasks.exceptions import TaskRevokedError
from django_tasks.executor import Executor
from django_tasks.finish import finish
from django_tasks.models import QueuedMessage
from tests.running import NODE, app_of_test, drain, reserve, waiting
from tests.testapp.tasks import add


@pytest.fixture
def app(database_app: App) -> App:
    return database_app


# -- revoke


@pytest.mark.parametrize("how", ["by the app", "by the result"])
def test_a_task_that_waits(app: App, how: str) -> None:
    result, other = add.delay(1, 2), add.delay(3, 4)
    if how == "by the app":
        app.control.revoke(result.id)
    else:
        result.revoke()
    assert result.state == states.REVOKED
    assert repr(result.result) == "TaskRevokedError('revoked')"
    assert result.date_done is not None
    assert result.name == add.name
    assert [message.id for message in waiting(app)] == [other.id]
    with pytest.raises(TaskRevokedError):
        result.get(timeout=0)


def test_a_delayed_task(app: App) -> None:
    result = add.apply_async((1, 2), countdown=3600)
    app.control.revoke(result.id)
    assert result.state == states.REVOKED
    assert waiting(app) == []


def test_several_at_once(app: App) -> None:
    results = add.delay_many([(1, 2), (3, 4), (5, 6)])
    app.control.revoke([results[0].id, results[2].id])
    drain(app)
    assert [each.state for each in results] == [states.REVOKED, states.SUCCESS, states.REVOKED]


def test_a_task_whose_result_is_ignored(app: App) -> None:
    result = add.apply_async((1, 2), ignore_result=True)
    app.control.revoke(result.id)
    assert waiting(app) == []
    assert AsyncResult(result.id).state == states.PENDING


def test_an_id_that_nobody_has_sent_yet(app: App) -> None:
    app.control.revoke("to-come")
    assert AsyncResult("to-come").state == states.REVOKED


def test_a_task_that_has_ended(app: App) -> None:
    result = add.delay(1, 2)
    drain(app)
    app.control.revoke(result.id)
    app.control.revoke(result.id, terminate=True)
    assert AsyncResult(result.id).get(timeout=0) == 3


@pytest.mark.parametrize(("terminate", "reason"), [(False, "revoked"), (True, "terminated")])
def test_a_task_that_runs(app: App, terminate: bool, reason: str) -> None:
    """It goes on unless its process is ended, but it stays revoked and is not retried."""

    @shared_task(bind=True)
    def job(self: Any) -> None:
        app.control.revoke(self.request.id, terminate=terminate)
        self.retry(countdown=0)

    result = job.delay()
    assert len(drain(app)) == 1
    assert result.state == states.REVOKED
    assert repr(result.result) == f"TaskRevokedError('{reason}')"
    assert waiting(app) == []


@pytest.mark.parametrize("tracked", [False, True])
@pytest.mark.parametrize("terminate", [False, True])
def test_what_the_result_of_a_task_that_runs_tells(app: App, tracked: bool, terminate: bool) -> None:
    """The same as of any other: what was called, and who ran it."""

    @shared_task(bind=True, name="job", track_started=tracked)
    def job(self: Any, x: int, y: int) -> None:
        app.control.revoke([self.request.id, "unknown"], terminate=terminate)

    result = job.apply_async((1,), {"y": 2}, queue="q")
    (delivery,) = app.broker.reserve(f"{NODE}/1-slot", ["q"], 1, new_lease())
    finish(app, [Executor(app, hostname=NODE).run(delivery)])
    assert result.state == states.REVOKED
    assert (result.name, result.args, result.kwargs, result.queue, result.worker, result.retries) == (
        "job", [1], {"y": 2}, "q", NODE, 0,
    )  # fmt: skip
    assert app.backend.get([result.id])[result.id].date_started is not None
    unknown = AsyncResult("unknown")
    assert (unknown.state, unknown.name, unknown.args) == (states.REVOKED, "", None)


def test_a_task_that_runs_and_cannot_be_read(app: App) -> None:
    result = add.delay(1, 2)
    QueuedMessage.objects.update(payload="{")
    app.broker.reserve(f"{NODE}/1-slot", ["celery"], 1, new_lease())
    app.control.revoke(result.id)
    assert result.state == states.REVOKED


def test_callbacks_of_a_revoked_task(app: App) -> None:
    result = add.apply_async((1, 2), link=add.s(1), link_error=add.s(1))
    app.control.revoke(result.id)
    assert waiting(app) == []


def test_a_task_that_is_given_back(app: App) -> None:
    """A worker has it, but has not begun: behind a long task, or because it stops."""
    result, other = add.delay(1, 2), add.delay(3, 4)
    held = reserve(app)
    app.control.revoke(result.id)
    app.broker.settle([Settlement(each, Verb.RETURN) for each in held])
    assert [(outcome.state, outcome.runtime > 0) for outcome in drain(app)] == [
        (states.REVOKED, False),
        (states.SUCCESS, True),
    ]
    assert result.state == states.REVOKED
    assert other.get(timeout=0) == 7


def test_retries_of_a_task_whose_result_is_ignored(app: App) -> None:
    runs = []

    @shared_task(bind=True, ignore_result=True)
    def job(self: Any) -> None:
        runs.append(self.request.retries)
        if not self.request.retries:
            app.control.revoke(self.request.id)
        raise self.retry(countdown=0)

    job.delay()
    assert [outcome.state for outcome in drain(app)] == [states.RETRY, states.REVOKED]
    assert runs == [0]


def test_in_a_transaction(app: App) -> None:
    result = add.delay(1, 2)
    with transaction.atomic():
        app.control.revoke(result.id)
        transaction.set_rollback(True)
    drain(app)
    assert result.get(timeout=0) == 3


def test_receivers_are_told(app: App) -> None:
    seen: list[dict[str, Any]] = []

    def revoked(**facts: Any) -> None:
        seen.append(facts)

    signals.task_revoked.connect(revoked)
    try:
        result = add.delay(1, 2)
        app.control.revoke([result.id, "unknown"])
    finally:
        signals.task_revoked.disconnect(revoked)
    (facts,) = seen
    assert (facts["sender"], facts["request"].id, facts["request"].args) == (add, result.id, [1, 2])
    assert (facts["terminated"], facts["signum"], facts["expired"]) == (False, None, False)


def test_without_a_result_backend(transactional_db: None) -> None:
    with app_of_test("django-db://", backend="disabled://") as app:
        result = add.delay(1, 2)
        app.control.revoke([result.id, "unknown"])
        assert waiting(app) == []


# -- orders to workers


def orders(app: App) -> list[tuple[str, str, dict[str, Any]]]:
    assert app.broker.control is not None
    return [(order.kind, order.node, order.arguments) for order in app.broker.control.orders(0)]


@pytest.mark.parametrize("url", ["django-db://", "memory://"])
def test_orders(transactional_db: None, url: str) -> None:
    with app_of_test(url) as app:
        app.control.terminate("id")
        app.control.revoke(["a", "b"], terminate=True, signal="KILL")
        app.control.pause()
        app.control.resume(destination=["one@host", "two@host"])
        app.control.pool_grow(2)
        app.control.pool_shrink(destination=["one@host"])
        app.control.shutdown()
        assert orders(app) == [
            ("terminate", "", {"ids": ["id"], "signal": signal.SIGTERM}),
            ("terminate", "", {"ids": ["a", "b"], "signal": signal.SIGKILL}),
            ("pause", "", {}),
            ("resume", "one@host", {}),
            ("resume", "two@host", {}),
            ("resize", "", {"by": 2}),
            ("resize", "one@host", {"by": -1}),
            ("shutdown", "", {}),
        ]


@pytest.mark.parametrize(
    ("given", "number"),
    [(None, signal.SIGTERM), ("SIGKILL", 9), ("KILL", 9), ("sigint", 2), ("int", 2), (9, 9), (signal.SIGQUIT, 3)],
)
def test_signal_numbers(given: Any, number: int) -> None:
    assert signal_number(given) == number


@pytest.mark.parametrize("given", ["SIGNOTHING", "", 4711])
def test_signals_that_do_not_exist(given: Any) -> None:
    with pytest.raises(ValueError, match=r"signal|Signals"):
        signal_number(given)


def test_a_wrong_signal_revokes_nothing(app: App) -> None:
    result = add.delay(1, 2)
    with pytest.raises(ValueError, match="SIGNOTHING"):
        app.control.revoke(result.id, terminate=True, signal="SIGNOTHING")
    assert len(reserve(app)) == 1
