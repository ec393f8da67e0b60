"""Retries: by hand and by themselves, when, how often, and what the last one leaves behind."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from django_tasks import App, Task, shared_task, states
from django_tasks.exceptions import MaxRetriesExceededError, Reject, Retry
from django_tasks.outcome import Outcome
from tests.running import advance, drain, message_of, seconds_from_now, waiting
from tests.testapp.tasks import add, echo

pytestmark = pytest.mark.usefixtures("memory_app")


@pytest.fixture
def app(memory_app: App) -> App:
    """The app, at a time that only the test moves: delays are as long on a busy machine as on any other."""
    now = time.time()
    memory_app.broker.clock = lambda: now
    return memory_app


def delays(app: App) -> list[float]:
    """Run one task to its end, moving the clock to each retry; return the seconds that each of them waited."""
    found: list[float] = []
    while True:
        drain(app)
        if not waiting(app):
            return found
        delay = message_of(app).eta.timestamp() - app.broker.now()  # type: ignore[union-attr]
        assert len(found) < 100
        found.append(round(delay, 1))
        advance(app, delay + 0.001)


# -- by hand


def test_retry(app: App) -> None:
    @shared_task(bind=True)
    def job(self: Any, x: int) -> list[Any]:
        if self.request.retries < 2:
            raise self.retry(countdown=10)
        return [x, self.request.retries, self.request.id, self.request.parent_id]

    result = job.apply_async((7,), priority=5, headers={"tenant": "acme"}, queue="q", link=add.s(1), time_limit=9)
    (outcome,) = drain(app)
    assert outcome.state == result.state == states.RETRY
    again = message_of(app)
    assert (again.id, again.retries, again.args, again.queue, again.priority) == (result.id, 1, [7], "q", 5)
    assert (again.headers, again.timelimit, again.root_id) == ({"tenant": "acme"}, (9, None), result.id)
    assert again.embed is not None
    assert again.embed["callbacks"][0]["task"] == add.name
    assert 8 < seconds_from_now(again.eta) <= 10
    assert drain(app) == []
    assert delays(app) == [10, 10]
    assert result.get() == [7, 2, result.id, result.id]


def test_the_default_delay(app: App) -> None:
    @shared_task(bind=True)
    def usual(self: Any) -> None:
        self.retry()

    @shared_task(bind=True, default_retry_delay=5, max_retries=2)
    def own(self: Any) -> None:
        self.retry()

    usual.delay()
    assert delays(app) == [180, 180, 180]
    own.delay()
    assert delays(app) == [5, 5]


def test_eta(app: App) -> None:
    when = datetime.now(timezone.utc) + timedelta(hours=3)

    @shared_task(bind=True, max_retries=1)
    def job(self: Any) -> None:
        self.retry(eta=when)

    job.delay()
    (outcome,) = drain(app)
    assert message_of(app).eta == when
    assert str(outcome.value) == f"Retry at {when.isoformat()}"


def test_retry_stores_why(app: App) -> None:
    @shared_task(bind=True)
    def job(self: Any) -> None:
        try:
            raise OSError("away")
        except OSError as exc:
            self.retry(exc=exc, countdown=3)

    result = job.delay()
    (outcome,) = drain(app)
    assert isinstance(outcome.value, Retry)
    assert str(outcome.value) == "Retry in 3s: OSError('away')"
    assert repr(result.result) == "OSError('away')"
    assert "Retry in 3s" in result.traceback
    assert not result.ready()


def test_other_arguments(app: App) -> None:
    @shared_task(bind=True)
    def job(self: Any, *args: int, **kwargs: int) -> list[Any]:
        if not self.request.retries:
            raise self.retry(args=(1, 2), kwargs={"x": 3}, countdown=0)
        return [list(args), kwargs]

    result = job.delay(0, x=0)
    drain(app)
    assert result.get() == [[1, 2], {"x": 3}]


def test_options_of_the_next_run(app: App) -> None:
    app.conf.accept_content = ["json", "pickle"]

    @shared_task(bind=True)
    def job(self: Any) -> None:
        self.retry(
            countdown=1, queue="slow", priority=1, expires=60, time_limit=5, headers={"more": 1}, shadow="again",
            serializer="pickle", compression="gzip", ignore_result=True, link_error=echo.s(),
        )  # fmt: skip

    job.apply_async(queue="fast", soft_time_limit=3, headers={"first": 1}, link=add.s(1))
    drain(app)
    message = message_of(app)
    assert (message.queue, message.priority, message.timelimit, message.shadow) == ("slow", 1, (5, 3), "again")
    assert message.headers == {"first": 1, "more": 1}
    assert 55 < seconds_from_now(message.expires) <= 60
    assert (message.serializer, message.compression) == ("pickle", "application/x-gzip")
    assert message.ignore_result is True
    assert message.embed is not None
    assert [message.embed[kind][0]["task"] for kind in ("callbacks", "errbacks")] == [add.name, echo.name]


def test_options_of_none_are_not_given(app: App) -> None:
    @shared_task(bind=True)
    def job(self: Any) -> None:
        self.retry(countdown=1, queue=None, priority=None, serializer=None, shadow=None, ignore_result=None)

    job.apply_async(queue="fast", priority=3, shadow="dim", ignore_result=True)
    drain(app)
    message = message_of(app)
    assert (message.queue, message.priority, message.shadow, message.ignore_result) == ("fast", 3, "dim", True)


def test_a_routing_key_for_the_next_run(app: App) -> None:
    app.conf.task_queues = {"celery": None, "video": {"routing_key": "media.#"}}

    @shared_task(bind=True)
    def job(self: Any) -> None:
        self.retry(countdown=1, routing_key="media.video")

    job.delay()
    drain(app)
    assert message_of(app).queue == "video"


@pytest.mark.parametrize(
    ("options", "error", "complaint"),
    [
        ({"priority": "high"}, ValueError, "priority must be a whole number"),
        ({"time_limit": "x"}, ValueError, "time_limit must be a number of seconds"),
        ({"link": "x"}, ValueError, "link must be a signature"),
        ({"args": "ab"}, TypeError, "args must be a list or tuple"),
        ({"kwargs": [1]}, TypeError, "kwargs must be a dict"),
        ({"chain": [add.s(1)]}, TypeError, "a later release"),
    ],
)
def test_what_a_retry_cannot_have(app: App, options: Any, error: type[Exception], complaint: str) -> None:
    @shared_task(bind=True)
    def job(self: Any) -> None:
        self.retry(countdown=0, **options)

    result = job.delay()
    drain(app)
    with pytest.raises(error, match=complaint):
        result.get(timeout=0)
    add.delay(1, 2)
    assert drain(app)[0].value == 3


def test_expires_stays_as_it_was(app: App) -> None:
    @shared_task(bind=True)
    def job(self: Any) -> None:
        self.retry(countdown=20)

    result = job.apply_async(expires=30)
    assert delays(app) == [20, 20]
    assert result.state == states.REVOKED


def test_throw_false_lets_the_run_go_on(app: App) -> None:
    seen: list[Any] = []

    @shared_task(bind=True)
    def job(self: Any) -> str:
        if not self.request.retries:
            seen.append(self.retry(countdown=0, throw=False))
            return "of no interest"
        return "in the end"

    result = job.delay()
    assert [outcome.state for outcome in drain(app)] == [states.RETRY, states.SUCCESS]
    assert isinstance(seen[0], Retry)
    assert result.get() == "in the end"


# -- how often


def last(app: App) -> Outcome:
    """Run one task to its end and return its last outcome."""
    outcomes: list[Outcome] = []
    while True:
        outcomes += drain(app)
        if not waiting(app):
            return outcomes[-1]
        advance(app, 3600)


def test_max_retries_exceeded(app: App) -> None:
    @shared_task(bind=True, max_retries=2)
    def job(self: Any, x: int) -> None:
        self.retry()

    result = job.delay(1)
    assert last(app).message.retries == 2
    with pytest.raises(MaxRetriesExceededError, match=r"Can't retry tests\.test_retry\.job\[.*\] args:\[1\] kwargs:{}"):
        result.get()


def test_the_given_error_in_place_of_max_retries_exceeded(app: App) -> None:
    @shared_task(bind=True, max_retries=1)
    def job(self: Any) -> None:
        try:
            raise OSError("away")
        except OSError as exc:
            self.retry(exc=exc)

    result = job.delay()
    last(app)
    assert repr(result.result) == "OSError('away')"


def test_max_retries_of_one_call(app: App) -> None:
    @shared_task(bind=True)
    def job(self: Any) -> None:
        self.retry(max_retries=5, countdown=1)

    job.delay()
    assert delays(app) == [1] * 5


def test_no_retries(app: App) -> None:
    @shared_task(bind=True, max_retries=0)
    def job(self: Any) -> None:
        self.retry(exc=KeyError("no"))

    result = job.delay()
    assert last(app).message.retries == 0
    assert repr(result.result) == "KeyError('no')"


def test_for_ever(app: App) -> None:
    @shared_task(bind=True, max_retries=None)
    def job(self: Any) -> int:
        if self.request.retries < 50:
            self.retry(countdown=0)
        return self.request.retries  # type: ignore[no-any-return]

    result = job.delay()
    last(app)
    assert result.get() == 50


def test_a_task_called_as_a_function_is_not_retried() -> None:
    @shared_task(bind=True)
    def job(self: Any, exc: Exception | None) -> None:
        self.retry(exc=exc)

    with pytest.raises(OSError, match="away"):
        job(OSError("away"))
    with pytest.raises(Retry, match="only when a worker runs it"):
        job(None)


def test_a_retry_by_hand_that_nobody_asked_for(app: App) -> None:
    @shared_task
    def job() -> None:
        raise Retry("please")

    result = job.delay()
    drain(app)
    assert result.state == states.FAILURE  # there is no message that would be its next run


# -- by itself


def test_autoretry_for(app: App) -> None:
    @shared_task(autoretry_for=(OSError,), max_retries=2, default_retry_delay=4)
    def job(error: str) -> None:
        raise {"os": ConnectionError("away"), "value": ValueError("bad")}[error]

    result = job.delay("os")
    assert delays(app) == [4, 4]
    assert repr(result.result) == "ConnectionError('away')"
    result = job.delay("value")
    assert delays(app) == []
    assert repr(result.result) == "ValueError('bad')"


class Unspeakable(Exception):
    """An error that cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no words")

    __str__ = __repr__


@pytest.mark.parametrize("by_itself", [True, False])
def test_an_error_that_cannot_be_shown(app: App, by_itself: bool) -> None:
    @shared_task(bind=True, autoretry_for=(Unspeakable,) if by_itself else (), default_retry_delay=0)
    def job(self: Any) -> str:
        if self.request.retries < 2:
            error = Unspeakable("x")
            raise error if by_itself else self.retry(exc=error, countdown=0)
        return "done"

    result = job.delay()
    retried, again, outcome = drain(app)
    assert (retried.state, again.state, outcome.state) == (states.RETRY, states.RETRY, states.SUCCESS)
    assert str(retried.value) == "Retry in 0s: <Unspeakable that cannot be shown>"
    assert result.get() == "done"


@pytest.mark.parametrize(
    ("raised", "state"),
    [
        (Unspeakable, states.FAILURE),
        (lambda: Reject(Unspeakable()), states.REJECTED),
        (lambda: Retry(exc=Unspeakable()), states.FAILURE),
    ],
    ids=["raised", "rejected", "retried"],
)
def test_a_failure_that_cannot_be_shown(app: App, raised: Any, state: str) -> None:
    @shared_task
    def job() -> None:
        raise raised()

    result = job.delay()
    assert [outcome.state for outcome in drain(app)] == [state]
    assert result.state == states.FAILURE
    add.delay(1, 2)
    assert drain(app)[0].value == 3


def test_one_class_needs_no_tuple(app: App) -> None:
    @shared_task(autoretry_for=OSError, dont_autoretry_for=PermissionError, max_retries=1)
    def job(refused: bool) -> None:
        raise PermissionError if refused else OSError

    job.delay(False)
    assert delays(app) == [180]
    job.delay(True)
    assert delays(app) == []


def test_dont_autoretry_for(app: App) -> None:
    @shared_task(autoretry_for=(Exception,), dont_autoretry_for=(KeyError,))
    def job() -> None:
        raise KeyError("final")

    result = job.delay()
    assert delays(app) == []
    assert repr(result.result) == "KeyError('final')"


def test_autoretry_leaves_what_a_task_says_alone(app: App) -> None:
    @shared_task(bind=True, autoretry_for=(Exception,), max_retries=1)
    def job(self: Any, how: str) -> None:
        if how == "retry":
            self.retry(countdown=7)
        raise Reject("no", requeue=False)

    job.delay("retry")
    assert delays(app) == [7]
    job.delay("reject")
    assert delays(app) == []


def test_retry_kwargs(app: App) -> None:
    @shared_task(autoretry_for=(OSError,), retry_kwargs={"max_retries": 1, "countdown": 9})
    def job() -> None:
        raise OSError

    job.delay()
    assert delays(app) == [9]


def test_a_backoff_wins_over_the_countdown_of_retry_kwargs(app: App) -> None:
    @shared_task(
        autoretry_for=(OSError,), retry_kwargs={"max_retries": 2, "countdown": 9}, retry_backoff=3, retry_jitter=False
    )
    def job() -> None:
        raise OSError

    job.delay()
    assert delays(app) == [3, 6]


def test_after_return_is_called_once_at_the_end(app: App) -> None:
    class Counting(Task[..., Any]):
        def after_return(self, status: str, *args: Any) -> None:
            seen.append(status)

    @shared_task(base=Counting, autoretry_for=(OSError,), max_retries=2)
    def job() -> None:
        raise OSError

    seen: list[str] = []
    job.delay()
    assert len(delays(app)) == 2
    assert seen == ["FAILURE"]


def test_backoff(app: App) -> None:
    @shared_task(autoretry_for=(OSError,), retry_backoff=True, retry_jitter=False, max_retries=5)
    def doubling() -> None:
        raise OSError

    @shared_task(autoretry_for=(OSError,), retry_backoff=3, retry_backoff_max=20, retry_jitter=False, max_retries=5)
    def bounded() -> None:
        raise OSError

    doubling.delay()
    assert delays(app) == [1, 2, 4, 8, 16]
    bounded.delay()
    assert delays(app) == [3, 6, 12, 20, 20]


def test_backoff_is_bounded_by_default(app: App) -> None:
    @shared_task(autoretry_for=(OSError,), retry_backoff=100, retry_jitter=False, max_retries=4)
    def job() -> None:
        raise OSError

    job.delay()
    assert delays(app) == [100, 200, 400, 600]


def test_jitter(app: App) -> None:
    @shared_task(autoretry_for=(OSError,), retry_backoff=8, max_retries=4)
    def job() -> None:
        raise OSError

    found = []
    for _ in range(10):
        job.delay()
        found.append(delays(app))
    assert all(0 <= delay <= most for each in found for delay, most in zip(each, [8, 16, 32, 64], strict=True))
    assert len({tuple(each) for each in found}) > 1


def test_a_class_with_autoretry(app: App) -> None:
    class Job(Task[..., Any]):
        autoretry_for = (OSError,)
        max_retries = 2
        default_retry_delay = 1

        def run(self) -> None:
            raise OSError

    job = app.register_task(Job())
    job.delay()
    assert delays(app) == [1, 1]


def test_retry_over_the_database(database_app: App) -> None:
    @shared_task(bind=True, autoretry_for=(OSError,), default_retry_delay=30)
    def job(self: Any) -> int:
        if self.request.retries < 2:
            raise OSError("away")
        return self.request.retries  # type: ignore[no-any-return]

    result = job.delay()
    drain(database_app)
    assert (result.state, repr(result.result)) == (states.RETRY, "OSError('away')")
    assert delays(database_app) == pytest.approx([30, 30], abs=5)  # by real clocks
    assert result.get() == 2
    assert result.retries == 2
