"""The Redis backend: what it writes, how it waits, and what it makes of what others have written."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import threading
import zlib
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest

from django_tasks import AsyncResult, exceptions
from django_tasks.backends import redis_listener
from django_tasks.backends.base import UNFINISHED_AGE
from django_tasks.backends.celery_meta import COMPRESSED
from django_tasks.backends.redis import RedisBackend
from django_tasks.exceptions import (
    ContentDisallowed,
    DecodeError,
    EncodeError,
    ImproperlyConfigured,
    OperationalError,
    RequestRefused,
    TaskRevokedError,
    TimeoutError,
    WorkerLostError,
)
from django_tasks.outcome import TaskMeta
from django_tasks.serialization import content_types
from django_tasks.states import FAILURE, RETRY, REVOKED, STARTED, SUCCESS
from tests.backends.conftest import ACCEPT
from tests.running import NODE, app_of_test, drain
from tests.servers import Redis, free_port, require
from tests.threads import meanwhile, together
from tests.waiting import wait_for

NOW = datetime(2026, 11, 21, 1, 30, 10, 642185, tzinfo=timezone.utc)
KEY = "celery-task-meta-id"


@pytest.fixture
def backend(redis_url: str) -> Iterator[RedisBackend]:
    backend = make(redis_url)
    yield backend
    backend.close()


@pytest.fixture
def server() -> Iterator[Redis]:
    """A Redis that the test may kill."""
    require("redis")
    with Redis() as server:
        yield server


def make(url: str, **options: Any) -> RedisBackend:
    return RedisBackend(url, **{"accept": ACCEPT, **options})


def done(backend: RedisBackend, task_id: str = "id", value: Any = 5, state: str = SUCCESS, **fields: Any) -> TaskMeta:
    return TaskMeta(task_id, state, backend.encode(value, state), date_done=NOW, **fields)


def calls(admin: Any, command: str) -> int:
    """Return how often the server has carried out a command that came from a client."""
    return int(admin.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"])


def listeners(admin: Any) -> int:
    return sum(client["sub"] != "0" for client in admin.client_list())


# -- what is written


def test_the_meta_is_celerys(backend: RedisBackend, redis_server: Redis) -> None:
    admin = redis_server.connect()
    meta = done(backend, children=[[["child", None], None]], name="t", args=[1], worker="w", queue="q")
    backend.store([meta, done(backend, "in-group", group_id="g", parent_id="p", retries=2)])
    assert json.loads(admin.get(KEY)) == {
        "status": "SUCCESS", "result": 5, "traceback": None, "children": [[["child", None], None]],
        "date_done": "2026-11-21T01:30:10.642185+00:00", "task_id": "id",
    }  # fmt: skip
    other = json.loads(admin.get("celery-task-meta-in-group"))
    assert (other["group_id"], other["parent_id"], other["retries"]) == ("g", "p", 2)
    backend.store([done(backend, "no", KeyError("k", object), FAILURE, traceback="Traceback ...")])
    failed = json.loads(admin.get("celery-task-meta-no"))
    assert failed["result"] == {
        "exc_type": "KeyError", "exc_message": ["k", "<class 'object'>"], "exc_module": "builtins",
    }  # fmt: skip
    backend.store([TaskMeta("runs", STARTED, date_started=NOW)])
    assert json.loads(admin.get("celery-task-meta-runs"))["date_done"] is None


def test_what_is_stored_is_published(backend: RedisBackend, redis_server: Redis) -> None:
    with redis_server.connect().pubsub() as subscription:
        subscription.subscribe(KEY)
        assert subscription.get_message(timeout=10)["type"] == "subscribe"
        backend.store([TaskMeta("id", STARTED)])
        backend.store([done(backend)])
        backend.store([done(backend, value=6)])  # comes too late
        for status in (STARTED, SUCCESS):
            message = subscription.get_message(timeout=10)
            assert json.loads(message["data"])["status"] == status
        assert message["data"] == redis_server.connect().get(KEY)
        backend.store([done(backend, "other")])
        assert subscription.get_message(timeout=0) is None


def test_lifetimes(redis_url: str, redis_server: Redis) -> None:
    admin = redis_server.connect()
    backend = make(redis_url)
    backend.store([done(backend), TaskMeta("started", STARTED)])
    assert 86400 - 60 < admin.ttl(KEY) <= 86400
    assert UNFINISHED_AGE - 60 < admin.ttl("celery-task-meta-started") <= UNFINISHED_AGE
    make(redis_url, expires=None).store([done(backend, "kept")])
    assert admin.ttl("celery-task-meta-kept") == -1
    make(redis_url, expires=0.05).store([done(backend, "short")])
    wait_for(lambda: not backend.get(["short"]))
    with app_of_test(backend=redis_url, result_expires=timedelta(hours=1)) as app:
        app.backend.store([done(backend, "hour")])
        assert 3500 < admin.ttl("celery-task-meta-hour") <= 3600


def test_a_batch_is_one_round_trip(backend: RedisBackend, redis_server: Redis) -> None:
    admin = redis_server.connect()
    backend.store([done(backend)])  # now the server knows the script
    admin.config_resetstat()
    ids = [str(number) for number in range(500)]
    backend.store([done(backend, task_id) for task_id in ids])
    assert calls(admin, "evalsha") == 1
    assert len(backend.get(ids)) == 500
    assert len(list(backend.wait(ids, 0, None))) == 500
    assert (calls(admin, "mget"), calls(admin, "subscribe")) == (2, 0)
    backend.forget(ids)
    assert calls(admin, "del") == 1


def test_a_prefix_as_celery_writes_it(redis_url: str, redis_server: Redis) -> None:
    for prefix, written in (("res:", "res:"), ("res", "res_")):
        options = {"global_keyprefix": prefix}
        with app_of_test(backend=redis_url, result_backend_transport_options=options) as app:
            app.backend.store([TaskMeta("id", STARTED)])
            assert redis_server.connect().exists(f"{written}celery-task-meta-id")
            assert app.backend.get(["id"])["id"].status == STARTED


def test_errors_of_ours_are_celerys_for_others(backend: RedisBackend, redis_server: Redis) -> None:
    for error, module in (
        (TaskRevokedError("expired"), "celery.exceptions"),
        (WorkerLostError("gone"), "celery.exceptions"),
        (exceptions.DecodeError("bad"), "kombu.exceptions"),
        (exceptions.MessageTooLarge("big"), "django_tasks.exceptions"),
    ):
        name = type(error).__name__
        backend.store([done(backend, name, error, REVOKED)])
        stored = json.loads(redis_server.connect().get(f"celery-task-meta-{name}"))["result"]
        assert (stored["exc_type"], stored["exc_module"]) == (name, module)
        assert type(backend.decode(backend.get([name])[name])) is type(error)


def test_a_whole_task(redis_url: str) -> None:
    with app_of_test(backend=redis_url) as app:

        @app.task(name="divide", bind=True)
        def divide(self: Any, x: int, y: int) -> float:
            self.update_state(state="PROGRESS", meta={"done": 1})
            assert self.AsyncResult(self.request.id).info == {"done": 1}
            return x / y

        good, bad, ignored = divide.delay(1, 2), divide.delay(1, 0), divide.apply_async((1, 2), ignore_result=True)
        drain(app)
        assert good.get(timeout=10) == 0.5
        with pytest.raises(ZeroDivisionError):
            bad.get(timeout=10)
        assert "ZeroDivisionError" in bad.traceback
        assert AsyncResult(ignored.id, app).state == "PROGRESS"
        good.forget()
        assert good.state == "PENDING"
        assert (bad.name, bad.args, bad.worker, bad.queue) == ("", None, "", "")
        app.close()


def test_ids_and_states_that_are_no_unicode(backend: RedisBackend) -> None:
    for meta in (TaskMeta("\ud800", SUCCESS), TaskMeta("id", "\ud800")):
        with pytest.raises(EncodeError, match="cannot be written as JSON"):
            backend.store([done(backend), meta])
    assert backend.get(["\ud800", "id"]) == {}


# -- the first end wins


def test_an_end_that_celery_has_written_stays(backend: RedisBackend, redis_server: Redis) -> None:
    admin = redis_server.connect()
    for text in (
        '{"status": "SUCCESS", "result": 1, "traceback": null, "children": [], "date_done": null, "task_id": "id"}',
        '{"task_id": "id", "result": {"status": "FAILURE"}, "status": "SUCCESS"}',
        '{"status":"\\u0053UCCESS","result":1}',
    ):
        admin.set(KEY, text)
        [winner] = backend.store([done(backend, value=2)])
        assert winner.status == SUCCESS
        assert admin.get(KEY) == text


def test_what_is_no_end_is_overwritten(backend: RedisBackend, redis_server: Redis) -> None:
    admin = redis_server.connect()
    for value in ('{"result": {"status": "SUCCESS"}, "status": "STARTED"}', "text", "", "5", '{"status": 5}', "\0\1"):
        admin.set(KEY, value)
        meta = done(backend)
        assert backend.store([meta])[0] is meta
        assert backend.get(["id"])["id"].status == SUCCESS


def test_ends_in_other_formats_stay(redis_url: str) -> None:
    """The script cannot read them: it is told which value may be overwritten."""
    for serializer in ("pickle", "yaml", "msgpack"):
        accept = content_types(["json", "pickle", "yaml", "msgpack"])
        backend = make(redis_url, serializer=serializer, accept=accept)
        started, first, second = (
            TaskMeta(serializer, state, backend.encode(state, SUCCESS)) for state in (STARTED, SUCCESS, "MORE")
        )
        assert backend.store([started])[0] is started
        assert backend.store([first])[0] is first
        assert backend.store([first])[0] is first
        [winner] = backend.store([second])
        assert winner.status == SUCCESS
        assert backend.decode(backend.get([serializer])[serializer]) == SUCCESS


def test_of_ends_in_other_formats_one_wins(redis_url: str) -> None:
    ids = [str(number) for number in range(20)]
    backend = make(redis_url, serializer="pickle")
    backend.store([TaskMeta(each, STARTED, backend.encode(None, STARTED)) for each in ids])

    def store(who: int) -> list[int]:
        return [backend.decode(backend.store([done(backend, each, who)])[0]) for each in ids]

    results = together(*(partial(store, who) for who in range(4)))
    assert results == [[backend.decode(meta) for meta in backend.get(ids).values()]] * 4


def test_a_full_server_stores_the_rest_later(backend: RedisBackend, redis_server: Redis) -> None:
    admin = redis_server.connect()
    metas = [done(backend, str(number)) for number in range(3)]
    backend.store(metas[:1])
    admin.config_set("maxmemory", 1)
    try:
        with pytest.raises(OperationalError, match="out of memory"):
            backend.store(metas)
    finally:
        admin.config_set("maxmemory", 0)
    for ours, stored in zip(metas, backend.store(metas), strict=True):
        assert stored is ours


# -- what others have written


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('{"status": "SUCCESS", "result": 5, "task_id": "id"}', (SUCCESS, 5, None, [])),
        ('{"status":"SUCCESS","result":[1,"\\u00fc"],"children":null,"date_done":"2026-11-21T01:30:10Z"}',
         (SUCCESS, [1, "ü"], datetime(2026, 11, 21, 1, 30, 10, tzinfo=timezone.utc), [])),
        ('{"status": "SUCCESS", "result": 1, "date_done": "2026-11-21T01:30:10.642185"}', (SUCCESS, 1, NOW, [])),
        ('{"status": "SUCCESS", "result": {"__type__": "datetime", "__value__": "2026-11-21T01:30:10.642185+00:00"}}',
         (SUCCESS, NOW, None, [])),
        ('{"status": "SUCCESS", "result": 123456789012345678901234567890}',
         (SUCCESS, 123456789012345678901234567890, None, [])),
        ('{"status": "SUCCESS", "result": [Infinity, "\\ud83d"]}', (SUCCESS, [float("inf"), "\ud83d"], None, [])),
        ('{"status": "FAILURE", "result": null}', (FAILURE, None, None, [])),
        ('{"status": "PROGRESS", "result": {"done": 1}}', ("PROGRESS", {"done": 1}, None, [])),
        (COMPRESSED + b"application/x-gzip\0" + zlib.compress(b'{"status": "SUCCESS", "result": 7}'),
         (SUCCESS, 7, None, [])),
        (pickle.dumps({"status": "SUCCESS", "result": (1, 2), "date_done": NOW}), (SUCCESS, (1, 2), NOW, [])),
    ],
)  # fmt: skip
def test_reading(backend: RedisBackend, redis_server: Redis, value: Any, expected: Any) -> None:
    redis_server.connect().set(KEY, value)
    meta = backend.get(["id"])["id"]
    assert (meta.status, backend.decode(meta), meta.date_done, meta.children) == expected


@pytest.mark.parametrize("value", ["5", "", "text", "null", '{"result": 5}', '{"status": 5}', '{"status": "SUCCESS"'])
def test_what_is_no_meta(backend: RedisBackend, redis_server: Redis, value: str) -> None:
    redis_server.connect().set(KEY, value)
    assert backend.get(["id"]) == {}


def test_what_cannot_or_may_not_be_read(redis_url: str, redis_server: Redis) -> None:
    """Whoever asks is told, instead of waiting for ever."""
    careful = make(redis_url, accept=content_types(["json"]))
    for value, error in (
        (pickle.dumps({"status": "SUCCESS", "result": 1}), ContentDisallowed),
        (COMPRESSED + b"application/x-what\0abc", DecodeError),
    ):
        redis_server.connect().set(KEY, value)
        [meta] = careful.wait(["id"], 10, None)
        with pytest.raises(error):
            careful.decode(meta)


def test_a_key_that_is_something_else(backend: RedisBackend, redis_server: Redis) -> None:
    redis_server.connect().lpush(KEY, "x")
    assert backend.get(["id"]) == {}
    with pytest.raises(OperationalError, match="something else under the name"):
        backend.store([done(backend)])


# -- waiting


def test_one_subscription_for_all_threads(backend: RedisBackend, redis_server: Redis) -> None:
    admin = redis_server.connect()
    ids = [str(number) for number in range(40)]

    def wait(number: int) -> list[str]:
        wanted = [ids[number], ids[number + 1], "last"]
        return sorted(meta.task_id for meta in backend.wait(wanted, 30, None))

    def store() -> list[str]:
        wait_for(lambda: len(admin.pubsub_channels()) == 41)
        assert listeners(admin) == 1
        for task_id in ids:
            backend.store([TaskMeta(task_id, STARTED), done(backend, task_id)])
        backend.store([done(backend, "last")])
        return []

    *found, _ = together(*(partial(wait, number) for number in range(39)), store)
    assert found == [sorted([ids[number], ids[number + 1], "last"]) for number in range(39)]


def test_what_ends_between_two_looks_is_not_missed(backend: RedisBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends after the first look, and before the server listens for us."""
    real = backend._look

    def look(keys: Sequence[bytes]) -> dict[bytes, bytes]:
        found = real(keys)
        monkeypatch.setattr(backend, "_look", real)
        make(backend.url).store([done(backend)])
        return found

    monkeypatch.setattr(backend, "_look", look)
    assert [meta.task_id for meta in backend.wait(["id"], 30, None)] == ["id"]


def test_a_restart_is_outwaited(server: Redis) -> None:
    backend = make(server.url(), timeout=1.0)
    with meanwhile(lambda: [meta.task_id for meta in backend.wait(["1", "2", "3"], 60, None)]) as waiting:
        wait_for(lambda: len(server.connect().pubsub_channels()) == 3)
        server.kill()
        server.start()
        make(server.url()).store([done(backend, "1")])
        wait_for(lambda: len(server.connect().pubsub_channels()) == 3)
        server.restart()
        wait_for(lambda: listeners(server.connect()) == 1)
        make(server.url()).store([done(backend, "2"), done(backend, "3")])
    assert waiting.result() == ["1", "2", "3"]
    backend.close()


def test_a_fail_over_is_outwaited(server: Redis) -> None:
    """Nobody but the thread that listens finds out that the first server is gone."""
    with Redis() as second:
        backend = make(f"{server.url()};{second.url()}", timeout=1.0)
        with meanwhile(lambda: [meta.task_id for meta in backend.wait(["1", "2"], 60, None)]) as waiting:
            wait_for(lambda: listeners(server.connect()) == 1)
            make(second.url()).store([done(backend, "1")])
            server.kill()
            wait_for(lambda: listeners(second.connect()) == 1)
            make(second.url()).store([done(backend, "2")])
        assert waiting.result() == ["1", "2"]
        backend.close()


def test_a_server_that_falls_silent(
    server: Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(redis_listener, "LOOK_AGAIN", 0.3)
    backend = make(server.url(), timeout=0.5)
    with meanwhile(lambda: [meta.task_id for meta in backend.wait(["id"], 60, None)]) as waiting:
        wait_for(lambda: listeners(server.connect()) == 1)
        [before] = [client["id"] for client in server.connect().client_list() if client["sub"] != "0"]
        server.freeze()
        wait_for(lambda: "does not answer" in caplog.text)
        server.thaw()
        wait_for(lambda: [c["id"] for c in server.connect().client_list() if c["sub"] != "0"] not in ([], [before]))
        make(server.url()).store([done(backend)])
    assert waiting.result() == ["id"]
    backend.close()


def test_what_nobody_published_is_found_too(
    backend: RedisBackend, redis_server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_listener, "LOOK_AGAIN", 0.1)
    with meanwhile(lambda: [meta.task_id for meta in backend.wait(["id"], 60, None)]) as waiting:
        wait_for(lambda: listeners(redis_server.connect()) == 1)
        redis_server.connect().set(KEY, '{"status": "SUCCESS", "result": 1}')
    assert waiting.result() == ["id"]


def test_a_server_that_is_away_from_the_beginning() -> None:
    backend = make(f"redis://:hunter2@127.0.0.1:{free_port()}/0", timeout=0.5)
    with pytest.raises(OperationalError, match="cannot be reached") as caught:
        list(backend.wait(["id"], 60, None))
    assert "hunter2" not in str(caught.value)


@pytest.fixture
def deaf(redis_url: str, redis_server: Redis) -> Iterator[RedisBackend]:
    """A backend whose user may do everything but subscribe."""
    acl = partial(redis_server.connect().execute_command, "ACL")
    acl("SETUSER", "deaf", "on", ">secret", "~*", "+@all", "resetchannels")
    backend = make(f"redis://deaf:secret@127.0.0.1:{redis_server.port}/0")
    yield backend
    backend.close()
    acl("DELUSER", "deaf")


def test_who_may_not_subscribe_is_told(deaf: RedisBackend) -> None:
    async def wait() -> None:
        async for _ in deaf.wait_async(["id"], 60):
            pass

    for act in (lambda: list(deaf.wait(["id"], 60, None)), lambda: asyncio.run(wait())):
        with pytest.raises(RequestRefused, match=r"cannot be waited for.*does not let this user"):
            act()


def test_who_may_not_subscribe_finds_what_is_there(deaf: RedisBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    real, looks = deaf._look, []

    def look(keys: Sequence[bytes]) -> dict[bytes, bytes]:
        found = real(keys)
        if not looks:
            looks.append(keys)
            make(deaf.url.replace("deaf:secret@", "")).store([done(deaf)])
        return found

    monkeypatch.setattr(deaf, "_look", look)
    assert [meta.task_id for meta in deaf.wait(["id"], 60, None)] == ["id"]


def test_a_thread_that_cannot_be_started_is_started_by_the_next(
    backend: RedisBackend, redis_server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError):
            list(backend.wait(["id"], 60, None))
    with meanwhile(lambda: [meta.task_id for meta in backend.wait(["id"], 10, None)]) as waiting:
        wait_for(lambda: listeners(redis_server.connect()) == 1)
        make(backend.url).store([done(backend)])
    assert waiting.result() == ["id"]


def test_the_connection_goes_when_nobody_waits(
    backend: RedisBackend, redis_server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = redis_server.connect()
    for stay in (0.0, 60.0):
        monkeypatch.setattr(redis_listener, "STAY", stay)
        monkeypatch.setattr(redis_listener, "LOOK_AGAIN", 0.1)
        with pytest.raises(TimeoutError):
            list(backend.wait(["id"], 0.3, None))
        if stay:
            wait_for(lambda: not admin.pubsub_channels())
            assert backend.listeners._by_process[os.getpid()]._thread is not None
            backend.close()
        wait_for(lambda: listeners(admin) == 0)
        wait_for(lambda: backend.listeners._by_process[os.getpid()]._thread is None)


def test_a_connection_that_is_kept_for_nobody_is_no_trouble(
    backend: RedisBackend, redis_server: Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(redis_listener, "STAY", 60.0)
    monkeypatch.setattr(redis_listener, "LOOK_AGAIN", 0.05)
    admin = redis_server.connect()
    with pytest.raises(TimeoutError):
        list(backend.wait(["id"], 0.1, None))
    wait_for(lambda: not admin.pubsub_channels())
    before = calls(admin, "ping")
    wait_for(lambda: calls(admin, "ping") >= before + 3)
    backend.close()
    wait_for(lambda: backend.listeners._by_process[os.getpid()]._thread is None)
    assert not caplog.records


def test_a_child_listens_for_itself(backend: RedisBackend, redis_server: Redis) -> None:
    admin = redis_server.connect()
    with meanwhile(lambda: [meta.task_id for meta in backend.wait(["ours"], 60, None)]) as waiting:
        wait_for(lambda: listeners(admin) == 1)
        child = os.fork()
        if child == 0:
            try:
                os._exit(0 if [meta.task_id for meta in backend.wait(["theirs"], 30, None)] == ["theirs"] else 1)
            finally:
                os._exit(2)
        wait_for(lambda: listeners(admin) == 2)
        backend.store([done(backend, "theirs")])
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert not waiting.done()
        backend.store([done(backend, "ours")])
    assert waiting.result() == ["ours"]


def test_ten_thousand_gets_leak_no_connection(redis_url: str, redis_server: Redis) -> None:
    """As in a web server with threads: half of the results are there already, half come while they are waited for."""
    backend, writer = make(f"{redis_url}?max_connections=8", options={"client_name": "ours"}), make(redis_url)
    ids = [str(number) for number in range(10_000)]
    writer.store([done(writer, task_id) for task_id in ids[::2]])
    admin, counts = redis_server.connect(), []

    def get(thread: int) -> int:
        results = [AsyncResult(task_id, backend=backend) for task_id in ids[thread::20]]
        return sum(result.get(timeout=60, disable_sync_subtasks=False) for result in results)

    def count() -> int:
        return [client["name"] for client in admin.client_list()].count("ours")

    def store() -> int:
        for start in range(1, len(ids), 100):
            writer.store([done(writer, task_id) for task_id in ids[start : start + 100 : 2]])
            counts.append(count())
        return 0

    assert sum(together(*(partial(get, thread) for thread in range(20)), store)) == 5 * len(ids)
    assert 1 < max(*counts, count()) <= 8 + 1  # the pool's, and the one that listens
    backend.close()
    writer.close()
    wait_for(lambda: count() == 0)


# -- coroutines, and many ids


def test_coroutines_are_told_by_the_one_subscription(backend: RedisBackend, redis_server: Redis) -> None:
    """They share it with threads; nobody asks again and again."""
    admin, ids = redis_server.connect(), [str(number) for number in range(100)]
    backend.store([done(backend, "there")])

    async def wait(task_id: str) -> Any:
        return await AsyncResult(task_id, backend=backend)

    async def main() -> list[Any]:
        waiting = [asyncio.ensure_future(wait(each)) for each in [*ids, "there"]]
        await asyncio.to_thread(wait_for, lambda: len(admin.pubsub_channels()) == 100)
        assert waiting[-1].done()
        assert listeners(admin) == 1
        reads = calls(admin, "mget")
        await asyncio.to_thread(backend.store, [done(backend, each, int(each)) for each in ids])
        values = await asyncio.gather(*waiting)
        assert calls(admin, "mget") < reads + 20
        return values

    with meanwhile(lambda: AsyncResult("99", backend=backend).get(timeout=30)) as thread:
        assert asyncio.run(main()) == [*range(100), 5]
    assert thread.result() == 99


def test_a_coroutine_that_gives_up(backend: RedisBackend, redis_server: Redis) -> None:
    admin = redis_server.connect()

    async def main() -> None:
        result: AsyncResult[Any] = AsyncResult("never", backend=backend)
        with pytest.raises(TimeoutError, match=r"had not ended after 0\.05 s"):
            await result.aget(timeout=0.05)
        waiting = asyncio.ensure_future(result.aget())
        await asyncio.to_thread(wait_for, lambda: admin.pubsub_channels())
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(main())
    backend.store([done(backend, "never")])  # nobody listens any more
    assert list(backend.wait(["never"], 10, None))


def test_a_coroutine_outwaits_a_restart(server: Redis) -> None:
    backend = make(server.url(), timeout=1)

    async def main() -> Any:
        waiting = asyncio.ensure_future(AsyncResult("id", backend=backend).aget(timeout=60))
        await asyncio.to_thread(wait_for, lambda: server.connect().pubsub_channels())
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        await asyncio.to_thread(make(server.url()).store, [done(backend)])
        return await waiting

    assert asyncio.run(main()) == 5
    server.kill()
    with pytest.raises(OperationalError):
        asyncio.run(AsyncResult("other", backend=backend).aget(timeout=60))  # type: ignore[arg-type]
    backend.close()


def test_many_ids_are_waited_for_in_few_commands(backend: RedisBackend, redis_server: Redis) -> None:
    admin, ids = redis_server.connect(), [str(number) for number in range(1000)]
    backend.store([done(backend, each) for each in ids[:500]])
    admin.config_resetstat()
    with meanwhile(lambda: sorted(int(meta.task_id) for meta in backend.wait(ids, 60, None))) as waiting:
        wait_for(lambda: len(admin.pubsub_channels()) == 500)
        backend.store([done(backend, each) for each in ids[500:]])
    assert waiting.result() == list(range(1000))
    assert calls(admin, "subscribe") == 1
    assert calls(admin, "mget") < 20


# -- with workers


@pytest.mark.parametrize("broker", ["redis", "django-db"])
def test_workers_and_callers(broker: str, redis_url: str, redis_server: Redis, spawn_worker: Any) -> None:
    """On one Redis, and with messages in the database; the server is killed while a result is waited for."""
    urls = {"BROKER_URL": redis_url if broker == "redis" else "django-db://", "RESULT_BACKEND": redis_url}
    with app_of_test(urls["BROKER_URL"], backend=redis_url) as app:
        spawn_worker("-c", "2", "-l", "INFO", settings=urls)
        sums = [app.send_task("tests.testapp.tasks.add", (number, 1)) for number in range(50)]
        bad = app.send_task("tests.testapp.tasks.fail")
        assert [result.get(timeout=60) for result in sums] == [number + 1 for number in range(50)]
        with pytest.raises(ValueError, match="as asked"):
            bad.get(timeout=60)
        late = app.send_task("tests.testapp.tasks.slow", (1.0,))
        with meanwhile(lambda: late.get(timeout=60)) as waiting:
            wait_for(lambda: redis_server.connect().pubsub_channels())
            redis_server.kill()
            redis_server.start()
        assert waiting.result() == 1.0
        app.close()


# -- settings


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"global_keyprefx": "a"}, "Did you mean global_keyprefix"),
        ({"what": 1}, "there is no option 'what'"),
    ],
)
def test_options_that_mean_nothing(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=says):
        make("redis://", options=options)
    make("redis://", options={"retry_policy": {"timeout": 5.0}, "visibility_timeout": 3600})


def test_urls_that_cannot_be_used() -> None:
    with pytest.raises(
        ImproperlyConfigured, match=r"RESULT_BACKEND = 'sentinel://a'.*RESULT_BACKEND_TRANSPORT_OPTIONS"
    ):
        make("sentinel://a")


def test_extended_facts(redis_url: str, redis_server: Redis) -> None:
    with app_of_test(backend=redis_url, result_extended=True) as app:

        @app.task(name="add")
        def add(x: int, y: int) -> int:
            return x + y

        result = add.apply_async((1,), {"y": 2})
        drain(app)
        facts = (result.name, result.args, result.kwargs, result.queue, result.worker, result.retries)
        assert facts == ("add", [1], {"y": 2}, "celery", NODE, 0)
        stored = json.loads(redis_server.connect().get(f"celery-task-meta-{result.id}"))
        assert (stored["name"], stored["args"], stored["worker"]) == ("add", [1], NODE)
        app.close()


def test_a_retry_is_stored_as_celery_stores_it(backend: RedisBackend, redis_server: Redis) -> None:
    backend.store([TaskMeta("id", RETRY, backend.encode(KeyError("k"), RETRY), "Traceback ...")])
    stored = json.loads(redis_server.connect().get(KEY))
    assert stored["result"] == {"exc_type": "KeyError", "exc_message": ["k"], "exc_module": "builtins"}
    assert stored["date_done"] is None
