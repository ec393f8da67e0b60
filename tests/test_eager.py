"""``apply()`` and ``TASK_ALWAYS_EAGER``: tasks that run in the caller, as a worker would run them."""

from __future__ import annotations

import pickle
from datetime import datetime, timezone
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import transaction

from django_tasks import App, AsyncResult, Task, allow_join_result, shared_task, signals, states
from django_tasks.exceptions import (
    EncodeError,
    Ignore,
    ImproperlyConfigured,
    MaxRetriesExceededError,
    MessageTooLarge,
    NotRegistered,
    Reject,
)
from django_tasks.result import EagerResult
from tests.running import app_of_test, drain, waiting
from tests.testapp.models import Note
from tests.testapp.tasks import add, echo, fail

pytestmark = pytest.mark.usefixtures("memory_app")


@pytest.fixture
def eager(memory_app: App) -> App:
    """An app whose calls run at once."""
    memory_app.conf.task_always_eager = True
    return memory_app


# -- apply()


def test_apply(memory_app: App) -> None:
    result = add.apply((2, 3))
    assert isinstance(result, EagerResult)
    assert (result.state, result.status, result.result, result.info) == (states.SUCCESS, states.SUCCESS, 5, 5)
    assert result.ready()
    assert result.successful()
    assert not result.failed()
    assert [result.get(), result.get(timeout=1), result.wait()] == [5, 5, 5]
    assert (result.name, result.traceback, result.children, result.worker) == (add.name, None, [], "")
    assert result.id
    assert async_to_sync(result.aget)() == 5
    assert waiting(memory_app) == []
    assert AsyncResult(result.id).state == states.PENDING  # nothing is stored


def test_its_error_is_the_one_that_was_raised() -> None:
    result = fail.apply(("no",))
    with pytest.raises(ValueError, match="no") as caught:
        result.get()
    assert caught.value is result.result
    assert caught.value.__cause__ is None  # its own traceback tells where it came from
    with pytest.raises(ValueError, match="no"):
        async_to_sync(result.aget)()
    assert result.get(propagate=False) is result.result


@pytest.mark.parametrize(("task", "args"), [(add, (2, 3)), (fail, ("no",))])
def test_it_travels(task: Any, args: Any) -> None:
    result = task.apply(args)
    copy = pickle.loads(pickle.dumps(result))
    assert type(copy) is EagerResult
    assert (copy, copy.state, copy.name, copy.traceback) == (result, result.state, result.name, result.traceback)
    assert repr(copy.result) == repr(result.result)


def test_apply_with_options() -> None:
    @shared_task(bind=True)
    def job(self: Any) -> list[Any]:
        request = self.request
        return [request.id, request.is_eager, request.called_directly, request.tenant, request.retries]

    result = job.apply(task_id="mine", headers={"tenant": "acme"}, retries=2, countdown=60, queue="q")
    assert result.get() == ["mine", True, False, "acme", 2]
    assert result.id == "mine"


def test_an_error() -> None:
    result = fail.apply(("bad",))
    assert result.failed()
    assert repr(result.result) == "ValueError('bad')"
    assert "ValueError: bad" in result.traceback
    with pytest.raises(ValueError, match="bad"):
        result.get()
    assert result.get(propagate=False) is result.result


def test_throw(memory_app: App) -> None:
    with pytest.raises(ValueError, match="bad"):
        fail.apply(("bad",), throw=True)
    memory_app.conf.task_eager_propagates = True
    with pytest.raises(ValueError, match="bad"):
        fail.apply(("bad",))
    assert fail.apply(("bad",), throw=False).failed()


def test_the_arguments_are_the_callers_own() -> None:
    """``apply()`` sends nothing, so what cannot be sent is no problem."""
    thing = object()

    @shared_task
    def job(given: object) -> bool:
        return given is thing

    assert job.apply((thing,)).get() is True


def test_ctrl_c_is_for_the_caller() -> None:
    @shared_task
    def job() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job.apply()


def test_retries_follow_without_waiting() -> None:
    runs: list[int] = []

    @shared_task(bind=True, default_retry_delay=3600)
    def job(self: Any, enough: int) -> str:
        runs.append(self.request.retries)
        if len(runs) < enough:
            raise self.retry(exc=OSError("away"))
        return "done"

    assert job.apply((3,)).get() == "done"
    assert runs == [0, 1, 2]
    runs.clear()
    result = job.apply((99,))
    assert runs == [0, 1, 2, 3]
    assert repr(result.result) == "OSError('away')"


def test_retries_that_are_used_up() -> None:
    @shared_task(bind=True, max_retries=1)
    def job(self: Any) -> None:
        self.retry()

    with pytest.raises(MaxRetriesExceededError):
        job.apply().get()


@pytest.mark.parametrize(("exc", "state"), [(Ignore(), states.IGNORED), (Reject("no"), states.REJECTED)])
def test_ignore_and_reject(exc: Exception, state: str) -> None:
    @shared_task
    def job() -> None:
        raise exc

    result = job.apply(link=add.s(1), link_error=add.s(1))
    assert (result.state, result.ready(), result.get()) == (state, True, None)


def test_callbacks_run_too() -> None:
    seen: list[Any] = []

    @shared_task
    def note(*values: Any) -> None:
        seen.append(values)

    add.apply((1, 2), link=[note.s("context"), note.si("immutable")], link_error=note.si("never"))
    assert seen == [(3, "context"), ("immutable",)]


def test_errbacks_run_as_in_the_worker() -> None:
    seen: list[Any] = []

    @shared_task
    def by_id(task_id: str) -> None:
        seen.append(task_id)

    @shared_task
    def inline(request: Any, exc: Exception, traceback: str) -> None:
        seen.append((request.id, repr(exc), "ValueError: bad" in traceback))

    result = fail.apply(("bad",), link=by_id.s(), link_error=[by_id.s(), inline.s()])
    assert seen == [result.id, (result.id, "ValueError('bad')", True)]


def test_a_callback_that_is_not_known_here() -> None:
    with pytest.raises(NotRegistered, match=r"elsewhere\.job"):
        add.apply((1, 2), link={"task": "elsewhere.job", "args": [], "kwargs": {}, "options": {}})


def test_hooks_and_signals() -> None:
    seen: list[Any] = []

    class Noting(Task[..., Any]):
        def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
            seen.append(("on_success", retval))

    @shared_task(base=Noting)
    def job() -> int:
        return 7

    def postrun(state: str, retval: Any, **_: Any) -> None:
        seen.append((state, retval))

    signals.task_postrun.connect(postrun)
    try:
        job.apply()
    finally:
        signals.task_postrun.disconnect(postrun)
    assert seen == [("on_success", 7), (states.SUCCESS, 7)]


def test_then_callback_forget_and_revoke() -> None:
    seen: list[Any] = []
    result = add.apply((1, 2))
    assert result.then(lambda ended: seen.append(ended.get())) is result
    failed = fail.apply()
    failed.then(seen.append, on_error=lambda ended: seen.append(ended.state))
    failed.then(seen.append)
    assert result.get(callback=lambda task_id, value: seen.append((task_id, value))) == 3
    result.forget()
    result.revoke(terminate=True)
    assert seen == [3, states.FAILURE, (result.id, 3)]
    assert result.get() == 3


def test_a_coroutine_task() -> None:
    @shared_task
    async def job(x: int) -> int:
        return x + 1

    assert job.apply((1,)).get() == 2


def test_apply_needs_neither_broker_nor_backend() -> None:
    with app_of_test("memory://", backend="disabled://"):
        result = add.apply((1, 2))
        assert (result.get(), result.date_done, result.args) == (3, None, None)


# -- TASK_ALWAYS_EAGER


def test_calls_run_at_once(eager: App) -> None:
    results = [
        add.delay(1, 2),
        add.apply_async((1, 2), countdown=3600, queue="q"),
        add.s(1).delay(2),
        *add.delay_many([(1, 2), add.s(1, 2)]),
        async_to_sync(add.adelay)(1, 2),
    ]
    assert [each.get() for each in results] == [3] * 6
    assert waiting(eager) == []


def test_wrong_arguments(eager: App) -> None:
    with pytest.raises(TypeError, match="'y'"):
        add.delay(1)


@pytest.mark.parametrize("propagates", [True, False])
def test_errors(eager: App, propagates: bool) -> None:
    eager.conf.task_eager_propagates = propagates
    if propagates:
        with pytest.raises(ValueError, match="bad"):
            fail.delay("bad")
    else:
        result = fail.delay("bad")
        assert result.state == states.FAILURE
        with pytest.raises(ValueError, match="bad"):
            result.get()


def test_arguments_are_what_a_worker_would_get(eager: App) -> None:
    """A test that passes eagerly and fails with a worker, because of what JSON makes of values, is worth nothing."""
    when = datetime(2026, 1, 2, tzinfo=timezone.utc)
    given = [1]
    result = echo.delay((1, 2), given, when=when)
    assert result.get() == [[[1, 2], [1]], {"when": when}]
    assert result.get()[0][1] is not given


def test_what_cannot_be_sent_fails_here_too(eager: App) -> None:
    with pytest.raises(EncodeError, match=r"tests\.testapp\.tasks\.echo"):
        echo.delay(object())
    eager.conf.task_max_message_size = 1000
    with pytest.raises(MessageTooLarge):
        echo.delay("x" * 2000)


def test_the_serializer_of_the_call(eager: App) -> None:
    @shared_task(serializer="pickle")
    def job(numbers: set[int]) -> int:
        return sum(numbers)

    assert job.delay({1, 2}).get() == 3


def test_store_eager_result(eager: App) -> None:
    assert AsyncResult(add.delay(1, 2).id).state == states.PENDING
    eager.conf.task_store_eager_result = True
    well, badly = add.delay(1, 2), fail.delay()
    ignored = add.apply_async((1, 2), ignore_result=True)
    assert AsyncResult(well.id).get() == 3
    assert AsyncResult(well.id).name == add.name
    assert AsyncResult(badly.id).failed()
    assert AsyncResult(ignored.id).state == states.PENDING


def test_a_state_of_ones_own_is_stored_all_the_same(eager: App) -> None:
    @shared_task(bind=True)
    def job(self: Any) -> None:
        self.update_state(state="PROGRESS", meta=5)

    result = job.delay()
    assert (AsyncResult(result.id).state, AsyncResult(result.id).info) == ("PROGRESS", 5)


def test_get_inside_a_task_is_refused_as_in_a_worker(eager: App) -> None:
    @shared_task
    def job(allow: bool) -> int:
        if allow:
            with allow_join_result():
                return add.delay(1, 2).get()
        return add.delay(1, 2).get()

    assert job.delay(True).get() == 3
    with pytest.raises(RuntimeError, match=r"Never call result\.get\(\) within a task"):
        job.delay(False).get()


def test_get_of_what_apply_ran_is_no_waiting(memory_app: App) -> None:
    @shared_task
    def job() -> int:
        return add.apply((1, 2)).get()

    assert job.apply().get() == 3
    result = job.delay()
    drain(memory_app)
    assert result.get() == 3


def test_nested_calls_have_parents(eager: App) -> None:
    @shared_task(bind=True)
    def inner(self: Any) -> list[str]:
        return [self.request.parent_id, self.request.root_id]

    @shared_task(bind=True)
    def outer(self: Any) -> Any:
        result = inner.delay()
        with allow_join_result():
            return result.get()

    result = outer.delay()
    assert result.get() == [result.id, result.id]


def test_send_task_is_sent_all_the_same(eager: App) -> None:
    with pytest.warns(UserWarning, match=r"TASK_ALWAYS_EAGER has no effect on send_task\('elsewhere\.job'\)"):
        eager.send_task("elsewhere.job")
    assert [message.task for message in waiting(eager)] == ["elsewhere.job"]


@pytest.mark.django_db(transaction=True)
def test_in_a_transaction_it_runs_at_once(eager: App) -> None:
    @shared_task
    def count() -> int:
        return Note.objects.count()

    with transaction.atomic():
        Note.objects.create(title="a")
        assert count.delay().get() == 1
        assert count.delay_on_commit().get() == 1


def test_routing_is_checked(eager: App) -> None:
    eager.conf.update(task_queues=["celery"], task_create_missing_queues=False)
    with pytest.raises(ImproperlyConfigured, match="nowhere"):
        add.apply_async((1, 2), queue="nowhere")
