"""Tasks: how they are declared, what each option does, and what a task can ask about its own run."""

from __future__ import annotations

import functools
import logging
import pickle
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest

from django_tasks import App, AsyncResult, Task, current_task, shared_task, states
from django_tasks.context import Context
from django_tasks.exceptions import (
    AlreadyRegistered,
    EncodeError,
    ImproperlyConfigured,
    NotRegistered,
    SoftTimeLimitExceeded,
)
from django_tasks.registry import tasks
from django_tasks.worker.limits import RateLimiter, alarm_guard
from django_tasks.worker.slot import report
from tests.running import NODE, advance, drain, message_of, reserve, seconds_from_now
from tests.testapp import tasks as testapp
from tests.testapp.tasks import add

pytestmark = pytest.mark.usefixtures("memory_app")

#: What the tasks of a test have noted.
seen: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    seen.clear()


# -- declaring


def test_a_function_with_and_without_parentheses() -> None:
    @shared_task
    def bare(x: int) -> int:
        """Say what it does."""
        return x

    @shared_task()
    def called(x: int) -> int:
        return x

    assert isinstance(bare, Task)
    assert isinstance(called, Task)
    assert bare.name == "tests.test_task.bare"
    assert bare.__name__ == "bare"
    assert bare.__doc__ == "Say what it does."
    assert bare.__module__ == __name__
    assert tasks["tests.test_task.bare"] is bare
    assert repr(bare) == "<@task: tests.test_task.bare>"
    assert bare(1) == called(1) == bare.run(1) == 1


def test_name() -> None:
    @shared_task(name="shop.bill")
    def bill() -> None: ...

    assert bill.name == "shop.bill"
    assert tasks["shop.bill"] is bill
    with pytest.raises(AlreadyRegistered, match=r"'shop\.bill'"):
        shared_task(name="shop.bill")(lambda: None)


def test_a_decorator_can_be_kept_and_used_again() -> None:
    class Base(Task[..., Any]):
        kind = "of ours"

    ours = shared_task(base=Base, bind=True, queue="ours")

    @ours
    def first(self: Task[..., Any]) -> str:
        return self.name

    @ours
    def second(self: Task[..., Any]) -> str:
        return self.name

    assert [first(), second()] == ["tests.test_task.first", "tests.test_task.second"]
    assert {type(each).__mro__[1] for each in (first, second)} == {Base}
    assert first.queue == second.queue == "ours"


def test_bind_gives_the_task_itself() -> None:
    @shared_task(bind=True)
    def job(self: Task[..., Any], x: int) -> list[Any]:
        return [self.name, self is job, x]

    assert job(3) == ["tests.test_task.job", True, 3]
    assert job.delay(3).id
    assert drain(job.app)[0].value == ["tests.test_task.job", True, 3]


def test_base() -> None:
    class Counting(Task[..., Any]):
        abstract = True
        calls = 0

        def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
            type(self).calls += 1

    @shared_task(base=Counting)
    def job() -> None: ...

    job.delay()
    drain(job.app)
    assert type(job).calls == 1


def test_a_base_with_a_call_of_its_own() -> None:
    """As in Celery's documentation: a base that gives every run an application context."""

    class WithContext(Task[..., Any]):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            seen.append("in")
            try:
                return super().__call__(*args, **kwargs)
            finally:
                seen.append("out")

    @shared_task(base=WithContext, bind=True)
    def job(self: Any) -> Any:
        return self.request.id

    result = job.delay()
    assert drain(job.app)[0].value == result.id
    assert seen == ["in", "out"]


def test_other_options_are_attributes_for_own_use() -> None:
    @shared_task(tenant="acme", bind=True)
    def job(self: Any) -> Any:
        return self.tenant

    assert job() == "acme"


@pytest.mark.parametrize(("wrong", "right"), [("max_retrys", "max_retries"), ("ignore_results", "ignore_result")])
def test_a_misspelt_option(wrong: str, right: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=rf"no option '{wrong}'\. Did you mean {right}\?"):
        shared_task(**{wrong: 1})(lambda: None)


def test_a_name_in_place_of_the_function() -> None:
    with pytest.raises(TypeError, match=r"name='shop\.bill'"):
        shared_task("shop.bill")  # type: ignore[call-overload]


def test_a_task_is_pickled_by_name() -> None:
    assert pickle.loads(pickle.dumps(testapp.add)) is testapp.add


# -- class-based tasks


class Greet(Task[[str], str]):
    name = "tests.greet"
    greeting = "Hello"

    def run(self, whom: str) -> str:
        return f"{self.greeting} {whom} from {self.request.id}"


def test_a_class_is_registered_as_a_task(memory_app: App) -> None:
    greet = memory_app.register_task(Greet)
    assert isinstance(greet, Greet)
    result = greet.delay("you")
    drain(memory_app)
    assert result.get() == f"Hello you from {result.id}"
    with pytest.raises(TypeError, match="'whom'"):
        greet.delay()


def test_an_instance_without_a_name_gets_one(memory_app: App) -> None:
    class Base(Task[..., Any]):
        def run(self) -> str:
            return self.name

    class Other(Base):
        def run(self) -> str:
            return self.name

    # The name belongs to the instance: a subclass does not inherit it.
    assert memory_app.register_task(Base()).name == "tests.test_task.Base"
    assert memory_app.register_task(Other()).name == "tests.test_task.Other"
    assert Base.name == ""


def test_a_task_without_run() -> None:
    class Empty(Task[[], None]):
        name = "empty"

    with pytest.raises(NotImplementedError, match=r"Task empty has to define run\(\)"):
        Empty()()


# -- arguments


@pytest.mark.parametrize(
    ("args", "kwargs", "complaint"),
    [
        ((1,), {}, r"add\(\) missing 1 required positional argument: 'y'"),
        ((), {}, r"add\(\) missing 2 required positional arguments: 'x' and 'y'"),
        ((1, 2, 3), {}, r"add\(\) takes 2 positional arguments but 3 were given"),
        ((1, 2), {"z": 3}, r"add\(\) got an unexpected keyword argument 'z'"),
        ((1, 2), {"y": 3}, r"add\(\) got multiple values for argument 'y'"),
    ],
)
def test_wrong_arguments_are_refused_where_the_call_is_made(
    args: tuple[int, ...], kwargs: dict[str, int], complaint: str
) -> None:
    with pytest.raises(TypeError, match=complaint):
        testapp.add.delay(*args, **kwargs)
    with pytest.raises(TypeError, match=complaint):
        testapp.add.apply_async(args, kwargs)
    assert reserve(testapp.add.app) == []


def test_the_task_itself_does_not_count() -> None:
    @shared_task(bind=True)
    def job(self: Any, x: int, /, *rest: int, key: str, **more: int) -> None: ...

    job.delay(1, 2, 3, key="k", other=1)
    with pytest.raises(TypeError, match=r"job\(\) missing 1 required keyword-only argument: 'key'"):
        job.delay(1)
    with pytest.raises(TypeError, match=r"job\(\) missing 1 required positional argument: 'x'"):
        job.delay(x=1, key="k")


def test_typing_false_leaves_it_to_the_run() -> None:
    @shared_task(typing=False)
    def job(x: int) -> None: ...

    result = job.delay()
    drain(job.app)
    assert isinstance(result.result, TypeError)
    assert "'x'" in str(result.result)


def test_a_decorator_may_add_arguments() -> None:
    def with_session(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return function("session", *args, **kwargs)

        return wrapper

    @shared_task
    @with_session
    def job(session: str, x: int) -> list[Any]:
        return [session, x]

    result = job.delay(1)
    drain(job.app)
    assert result.get() == ["session", 1]


def test_what_cannot_be_serialised_is_refused_where_the_call_is_made() -> None:
    with pytest.raises(EncodeError, match=r"tests\.testapp\.tasks\.echo"):
        testapp.echo.delay(object())
    assert reserve(testapp.echo.app) == []


# -- options that go into the message


def test_options_of_the_task_travel_with_its_messages(memory_app: App) -> None:
    memory_app.conf.accept_content = ["json", "pickle"]

    @shared_task(queue="slow", priority=7, expires=60, serializer="pickle", time_limit=30, soft_time_limit=20,
                 ignore_result=True, compression="gzip")  # fmt: skip
    def job() -> None: ...

    job.delay()
    message = message_of(memory_app)
    assert (message.queue, message.priority, message.timelimit) == ("slow", 7, (30, 20))
    assert message.expires is not None
    assert 55 < seconds_from_now(message.expires) <= 60
    assert message.content_type == "application/x-python-serialize"
    assert message.compression == "application/x-gzip"
    assert message.ignore_result is True


def test_a_call_wins_over_the_task() -> None:
    @shared_task(queue="slow", priority=7, time_limit=30)
    def job() -> None: ...

    job.apply_async(queue="fast", priority=1, time_limit=5)
    message = message_of(job.app)
    assert (message.queue, message.priority, message.timelimit) == ("fast", 1, (5, None))


def test_routing_key(memory_app: App) -> None:
    memory_app.conf.task_queues = {"celery": {}, "media": {"routing_key": "media.#", "exchange_type": "topic"}}

    @shared_task(routing_key="media.video")
    def job() -> None: ...

    job.delay()
    assert message_of(memory_app).queue == "media"


def test_expires_as_a_time() -> None:
    until = datetime.now(timezone.utc) + timedelta(hours=1)

    @shared_task(expires=until)
    def job() -> None: ...

    job.delay()
    assert message_of(job.app).expires == until


# -- options that change the run


def test_ignore_result() -> None:
    @shared_task(ignore_result=True)
    def quiet() -> int:
        return 1

    @shared_task(ignore_result=True)
    def failing() -> None:
        raise ValueError

    results = [quiet.delay(), failing.delay()]
    assert [each.state for each in drain(quiet.app)] == [states.SUCCESS, states.FAILURE]
    assert quiet.app.backend.get([each.id for each in results]) == {}
    assert results[0].get(timeout=0) is None  # there is nothing to wait for


def test_ignore_result_of_the_settings_and_of_one_call(memory_app: App) -> None:
    memory_app.conf.task_ignore_result = True
    ignored, kept = testapp.add.delay(1, 2), testapp.add.apply_async((1, 2), ignore_result=False)
    drain(memory_app)
    assert ignored.ignored
    assert ignored.state == states.PENDING
    assert kept.get(timeout=0) == 3


def test_store_errors_even_if_ignored() -> None:
    @shared_task(ignore_result=True, store_errors_even_if_ignored=True)
    def job(fail: bool) -> None:
        if fail:
            raise ValueError

    well, badly = job.delay(False), job.delay(True)
    drain(job.app)
    assert well.state == states.PENDING
    assert badly.state == states.FAILURE


@pytest.mark.parametrize(("acks_late", "in_the_run"), [(True, 1), (False, 0), (None, 1)])
def test_acks_late(memory_app: App, acks_late: bool | None, in_the_run: int) -> None:
    @shared_task(acks_late=acks_late)
    def job() -> int:
        return memory_app.broker.sizes(["celery"])["celery"].reserved

    result = job.delay()
    drain(memory_app)
    assert result.get() == in_the_run
    assert memory_app.broker.sizes(["celery"])["celery"].reserved == 0


def test_acks_late_of_the_settings(memory_app: App) -> None:
    memory_app.conf.task_acks_late = False

    @shared_task
    def job() -> int:
        return memory_app.broker.sizes(["celery"])["celery"].reserved

    result = job.delay()
    drain(memory_app)
    assert result.get() == 0


@pytest.mark.parametrize("track", [True, False])
def test_track_started(track: bool) -> None:
    @shared_task(bind=True, track_started=track)
    def job(self: Any) -> None:
        result = self.AsyncResult(self.request.id)
        seen.append((result.state, result.info))

    job.delay()
    drain(job.app)
    (state, info) = seen[0]
    if track:
        assert state == states.STARTED
        assert info["hostname"] == NODE
        assert isinstance(info["pid"], int)
    else:
        assert (state, info) == (states.PENDING, None)


def test_rate_limit(memory_app: App) -> None:
    @shared_task(rate_limit="10/m")
    def job() -> float:
        return memory_app.broker.now()

    results = [job.delay() for _ in range(3)]
    limiter = RateLimiter(tasks.values(), clock=memory_app.broker.now)
    started = memory_app.broker.now()
    for _ in range(3):
        drain(memory_app, admit=limiter.admit)
        advance(memory_app, 6)
    if limiter._file is not None:
        limiter._file.close()
    assert [round((each.get(timeout=0) - started) / 6) for each in results] == [0, 1, 2]


def test_the_default_rate_limit(memory_app: App) -> None:
    memory_app.conf.task_default_rate_limit = "5/s"

    @shared_task
    def unlimited() -> None: ...

    @shared_task(rate_limit="1/s")
    def limited() -> None: ...

    @shared_task(rate_limit=0)
    def free() -> None: ...

    memory_app.finalize()
    assert [task.rate_limit for task in (unlimited, limited, free)] == ["5/s", "1/s", 0]

    @shared_task
    def later() -> None: ...

    assert later.rate_limit == "5/s"


def test_soft_time_limit() -> None:
    @shared_task(soft_time_limit=0.05)
    def job() -> str:
        try:
            while True:
                time.sleep(0.01)
        except SoftTimeLimitExceeded:
            return "stopped in good order"

    @shared_task(soft_time_limit=0.05)
    def careless() -> None:
        while True:
            time.sleep(0.01)

    careful, failed = job.delay(), careless.delay()
    drain(job.app, guard=alarm_guard(SimpleNamespace(deadline=0.0)))  # type: ignore[arg-type]
    assert careful.get() == "stopped in good order"
    assert isinstance(failed.result, SoftTimeLimitExceeded)


@pytest.mark.parametrize(
    ("task_limits", "call", "expected"),
    [
        ({}, {}, (300, 200)),
        ({"time_limit": 30, "soft_time_limit": 20}, {}, (30, 20)),
        ({"time_limit": 30, "soft_time_limit": 20}, {"time_limit": 3, "soft_time_limit": 2}, (3, 2)),
        ({"time_limit": 30}, {"soft_time_limit": 2}, (30, 2)),
    ],
)
def test_which_time_limits_hold(
    task_limits: dict[str, float], call: dict[str, float], expected: tuple[float, float]
) -> None:
    class Limits:
        """Stands for the worker's guard, which is told the limits of each call."""

        def __init__(self, hard: float | None, soft: float | None) -> None:
            seen.append((hard, soft))

        def __enter__(self) -> None: ...

        def __exit__(self, *exc: object) -> None: ...

    @shared_task(**task_limits)
    def job() -> None: ...

    job.apply_async(**call)
    drain(job.app, guard=Limits, limits=(300, 200))
    assert seen == [expected]


@pytest.mark.parametrize("option", ["throws", "autoretry_for", "dont_autoretry_for"])
@pytest.mark.parametrize("value", ["OSError", (OSError, "ValueError"), (OSError("x"),)])
def test_exceptions_that_are_none(option: str, value: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match=f"job: {option} = .* tuple of exception classes"):
        shared_task(name="job", **{option: value})(lambda: None)


@pytest.mark.parametrize("throws", [(KeyError, OSError), OSError, [OSError]])
def test_throws(caplog: pytest.LogCaptureFixture, throws: Any) -> None:
    @shared_task(throws=throws)
    def job(surprise: bool) -> None:
        raise ValueError if surprise else ConnectionError

    job.delay(False)
    job.delay(True)
    with caplog.at_level(logging.INFO, "django_tasks.worker"):
        for outcome in drain(job.app):
            report(job.app, outcome)
    expected, surprise = (record for record in caplog.records if "raised" in record.getMessage())
    assert expected.levelno == logging.INFO
    assert expected.exc_info is None
    assert "expected" in expected.getMessage()
    assert surprise.levelno == logging.ERROR
    assert "unexpected" in surprise.getMessage()


# -- from inside a run


def test_update_state(memory_app: App) -> None:
    @shared_task(bind=True)
    def job(self: Any) -> str:
        self.update_state(state="PROGRESS", meta={"done": 1, "total": 10})
        result = AsyncResult(self.request.id)
        seen.append((result.state, result.info, result.name, result.worker, result.ready()))
        return "done"

    result = job.delay()
    drain(memory_app)
    assert seen == [("PROGRESS", {"done": 1, "total": 10}, "tests.test_task.job", NODE, False)]
    assert result.get() == "done"


def test_update_state_of_another_task() -> None:
    other = AsyncResult("an-id-of-another")

    @shared_task(bind=True)
    def job(self: Any) -> None:
        self.update_state(task_id=other.id, state="WAITING", meta="for the printer")

    job.delay()
    drain(job.app)
    assert (other.state, other.info) == ("WAITING", "for the printer")


def test_update_state_to_a_failure_by_hand() -> None:
    """What Celery projects do to fail with an error of their own making."""

    @shared_task(bind=True)
    def job(self: Any) -> None:
        self.update_state(
            state=states.FAILURE, meta={"exc_type": "KeyError", "exc_message": ["no"], "exc_module": None}
        )

    result = job.delay()
    drain(job.app)
    assert result.failed()
    assert repr(result.result) == "KeyError('no')"
    assert result.date_done is not None


def test_update_state_outside_a_run_does_nothing() -> None:
    @shared_task(bind=True)
    def job(self: Any) -> int:
        self.update_state(state="PROGRESS", meta=1)
        return 1

    assert job() == 1


def test_hooks_are_called_with_what_they_need() -> None:
    class Noting(Task[..., Any]):
        def before_start(self, *args: Any) -> None:
            seen.append(("before_start", *args))

        def on_success(self, *args: Any) -> None:
            seen.append(("on_success", *args))

        def on_failure(self, *args: Any) -> None:
            seen.append(("on_failure", *args))

        def on_retry(self, *args: Any) -> None:
            seen.append(("on_retry", *args))

        def after_return(self, *args: Any) -> None:
            seen.append(("after_return", *args))

    @shared_task(base=Noting, bind=True)
    def job(self: Any, how: str, **kwargs: Any) -> str:
        if how == "badly":
            raise ValueError(how)
        if how == "again" and not self.request.retries:
            raise self.retry(exc=OSError("away"), countdown=0)
        return f"went {how}"

    task_id = job.delay("well", x=1).id
    drain(job.app)
    call = (task_id, ["well"], {"x": 1})
    assert seen == [
        ("before_start", *call),
        ("on_success", "went well", *call),
        ("after_return", states.SUCCESS, "went well", *call, None),
    ]

    seen.clear()
    task_id = job.delay("badly").id
    drain(job.app)
    assert [name for name, *_ in seen] == ["before_start", "on_failure", "after_return"]
    exc, failed_id, args, kwargs, einfo = seen[1][1:]
    assert (repr(exc), failed_id, args, kwargs) == ("ValueError('badly')", task_id, ["badly"], {})
    assert "ValueError: badly" in str(einfo)
    assert einfo.exception is exc
    assert seen[2][1:3] == (states.FAILURE, exc)

    seen.clear()
    task_id = job.delay("again").id
    drain(job.app)
    assert [name for name, *_ in seen if name != "after_return"] == [
        "before_start", "on_retry", "before_start", "on_success",
    ]  # fmt: skip
    exc, retried_id, args, kwargs, einfo = next(rest for name, *rest in seen if name == "on_retry")
    assert (repr(exc), retried_id, args, kwargs) == ("OSError('away')", task_id, ["again"], {})


def test_a_hook_that_raises_does_not_change_the_outcome(caplog: pytest.LogCaptureFixture) -> None:
    class Clumsy(Task[..., Any]):
        def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
            raise KeyError("in the hook")

    @shared_task(base=Clumsy)
    def job() -> int:
        return 1

    result = job.delay()
    drain(job.app)
    assert result.get() == 1
    assert "A hook of task tests.test_task.job" in caplog.text


def test_an_error_before_the_start_fails_the_task() -> None:
    class Guarded(Task[..., Any]):
        def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
            raise PermissionError("not today")

    @shared_task(base=Guarded)
    def job() -> None:
        seen.append("ran")

    result = job.delay()
    drain(job.app)
    assert repr(result.result) == "PermissionError('not today')"
    assert seen == []


def test_a_coroutine_function() -> None:
    @shared_task(bind=True)
    async def job(self: Any, x: int) -> list[Any]:
        return [self.request.id, x]

    result = job.delay(2)
    drain(job.app)
    assert result.get() == [result.id, 2]


# -- nested calls


def note_request(where: str) -> None:
    task = current_task
    seen.append((where, task.name.rpartition(".")[2], task.request.id, task.request.called_directly))


def test_a_task_called_as_a_function_has_a_request_of_its_own() -> None:
    @shared_task
    def inner(x: int) -> int:
        note_request("inner")
        return x

    @shared_task
    def outer() -> int:
        note_request("before")
        value = inner(7)
        note_request("after")
        return value

    task_id = outer.delay().id
    drain(outer.app)
    assert seen == [
        ("before", "outer", task_id, False),
        ("inner", "inner", None, True),
        ("after", "outer", task_id, False),
    ]


def test_a_task_that_calls_itself_as_a_function() -> None:
    @shared_task(bind=True)
    def countdown(self: Any, n: int) -> None:
        seen.append((n, self.request.called_directly, list(self.request.args)))
        if n:
            self(n - 1)
        seen.append((n, self.request.called_directly))

    countdown.delay(2)
    drain(countdown.app)
    assert seen == [(2, False, [2]), (1, True, [1]), (0, True, [0]), (0, True), (1, True), (2, False)]


def test_calls_made_below_belong_to_the_run() -> None:
    @shared_task
    def helper() -> str:
        return testapp.add.delay(1, 2).id

    @shared_task
    def outer() -> str:
        return helper()

    result = outer.delay()
    first = drain(outer.app)
    assert first[1].message.parent_id == result.id
    assert first[1].message.root_id == result.id
    assert result.children == [AsyncResult(first[0].value)]


def test_trail_false_keeps_no_children() -> None:
    @shared_task(trail=False)
    def outer() -> None:
        testapp.add.delay(1, 2)

    result = outer.delay()
    assert drain(outer.app)[1].message.parent_id == result.id
    assert result.children == []


def test_eager_runs_inside_a_run() -> None:
    @shared_task(bind=True)
    def inner(self: Any) -> list[Any]:
        return [self.request.is_eager, self.request.parent_id, self.request.root_id]

    @shared_task(bind=True)
    def outer(self: Any) -> list[Any]:
        value = inner.apply().get()
        return [*value, self.request.is_eager]

    result = outer.delay()
    drain(outer.app)
    assert result.get() == [True, result.id, result.id, False]


def test_the_current_task() -> None:
    assert not current_task
    assert repr(current_task) == "None"

    @shared_task
    def job() -> list[Any]:
        return [bool(current_task), current_task == job, current_task.request.id]

    result = job.delay()
    drain(job.app)
    assert result.get() == [True, True, result.id]
    assert isinstance(job.request, Context)
    assert job.request.id is None
    assert job.request.called_directly


def test_an_unknown_name() -> None:
    with pytest.raises(NotRegistered):
        tasks["tests.test_task.nothing"]


@pytest.mark.parametrize("name", ["replace", "chunks", "map", "starmap"])
def test_names_of_a_later_release(name: str) -> None:
    with pytest.raises(AttributeError, match=f"add has no '{name}': workflows come with a later release"):
        getattr(add, name)
    assert not hasattr(add, name)


def test_a_name_that_is_none() -> None:
    with pytest.raises(AttributeError, match=r"The task tests\.testapp\.tasks\.add has no 'nonesuch'$"):
        _ = add.nonesuch


@pytest.mark.parametrize(("size", "shown"), [(None, "'" + "x" * 50 + "'"), (10, "'xxxxxx...")])
def test_how_much_of_its_result_the_log_shows(size: int | None, shown: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "django_tasks.worker")
    options = {} if size is None else {"resultrepr_maxsize": size}

    @shared_task(**options)
    def job() -> str:
        return "x" * 50

    job.delay()
    (outcome,) = drain(job.app)
    report(job.app, outcome)
    assert caplog.messages[-1].endswith(f": {shown}")
