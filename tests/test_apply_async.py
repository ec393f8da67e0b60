"""``apply_async`` on the test database: every option, routing, signals, and a broker that is away."""

from __future__ import annotations

import ast
import contextlib
import re
import socket
import threading
import time
import uuid
import zoneinfo
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest
from django.db import connection, connections

from django_tasks import App, AsyncResult, shared_task, signals, states
from django_tasks.exceptions import (
    ContentDisallowed,
    EncodeError,
    ImproperlyConfigured,
    MessageTooLarge,
    NotRegistered,
    OperationalError,
    TaskRevokedError,
)
from django_tasks.executor import Executor
from django_tasks.finish import finish
from tests.processes import ROOT
from tests.running import advance, app_of_test, drain, message_of, reserve, seconds_from_now, waiting
from tests.testapp.tasks import add, echo, fail

UTC = timezone.utc


@pytest.fixture
def app(database_app: App) -> App:
    return database_app


# -- what is called


def test_args_and_kwargs(app: App) -> None:
    results = [
        echo.apply_async(),
        echo.apply_async((1, "two")),
        echo.apply_async([1], {"x": None}),
        echo.apply_async(kwargs={"self": 1, "args": 2}),
        echo.delay(1, when=datetime(2026, 1, 2, tzinfo=UTC)),
    ]
    drain(app)
    assert [each.get() for each in results] == [
        [[], {}],
        [[1, "two"], {}],
        [[1], {"x": None}],
        [[], {"self": 1, "args": 2}],
        [[1], {"when": datetime(2026, 1, 2, tzinfo=UTC)}],
    ]


def test_each_call_has_an_id_of_its_own(app: App) -> None:
    first, second = add.delay(1, 2), add.delay(1, 2)
    assert isinstance(first, AsyncResult)
    assert len({first.id, second.id}) == 2
    assert [each.id for each in waiting(app)] == [first.id, second.id]


def test_task_id(app: App) -> None:
    result = add.apply_async((1, 2), task_id="my-own-id")
    assert result.id == result.task_id == "my-own-id"
    drain(app)
    assert AsyncResult("my-own-id").get() == 3


def test_a_uuid_as_task_id(app: App) -> None:
    task_id = uuid.uuid4()
    result = add.apply_async((1, 2), task_id=task_id)
    drain(app)
    assert result.id == str(task_id)
    assert result.get(timeout=1) == 3


# -- when


def test_countdown(app: App) -> None:
    result = add.apply_async((1, 2), countdown=60)
    assert 58 < seconds_from_now(message_of(app).eta) <= 60
    assert drain(app) == []
    assert app.broker.sizes(["celery"])["celery"].delayed == 1
    advance(app, 61)
    drain(app)
    assert result.get() == 3


@pytest.mark.parametrize("countdown", [0, -5, timedelta(), None])
def test_no_countdown_to_speak_of(app: App, countdown: Any) -> None:
    result = add.apply_async((1, 2), countdown=countdown)
    drain(app)
    assert result.get() == 3


def test_eta(app: App) -> None:
    when = datetime.now(UTC) + timedelta(hours=2)
    result = add.apply_async((1, 2), eta=when)
    assert drain(app) == []
    assert message_of(app).eta == when
    advance(app, 2 * 3600 - 10)
    assert drain(app) == []
    advance(app, 11)
    drain(app)
    assert result.get() == 3


def test_eta_in_another_zone_and_as_text(app: App) -> None:
    tokyo = datetime(2027, 1, 1, 9, tzinfo=zoneinfo.ZoneInfo("Asia/Tokyo"))
    add.apply_async((1, 2), eta=tokyo)
    add.apply_async((1, 2), eta="2027-01-01T00:00:00Z")
    assert [message.eta for message in waiting(app)] == [datetime(2027, 1, 1, tzinfo=UTC)] * 2


@pytest.mark.parametrize(("zone", "hour"), [(None, 12), ("Europe/Berlin", 11)])
def test_an_eta_without_a_zone_is_in_the_zone_of_the_settings(app: App, zone: str | None, hour: int) -> None:
    app.conf.timezone = zone
    add.apply_async((1, 2), eta=datetime(2027, 1, 1, 12), expires=datetime(2027, 1, 2, 12))
    message = message_of(app)
    assert message.eta == datetime(2027, 1, 1, hour, tzinfo=UTC)
    assert message.expires == datetime(2027, 1, 2, hour, tzinfo=UTC)


def test_a_naive_eta_follows_django_without_time_zones(app: App, settings: Any) -> None:
    settings.USE_TZ, settings.TIME_ZONE = False, "America/New_York"
    add.apply_async((1, 2), eta=datetime(2027, 1, 1, 12))
    assert message_of(app).eta == datetime(2027, 1, 1, 17, tzinfo=UTC)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"countdown": "5"}, "countdown must be a number of seconds, not '5'"),
        ({"eta": 5}, "eta must be a datetime, not 5; for seconds from now use countdown"),
        ({"eta": "tomorrow"}, "eta must be a datetime, not 'tomorrow'"),
        ({"expires": "soon"}, "expires must be seconds or a datetime, not 'soon'"),
        ({"priority": "high"}, "priority must be a whole number"),
        ({"priority": 100_000}, "priority must be a whole number"),
        ({"priority": True}, "priority must be a whole number"),
        ({"time_limit": "x"}, "time_limit must be a number of seconds, not 'x'"),
        ({"time_limit": -3}, "time_limit must be a number of seconds, not -3"),
        ({"soft_time_limit": True}, "soft_time_limit must be a number of seconds, not True"),
        ({"time_limit": 5, "soft_time_limit": 6}, "soft_time_limit = 6 must not be more than time_limit = 5"),
        ({"ignore_result": "x"}, "ignore_result must be True or False, not 'x'"),
        ({"retries": "x"}, "retries must be a whole number from 0 on, not 'x'"),
        ({"retries": -1}, "retries must be a whole number from 0 on, not -1"),
        ({"headers": "x"}, "headers must be a dict, not 'x'"),
        ({"link": "x"}, r"link must be a signature, such as task.s\(\), or a list of them, not 'x'"),
        ({"link": {"a": 1}}, "link must be a signature"),
        ({"link": echo}, "link must be a signature"),
        ({"link_error": [1]}, "link_error must be a signature"),
    ],
)
def test_values_that_cannot_be(app: App, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        add.apply_async((1, 2), **options)
    with pytest.raises(ValueError, match=complaint):
        app.send_task("elsewhere.task", **options)
    assert waiting(app) == []


def test_limits_of_a_task_and_of_a_call_need_not_agree(app: App) -> None:
    """As in Celery: who shortens the hard limit of one call does not have to know the soft one."""

    @shared_task(soft_time_limit=60)
    def patient() -> None: ...

    patient.apply_async(time_limit=10)
    assert message_of(app).timelimit == (10, 60)


@pytest.mark.parametrize("option", ["chain", "chord"])
def test_workflows_are_not_silently_left_out(app: App, option: str) -> None:
    with pytest.raises(TypeError, match=f"'{option}': it comes with a later release"):
        add.apply_async((1, 2), **{option: [add.s(1)]})
    assert waiting(app) == []
    add.apply_async((1, 2), **{option: None})
    assert message_of(app).args == [1, 2]


@pytest.mark.parametrize("args", [{"x": 1}, "a", b"a", {"x"}, 5, iter("a")])
@pytest.mark.parametrize(
    "call",
    [
        echo.apply_async,
        echo.apply,
        echo.s().apply_async,
        echo.s().clone,
        lambda args: echo.app.send_task(echo.name, args),
    ],
)
def test_arguments_that_are_no_list_are_not_taken_to_pieces(app: App, call: Any, args: Any) -> None:
    with pytest.raises(TypeError, match="args must be a list or tuple"):
        call(args)
    assert waiting(app) == []


@pytest.mark.parametrize("kwargs", ["a", [("x", 1)], 5])
def test_keyword_arguments_that_are_no_dict(app: App, kwargs: Any) -> None:
    for call in (echo.apply_async, echo.apply, partial(app.send_task, echo.name)):
        with pytest.raises(TypeError, match="kwargs must be a dict"):
            call((), kwargs)
    assert waiting(app) == []


@pytest.mark.parametrize("expires", [10, 10.5, timedelta(seconds=10)])
def test_expires(app: App, expires: Any) -> None:
    in_time, too_late = add.apply_async((1, 2), expires=expires), add.apply_async((1, 2), expires=expires)
    (delivery,) = reserve(app, 1)
    finish(app, [Executor(app).run(delivery)])
    advance(app, 11)
    drain(app)
    assert in_time.get() == 3
    assert too_late.state == states.REVOKED
    with pytest.raises(TaskRevokedError, match="expired"):
        too_late.get()


def test_expires_at_a_time(app: App) -> None:
    result = add.apply_async((1, 2), expires=datetime.now(UTC) - timedelta(seconds=1))
    drain(app)
    assert result.state == states.REVOKED


# -- where to, and how urgent


def test_queue(app: App) -> None:
    add.apply_async((1, 2), queue="slow")
    add.apply_async((1, 2), routing_key="by.key")
    add.delay(1, 2)
    assert [message.queue for message in waiting(app)] == ["slow", "celery", "celery"]


def test_routes(app: App) -> None:
    app.conf.task_routes = {"tests.testapp.tasks.a*": {"queue": "numbers", "priority": 3, "expires": 60}}
    add.delay(1, 2)
    add.apply_async((1, 2), queue="mine", priority=1)
    echo.delay()
    messages = {message.queue: message for message in waiting(app)}
    assert set(messages) == {"numbers", "mine", "celery"}
    assert (messages["numbers"].priority, messages["mine"].priority) == (3, 1)
    assert messages["numbers"].expires is not None
    assert messages["celery"].expires is None


def test_a_task_wins_over_its_route(app: App) -> None:
    app.conf.task_routes = {"*": {"queue": "routed"}}

    @shared_task(queue="own")
    def job() -> None: ...

    job.delay()
    assert message_of(app).queue == "own"


def test_a_queue_that_may_not_be_used(app: App) -> None:
    app.conf.update(task_queues=["celery"], task_create_missing_queues=False)
    with pytest.raises(ImproperlyConfigured, match="'nowhere'"):
        add.apply_async((1, 2), queue="nowhere")


def test_the_default_queue(app: App) -> None:
    app.conf.task_default_queue = "house"
    add.delay(1, 2)
    assert message_of(app).queue == "house"


def test_priority(app: App) -> None:
    for priority in (0, 9, 5, None):
        echo.apply_async((priority,), priority=priority)
    assert [outcome.value[0] for outcome in drain(app)] == [[9], [5], [0], [None]]


def test_priorities_of_the_settings(app: App) -> None:
    app.conf.update(task_default_priority=4, task_inherit_parent_priority=True)

    @shared_task
    def parent() -> None:
        add.delay(1, 2)
        add.apply_async((1, 2), priority=1)

    parent.apply_async(priority=8)
    add.delay(1, 2)
    assert [outcome.message.priority for outcome in drain(app)] == [8, 8, 4, 1]


# -- what else travels


def test_headers(app: App) -> None:
    @shared_task(bind=True)
    def job(self: Any) -> list[Any]:
        return [self.request.headers, self.request.tenant, self.request.get("nothing", "default")]

    result = job.apply_async(headers={"tenant": "acme", "tries": 2})
    drain(app)
    assert result.get() == [{"tenant": "acme", "tries": 2}, "acme", "default"]


def test_serializer(app: App) -> None:
    @shared_task
    def total(numbers: set[int]) -> int:
        return sum(numbers)

    refused = total.apply_async(({1, 2},), serializer="pickle")
    drain(app)
    assert isinstance(refused.result, ContentDisallowed)
    with app_of_test("django-db://", accept_content=["json", "pickle"]) as willing:
        accepted = total.apply_async(({1, 2},), serializer="pickle")
        drain(willing)
        assert accepted.get() == 3


def test_compression(app: App) -> None:
    result = echo.apply_async(("x" * 1000,), compression="zlib")
    assert message_of(app).compression == "application/x-gzip"
    drain(app)
    assert result.get() == [["x" * 1000], {}]


def test_compression_of_the_settings(app: App) -> None:
    app.conf.task_compression = "gzip"
    result = echo.delay("x" * 1000)
    assert message_of(app).compression == "application/x-gzip"
    drain(app)
    assert result.get() == [["x" * 1000], {}]
    echo.apply_async(compression="bzip2")
    assert message_of(app).compression == "application/x-bz2"


def test_shadow(app: App) -> None:
    result = add.apply_async((1, 2), shadow="a better name")
    assert message_of(app).shadow == "a better name"
    drain(app)
    assert result.get() == 3


def test_stamps_and_groups_are_kept(app: App) -> None:
    options = {"group_id": "g", "group_index": 2, "stamps": {"mon": "a"}, "stamped_headers": ["mon"], "reply_to": "me"}
    add.apply_async((1, 2), **options)
    message = message_of(app)
    assert (message.group, message.group_index, message.stamps, message.stamped_headers, message.reply_to) == (
        "g", 2, {"mon": "a"}, ["mon"], "me",
    )  # fmt: skip


def test_a_message_that_is_too_large(app: App) -> None:
    with app_of_test("django-db://", task_max_message_size=1000) as small:
        with pytest.raises(MessageTooLarge, match="TASK_MAX_MESSAGE_SIZE"):
            echo.delay("x" * 2000)
        assert waiting(small) == []


# -- callbacks


def test_link(app: App) -> None:
    result = add.apply_async((2, 2), link=[add.s(8), echo.si("immutable")])
    embed = message_of(app).embed
    assert embed is not None
    assert [each["task"] for each in embed["callbacks"]] == [add.name, echo.name]
    first, *rest = drain(app)
    assert result.get() == 4
    assert {each.message.task: each.value for each in rest} == {add.name: 12, echo.name: [["immutable"], {}]}
    assert {each.message.parent_id for each in rest} == {result.id}
    assert {each.message.root_id for each in rest} == {first.message.id}


def test_one_link_needs_no_list(app: App) -> None:
    add.apply_async((2, 2), link=add.s(8))
    assert [outcome.value for outcome in drain(app)] == [4, 12]


def test_link_is_not_called_after_a_failure(app: App) -> None:
    fail.apply_async(link=add.s(8))
    assert [outcome.state for outcome in drain(app)] == [states.FAILURE]


def test_link_error_as_a_message(app: App) -> None:
    @shared_task
    def on_error(failed: str) -> str:
        return failed

    result = fail.apply_async(link_error=on_error.s())
    outcomes = drain(app)
    assert outcomes[1].value == result.id
    assert outcomes[1].message.parent_id == result.id


def test_link_error_inline(app: App) -> None:
    """As in Celery, an errback that takes (request, exc, traceback) is called in the worker, without a message."""
    seen: list[Any] = []

    @shared_task
    def on_error(request: Any, exc: Exception, traceback: str) -> None:
        seen.append((request.id, repr(exc), "ValueError: oh" in traceback))

    result = fail.apply_async(("oh",), link_error=on_error.s())
    assert len(drain(app)) == 1
    assert seen == [(result.id, "ValueError('oh')", True)]


# -- signals


@contextlib.contextmanager
def connected(signal: Any, receiver: Any) -> Iterator[None]:
    signal.connect(receiver)
    try:
        yield
    finally:
        signal.disconnect(receiver)


def test_signals_around_publish(app: App) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []

    def before(**facts: Any) -> None:
        calls.append(("before", facts))
        assert waiting(app) == []
        facts["headers"]["trace"] = "abc"

    def after(**facts: Any) -> None:
        calls.append(("after", facts))
        assert len(waiting(app)) == 1

    with connected(signals.before_task_publish, before), connected(signals.after_task_publish, after):
        result = add.apply_async((1, 2), queue="q", headers={"mine": 1})
    assert [name for name, _ in calls] == ["before", "after"]
    for _, facts in calls:
        assert facts["sender"] == add.name
        assert facts["headers"]["id"] == result.id
        assert facts["headers"]["task"] == add.name
        assert facts["routing_key"] == "q"
        assert facts["body"][0] == (1, 2)
    assert calls[0][1]["retry_policy"]["max_retries"] == app.conf.task_publish_retry_policy["max_retries"]
    assert message_of(app).headers == {"mine": 1, "trace": "abc"}


def test_what_a_receiver_can_change(app: App) -> None:
    def before(headers: dict[str, Any], properties: dict[str, Any], **_: Any) -> None:
        headers["shadow"] = "addition"
        properties["priority"] += 7
        headers["id"] = headers["task"] = "another"

    with connected(signals.before_task_publish, before):
        result = add.apply_async((1, 2), priority=1)
    message = message_of(app)
    assert (message.shadow, message.priority) == ("addition", 8)
    assert (message.id, message.task, message.headers) == (result.id, add.name, {})


def test_a_receiver_that_changes_nothing(app: App) -> None:
    with connected(signals.before_task_publish, lambda **_: None):
        add.apply_async((1, 2), shadow="addition")
    message = message_of(app)
    assert (message.shadow, message.priority, message.headers) == ("addition", None, {})


def test_a_receiver_for_one_task(app: App) -> None:
    seen: list[str] = []

    def before(sender: str, **facts: Any) -> None:
        seen.append(sender)

    signals.before_task_publish.connect(before, sender=add.name)
    try:
        add.delay(1, 2)
        echo.delay()
    finally:
        signals.before_task_publish.disconnect(before, sender=add.name)
    assert seen == [add.name]


# -- calls by name


def test_send_task(app: App) -> None:
    result = app.send_task("tests.testapp.tasks.add", (1,), {"y": 2}, queue="q", countdown=5)
    message = message_of(app)
    assert (message.task, message.queue, message.ignore_result) == (add.name, "q", None)
    advance(app, 6)
    drain(app)
    assert result.get() == 3


def test_send_task_to_others(app: App) -> None:
    result = app.send_task("elsewhere.job", (1,))
    assert message_of(app).id == result.id
    outcome = drain(app)[0]
    assert outcome.state == states.PENDING  # put back for workers that know it
    assert result.state == states.PENDING


def test_an_unknown_task_becomes_a_dead_letter(app: App) -> None:
    result = app.send_task("elsewhere.job")
    for _ in range(20):
        drain(app)
        advance(app, 61)
    assert app.broker.sizes(["celery"])["celery"].dead == 1
    assert result.state == states.FAILURE
    with pytest.raises(NotRegistered, match=r"elsewhere\.job"):
        result.get()


# -- a broker that is away


@pytest.fixture
def no_restrictions(django_db_blocker: Any) -> Iterator[None]:
    """Let the test use a database that is not among those of the settings."""
    pytest.importorskip("psycopg")
    with django_db_blocker.unblock():
        yield
        connections.close_all()


@pytest.fixture
def away(no_restrictions: None) -> Iterator[App]:
    """An app whose broker is a PostgreSQL that nobody runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with other_database(port), app_of_test("django-db://away", backend="memory://") as app:
        yield app


@contextlib.contextmanager
def other_database(port: int, engine: str = "postgresql", options: Any = None) -> Iterator[None]:
    options = options or {"sslmode": "disable", "gssencmode": "disable", "connect_timeout": 5}
    connections.settings["away"] = {
        **connection.settings_dict, "ENGINE": f"django.db.backends.{engine}", "HOST": "127.0.0.1", "PORT": port,
        "USER": "nobody", "PASSWORD": "", "NAME": "nothing", "OPTIONS": options,
    }  # fmt: skip
    try:
        yield
    finally:
        with contextlib.suppress(AttributeError):
            del connections["away"]
        del connections.settings["away"]


@pytest.mark.parametrize("options", [{}, {"retry_policy": {"max_retries": None, "interval_start": 0.1}}])
def test_a_broker_that_is_away_is_an_error_within_two_seconds(away: App, options: dict[str, Any]) -> None:
    started = time.monotonic()
    with pytest.raises(OperationalError, match=r"'away'.*refused"):
        add.apply_async((1, 2), **options)
    assert time.monotonic() - started < 4  # two, and patience with a slow machine


@pytest.mark.parametrize(
    ("options", "attempts"),
    [
        ({}, 4),
        ({"retry": False}, 1),
        ({"retry": True, "retry_policy": {"max_retries": 1, "interval_start": 0}}, 2),
        ({"retry_policy": {"max_retries": 6, "interval_start": 0, "interval_step": 0.01}}, 7),
    ],
)
def test_how_often_sending_is_tried(no_restrictions: None, options: dict[str, Any], attempts: int) -> None:
    with hanging_up() as (port, calls), other_database(port), app_of_test("django-db://away", backend="memory://"):
        with pytest.raises(OperationalError):
            add.apply_async((1, 2), **options)
        assert len(calls) == attempts


def test_no_retries_at_all(no_restrictions: None) -> None:
    with hanging_up() as (port, calls), other_database(port):
        with app_of_test("django-db://away", backend="memory://", task_publish_retry=False):
            with pytest.raises(OperationalError):
                add.delay(1, 2)
            with pytest.raises(OperationalError):
                add.apply_async((1, 2), retry=True)
        assert len(calls) == 1 + 4


def test_how_often_is_also_a_setting(no_restrictions: None) -> None:
    policy = {"max_retries": 1, "interval_start": 0}
    with (
        hanging_up() as (port, calls),
        other_database(port),
        app_of_test("django-db://away", backend="memory://", task_publish_retry_policy=policy),
    ):
        with pytest.raises(OperationalError):
            add.delay(1, 2)
        assert len(calls) == 2


def test_how_long_is_a_setting(no_restrictions: None) -> None:
    policy = {"max_retries": None, "interval_start": 0.3, "interval_max": 0.3}
    with (
        hanging_up() as (port, calls),
        other_database(port),
        app_of_test("django-db://away", backend="memory://", broker_connection_timeout=0.5),
    ):
        with pytest.raises(OperationalError):
            add.apply_async((1, 2), retry_policy=policy)
        assert len(calls) <= 2  # with two seconds it would be seven


@contextlib.contextmanager
def hanging_up() -> Iterator[tuple[int, list[float]]]:
    """Listen on a port and hang up on each caller; yield the port and the calls so far."""
    calls: list[float] = []

    def answer() -> None:
        while True:
            try:
                caller, _ = server.accept()
            except OSError:
                return
            calls.append(time.monotonic())
            caller.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield server.getsockname()[1], calls
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(("engine", "driver"), [("postgresql", "psycopg"), ("mysql", "MySQLdb")])
def test_a_server_that_does_not_answer(no_restrictions: None, engine: str, driver: str) -> None:
    """With the time-outs that the documentation has for it, a call is an error and does not hang."""
    pytest.importorskip(driver)
    text = (ROOT / "docs" / "operations.md").read_text()
    place = text.index({"postgresql": "### PostgreSQL", "mysql": "### MariaDB"}[engine])
    found = re.search(r'DATABASES\["default"\]\["OPTIONS"\] = (\{.*?^\})', text[place:], re.DOTALL | re.MULTILINE)
    assert found is not None
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        other_database(silent.getsockname()[1], engine, ast.literal_eval(found[1])),
        app_of_test("django-db://away", backend="memory://", task_publish_retry=False),
        pytest.raises(OperationalError, match="'away'"),
    ):
        add.delay(1, 2)


@pytest.mark.skipif("connection.vendor == 'sqlite'", reason="SQLite has no connection that could break")
def test_a_connection_that_broke_is_replaced(app: App) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()" if connection.vendor == "postgresql" else "SELECT connection_id()")
        (number,) = cursor.fetchone()
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)" if other.vendor == "postgresql" else "KILL %s", [number])
    finally:
        other.close()
    result = add.delay(1, 2)
    drain(app)
    assert result.get(timeout=1) == 3


def test_an_error_in_the_message_is_not_tried_again(app: App) -> None:
    with pytest.raises(EncodeError):
        echo.delay(object())
    assert waiting(app) == []
