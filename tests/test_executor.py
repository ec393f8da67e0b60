"""One message through the executor: resolve, refuse, call, hooks; every outcome, and who is told of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from django.db import connections, transaction

from django_tasks import App, Task, shared_task, signals, states
from django_tasks.brokers.base import Delivery, Verb, deliver, new_lease
from django_tasks.brokers.memory import MemoryBroker
from django_tasks.exceptions import (
    DecodeError,
    EncodeError,
    Ignore,
    MaxRetriesExceededError,
    NotRegistered,
    OperationalError,
    Reject,
    Retry,
    TaskRevokedError,
)
from django_tasks.executor import Executor
from django_tasks.finish import finish
from django_tasks.hooks import Hooks
from django_tasks.message import Message
from django_tasks.outcome import Outcome, TaskMeta
from django_tasks.refusal import REFUSAL_DELAYS
from tests.running import NODE, advance, drain, message_of, reserve, waiting


@pytest.fixture
def app(memory_app: App) -> App:
    return memory_app


def run_next(app: App, **options: Any) -> Outcome:
    """Run the next message and finish it."""
    (delivery,) = reserve(app, 1)
    outcome = Executor(app, hostname=NODE, **options).run(delivery)
    finish(app, [outcome])
    return outcome


def redeliver(app: App) -> Delivery:
    """Let the worker that holds the only message die, and take the message over."""
    assert isinstance(app.broker, MemoryBroker)
    (entry,) = app.broker.entries.values()
    entry.worker, entry.redelivered = None, True
    (delivery,) = reserve(app, 1)
    return delivery


class Heard:
    """What receivers were told: (name of the signal, its arguments)."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def receiver(self, name: str) -> Callable[..., None]:
        return lambda **facts: self.calls.append((name, facts))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    def facts(self, name: str) -> dict[str, Any]:
        (facts,) = [facts for each, facts in self.calls if each == name]
        return facts


NAMES = (
    "task_received", "task_prerun", "task_postrun", "task_success", "task_failure", "task_retry", "task_revoked",
    "task_unknown", "task_rejected", "task_internal_error",
)  # fmt: skip


@pytest.fixture
def heard() -> Iterator[Heard]:
    """Hear all signals about tasks."""
    heard = Heard()
    receivers = {name: heard.receiver(name) for name in NAMES}
    for name, receiver in receivers.items():
        getattr(signals, name).connect(receiver)
    yield heard
    for name, receiver in receivers.items():
        getattr(signals, name).disconnect(receiver)


@contextmanager
def connected(name: str, receiver: Callable[..., Any]) -> Iterator[None]:
    getattr(signals, name).connect(receiver)
    try:
        yield
    finally:
        getattr(signals, name).disconnect(receiver)


# -- what a run comes to


def test_success(app: App) -> None:
    @shared_task
    def add(x: int, y: int) -> int:
        return x + y

    result = add.delay(2, 3)
    outcome = run_next(app)
    assert (outcome.state, outcome.value, outcome.traceback) == (states.SUCCESS, 5, None)
    assert outcome.runtime > 0
    assert result.get() == 5
    assert (result.name, result.args, result.worker, result.queue) == (add.name, [2, 3], NODE, "celery")
    assert result.date_done is not None
    assert app.broker.sizes() == {}


def test_failure(app: App) -> None:
    @shared_task
    def broken() -> None:
        raise ValueError("no")

    result = broken.delay()
    outcome = run_next(app)
    assert outcome.state == states.FAILURE
    with pytest.raises(ValueError, match="no"):
        result.get()
    assert result.traceback is not None
    # It begins where the task does: how we came to call it tells nobody anything.
    assert result.traceback.splitlines()[1].strip().startswith(f'File "{__file__}"')
    assert app.broker.sizes() == {}


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_what_would_end_the_process_is_a_failure(app: App, kind: type[BaseException]) -> None:
    @shared_task
    def leave() -> None:
        raise kind(3)

    result = leave.delay()
    outcome = run_next(app)
    assert outcome.state == result.state == states.FAILURE
    assert isinstance(outcome.value, kind)


def test_ignore(app: App, heard: Heard) -> None:
    @shared_task
    def ignored() -> None:
        raise Ignore

    result = ignored.delay()
    assert run_next(app).state == states.IGNORED
    assert result.state == states.PENDING
    assert app.broker.sizes() == {}
    assert heard.names == ["task_prerun", "task_postrun"]


def test_ignore_keeps_a_state_of_its_own(app: App) -> None:
    @shared_task(bind=True)
    def own(self: Any) -> None:
        self.update_state(state="WAITING", meta={"for": "you"})
        raise Ignore

    result = own.delay()
    run_next(app)
    assert (result.state, result.info) == ("WAITING", {"for": "you"})


def test_reject(app: App, heard: Heard) -> None:
    @shared_task
    def rejected() -> None:
        raise Reject("not mine")

    result = rejected.delay()
    outcome = run_next(app)
    assert outcome.state == states.REJECTED
    assert outcome.settlement is not None
    assert (outcome.settlement.verb, outcome.settlement.reason) == (Verb.DEAD, "not mine")
    assert app.broker.sizes()["celery"].dead == 1
    assert result.state == states.FAILURE
    assert heard.facts("task_rejected")["exc"] is outcome.value
    assert "task_failure" not in heard.names


def test_reject_and_requeue(app: App) -> None:
    @shared_task
    def rejected() -> None:
        raise Reject("later", requeue=True)

    result = rejected.delay()
    run_next(app)
    assert app.broker.sizes()["celery"].waiting == 1
    assert result.state == states.PENDING


def test_requeued_only_once(app: App) -> None:
    """As the example of Celery's documentation does it."""

    @shared_task(bind=True)
    def rejected(self: Any) -> str:
        if not self.request.delivery_info["redelivered"]:
            raise Reject("later", requeue=True)
        return "done"

    result = rejected.delay()
    assert [outcome.state for outcome in drain(app)] == [states.REJECTED, states.SUCCESS]
    assert result.get() == "done"


def test_retry(app: App, heard: Heard) -> None:
    @shared_task(bind=True)
    def again(self: Any) -> str:
        if self.request.retries:
            return "done"
        raise self.retry(countdown=60, exc=OSError("away"))

    result = again.delay()
    outcome = run_next(app)
    assert outcome.state == result.state == states.RETRY
    message = message_of(app)
    assert (message.id, message.retries) == (result.id, 1)
    assert heard.names == ["task_prerun", "task_retry", "task_postrun"]
    assert heard.facts("task_retry")["reason"] is outcome.value
    assert isinstance(outcome.value.exc, OSError)
    advance(app, 60)
    assert run_next(app).state == states.SUCCESS
    assert result.get() == "done"


@pytest.mark.parametrize("error", [Ignore(), Reject("no"), ValueError("no"), SystemExit(1)])
def test_whatever_follows_a_retry_that_does_not_throw(app: App, error: BaseException, heard: Heard) -> None:
    @shared_task(bind=True, autoretry_for=(ValueError,))
    def again(self: Any) -> str:
        if self.request.retries:
            return "done"
        self.retry(throw=False, countdown=0)
        raise error

    result = again.delay()
    outcomes = drain(app)
    assert [outcome.state for outcome in outcomes] == [states.RETRY, states.SUCCESS]
    assert outcomes[0].value.exc is error
    assert result.get() == "done"
    assert heard.names[:3] == ["task_prerun", "task_retry", "task_postrun"]


def test_retry_by_hand_without_a_message(app: App) -> None:
    @shared_task
    def again() -> None:
        raise Retry("by hand")

    result = again.delay()
    assert run_next(app).state == result.state == states.FAILURE


def test_autoretry_until_none_is_left(app: App) -> None:
    @shared_task(autoretry_for=(OSError,), max_retries=1, default_retry_delay=0)
    def away() -> None:
        raise OSError("away")

    result = away.delay()
    assert [outcome.state for outcome in drain(app)] == [states.RETRY, states.FAILURE]
    with pytest.raises(OSError, match="away"):
        result.get()
    assert result.traceback is not None
    assert result.traceback.splitlines()[1].strip().startswith(f'File "{__file__}"')


def test_autoretry_without_the_last_error(app: App) -> None:
    @shared_task(bind=True, max_retries=0)
    def again(self: Any) -> None:
        self.retry()

    result = again.delay()
    run_next(app)
    with pytest.raises(MaxRetriesExceededError, match="Can't retry"):
        result.get()


def test_backoff_after_very_many_retries(app: App) -> None:
    @shared_task(autoretry_for=(OSError,), max_retries=None, retry_backoff=True, retry_jitter=False)
    def away() -> None:
        raise OSError

    app.broker.send([Message(away.name, "1", retries=5000)])
    assert run_next(app).state == states.RETRY
    eta = message_of(app).eta
    assert eta is not None
    assert eta - datetime.now(timezone.utc) > timedelta(seconds=590)


def test_throws_are_failures_all_the_same(app: App) -> None:
    @shared_task(throws=(KeyError,))
    def expected() -> None:
        raise KeyError("x")

    result = expected.delay()
    assert run_next(app).state == result.state == states.FAILURE


def test_coroutines(app: App) -> None:
    @shared_task
    async def answer(value: int) -> int:
        return value

    @shared_task
    async def broken() -> None:
        raise ValueError("no")

    good, bad = answer.delay(42), broken.delay()
    drain(app)
    assert good.get() == 42
    with pytest.raises(ValueError, match="no"):
        bad.get()


@pytest.mark.django_db(transaction=True)
def test_a_coroutine_leaves_no_broken_connection(app: App) -> None:
    from asgiref.sync import sync_to_async

    from tests.testapp.models import Note

    def break_it() -> None:
        Note.objects.count()
        connections["default"].connection.close()  # as a restart of the server does

    @shared_task
    async def breaking() -> None:
        await sync_to_async(break_it)()
        await Note.objects.acount()

    @shared_task
    async def counting() -> int:
        return await Note.objects.acount()

    breaking.delay()
    result = counting.delay()
    assert [outcome.state for outcome in drain(app)] == [states.FAILURE, states.SUCCESS]
    assert result.get() == 0


# -- what is stored


def test_a_value_that_cannot_be_stored_is_a_failure_that_says_so(app: App, heard: Heard) -> None:
    @shared_task
    def returns_a_socket() -> object:
        return object()

    result = returns_a_socket.delay()
    outcome = run_next(app)
    assert outcome.state == result.state == states.FAILURE
    with pytest.raises(EncodeError, match="returns_a_socket returned what cannot be stored"):
        result.get()
    assert "task_failure" in heard.names
    assert "task_success" not in heard.names


def test_a_value_that_cannot_be_stored_but_is_not_asked_for(app: App) -> None:
    @shared_task(ignore_result=True)
    def returns_a_socket() -> object:
        return object()

    returns_a_socket.delay()
    assert run_next(app).state == states.SUCCESS


@pytest.mark.parametrize("even_if_ignored", [False, True])
def test_ignore_result(app: App, even_if_ignored: bool) -> None:
    @shared_task(ignore_result=True, store_errors_even_if_ignored=even_if_ignored)
    def either(fails: bool) -> None:
        if fails:
            raise ValueError

    good, bad = either.delay(False), either.delay(True)
    assert [outcome.state for outcome in drain(app)] == [states.SUCCESS, states.FAILURE]
    assert app.AsyncResult(good.id).state == states.PENDING
    assert app.AsyncResult(bad.id).state == (states.FAILURE if even_if_ignored else states.PENDING)


def test_the_message_says_more_than_the_task(app: App) -> None:
    @shared_task(ignore_result=True)
    def add() -> int:
        return 1

    result = add.apply_async(ignore_result=False)
    run_next(app)
    assert app.AsyncResult(result.id).get() == 1


def test_track_started(app: App) -> None:
    @shared_task(bind=True, track_started=True)
    def look(self: Any) -> list[Any]:
        seen = app.AsyncResult(self.request.id)
        return [seen.state, seen.info["hostname"], seen.ready()]

    result = look.delay()
    run_next(app)
    assert result.get() == [states.STARTED, NODE, False]


def test_started_cannot_be_stored_and_the_task_runs(app: App, caplog: pytest.LogCaptureFixture) -> None:
    @shared_task(track_started=True)
    def add() -> int:
        return 1

    result = add.delay()
    with failing(app.backend, "store"):
        (delivery,) = reserve(app, 1)
        outcome = Executor(app).run(delivery)
    finish(app, [outcome])
    assert result.get() == 1
    assert "could not be stored: the server is away" in caplog.text


@contextmanager
def failing(part: Any, method: str, error: Exception | None = None) -> Iterator[None]:
    """Let a method of the broker or the backend fail as it does when its server is away."""

    def fail(*_: Any, **__: Any) -> None:
        raise error or OperationalError("the server is away")

    setattr(part, method, fail)
    try:
        yield
    finally:
        delattr(part, method)


# -- acknowledged early


def test_acks_late_false_is_acknowledged_before_the_call(app: App) -> None:
    @shared_task(acks_late=False)
    def look() -> int:
        return sum(size.reserved for size in app.broker.sizes().values())

    result = look.delay()
    outcome = run_next(app)
    assert outcome.settlement is None
    assert result.get() == 0


@pytest.mark.parametrize("ignored", [False, True])
def test_that_a_message_is_gone_is_told_and_if_its_failure_is_to_be_stored(app: App, ignored: bool) -> None:
    @shared_task(acks_late=False, ignore_result=ignored)
    def add() -> None:
        told.append("call")

    told: list[Any] = []
    executor = Executor(app)
    executor.on_acknowledged = told.append
    add.delay()
    (delivery,) = reserve(app, 1)
    executor.run(delivery)
    assert told == [not ignored, "call"]


def test_acks_late_false_does_not_run_without_its_lease(app: App) -> None:
    runs = []

    @shared_task(acks_late=False)
    def once() -> None:
        runs.append(1)

    once.delay()
    (late,) = reserve(app, 1)
    redeliver(app)
    assert Executor(app).run(late).state == states.IGNORED
    assert runs == []
    assert app.broker.sizes()["celery"].reserved == 1


def test_the_broker_is_away_before_the_call(app: App) -> None:
    runs = []

    @shared_task(acks_late=False)
    def once() -> None:
        runs.append(1)

    once.delay()
    (delivery,) = reserve(app, 1)
    with failing(app.broker, "settle"), pytest.raises(OperationalError):
        Executor(app).run(delivery)
    assert runs == []


# -- refused


def test_unknown_tasks_are_offered_again_with_growing_delay_then_kept_as_dead(
    app: App, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    result = app.send_task("nobody.knows", [1])
    delays: list[float] = []
    for _ in REFUSAL_DELAYS:
        outcome = run_next(app)
        assert outcome.state == states.PENDING
        assert outcome.settlement is not None
        left = sum(REFUSAL_DELAYS[len(delays) :])
        assert f"It is tried again for {left} s more" in caplog.text
        delays.append(outcome.settlement.delay)
        assert reserve(app) == []
        advance(app, outcome.settlement.delay)
    assert tuple(delays) == REFUSAL_DELAYS
    assert result.state == states.PENDING
    assert run_next(app).state == states.FAILURE
    assert app.broker.sizes()["celery"].dead == 1
    with pytest.raises(NotRegistered, match=r"nobody\.knows"):
        result.get()
    assert heard.names == ["task_unknown"] * (len(REFUSAL_DELAYS) + 1)
    facts = heard.calls[0][1]
    assert (facts["name"], facts["id"]) == ("nobody.knows", result.id)
    assert f"`tasks dead resend {result.id}`" in caplog.text


def test_unreadable_messages_are_kept_as_dead(app: App, caplog: pytest.LogCaptureFixture) -> None:
    assert isinstance(app.broker, MemoryBroker)

    @shared_task
    def add() -> None: ...

    result = add.delay()
    (entry,) = app.broker.entries.values()
    entry.payload = entry.payload.replace("application/json", "application/x-python-serialize")
    outcome = run_next(app)
    assert outcome.state == states.FAILURE
    assert isinstance(outcome.value, DecodeError)
    assert app.broker.sizes()["celery"].dead == 1
    assert entry.number in app.broker.entries
    assert result.state == states.FAILURE  # its id could be read
    assert "cannot be read and goes to the dead letters" in caplog.text


def test_garbage_is_kept_as_dead(app: App) -> None:
    assert isinstance(app.broker, MemoryBroker)
    app.broker.send([Message("x", "1")])
    next(iter(app.broker.entries.values())).payload = "no JSON"
    assert run_next(app).state == states.FAILURE
    assert app.broker.sizes()["celery"].dead == 1


def test_expired(app: App, heard: Heard) -> None:
    @shared_task
    def late() -> None: ...

    result = late.apply_async(expires=10)
    advance(app, 11)
    assert run_next(app).state == states.REVOKED
    assert result.state == states.REVOKED
    with pytest.raises(TaskRevokedError, match="expired"):
        result.get()
    facts = heard.facts("task_revoked")
    assert (facts["expired"], facts["terminated"], facts["request"].id) == (True, False, result.id)
    assert heard.names == ["task_revoked"]
    assert app.broker.sizes() == {}


def test_not_expired_yet(app: App) -> None:
    @shared_task
    def timely() -> int:
        return 1

    result = timely.apply_async(expires=10)
    advance(app, 9)
    run_next(app)
    assert result.get() == 1


def test_too_early(app: App) -> None:
    """As a broker delivers it that knows no due times, or whose clock is ahead of ours."""

    @shared_task
    def later() -> int:
        return 1

    result = later.delay()
    (delivery,) = reserve(app, 1)
    delivery.message.eta = datetime.now(timezone.utc) + timedelta(seconds=30)
    outcome = Executor(app).run(delivery)
    finish(app, [outcome])
    assert outcome.state == states.PENDING
    assert outcome.settlement is not None
    assert 29 < outcome.settlement.delay <= 30
    assert reserve(app) == []
    advance(app, 30)
    run_next(app)
    assert result.get() == 1


def test_rate_limits_park_a_message_once(app: App) -> None:
    @shared_task(rate_limit="1/m")
    def limited() -> int:
        return 1

    asked = []

    def admit(task: Any) -> float:
        asked.append(task.name)
        return 45.0

    result = limited.delay()
    outcome = run_next(app, admit=admit)
    assert outcome.settlement is not None
    assert (outcome.state, outcome.settlement.delay) == (states.PENDING, 45.0)
    assert reserve(app) == []
    advance(app, 45)
    assert run_next(app, admit=admit).state == states.SUCCESS
    assert asked == [limited.name]
    assert result.get() == 1


def test_no_rate_limit_is_no_question(app: App) -> None:
    @shared_task
    def free() -> None: ...

    free.delay()
    assert run_next(app, admit=lambda task: pytest.fail("asked")).state == states.SUCCESS


# -- ended before


def test_a_task_that_ended_before_is_not_called_again(app: App) -> None:
    runs = []

    @shared_task
    def once() -> str:
        runs.append(1)
        return "first"

    @shared_task
    def follower(value: str) -> str:
        return f"after {value}"

    once.apply_async(link=follower.s(), task_id="1")
    (delivery,) = reserve(app, 1)
    outcome = Executor(app, hostname=NODE).run(delivery)
    assert outcome.meta is not None
    app.backend.store([outcome.meta])  # and then the worker dies, before it has sent what follows
    again = Executor(app, hostname=NODE).run(redeliver(app))
    assert (again.state, again.value) == (states.SUCCESS, "first")
    finish(app, [again])
    assert runs == [1]
    (message,) = waiting(app)
    assert (message.task, message.args) == (follower.name, ["first"])


def test_a_failure_before_is_told_again_to_errbacks_only(app: App, heard: Heard) -> None:
    @shared_task
    def broken() -> None:
        raise ValueError("no")

    @shared_task
    def errback(task_id: str) -> None: ...

    broken.apply_async(link_error=errback.s(), task_id="1")
    (delivery,) = reserve(app, 1)
    outcome = Executor(app).run(delivery)
    assert outcome.meta is not None
    app.backend.store([outcome.meta])
    heard.calls.clear()
    again = Executor(app).run(redeliver(app))
    assert isinstance(again.value, ValueError)
    finish(app, [again])
    assert [message.task for message in waiting(app)] == [errback.name]
    assert heard.names == []


def test_a_retry_that_was_stored_is_no_end(app: App) -> None:
    @shared_task
    def add() -> int:
        return 1

    result = add.delay()
    reserve(app)
    app.backend.store([TaskMeta(result.id, states.RETRY)])
    assert Executor(app).run(redeliver(app)).state == states.SUCCESS


def test_an_earlier_result_that_cannot_be_read(app: App, heard: Heard) -> None:
    """Nobody can tell what was to follow from it: the message is kept, and the worker goes on."""

    @shared_task
    def add() -> int:
        return 1

    result = add.delay()
    run_next(app)
    app.backend.metas[result.id].result = app.backend.encode(1, states.SUCCESS)._replace(data=b"{")
    add.apply_async(task_id=result.id)
    reserve(app)
    outcome = Executor(app).run(redeliver(app))
    assert (outcome.state, outcome.follow) == (states.SUCCESS, False)
    assert outcome.settlement is not None
    assert outcome.settlement.verb is Verb.DEAD
    assert "cannot be read" in outcome.settlement.reason
    assert "task_internal_error" not in heard.names


# -- hooks and receivers


class Telling(Task[Any, Any]):
    """Notes which hooks are called with what."""

    told: list[tuple[Any, ...]]

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        self.told.append(("before_start", task_id, args, kwargs))

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        self.told.append(("on_success", retval, task_id, args, kwargs))

    def on_failure(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        self.told.append(("on_failure", repr(exc), task_id, args, kwargs, "Traceback" in str(einfo)))

    def on_retry(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        self.told.append(("on_retry", repr(exc), task_id, args, kwargs, einfo is not None))

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        self.told.append(("after_return", status, task_id, args, kwargs, einfo is not None))


def test_hooks_after_success(app: App) -> None:
    @shared_task(base=Telling, told=[])
    def add(x: int, y: int = 0) -> int:
        return x + y

    add.apply_async((1,), {"y": 2}, task_id="1")
    run_next(app)
    assert add.told == [
        ("before_start", "1", [1], {"y": 2}),
        ("on_success", 3, "1", [1], {"y": 2}),
        ("after_return", "SUCCESS", "1", [1], {"y": 2}, False),
    ]


def test_hooks_after_failure(app: App) -> None:
    @shared_task(base=Telling, told=[])
    def broken() -> None:
        raise ValueError("no")

    broken.apply_async(task_id="1")
    run_next(app)
    assert broken.told == [
        ("before_start", "1", [], {}),
        ("on_failure", "ValueError('no')", "1", [], {}, True),
        ("after_return", "FAILURE", "1", [], {}, True),
    ]


def test_hooks_after_retry(app: App) -> None:
    @shared_task(base=Telling, told=[], autoretry_for=(OSError,))
    def away() -> None:
        raise OSError("away")

    away.apply_async(task_id="1")
    run_next(app)
    assert away.told[1:] == [("on_retry", "OSError('away')", "1", [], {}, True)]


def test_hooks_and_the_request(app: App) -> None:
    class Asking(Task[Any, Any]):
        def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
            seen.append(self.request.id)

    seen: list[Any] = []

    @shared_task(base=Asking)
    def add() -> None: ...

    add.apply_async(task_id="1")
    run_next(app)
    assert seen == ["1"]


@pytest.mark.parametrize("fails", [False, True])
def test_hooks_and_receivers_find_the_end_stored(app: App, fails: bool) -> None:
    """As with Celery: they may look at the result, and send tasks that do."""
    seen: list[Any] = []

    def look(*_: Any, **__: Any) -> None:
        seen.append(result.state)

    @shared_task(on_success=look, on_failure=look, after_return=look)
    def either() -> None:
        if fails:
            raise ValueError

    result = either.delay()
    with connected("task_success", look), connected("task_failure", look), connected("task_postrun", look):
        run_next(app)
    assert seen == [states.FAILURE if fails else states.SUCCESS] * 4


def test_hooks_of_a_run_that_does_not_count(app: App, heard: Heard) -> None:
    """Its lease was lost, and another worker runs it; what began with task_prerun ends all the same."""

    @shared_task(base=Telling, told=[])
    def add() -> int:
        return 1

    add.delay()
    (late,) = reserve(app, 1)
    outcome = Executor(app).run(late)
    redeliver(app)
    assert finish(app, [outcome]) == []
    assert [name for name, *_ in add.told] == ["before_start"]
    assert heard.names == ["task_prerun", "task_postrun"]
    assert heard.facts("task_postrun")["state"] == states.IGNORED


def test_hooks_of_a_run_that_was_revoked(app: App, heard: Heard) -> None:
    @shared_task(bind=True, base=Telling, told=[])
    def job(self: Any) -> int:
        app.control.revoke(self.request.id)
        return 1

    job.delay()
    run_next(app)
    assert [name for name, *_ in job.told] == ["before_start"]
    assert heard.facts("task_postrun")["state"] == states.REVOKED


def test_a_hook_that_raises_changes_nothing(app: App, heard: Heard, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Telling):
        def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
            raise RuntimeError("a broken hook")

    @shared_task(base=Broken, told=[])
    def add() -> int:
        return 1

    result = add.delay()
    assert run_next(app).state == states.SUCCESS
    assert result.get() == 1
    assert [name for name, *_ in add.told] == ["before_start", "after_return"]
    assert heard.names == ["task_prerun", "task_success", "task_internal_error", "task_postrun"]
    assert str(heard.facts("task_internal_error")["exception"]) == "a broken hook"
    assert "a broken hook" in caplog.text


@pytest.mark.parametrize("hook", ["on_success", "after_return"])
def test_a_hook_that_would_end_the_process_changes_nothing(app: App, hook: str) -> None:
    def leave(*_: Any) -> None:
        raise SystemExit(3)

    @shared_task(**{hook: leave})
    def add() -> int:
        return 1

    result = add.delay()
    run_next(app)
    assert result.get() == 1


def test_before_start_that_raises_is_a_failure(app: App) -> None:
    class Broken(Telling):
        def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
            raise RuntimeError("not today")

    @shared_task(base=Broken, told=[])
    def add() -> int:
        pytest.fail("called")

    result = add.delay()
    run_next(app)
    with pytest.raises(RuntimeError, match="not today"):
        result.get()


@pytest.mark.parametrize("name", ["task_prerun", "task_success", "task_postrun"])
def test_a_receiver_that_raises_changes_nothing(app: App, name: str) -> None:
    @shared_task
    def add() -> int:
        return 1

    def broken(**_: Any) -> None:
        raise RuntimeError("a broken receiver")

    result = add.delay()
    with connected(name, broken):
        run_next(app)
    assert result.get() == 1


def test_a_receiver_of_prerun_that_would_end_the_process(app: App) -> None:
    @shared_task
    def add() -> int:
        return 1

    def leave(**_: Any) -> None:
        raise SystemExit(3)

    result = add.delay()
    with connected("task_prerun", leave):
        run_next(app)
    assert result.state == states.FAILURE


def test_signals_of_success(app: App, heard: Heard) -> None:
    @shared_task
    def add(x: int) -> int:
        return x

    add.apply_async((7,), task_id="1")
    run_next(app)
    assert heard.names == ["task_prerun", "task_success", "task_postrun"]
    prerun, postrun = heard.facts("task_prerun"), heard.facts("task_postrun")
    for facts in (prerun, postrun):
        assert facts["sender"] is facts["task"] is add
        assert (facts["task_id"], facts["args"], facts["kwargs"]) == ("1", [7], {})
    assert (postrun["retval"], postrun["state"]) == (7, states.SUCCESS)
    success = heard.facts("task_success")
    assert (success["sender"], success["result"]) == (add, 7)
    assert success["runtime"] > 0


def test_signals_of_failure(app: App, heard: Heard) -> None:
    @shared_task
    def broken() -> None:
        raise ValueError("no")

    broken.apply_async(task_id="1")
    outcome = run_next(app)
    assert heard.names == ["task_prerun", "task_failure", "task_postrun"]
    facts = heard.facts("task_failure")
    assert (facts["sender"], facts["task_id"], facts["exception"]) == (broken, "1", outcome.value)
    assert facts["traceback"] is outcome.value.__traceback__
    assert "ValueError: no" in str(facts["einfo"])
    assert heard.facts("task_postrun")["state"] == states.FAILURE


def test_without_receivers_nothing_is_sent_or_computed(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        pytest.fail("a signal was sent though nobody listens")

    for name in (*NAMES, "before_task_publish", "after_task_publish"):
        assert not getattr(signals, name).receivers
        monkeypatch.setattr(getattr(signals, name), "send", fail)

    @shared_task
    def add() -> None: ...

    @shared_task
    def broken() -> None:
        raise ValueError

    @shared_task(autoretry_for=(OSError,))
    def away() -> None:
        raise OSError

    for task in (add, broken, away):
        task.delay()
    add.apply_async(expires=datetime.now(timezone.utc) - timedelta(seconds=1))
    app.send_task("nobody.knows")
    found = [outcome.state for outcome in drain(app)]
    assert found == [states.SUCCESS, states.FAILURE, states.RETRY, states.REVOKED, states.PENDING]


def test_the_hooks_of_a_task_are_all_there() -> None:
    assert {name for name in vars(Hooks) if not name.startswith("_")} == {
        "before_start", "on_success", "on_failure", "on_retry", "after_return",
    }  # fmt: skip


# -- limits, and the request


@pytest.mark.parametrize(
    ("call", "task", "worker", "expected"),
    [
        ((None, None), (None, None), (None, None), None),
        ((None, None), (None, None), (9.0, 8.0), (9.0, 8.0)),
        ((None, None), (5.0, None), (9.0, 8.0), (5.0, 8.0)),
        ((3.0, None), (5.0, 4.0), (9.0, 8.0), (3.0, 4.0)),
        ((3.0, 2.0), (5.0, 4.0), (9.0, 8.0), (3.0, 2.0)),
        ((None, 2.0), (None, None), (None, None), (None, 2.0)),
    ],
)
def test_the_call_knows_its_limits_best_then_the_task_then_the_worker(
    app: App, call: Any, task: Any, worker: Any, expected: Any
) -> None:
    guarded: list[Any] = []

    @contextmanager
    def guard(hard: float | None, soft: float | None) -> Iterator[None]:
        guarded.append((hard, soft))
        yield

    @shared_task
    def add() -> None:
        guarded.append("call")

    app.broker.send([Message(add.name, "1", timelimit=call)])
    add.time_limit, add.soft_time_limit = task
    run_next(app, guard=guard, limits=worker)
    assert guarded == ["call"] if expected is None else [expected, "call"]


def test_only_the_call_is_guarded(app: App) -> None:
    inside = []

    @contextmanager
    def guard(hard: float | None, soft: float | None) -> Iterator[None]:
        inside.append("[")
        yield
        inside.append("]")

    class Noting(Task[Any, Any]):
        def before_start(self, *_: Any) -> None:
            inside.append("before_start")

        def on_success(self, *_: Any) -> None:
            inside.append("on_success")

    @shared_task(base=Noting, soft_time_limit=5)
    def add() -> None:
        inside.append("run")

    add.delay()
    run_next(app, guard=guard)
    assert inside == ["before_start", "[", "run", "]", "on_success"]


def test_the_request(app: App) -> None:
    @shared_task(bind=True)
    def look(self: Any, x: int) -> list[Any]:
        request = self.request
        return [request.id, request.args, request.hostname, request.delivery_info["routing_key"], request.retries,
                request.called_directly, request.is_eager]  # fmt: skip

    result = look.apply_async((1,), task_id="1", queue="other")
    run_next(app)
    assert result.get() == ["1", [1], NODE, "other", 0, False, False]
    assert look.request.id is None


def test_children_are_remembered(app: App) -> None:
    @shared_task
    def child() -> None: ...

    @shared_task
    def parent() -> str:
        return child.delay().id

    result = parent.delay()
    drain(app)
    assert [each.id for each in result.children] == [result.get()]


def test_redelivered_is_told(app: App) -> None:
    @shared_task(bind=True)
    def look(self: Any) -> bool:
        return bool(self.request.delivery_info["redelivered"])

    result = look.delay()
    reserve(app)
    finish(app, [Executor(app).run(redeliver(app))])
    assert result.get() is True


def test_a_delivery_of_what_was_never_stored_here(app: App) -> None:
    """The executor asks nothing of the broker that it does not need."""

    @shared_task
    def add() -> int:
        return 1

    app.broker.send([Message(add.name, "1")])
    assert isinstance(app.broker, MemoryBroker)
    (entry,) = app.broker.entries.values()
    delivery = deliver(entry.payload, app.broker.accept, "celery", entry.number, new_lease())
    assert Executor(app).run(delivery).state == states.SUCCESS
    assert app.backend.get(["1"]) == {}  # nothing is stored before finish


def test_unknown_tasks_say_where_they_must_stand(app: App, caplog: pytest.LogCaptureFixture) -> None:
    app.send_task("nobody.knows")
    with caplog.at_level(logging.ERROR):
        run_next(app)
    assert "`tasks` module of an installed app" in caplog.text


# -- nothing of one task is left to the next


@pytest.mark.django_db(transaction=True)
def test_what_a_task_leaves_behind_is_cleaned_up() -> None:
    from django.db import connection

    from django_tasks.worker.cleaning import clean_up
    from tests.testapp.models import Note

    transaction.atomic().__enter__()
    Note.objects.create(title="never committed")
    connection.force_debug_cursor = True
    Note.objects.count()
    assert connection.queries
    clean_up()
    connection.force_debug_cursor = False
    assert connection.queries == []
    assert not connection.in_atomic_block
    assert Note.objects.count() == 0  # the connection works, and what was open is rolled back
    transaction.set_autocommit(False)
    Note.objects.create(title="never committed")
    clean_up()
    assert transaction.get_autocommit()
    assert Note.objects.count() == 0
