"""The task queue for tests of projects: what waits, what runs and when, and what a project's test is told."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from unittest import mock
from uuid import UUID

import pytest
from django.conf import settings as django_settings
from django.test import override_settings
from django.utils import timezone, translation

from django_tasks import App, AsyncResult, Task, shared_task, signals
from django_tasks.current import get_current_app
from django_tasks.exceptions import (
    EncodeError,
    Ignore,
    ImproperlyConfigured,
    MaxRetriesExceededError,
    NotRegistered,
    Reject,
    TaskRevokedError,
)
from django_tasks.testing import TaskQueue, task_queue
from tests.testapp.tasks import add, echo, fail

#: When each run of a task that notes it took place, in seconds since the test began.
seen: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    seen.clear()


@pytest.fixture
def tasks() -> Iterator[TaskQueue]:
    with task_queue() as queue:
        yield queue


def note(value: Any) -> None:
    seen.append(value)


def seconds_by_broker() -> float:
    return get_current_app().broker.now()


def pauses() -> list[float]:
    """Return the seconds between the runs that were noted."""
    return [later - sooner for sooner, later in pairwise(seen)]


@shared_task
def note_time() -> None:
    note(seconds_by_broker())


@shared_task
def remember(value: Any) -> Any:
    note(value)
    return value


@shared_task
def send_two() -> None:
    add.delay(1, 1)
    remember.delay("sent by a task")


@shared_task(bind=True)
def every_ten_minutes(self: Task[[], None]) -> None:
    note(seconds_by_broker())
    self.apply_async(countdown=600)


@shared_task
def every_tenth() -> None:
    every_tenth.apply_async(countdown=0.1)


@shared_task
def endless() -> None:
    endless.delay()


@shared_task(autoretry_for=(OSError,), retry_backoff=2, retry_jitter=False, max_retries=3)
def flaky(failures: int) -> str:
    note(seconds_by_broker())
    if len(seen) <= failures:
        raise OSError(f"failure {len(seen)}")
    return f"well after {len(seen)} runs"


@shared_task(bind=True, max_retries=1)
def gives_up(self: Task[[], None]) -> None:
    self.retry(countdown=5)


@shared_task
def refuse(requeue: bool = False) -> None:
    raise Reject("not today", requeue=requeue)


@shared_task
def ignored() -> None:
    raise Ignore


@shared_task
def returns_an_object() -> object:
    return object()


@shared_task
def fails_the_test() -> None:
    pytest.fail("a check inside the task")


@shared_task(rate_limit="1/h")
def limited() -> None:
    note("ran")


@shared_task(acks_late=False)
def early(error: bool = False) -> str:
    if error:
        raise ValueError("once only")
    return "done"


@shared_task(bind=True)
def progress(self: Task[[], str]) -> str:
    self.update_state(state="PROGRESS", meta={"done": 1})
    note(AsyncResult(self.request.id or "").state)
    return "done"


@shared_task
async def awaited(x: int) -> int:
    await asyncio.sleep(0)
    return x + 1


@shared_task
def local_manners() -> None:
    note((translation.get_language(), timezone.get_current_timezone_name()))
    translation.activate("fr")
    timezone.activate("Asia/Tokyo")


@shared_task
def waits_for_another() -> Any:
    return add.delay(1, 1).get(disable_sync_subtasks=False)


class TestWaiting:
    def test_nothing_runs_by_itself(self, tasks: TaskQueue) -> None:
        result = add.delay(2, 3)
        assert result.state == "PENDING"
        (message,) = tasks.messages
        assert (message.task, message.args, message.kwargs) == ("tests.testapp.tasks.add", [2, 3], {})
        assert (message.queue, message.eta, message.id) == ("celery", None, result.id)

    def test_run(self, tasks: TaskQueue) -> None:
        result = add.delay(2, y=3)
        (outcome,) = tasks.run()
        assert (outcome.state, outcome.value, outcome.message.id) == ("SUCCESS", 5, result.id)
        assert result.get() == 5
        assert result.name == "tests.testapp.tasks.add"
        assert tasks.messages == []
        assert tasks.run() == []

    def test_what_tasks_send_runs_too(self, tasks: TaskQueue) -> None:
        send_two.delay()
        assert [outcome.message.task.rpartition(".")[2] for outcome in tasks.run()] == ["send_two", "add", "remember"]
        assert seen == ["sent by a task"]

    def test_one_at_a_time(self, tasks: TaskQueue) -> None:
        send_two.delay()
        assert tasks.run_next() is not None
        assert [message.task.rpartition(".")[2] for message in tasks.messages] == ["add", "remember"]
        outcome = tasks.run_next()
        assert outcome is not None
        assert outcome.value == 2
        tasks.run_next()
        assert tasks.run_next() is None

    def test_urgent_calls_run_first_from_any_queue(self, tasks: TaskQueue) -> None:
        remember.apply_async(("ordinary",), queue="one")
        remember.apply_async(("urgent",), priority=9, queue="two")
        remember.delay("last")
        tasks.run()
        assert seen == ["urgent", "ordinary", "last"]

    def test_arguments_travel_as_in_production(self, tasks: TaskQueue) -> None:
        given = {"ids": (1, 2)}
        result = echo.delay(given, when=UUID(int=1))
        given["ids"] = ()
        tasks.run()
        assert result.get() == [[{"ids": [1, 2]}], {"when": UUID(int=1)}]

    def test_arguments_that_cannot_travel(self, tasks: TaskQueue) -> None:
        with pytest.raises(EncodeError, match=r"tests\.testapp\.tasks\.echo.*args\[0\]"):
            echo.delay(object())
        tasks.assert_nothing_sent()

    @override_settings(TASK_MAX_MESSAGE_SIZE=1000)
    def test_the_size_limit_of_the_project(self) -> None:
        with task_queue(), pytest.raises(EncodeError, match="TASK_MAX_MESSAGE_SIZE"):
            echo.delay("x" * 1000)

    def test_calls_by_name_and_many_at_once(self, tasks: TaskQueue) -> None:
        result = get_current_app().send_task("tests.testapp.tasks.add", (1, 2))
        results = add.delay_many([(1, 1), (2, 2)])
        tasks.run()
        assert [each.get() for each in (result, *results)] == [3, 2, 4]

    def test_settings_that_change_do_not_lead_elsewhere(self, tasks: TaskQueue) -> None:
        first = add.delay(2, 3)
        with override_settings(TASK_MAX_MESSAGE_SIZE=12345, RESULT_EXPIRES=60):
            second = add.delay(3, 4)
            assert len(tasks.run()) == 2
        assert [first.get(), second.get()] == [5, 7]

    def test_clear(self, tasks: TaskQueue) -> None:
        remember.delay("never")
        refuse.delay()
        tasks.clear()
        assert tasks.run() == tasks.messages == tasks.sent == tasks.dead_letters == []
        assert seen == []

    def test_revoked_calls_do_not_run(self, tasks: TaskQueue) -> None:
        result = remember.delay("never")
        result.revoke()
        assert tasks.messages == tasks.run() == seen == []
        with pytest.raises(TaskRevokedError):
            result.get()


class TestRunning:
    def test_an_error_is_raised_and_the_rest_stays(self, tasks: TaskQueue) -> None:
        failed, waiting = fail.delay("broken"), add.delay(1, 1)
        with pytest.raises(ValueError, match="broken"):
            tasks.run()
        assert failed.state == "FAILURE"
        assert [message.id for message in tasks.messages] == [waiting.id]
        tasks.run()
        assert waiting.get() == 2

    def test_or_not_raised(self, tasks: TaskQueue) -> None:
        failed, fine = fail.delay("broken"), add.delay(1, 1)
        first, second = tasks.run(propagate=False)
        assert (first.state, str(first.value), second.state) == ("FAILURE", "broken", "SUCCESS")
        assert "in fail" in (failed.traceback or "")
        assert fine.get() == 2
        fail.delay()
        outcome = tasks.run_next(propagate=False)
        assert outcome is not None
        assert outcome.state == "FAILURE"

    def test_a_check_inside_a_task_always_fails_the_test(self, tasks: TaskQueue) -> None:
        fails_the_test.delay()
        with pytest.raises(pytest.fail.Exception, match="a check inside the task"):
            tasks.run(propagate=False)

    def test_retries_with_their_pauses(self, tasks: TaskQueue) -> None:
        result = flaky.delay(3)
        (outcome,) = tasks.run()
        assert (outcome.state, result.state) == ("RETRY", "RETRY")
        (message,) = tasks.messages
        assert message.retries == 1
        assert message.eta is not None
        assert [o.state for o in tasks.advance(60)] == ["RETRY", "RETRY", "SUCCESS"]
        assert result.get() == "well after 4 runs"
        assert pauses() == pytest.approx([2, 4, 8], abs=1)

    def test_the_last_failure_is_raised(self, tasks: TaskQueue) -> None:
        result = flaky.delay(99)
        with pytest.raises(OSError, match="failure 4"):
            tasks.advance(60)
        assert result.state == "FAILURE"
        assert tasks.messages == []

    def test_retries_are_used_up(self, tasks: TaskQueue) -> None:
        gives_up.delay()
        tasks.run()
        with pytest.raises(MaxRetriesExceededError):
            tasks.advance(5)

    def test_callbacks(self, tasks: TaskQueue) -> None:
        add.apply_async((2, 3), link=remember.s())
        failing = fail.apply_async(("broken",), link=remember.s(), link_error=remember.s())
        tasks.run(propagate=False)
        assert seen == [5, failing.id]

    def test_a_result_that_cannot_be_stored(self, tasks: TaskQueue) -> None:
        result = returns_an_object.delay()
        with pytest.raises(EncodeError, match="returned what cannot be stored"):
            tasks.run()
        assert result.state == "FAILURE"

    def test_rejected_calls_become_dead_letters(self, tasks: TaskQueue) -> None:
        refuse.delay()
        (outcome,) = tasks.run()
        assert outcome.state == "REJECTED"
        (dead,) = tasks.dead_letters
        assert (dead.message.task, dead.reason) == ("tests.test_testing.refuse", "not today")
        assert tasks.messages == []

    def test_ignored(self, tasks: TaskQueue) -> None:
        result = ignored.delay()
        (outcome,) = tasks.run()
        assert (outcome.state, result.state) == ("IGNORED", "PENDING")

    @pytest.mark.parametrize("error", [False, True])
    def test_acknowledged_before_the_run(self, tasks: TaskQueue, error: bool) -> None:
        result = early.delay(error)
        tasks.run(propagate=False)
        assert result.state == ("FAILURE" if error else "SUCCESS")
        assert tasks.messages == tasks.dead_letters == []

    def test_states_of_its_own(self, tasks: TaskQueue) -> None:
        result = progress.delay()
        tasks.run()
        assert seen == ["PROGRESS"]
        assert result.get() == "done"

    def test_coroutines(self, tasks: TaskQueue) -> None:
        result = awaited.delay(1)
        tasks.run()
        assert result.get() == 2

    def test_no_rate_limits(self, tasks: TaskQueue) -> None:
        limited.delay_many([(), (), ()])
        tasks.run()
        assert seen == ["ran"] * 3

    def test_signals(self, tasks: TaskQueue) -> None:
        def receive(sender: Any, signal: signals.Signal, **_: Any) -> None:
            note(signal.name)

        heard = [signals.before_task_publish, signals.task_received, signals.task_prerun, signals.task_success]
        for signal in heard:
            signal.connect(receive)
        try:
            add.delay(1, 1)
            assert seen == ["before_task_publish"]
            tasks.run()
        finally:
            for signal in heard:
                signal.disconnect(receive)
        assert seen == ["before_task_publish", "task_received", "task_prerun", "task_success"]

    def test_language_and_time_zone_are_the_projects_and_stay_in_the_task(self, tasks: TaskQueue) -> None:
        local_manners.delay()
        local_manners.delay()
        with translation.override("de"), timezone.override("Europe/Berlin"):
            tasks.run()
            assert (translation.get_language(), timezone.get_current_timezone_name()) == ("de", "Europe/Berlin")
        assert seen == [(django_settings.LANGUAGE_CODE, "UTC")] * 2

    def test_an_endless_loop_is_an_error(self, tasks: TaskQueue) -> None:
        tasks.max_runs = 50
        endless.delay()
        with pytest.raises(
            RuntimeError, match=r"50 tasks have run, and tests\.test_testing\.endless\(\) to queue .* is next"
        ):
            tasks.run()
        refuse.delay(requeue=True)
        with pytest.raises(RuntimeError, match="50 tasks have run"):
            tasks.run()
        tasks.clear()
        every_ten_minutes.delay()
        with pytest.raises(RuntimeError, match="raise max_runs"):
            tasks.advance(timedelta(days=1))

    def test_as_many_runs_as_allowed_are_no_error(self, tasks: TaskQueue) -> None:
        tasks.max_runs = 3
        add.delay_many([(1, 1)] * 3)
        add.apply_async((1, 1), countdown=60)
        assert len(tasks.run()) == 3


class TestUnknownTasks:
    def test_an_unknown_task_is_an_error(self, tasks: TaskQueue) -> None:
        get_current_app().send_task("elsewhere.resize", (1,))
        with pytest.raises(NotRegistered, match=r"elsewhere\.resize"):
            tasks.run()
        assert tasks.assert_sent("elsewhere.resize").args == [1]

    def test_or_waits_as_in_production_and_becomes_a_dead_letter(self, tasks: TaskQueue) -> None:
        result = get_current_app().send_task("elsewhere.resize")
        assert [outcome.state for outcome in tasks.run(propagate=False)] == ["PENDING"]
        assert len(tasks.messages) == 1
        tasks.advance(timedelta(hours=1), propagate=False)
        assert tasks.messages == []
        (dead,) = tasks.dead_letters
        assert "elsewhere.resize" in dead.reason
        assert result.state == "FAILURE"


class TestClock:
    def test_a_countdown_ends_on_the_second(self, tasks: TaskQueue) -> None:
        add.apply_async((1, 1), countdown=60)
        assert tasks.run() == []
        assert tasks.advance(59) == []
        (outcome,) = tasks.advance(1)
        assert outcome.value == 2

    @pytest.mark.parametrize("countdown", [0.1, 1 / 3, 60, 86400.7, timedelta(minutes=90, microseconds=1)])
    def test_any_countdown_has_passed_after_that_long(self, tasks: TaskQueue, countdown: Any) -> None:
        add.apply_async((1, 1), countdown=countdown)
        assert len(tasks.advance(countdown)) == 1

    def test_fractions_of_seconds_do_not_add_up_to_a_miss(self, tasks: TaskQueue) -> None:
        every_tenth.delay()
        tasks.advance(0)
        assert 0 not in [len(tasks.advance(0.1)) for _ in range(50)]  # more if the machine stalls

    def test_an_eta_by_the_real_time(self, tasks: TaskQueue) -> None:
        add.apply_async((1, 1), eta=timezone.now() + timedelta(minutes=5))
        assert tasks.advance(timedelta(minutes=4)) == []
        assert len(tasks.advance(timedelta(minutes=1))) == 1

    def test_an_eta_that_has_come(self, tasks: TaskQueue) -> None:
        add.apply_async((1, 1), eta=timezone.now())
        assert len(tasks.run()) == 1

    def test_now(self, tasks: TaskQueue) -> None:
        before = tasks.now()
        assert abs(before - timezone.now()) < timedelta(seconds=10)
        tasks.advance(3600)
        assert timedelta(hours=1) <= tasks.now() - before < timedelta(hours=1, seconds=10)

    def test_a_slow_test_does_not_lengthen_the_moves(self, tasks: TaskQueue, monkeypatch: pytest.MonkeyPatch) -> None:
        add.apply_async((1, 1), countdown=60)
        later = time.time() + 50
        monkeypatch.setattr(time, "time", lambda: later)
        assert tasks.advance(59) == []
        assert len(tasks.advance(1)) == 1

    def test_the_clock_goes_by_itself_too(self, tasks: TaskQueue, monkeypatch: pytest.MonkeyPatch) -> None:
        add.apply_async((1, 1), countdown=60)
        later = time.time() + 61
        monkeypatch.setattr(time, "time", lambda: later)
        assert len(tasks.run()) == 1

    def test_each_call_runs_at_its_time(self, tasks: TaskQueue) -> None:
        for countdown in (30, 10, 20):
            note_time.apply_async(countdown=countdown)
        tasks.advance(3600)
        assert pauses() == pytest.approx([10, 10], abs=1)

    def test_calls_that_follow_from_one_another_fit_into_one_move(self, tasks: TaskQueue) -> None:
        every_ten_minutes.delay()
        assert len(tasks.advance(3600)) == 7
        assert [round(each - seen[0]) for each in seen] == [0, 600, 1200, 1800, 2400, 3000, 3600]
        assert len(tasks.messages) == 1

    def test_the_clock_stays_at_an_error(self, tasks: TaskQueue) -> None:
        start = tasks.now()
        fail.apply_async(countdown=10)
        note_time.apply_async(countdown=60)
        with pytest.raises(ValueError, match="as asked"):
            tasks.advance(120)
        assert timedelta(seconds=10) <= tasks.now() - start < timedelta(seconds=50)
        assert seen == []
        tasks.advance(55)
        assert len(seen) == 1

    def test_it_only_goes_ahead(self, tasks: TaskQueue) -> None:
        with pytest.raises(ValueError, match="not by -1 s"):
            tasks.advance(-1)

    def test_a_call_that_expires_while_no_worker_is_there(self, tasks: TaskQueue) -> None:
        result = remember.apply_async(("too late",), expires=10)
        assert tasks.advance(11, run=False) == []
        (outcome,) = tasks.run()
        assert (outcome.state, result.state, seen) == ("REVOKED", "REVOKED", [])

    def test_a_call_that_would_expire_but_runs(self, tasks: TaskQueue) -> None:
        remember.apply_async(("in time",), expires=10)
        tasks.advance(9, run=False)
        tasks.run()
        assert seen == ["in time"]

    def test_a_call_that_is_due_when_it_has_expired(self, tasks: TaskQueue) -> None:
        result = remember.apply_async(("too late",), countdown=20, expires=timedelta(seconds=10))
        tasks.advance(20)
        assert (result.state, seen) == ("REVOKED", [])

    @override_settings(RESULT_EXPIRES=3600)
    def test_results_expire(self) -> None:
        with task_queue() as tasks:
            result = add.delay(1, 1)
            tasks.run()
            tasks.advance(3500)
            assert AsyncResult(result.id).state == "SUCCESS"
            tasks.advance(200)
            assert AsyncResult(result.id).state == "PENDING"

    def test_results_tell_the_moved_time(self, tasks: TaskQueue) -> None:
        result = add.apply_async((1, 1), countdown=86400)
        tasks.advance(86400)
        assert isinstance(result.date_done, datetime)
        assert result.date_done > timezone.now() + timedelta(hours=23)


class TestResults:
    @pytest.mark.parametrize("timeout", [None, 60])
    def test_get_does_not_wait_for_what_has_not_run(self, tasks: TaskQueue, timeout: float | None) -> None:
        result = add.delay(1, 1)
        with pytest.raises(RuntimeError, match=r"Call run\(\) of the task queue"):
            result.get(timeout=timeout)
        tasks.run()
        assert result.get(timeout=timeout) == 2

    def test_nor_does_a_coroutine(self, tasks: TaskQueue) -> None:
        async def wait() -> int:
            return await result.aget()

        result = add.delay(1, 1)
        with pytest.raises(RuntimeError, match=r"Call run\(\) of the task queue"):
            asyncio.run(wait())
        tasks.run()
        assert asyncio.run(wait()) == 2

    def test_nor_does_a_task(self, tasks: TaskQueue) -> None:
        waits_for_another.delay()
        with pytest.raises(RuntimeError, match="has not run"):
            tasks.run()

    def test_a_failure(self, tasks: TaskQueue) -> None:
        result = fail.delay("broken")
        tasks.run(propagate=False)
        with pytest.raises(ValueError, match="broken"):
            result.get()

    def test_ignored_results(self, tasks: TaskQueue) -> None:
        result = remember.apply_async((1,), ignore_result=True)
        tasks.run()
        assert (AsyncResult(result.id).state, seen) == ("PENDING", [1])


class TestAssertions:
    def test_a_call_that_was_sent(self, tasks: TaskQueue) -> None:
        first = add.delay(1, y=2)
        add.apply_async((3, 4), queue="slow")
        assert tasks.assert_sent(add).id == first.id
        assert tasks.assert_sent("tests.testapp.tasks.add", times=2).id == first.id
        assert tasks.assert_sent(add, (1,), {"y": 2}, times=1).id == first.id
        assert tasks.assert_sent(add, args=[mock.ANY, 4], queue="slow").args == [3, 4]
        assert tasks.assert_sent(add, kwargs={}).args == [3, 4]

    def test_it_does_not_matter_whether_it_has_run(self, tasks: TaskQueue) -> None:
        send_two.delay()
        tasks.run()
        tasks.assert_sent(remember, ("sent by a task",))
        assert len(tasks.sent) == 3

    def test_retries_are_no_calls(self, tasks: TaskQueue) -> None:
        flaky.delay(2)
        tasks.advance(60)
        tasks.assert_sent(flaky, times=1)

    def test_arguments_are_compared_as_the_task_gets_them(self, tasks: TaskQueue) -> None:
        echo.delay((1, 2), when={"days": (1,), 7: UUID(int=7)})
        tasks.assert_sent(echo, ((1, 2),), {"when": {"days": (1,), 7: UUID(int=7)}})
        tasks.assert_sent(echo, ([1, 2],), {"when": {"days": [1], "7": UUID(int=7)}})

    @pytest.mark.parametrize(
        ("asked", "told"),
        [
            ({"args": (1, 3)}, "tests.testapp.tasks.add(1, 3, **...) was not sent. Sent were:"),
            ({"kwargs": {"y": 2}}, "tests.testapp.tasks.add(..., y=2) was not sent."),
            ({"args": (1, 2), "kwargs": {}, "queue": "fast"}, "add(1, 2) to queue 'fast' was not sent."),
            ({"times": 2}, "tests.testapp.tasks.add was sent 1 times, not 2."),
        ],
    )
    def test_what_is_told_when_it_was_not(self, tasks: TaskQueue, asked: dict[str, Any], told: str) -> None:
        add.delay(1, 2)
        echo.apply_async(kwargs={"name": "x"}, countdown=10)
        with pytest.raises(AssertionError) as raised:
            tasks.assert_sent(add, **asked)
        text = str(raised.value)
        assert told in text
        assert "\n  tests.testapp.tasks.add(1, 2) to queue 'celery'\n" in text
        assert "\n  tests.testapp.tasks.echo(name='x') to queue 'celery', due 2" in text

    def test_nothing_was_sent(self, tasks: TaskQueue) -> None:
        tasks.assert_nothing_sent()
        with pytest.raises(AssertionError, match=r"tasks\.add was not sent\. Nothing was sent\."):
            tasks.assert_sent(add)
        add.delay(1, 1)
        with pytest.raises(AssertionError, match=r"Nothing should have been sent\. Sent were:\n  .*add\(1, 1\)"):
            tasks.assert_nothing_sent()

    def test_something_was_not_sent(self, tasks: TaskQueue) -> None:
        add.delay(1, 1)
        tasks.assert_not_sent(echo)
        tasks.assert_not_sent(add, (2, 2))
        tasks.assert_not_sent(add, queue="slow")
        with pytest.raises(AssertionError, match=r"add\(1, 1, \*\*\.\.\.\) should not have been sent\. Sent were:"):
            tasks.assert_not_sent(add, (1, 1))

    def test_long_arguments_are_cut(self, tasks: TaskQueue) -> None:
        echo.delay("x" * 10_000)
        with pytest.raises(AssertionError) as raised:
            tasks.assert_nothing_sent()
        assert len(str(raised.value)) < 300


class TestInstalling:
    def test_broker_and_backend_are_restored(self) -> None:
        app = get_current_app()
        broker, backend, urls = app.broker, app.backend, (app.conf.broker_url, app.conf.result_backend)
        with contextlib.suppress(KeyError), task_queue() as tasks:
            assert app.broker is not broker
            assert app.backend is not backend
            add.delay(1, 1)
            assert tasks.messages
            raise KeyError
        assert (app.broker, app.backend) == (broker, backend)
        assert (app.conf.broker_url, app.conf.result_backend) == urls

    def test_queues_do_not_share_anything(self) -> None:
        with task_queue() as outer:
            result = add.delay(1, 1)
            with task_queue() as inner:
                inner.assert_nothing_sent()
                assert inner.run() == []
            outer.run()
            assert result.get() == 2
        with task_queue() as another:
            assert another.messages == []
            assert AsyncResult(result.id).state == "PENDING"

    def test_as_a_decorator(self) -> None:
        @task_queue()
        def test() -> AsyncResult[int]:
            assert get_current_app().conf.broker_url.startswith("memory://")
            return add.delay(1, 1)

        assert test().id
        assert not get_current_app().conf.broker_url.startswith("memory://")

    def test_overridden_settings_do_not_take_the_queue_away(self, tasks: TaskQueue) -> None:
        with override_settings(BROKER_URL="memory://other", CELERY_RESULT_BACKEND="django-db://"):
            result = add.delay(1, 1)
        with override_settings(TASK_DEFAULT_QUEUE="other"):
            add.delay(2, 2)
        assert [message.queue for message in tasks.messages] == ["celery", "other"]
        tasks.run()
        assert result.get() == 2

    def test_other_settings_of_the_project_count(self) -> None:
        with (
            override_settings(
                TASK_ROUTES={"tests.testapp.tasks.add": {"queue": "sums"}}, CELERY_TASK_IGNORE_RESULT=True
            ),
            task_queue() as tasks,
        ):
            result = add.delay(1, 1)
            tasks.assert_sent(add, queue="sums")
            tasks.run()
            assert result.get() is None
            assert AsyncResult(result.id).state == "PENDING"

    def test_settings_overridden_outside_come_back(self) -> None:
        app = get_current_app()
        with override_settings(BROKER_URL="memory://project"):
            add.delay(1, 1)
            broker = app.broker
            with task_queue() as tasks:
                tasks.assert_nothing_sent()
            assert app.broker is broker
            assert broker.sizes()["celery"].waiting == 1
        assert app.conf.broker_url == "django-db://"

    @override_settings(TASK_ALWAYS_EAGER=True)
    def test_it_is_stronger_than_eager_mode(self) -> None:
        with task_queue() as tasks:
            remember.delay(1)
            assert seen == []
            tasks.run()
        assert seen == [1]
        remember.delay(2)
        assert seen == [1, 2]

    @override_settings(RESULT_BACKEND=None)
    def test_a_project_without_results_has_none_here(self) -> None:
        with task_queue() as tasks:
            result = remember.delay(1)
            tasks.run()
            assert seen == [1]
            with pytest.raises(ImproperlyConfigured, match="No result backend"):
                _ = result.state

    def test_an_app_of_its_own(self) -> None:
        app = App("other", broker="memory://own", backend="memory://own", set_as_current=False)

        @app.task(name="tests.test_testing.own")
        def own() -> str:
            return "own"

        with task_queue(app) as tasks:
            result = own.delay()
            tasks.run()
            assert result.get() == "own"
            assert app.conf.broker_url == "memory://tests"
        assert app.conf.broker_url == app.conf.result_backend == "memory://own"
        own.delay()
        assert app.broker.sizes()["celery"].waiting == 1


@override_settings(TASK_OUTBOX=True)
def test_the_outbox_of_the_settings_is_left_alone() -> None:
    """Without a database in this test."""
    with task_queue() as queue:
        add.delay(1, 2).revoke()
        assert queue.run() == []
