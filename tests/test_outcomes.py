"""What a run comes to, as users of Celery know it: signals, ``Ignore``, ``Reject`` and their like."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from django_tasks import App, shared_task, signals, states
from django_tasks.exceptions import Ignore, NotRegistered, Reject, Retry
from django_tasks.executor import Executor
from django_tasks.finish import finish
from tests.running import NODE, advance, drain, message_of, reserve, waiting
from tests.testapp.tasks import add, fail

NAMES = ("task_prerun", "task_postrun", "task_success", "task_failure", "task_retry", "task_rejected", "task_revoked",
         "task_unknown", "task_internal_error")  # fmt: skip

Seen = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def seen() -> Iterator[Seen]:
    """Note the signals about tasks, with what they say."""
    noted: Seen = []

    def note(signal: signals.Signal, **facts: Any) -> None:
        noted.append((signal.name, facts))

    for name in NAMES:
        getattr(signals, name).connect(note)
    yield noted
    for name in NAMES:
        getattr(signals, name).disconnect(note)


@pytest.fixture
def app(database_app: App) -> App:
    return database_app


def names(seen: Seen) -> list[str]:
    return [name for name, _ in seen]


def test_success(app: App, seen: Seen) -> None:
    result = add.delay(2, 3)
    drain(app)
    assert names(seen) == ["task_prerun", "task_success", "task_postrun"]
    prerun, success, postrun = (facts for _, facts in seen)
    assert (prerun["sender"], prerun["task"], prerun["task_id"]) == (add, add, result.id)
    assert (prerun["args"], prerun["kwargs"]) == ([2, 3], {})
    assert (success["sender"], success["result"]) == (add, 5)
    assert (postrun["sender"], postrun["task_id"], postrun["retval"], postrun["state"]) == (
        add, result.id, 5, states.SUCCESS,
    )  # fmt: skip


def test_failure(app: App, seen: Seen) -> None:
    result = fail.delay("bad")
    drain(app)
    assert names(seen) == ["task_prerun", "task_failure", "task_postrun"]
    failure, postrun = seen[1][1], seen[2][1]
    assert (failure["sender"], failure["task_id"], repr(failure["exception"])) == (
        fail, result.id, "ValueError('bad')",
    )  # fmt: skip
    assert (failure["args"], failure["kwargs"]) == (["bad"], {})
    assert failure["traceback"].tb_frame.f_code.co_name == "fail"
    assert "ValueError: bad" in str(failure["einfo"])
    assert (postrun["state"], postrun["retval"]) == (states.FAILURE, failure["exception"])


def test_retry(app: App, seen: Seen) -> None:
    @shared_task(bind=True)
    def job(self: Any) -> None:
        if not self.request.retries:
            self.retry(exc=OSError("away"), countdown=0)

    result = job.delay()
    drain(app)
    assert [name for name in names(seen) if name not in ("task_prerun", "task_postrun")] == [
        "task_retry", "task_success",
    ]  # fmt: skip
    retry = next(facts for name, facts in seen if name == "task_retry")
    assert (retry["sender"], retry["request"].id) == (job, result.id)
    assert isinstance(retry["reason"], Retry)
    assert "OSError" in str(retry["einfo"])


def test_a_receiver_that_fails_changes_nothing(app: App, caplog: pytest.LogCaptureFixture) -> None:
    def receiver(**_: Any) -> None:
        raise ZeroDivisionError

    watched = (signals.task_prerun, signals.task_success, signals.task_postrun)
    for signal in watched:
        signal.connect(receiver)
    try:
        result = add.delay(1, 2)
        drain(app)
    finally:
        for signal in watched:
            signal.disconnect(receiver)
    assert result.get(timeout=0) == 3
    assert "ZeroDivisionError" in caplog.text


def test_ignore(app: App, seen: Seen) -> None:
    @shared_task(bind=True)
    def job(self: Any) -> None:
        self.update_state(state="LEFT", meta="as I left it")
        raise Ignore

    result = job.apply_async(link=add.s(1), link_error=add.s(1))
    (outcome,) = drain(app)
    assert outcome.state == states.IGNORED
    assert (result.state, result.info) == ("LEFT", "as I left it")
    assert waiting(app) == []
    assert names(seen) == ["task_prerun", "task_postrun"]
    assert seen[1][1]["state"] == states.IGNORED


def test_reject(app: App, seen: Seen) -> None:
    @shared_task
    def job() -> None:
        raise Reject("not mine")

    result = job.apply_async(link_error=add.s(1))
    (outcome,) = drain(app)
    assert outcome.state == states.REJECTED
    assert result.state == states.FAILURE
    assert app.broker.sizes(["celery"])["celery"].dead == 1
    assert waiting(app) == []
    assert "task_rejected" in names(seen)
    with pytest.raises(Reject, match="not mine"):
        result.get()


def test_reject_and_requeue(app: App) -> None:
    runs: list[int] = []

    @shared_task
    def job() -> str:
        runs.append(1)
        if len(runs) < 3:
            raise Reject("somebody else", requeue=True)
        return "mine"

    result = job.delay()
    states_seen = [outcome.state for outcome in drain(app)]
    assert states_seen == [states.REJECTED, states.REJECTED, states.SUCCESS]
    assert result.get(timeout=0) == "mine"


def test_unknown(app: App, seen: Seen) -> None:
    result = app.send_task("elsewhere.job", queue="q")
    drain(app)
    assert names(seen) == ["task_unknown"]
    unknown = seen[0][1]
    assert (unknown["name"], unknown["id"]) == ("elsewhere.job", result.id)
    assert isinstance(unknown["exc"], NotRegistered)
    assert message_of(app).id == result.id
    assert drain(app) == []
    advance(app, 2)
    assert len(drain(app)) == 1


def test_expired(app: App, seen: Seen) -> None:
    result = add.apply_async((1, 2), expires=-1)
    drain(app)
    assert names(seen) == ["task_revoked"]
    revoked = seen[0][1]
    assert (revoked["sender"], revoked["request"].id) == (add, result.id)
    assert (revoked["expired"], revoked["terminated"], revoked["signum"]) == (True, False, None)
    assert result.state == states.REVOKED


def test_a_task_that_ended_before_is_not_run_again(app: App, seen: Seen) -> None:
    """Its worker died between the end of the task and the end of its message."""
    result = add.delay(1, 2)
    drain(app)
    seen.clear()
    add.apply_async((5, 5), task_id=result.id)
    (delivery,) = reserve(app)
    delivery.message.redelivered = True
    outcome = Executor(app, hostname=NODE).run(delivery)
    finish(app, [outcome])
    assert (outcome.state, outcome.value) == (states.SUCCESS, 3)
    assert seen == []
    assert waiting(app) == []


def test_callbacks_of_the_database_broker_come_with_the_result(app: App) -> None:
    result = add.apply_async((1, 2), link=add.s(10))
    outcomes = drain(app)
    assert [outcome.value for outcome in outcomes] == [3, 13]
    assert result.get(timeout=0) == 3
    assert app.AsyncResult(outcomes[1].message.id).get(timeout=0) == 13
