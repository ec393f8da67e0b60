"""One script ends a batch on Redis: it stores, sends what follows, and settles."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from django_tasks import App, signature
from django_tasks.backends.celery_meta import COMPRESSED
from django_tasks.brokers import redis_finish
from django_tasks.brokers.base import Verb
from django_tasks.exceptions import OperationalError
from django_tasks.executor import Executor
from django_tasks.finish import finish
from django_tasks.outcome import Outcome
from django_tasks.states import PENDING, STARTED, SUCCESS
from tests.running import NODE, app_of_test, drain, reserve, waiting
from tests.servers import Redis

PREFIX = "celery-task-meta-"
#: Where nothing follows, a shorter script does it.
FOLLOWED = pytest.mark.parametrize("followed", [True, False])


@pytest.fixture
def app(redis_url: str) -> Iterator[App]:
    with app_of_test(redis_url) as app:
        app.task(name="echo")(lambda value: value)
        yield app
        app.close()


@pytest.fixture
def client(redis_server: Redis) -> Any:
    return redis_server.connect()


def run(app: App, *values: Any, link: Any = None, **options: Any) -> list[Outcome]:
    """Send calls and run them, but do not finish them; their ids are "0" and so on."""
    for number, value in enumerate(values):
        app.send_task("echo", (value,), task_id=str(number), link=link, **options)
    return [Executor(app, hostname=NODE).run(delivery) for delivery in reserve(app)]


def held(app: App) -> int:
    return sum(size.reserved for size in app.broker.sizes().values())


@FOLLOWED
def test_a_batch_is_one_round_trip(app: App, client: Any, followed: bool) -> None:
    link = signature("echo") if followed else None
    finish(app, run(app, "first", link=link))  # now the server knows the script
    client.delete(f"{PREFIX}0")
    drain(app)
    outcomes = run(app, *range(100), link=link)
    client.config_resetstat()
    assert finish(app, outcomes) == outcomes
    assert client.info("commandstats")["cmdstat_evalsha"]["calls"] == 1
    assert (held(app), len(waiting(app))) == (0, 100 if followed else 0)
    assert [app.AsyncResult(str(n)).get(timeout=0) for n in range(100)] == list(range(100))
    assert 86000 < client.ttl(f"{PREFIX}7") <= 86400


@pytest.mark.parametrize("number", ["0", "1"])
def test_results_on_another_database_of_the_server(redis_url: str, redis_server: Redis, number: str) -> None:
    with app_of_test(redis_url, backend=redis_server.url(number)) as app:
        app.task(name="echo")(lambda value: value)
        finish(app, run(app, "value", link=signature("echo")))
        assert redis_server.connect(db=int(number)).exists(f"{PREFIX}0")
        assert redis_server.connect(db=1 - int(number)).exists(f"{PREFIX}0") == 0
        assert app.AsyncResult("0").get(timeout=0) == "value"
        assert len(waiting(app)) == 1
        app.close()


@FOLLOWED
def test_what_is_not_held_any_more_is_neither_stored_nor_followed(app: App, client: Any, followed: bool) -> None:
    outcomes = run(app, "a", "b", "c", link=signature("echo") if followed else None)
    assert outcomes[1].settlement is not None
    client.hdel(f"{{celery}}.held.{NODE}", outcomes[1].settlement.delivery.handle.field)
    assert finish(app, outcomes) == [outcomes[0], outcomes[2]]
    assert [app.AsyncResult(str(n)).state for n in range(3)] == [SUCCESS, PENDING, SUCCESS]
    assert [message.args for message in waiting(app)] == ([["a"], ["c"]] if followed else [])


@FOLLOWED
def test_what_was_finished_already_counts_though_its_answer_got_lost(app: App, followed: bool) -> None:
    outcomes = run(app, "a", "b", link=signature("echo") if followed else None)
    assert finish(app, outcomes) == finish(app, outcomes) == outcomes
    assert len(waiting(app)) == (2 if followed else 0)


@FOLLOWED
@pytest.mark.parametrize("number", ["0", "1"])
@pytest.mark.parametrize("ignored", [True, False])
def test_who_is_told_hears_of_it_though_the_answer_got_lost(
    redis_url: str, redis_server: Redis, client: Any, number: str, ignored: bool, followed: bool
) -> None:
    """Also where no result in the same script says so: there is none, or it is elsewhere."""
    with app_of_test(redis_url, backend=redis_server.url(number)) as app:
        app.task(name="echo")(lambda value: value)
        outcomes = run(app, "a", "b", link=signature("echo") if followed else None, ignore_result=ignored)
        for outcome in outcomes:
            outcome.tell = lambda _: None
        assert finish(app, outcomes) == finish(app, outcomes) == outcomes
        assert len(waiting(app)) == (2 if followed else 0)
        assert held(app) == 0
        assert all(0 < client.ttl(key) <= 60 for key in client.scan_iter("{celery}.ended.*"))
        app.close()


def test_every_verb_in_one_batch(app: App) -> None:
    outcomes = run(app, *range(5), link=signature("echo"))
    for outcome, verb in zip(outcomes, (Verb.ACK, Verb.RETURN, Verb.DEAD, Verb.RETURN, Verb.ACK), strict=True):
        assert outcome.settlement is not None
        outcome.settlement.verb, outcome.settlement.reason = verb, "no use"
    assert finish(app, outcomes) == outcomes
    size = app.broker.sizes()["celery"]
    assert (size.reserved, size.dead, size.waiting) == (0, 1, 7)
    assert all(app.AsyncResult(str(n)).state == SUCCESS for n in range(5))
    drain(app)
    assert app.broker.sizes()["celery"].waiting == 0


@pytest.mark.parametrize(
    ("earlier", "counts"),
    [
        (b'{"status": "STARTED", "result": null}', "new"),
        (b"no meta", "new"),
        (b'{"status": "SUCCESS", "result": "earlier"}', "earlier"),
        (
            COMPRESSED + b"application/x-gzip\0" + zlib.compress(b'{"status": "SUCCESS", "result": "earlier"}'),
            "earlier",
        ),
        (COMPRESSED + b"application/x-gzip\0" + zlib.compress(b'{"status": "STARTED"}'), "new"),
    ],
)
@FOLLOWED
def test_an_earlier_end_decides_what_follows(
    app: App, client: Any, earlier: bytes, counts: str, followed: bool
) -> None:
    outcomes = run(app, "new", "other", link=signature("echo") if followed else None)
    client.set(f"{PREFIX}0", earlier)
    assert finish(app, outcomes) == outcomes
    assert sorted(message.args for message in waiting(app)) == ([[counts], ["other"]] if followed else [])
    assert app.AsyncResult("0").get(timeout=0) == counts
    assert held(app) == 0


def test_started_is_overwritten(redis_url: str, client: Any) -> None:
    with app_of_test(redis_url, task_track_started=True) as app:
        app.task(name="echo")(lambda value: value)
        outcomes = run(app, "a")
        assert app.AsyncResult("0").state == STARTED
        finish(app, outcomes)
        assert app.AsyncResult("0").get(timeout=0) == "a"
        app.close()


def test_a_key_that_is_something_else_holds_up_no_other(app: App, client: Any) -> None:
    outcomes = run(app, "a", "b", "c")
    client.lpush(f"{PREFIX}1", "x")
    with pytest.raises(OperationalError, match="something else under the name"):
        finish(app, outcomes)
    assert [app.AsyncResult(each).state for each in "02"] == [SUCCESS, SUCCESS]
    assert held(app) == 1
    client.delete(f"{PREFIX}1")
    assert finish(app, outcomes) == outcomes
    assert held(app) == 0


def test_what_cannot_be_sent_leaves_its_message(app: App, client: Any) -> None:
    outcomes = run(app, "a", "b", link=signature("echo", queue="other"))
    client.set("other", "no list")
    with pytest.raises(OperationalError, match="something else under the name"):
        finish(app, outcomes)
    assert app.broker.sizes(["celery"])["celery"].reserved == 2
    client.delete("other")
    assert finish(app, outcomes) == outcomes
    assert [message.args for message in waiting(app)] == [["a"], ["b"]]


def test_large_results_are_stored_in_parts(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_finish, "MOST_BYTES", 5000)
    outcomes = run(app, *("x" * size for size in (10, 4000, 4000, 6000, 6000, 10, 10)))
    assert outcomes[4].settlement is not None
    outcomes[4].settlement.delivery.handle = outcomes[4].settlement.delivery.handle._replace(field="1-0-0.0")
    assert finish(app, outcomes) == [*outcomes[:4], *outcomes[5:]]
    assert app.AsyncResult("4").state == PENDING
    assert app.AsyncResult("6").get(timeout=0) == "x" * 10
    assert held(app) == 1


def test_a_full_server_lets_workers_finish() -> None:
    """What they store takes less room than the messages that go."""
    with Redis() as server, app_of_test(server.url()) as app:
        app.task(name="echo")(lambda value: value)
        outcomes = run(app, *range(10))
        server.connect().config_set("maxmemory", "1")
        assert finish(app, outcomes) == outcomes
        assert held(app) == 0
        app.close()


@pytest.mark.parametrize(("verb", "expected"), [(Verb.RETURN, (0, 2, 0)), (Verb.DEAD, (0, 1, 1))])
def test_an_error_loses_nothing_that_came_before_it(
    app: App, client: Any, verb: Verb, expected: tuple[int, int, int]
) -> None:
    first, second = run(app, "a", "b", link=signature("echo", queue="other"))
    assert first.settlement is not None
    first.settlement.verb, first.follow = verb, False
    client.set("other", "no list")
    with pytest.raises(OperationalError, match="something else under the name"):
        finish(app, [first, second])
    size = app.broker.sizes(["celery"])["celery"]
    assert (size.waiting, size.reserved, size.dead) == expected
