"""The one way a task ends: store, send what follows, settle; whatever fails in between."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest

from django_tasks import App, Task, shared_task, signals, states
from django_tasks.backends.redis import RedisBackend
from django_tasks.brokers.base import UNKNOWN_RESERVATION_AGE, Beat, Delivery, Settlement, Verb
from django_tasks.brokers.memory import MemoryBroker
from django_tasks.brokers.redis import RedisBroker
from django_tasks.brokers.redis_ledger import Held
from django_tasks.exceptions import OperationalError, TaskRevokedError
from django_tasks.executor import Executor
from django_tasks.finish import failure, finish, follow_ups
from django_tasks.message import Message
from django_tasks.outcome import Outcome, TaskMeta
from django_tasks.worker.batch import Batch, finish_all
from tests.running import NODE, advance, app_of_test, drain, reserve, waiting


@pytest.fixture(params=["memory://", "django-db://", "redis://"])
def app(request: pytest.FixtureRequest, transactional_db: None) -> Iterator[App]:
    url = request.getfixturevalue("redis_url") if request.param == "redis://" else request.param
    with app_of_test(url, result_extended=True) as app:
        yield app
        app.close()


def run(app: App, count: int = 1) -> list[Outcome]:
    """Run messages and do not finish them."""
    deliveries = reserve(app, count)
    assert len(deliveries) == count
    return [Executor(app, hostname=NODE).run(delivery) for delivery in deliveries]


def lose_lease(app: App) -> None:
    """Let another worker take over what is reserved."""
    if isinstance(app.broker, MemoryBroker):
        for entry in app.broker.entries.values():
            entry.lease = 1
    elif isinstance(app.broker, RedisBroker):
        app.broker.heartbeat([Beat(NODE, NODE, 1, ["celery"])])  # it knows nothing of them
        app.broker.clock = lambda: time.time() + UNKNOWN_RESERVATION_AGE + 5
        app.broker.heartbeat([Beat(NODE, NODE, 1, ["celery"])])
    else:
        from django_tasks.models import QueuedMessage

        QueuedMessage.objects.update(lease=1)


def replace_lease(delivery: Delivery) -> None:
    """Let a delivery be of a lease that nobody has."""
    delivery.lease += 1
    if isinstance(delivery.handle, Held):
        delivery.handle = delivery.handle._replace(field="1-0-0.0")


class Away:
    """Lets a method of a part fail a number of times, as when its server is away, then work again."""

    def __init__(self, part: Any, method: str, times: int = 1) -> None:
        self.part, self.method, self.times = part, method, times
        self.real = getattr(part, method)
        setattr(part, method, self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.times:
            self.times -= 1
            raise OperationalError("the server is away")
        return self.real(*args, **kwargs)


def where(app: App, part: str, method: str) -> tuple[Any, str]:
    """Return what carries out one of the steps: on one Redis they are one script."""
    return (app.broker.ledger, "run") if isinstance(app.broker, RedisBroker) else (getattr(app, part), method)


class Unheard(Away):
    """Lets a method do its work and then say that its server is away: the reply to COMMIT was lost."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        answer = self.real(*args, **kwargs)
        if self.times:
            self.times -= 1
            raise OperationalError("the server closed the connection")
        return answer


def make_add() -> Any:
    @shared_task
    def add(x: int = 1, y: int = 1) -> int:
        return x + y

    return add


def make_broken() -> Any:
    @shared_task
    def broken() -> None:
        raise ValueError("no")

    return broken


# -- a batch


def test_a_batch_is_stored_followed_and_settled(app: App) -> None:
    add, broken = make_add(), make_broken()
    results = [add.apply_async((n, 1), link=add.s(10)) for n in range(3)] + [broken.delay()]
    counted = finish(app, run(app, 4))
    assert [outcome.state for outcome in counted] == [states.SUCCESS] * 3 + [states.FAILURE]
    assert [result.state for result in results] == [states.SUCCESS] * 3 + [states.FAILURE]
    assert [message.args for message in waiting(app)] == [[1, 10], [2, 10], [3, 10]]
    assert app.broker.sizes()["celery"].reserved == 0


def test_nothing_is_nothing(app: App) -> None:
    assert finish(app, []) == []


def test_without_its_lease_an_outcome_leaves_no_trace(app: App) -> None:
    add = make_add()
    results = [add.apply_async(link=add.s(1)), add.delay()]
    lost, kept = run(app, 2)
    assert lost.settlement is not None
    replace_lease(lost.settlement.delivery)
    assert finish(app, [lost, kept]) == [kept]
    assert [result.state for result in results] == [states.PENDING, states.SUCCESS]
    assert waiting(app) == []
    assert app.broker.sizes()["celery"].reserved == 1


def test_a_batch_whose_leases_are_all_lost(app: App) -> None:
    add = make_add()
    results = [add.delay(), add.delay()]
    outcomes = run(app, 2)
    lose_lease(app)
    assert finish(app, outcomes) == []
    assert [result.state for result in results] == [states.PENDING] * 2


def test_the_first_end_stays(app: App) -> None:
    """A task that was revoked while it ran keeps that state; its callbacks and retries are not sent."""

    @shared_task(autoretry_for=(OSError,))
    def away() -> None:
        raise OSError

    add = make_add()
    results = [add.apply_async(link=add.s(1)), away.delay()]
    outcomes = run(app, 2)
    error = app.backend.encode(TaskRevokedError("revoked"), states.REVOKED)
    app.backend.store([TaskMeta(result.id, states.REVOKED, error) for result in results])
    counted = finish(app, outcomes)
    assert [outcome.state for outcome in counted] == [states.REVOKED] * 2
    assert isinstance(counted[0].value, TaskRevokedError)
    assert [result.state for result in results] == [states.REVOKED] * 2
    assert waiting(app) == []
    assert not any(size.reserved for size in app.broker.sizes().values())


def test_an_outcome_without_a_message(app: App) -> None:
    """A task that was acknowledged before it ran."""

    @shared_task(acks_late=False)
    def once() -> int:
        return 1

    add = make_add()
    result = once.apply_async(link=add.s(1))
    finish(app, run(app))
    assert result.get() == 1
    assert [message.args for message in waiting(app)] == [[1, 1]]


# -- servers that go away


def test_nothing_is_lost_when_the_results_cannot_be_stored(app: App) -> None:
    add = make_add()
    result = add.apply_async(link=add.s(1))
    (outcome,) = run(app)
    Away(*where(app, "backend", "store"))
    with pytest.raises(OperationalError):
        finish(app, [outcome])
    assert app.broker.sizes()["celery"].reserved == 1
    assert waiting(app) == []
    finish(app, [outcome])
    assert result.get() == 2
    assert len(waiting(app)) == 1


def test_nothing_is_lost_when_what_follows_cannot_be_sent(app: App) -> None:
    add = make_add()
    result = add.apply_async(link=add.s(1))
    (outcome,) = run(app)
    Away(*where(app, "broker", "send"))
    with pytest.raises(OperationalError):
        finish(app, [outcome])
    assert app.broker.sizes()["celery"].reserved == 1
    finish(app, [outcome])
    assert result.get() == 2
    assert len(waiting(app)) == 1


# -- what follows


def test_callbacks_get_the_value_and_know_their_parent(app: App) -> None:
    add = make_add()
    result = add.apply_async((1, 2), link=[add.s(10), add.si(7, 7)])
    finish(app, run(app))
    first, second = waiting(app)
    assert (first.args, second.args) == ([3, 10], [7, 7])
    assert {each.parent_id for each in (first, second)} == {each.root_id for each in (first, second)} == {result.id}


def chained(add: Any, *ids: str) -> dict[str, Any]:
    """Return what a message of Celery's has of a chain: the next step last, each with its id."""
    steps = [{**add.s(int(each)), "options": {"task_id": each}} for each in reversed(ids)]
    return {"callbacks": None, "errbacks": None, "chain": steps, "chord": None}


def test_the_rest_of_a_chain_goes_on_with_the_value(app: App) -> None:
    """As a client of Celery sends it."""
    add = make_add()
    app.broker.send([Message(add.name, "first", [1, 2], embed=chained(add, "10", "20"))])
    (first,) = run(app)
    finish(app, [first])
    (second,) = waiting(app)
    assert (second.id, second.args, second.parent_id, second.root_id) == ("10", [3, 10], "first", "first")
    assert [outcome.value for outcome in drain(app)] == [13, 33]
    assert app.AsyncResult("20").get(timeout=0) == 33


@pytest.mark.parametrize("expires", [None, datetime(2020, 1, 1, tzinfo=timezone.utc)])
def test_the_rest_of_a_chain_ends_as_the_step_that_failed(app: App, expires: datetime | None) -> None:
    add = make_add()
    app.broker.send([Message(add.name, "first", ["x", 2], expires=expires, embed=chained(add, "10", "20"))])
    (outcome,) = drain(app)
    assert outcome.state == (states.REVOKED if expires else states.FAILURE)
    for each in ("first", "10", "20"):
        assert (app.AsyncResult(each).state, type(app.AsyncResult(each).result)) == (outcome.state, type(outcome.value))


@pytest.mark.parametrize("step", ["x" * 300, "a\0b"])
def test_the_end_of_a_chain_that_cannot_be_stored_is_no_reason_to_end_the_batch_again(app: App, step: str) -> None:
    add = make_add()
    embed = chained(add, "10")
    embed["chain"][0]["options"]["task_id"] = step
    app.broker.send([Message(add.name, "first", ["x", 2], embed=embed)])
    result = add.delay(1)
    told: list[str] = []
    outcomes = run(app, 2)
    outcomes[1].tell = lambda outcome: told.append(outcome.state)
    finish_all(app, outcomes)
    assert told == [states.SUCCESS]
    assert (app.AsyncResult("first").state, result.state) == (states.FAILURE, states.SUCCESS)
    assert app.broker.sizes() == {}


@pytest.mark.parametrize("what", ["chord", "group", "chain"])
def test_what_leads_to_more_than_a_chain_is_left_to_others(app: App, what: str, caplog: Any) -> None:
    add = make_add()
    embed = chained(add, "10")
    if what == "chord":
        embed["chord"] = dict(add.s())
    else:
        embed["chain"].append({**add.s(), "subtask_type": what})
    app.broker.send([Message(add.name, "part", [1, 2], embed=embed)])
    (outcome,) = run(app)
    finish(app, [outcome])
    assert outcome.settlement is not None
    assert (outcome.settlement.verb, outcome.settlement.refused, outcome.settlement.delay) == (Verb.RETURN, True, 1)
    assert f"[part] is put back for 1 s. A {what} follows from this call" in caplog.text
    for _ in range(20):
        advance(app, 61)
        drain(app)
    with pytest.raises(NotImplementedError, match=f"A {what} follows"):
        app.AsyncResult("part").get(timeout=0)
    assert app.broker.sizes()["celery"].dead == 1


def test_ids_of_what_follows_come_from_its_cause(app: App) -> None:
    add = make_add()
    add.apply_async(link=[add.s(1), add.s(2)])
    (outcome,) = run(app)
    first, again = follow_ups(app, outcome), follow_ups(app, outcome)
    assert [each.id for each in first] == [each.id for each in again]
    assert len({each.id for each in first}) == 2
    outcome.message.retries += 1
    assert not {each.id for each in first} & {each.id for each in follow_ups(app, outcome)}


def test_errbacks_of_the_old_kind_are_calls_of_their_task(app: App, caplog: pytest.LogCaptureFixture) -> None:
    seen = []

    class Called(Task[Any, Any]):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            seen.append("called")
            return super().__call__(*args, **kwargs)

    @shared_task(bind=True, base=Called)
    def leave(self: Any, request: Any, exc: BaseException, traceback: str) -> None:
        seen.append(self.request.args[0].id)
        raise SystemExit(3)

    @shared_task
    def broken() -> None:
        raise ValueError

    result = broken.apply_async(link_error=leave.s())
    drain(app)
    assert seen == ["called", result.id]
    assert "raised" in caplog.text


def test_receivers_are_told_of_what_follows(app: App) -> None:
    """As Celery does it: retries and callbacks are messages like all others."""

    @shared_task(bind=True)
    def again(self: Any) -> None:
        if not self.request.retries:
            raise self.retry(countdown=0)

    def before(headers: dict[str, Any], **_: Any) -> None:
        told.append(("before", headers["task"], headers["retries"]))
        headers["trace"] = "abc"

    def after(headers: dict[str, Any], **_: Any) -> None:
        told.append(("after", headers["task"], headers["retries"]))

    told: list[Any] = []
    add = make_add()
    again.apply_async(link=add.si(1, 2))
    signals.before_task_publish.connect(before)
    signals.after_task_publish.connect(after)
    try:
        outcomes = drain(app)
    finally:
        signals.before_task_publish.disconnect(before)
        signals.after_task_publish.disconnect(after)
    assert told == [
        ("before", again.name, 1), ("after", again.name, 1), ("before", add.name, 0), ("after", add.name, 0),
    ]  # fmt: skip
    assert [outcome.message.headers for outcome in outcomes] == [{}, {"trace": "abc"}, {"trace": "abc"}]


def test_a_signature_that_was_frozen_keeps_its_id(app: App) -> None:
    add = make_add()
    following = add.s(1)
    promise = following.freeze()
    add.apply_async(link=following)
    drain(app)
    assert promise.get() == 3


def test_failures_are_followed_by_errbacks_only(app: App) -> None:
    add, broken = make_add(), make_broken()

    @shared_task
    def errback(task_id: str) -> None: ...

    result = broken.apply_async(link=add.s(1), link_error=errback.s())
    finish(app, run(app))
    (message,) = waiting(app)
    assert (message.task, message.args) == (errback.name, [result.id])


def test_errbacks_of_the_old_kind_are_called_here(app: App) -> None:
    """Celery calls an errback that takes more than the id with request, exception and traceback."""
    told: list[Any] = []
    broken = make_broken()

    @shared_task
    def errback(request: Any, exc: BaseException, traceback: str) -> None:
        told.append((request.id, repr(exc), "ValueError: no" in traceback))
        raise RuntimeError("errbacks cannot undo a failure")

    result = broken.apply_async(link_error=errback.s())
    finish(app, run(app))
    assert told == [(result.id, "ValueError('no')", True)]
    assert result.state == states.FAILURE
    assert waiting(app) == []


def test_a_retry_is_followed_by_the_next_run_only(app: App) -> None:
    @shared_task(autoretry_for=(OSError,), default_retry_delay=0)
    def away() -> None:
        raise OSError

    add = make_add()
    result = away.apply_async(link=add.s(1), link_error=add.s(2))
    finish(app, run(app))
    (message,) = waiting(app)
    assert (message.id, message.retries) == (result.id, 1)
    assert message.embed is not None
    assert message.embed["callbacks"]


# -- ends without a run


def make_delivery(app: App, **options: Any) -> Delivery:
    make_add().apply_async((1, 2), task_id="1", **options)
    (delivery,) = reserve(app)
    return delivery


def test_failure_tells_what_it_knows(app: App) -> None:
    delivery = make_delivery(app)
    outcome = failure(app, delivery, TaskRevokedError("expired"), state=states.REVOKED)
    assert outcome.settlement == Settlement(delivery, Verb.ACK, reason="expired")
    finish(app, [outcome])
    result = app.AsyncResult("1")
    assert result.state == states.REVOKED
    assert (result.name, result.args, result.queue) == (delivery.message.task, [1, 2], "celery")
    assert result.traceback is None
    assert result.date_done is not None


def test_failure_of_what_is_not_to_be_stored(app: App) -> None:
    delivery = make_delivery(app, ignore_result=True)
    finish(app, [failure(app, delivery, ValueError("no"))])
    assert app.AsyncResult("1").state == states.PENDING
    assert not app.broker.sizes().get("celery")


@pytest.mark.parametrize("even_if_ignored", [False, True])
@pytest.mark.parametrize("by", ["call", "task", "settings"])
def test_failure_of_an_ignored_result(app: App, by: str, even_if_ignored: bool) -> None:
    """Whoever ends the task stores as much as a worker that runs it."""
    app.conf.task_ignore_result = by == "settings"
    app.conf.task_store_errors_even_if_ignored = even_if_ignored and by != "task"
    options = {"ignore_result": True, "store_errors_even_if_ignored": even_if_ignored} if by == "task" else {}

    @shared_task(**options)
    def add() -> None: ...

    add.apply_async(task_id="1", **({"ignore_result": True} if by == "call" else {}))
    (delivery,) = reserve(app)
    finish(app, [failure(app, delivery, ValueError("no"))])
    assert app.AsyncResult("1").state == (states.FAILURE if even_if_ignored else states.PENDING)


def test_dead_letters_keep_the_reason(app: App) -> None:
    finish(app, [failure(app, make_delivery(app), ValueError("too bad"), verb=Verb.DEAD)])
    assert app.broker.sizes()["celery"].dead == 1
    assert app.AsyncResult("1").state == states.FAILURE


# -- outcomes that the servers refuse


class Unstorable:
    """Makes the backend refuse one task id, as a database refuses text that its encoding does not have."""

    def __init__(self, app: App, task_id: str) -> None:
        self.task_id = task_id
        method = "entry" if isinstance(app.backend, RedisBackend) else "store"
        self.real = getattr(app.backend, method)
        setattr(app.backend, method, self)

    def __call__(self, given: Any) -> Any:
        metas = [given] if isinstance(given, TaskMeta) else given
        if any(meta.task_id == self.task_id and meta.status == states.SUCCESS for meta in metas):
            raise ValueError("this cannot be stored")
        return self.real(given)


def test_an_outcome_that_cannot_be_stored_does_not_hold_up_the_others(app: App) -> None:
    add = make_add()
    results = [add.delay(n) for n in range(3)]
    outcomes = run(app, 3)
    Unstorable(app, results[1].id)
    finish_all(app, outcomes)
    assert [result.state for result in results] == [states.SUCCESS, states.FAILURE, states.SUCCESS]
    with pytest.raises(ValueError, match="this cannot be stored"):
        results[1].get()
    assert app.broker.sizes()["celery"].dead == 1
    assert app.broker.sizes()["celery"].reserved == 0


def test_an_outcome_without_a_message_that_cannot_be_stored(app: App) -> None:
    @shared_task(acks_late=False)
    def once() -> int:
        return 1

    result = once.delay()
    outcomes = run(app)
    Unstorable(app, result.id)
    finish_all(app, outcomes)
    assert result.state == states.FAILURE
    assert app.broker.sizes() == {}


def test_a_callback_that_cannot_be_sent_keeps_the_message(app: App) -> None:
    add = make_add()
    result = add.apply_async(link={**add.s(1), "options": {"priority": "high"}})
    finish_all(app, run(app))
    # Where storing and sending are one transaction, the value was not stored either.
    assert result.state == (states.SUCCESS if isinstance(app.broker, MemoryBroker) else states.FAILURE)
    assert app.broker.sizes()["celery"].dead == 1
    assert app.broker.sizes()["celery"].reserved == 0


def test_a_server_that_is_away_is_no_refusal(app: App) -> None:
    result = make_add().delay()
    outcomes = run(app)
    Away(*where(app, "backend", "store"))
    with pytest.raises(OperationalError):
        finish_all(app, outcomes)
    finish_all(app, outcomes)
    assert result.get() == 2


# -- what follows is sent once


@pytest.fixture(
    params=[
        *(("django-db://", "django-db://"), ("django-db://", "memory://"), ("memory://", "memory://")),
        *(("redis://", "redis://"), ("redis://", "memory://")),
    ],
    ids=" ".join,
)
def apart(request: pytest.FixtureRequest, transactional_db: None) -> Iterator[App]:
    """Apps that keep results with the messages, and elsewhere."""
    urls = [request.getfixturevalue("redis_url") if each == "redis://" else each for each in request.param]
    with app_of_test(urls[0], backend=urls[1]) as app:
        yield app
        app.close()


@pytest.mark.parametrize("acks_late", [True, False])
def test_callbacks_when_the_reply_to_commit_is_lost(apart: App, acks_late: bool) -> None:
    """The worker does not know that it has finished, and does it once more."""

    @shared_task(acks_late=acks_late)
    def first() -> str:
        return "done"

    @shared_task
    def follow(value: str, word: str) -> str:
        return f"{value} {word}"

    first.apply_async(link=[follow.s("one"), follow.s("two")])
    batch = Batch(apart)
    batch.ended = run(apart)
    Unheard(apart.broker, "finish")
    batch.flush(lambda: False)
    assert sorted(outcome.value for outcome in drain(apart)) == ["done one", "done two"]


@pytest.mark.parametrize("acks_late", [True, False])
def test_a_retry_when_the_reply_to_commit_is_lost(apart: App, acks_late: bool) -> None:
    @shared_task(bind=True, acks_late=acks_late)
    def job(self: Any) -> int:
        if self.request.retries < 2:
            raise self.retry(countdown=0)
        return int(self.request.retries)

    result = job.delay()
    batch = Batch(apart)
    for _ in range(2):
        batch.ended = run(apart)
        Unheard(apart.broker, "finish")
        batch.flush(lambda: False)
    assert [outcome.value for outcome in drain(apart)] == [2]
    assert result.get(timeout=0) == 2


def test_what_follows_from_a_batch_of_which_part_was_sent(apart: App) -> None:
    @shared_task(acks_late=False)
    def first(x: int) -> int:
        return x

    @shared_task
    def follow(x: int) -> int:
        return x

    first.apply_async((1,), link=follow.s())
    first.apply_async((2,), link=follow.s())
    one, two = run(apart, 2)
    finish(apart, [one])
    finish(apart, [one, two])
    assert sorted(outcome.value for outcome in drain(apart)) == [1, 2]


def test_a_run_that_was_overtaken_sends_nothing(apart: App) -> None:
    """The call has ended by a later run of it, and it is for that one to send what follows."""

    @shared_task(bind=True, acks_late=False)
    def job(self: Any) -> int:
        if not self.request.retries:
            raise self.retry(countdown=0)
        return 7

    @shared_task
    def follow(x: int) -> int:
        return x

    job.apply_async(link=follow.s())
    (first,) = run(apart)
    finish(apart, [first])
    assert [outcome.value for outcome in drain(apart)] == [7, 7]
    finish(apart, [first])  # once more, now that all is over
    assert drain(apart) == []
