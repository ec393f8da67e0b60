"""Real workers on a Redis of their own, which is killed, frozen and restarted; results are in the test database."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from django_tasks import App, signature
from django_tasks.brokers.base import Size
from django_tasks.brokers.browse import Wanted
from tests.processes import WorkerProcess
from tests.running import app_of_test
from tests.servers import Redis, require
from tests.testapp.tasks import add, echo, slow
from tests.waiting import wait_for
from tests.worker import jobs
from tests.worker.parts import make_slot

Spawn = Callable[..., WorkerProcess]
LEASE = 3.0


@pytest.fixture
def server() -> Iterator[Redis]:
    require("redis")
    with Redis() as server:
        yield server


@pytest.fixture
def app(transactional_db: None, server: Redis) -> Iterator[App]:
    with app_of_test(backend="django-db://", broker=server.url(), worker_lease=LEASE) as app:
        yield app


@pytest.fixture
def spawn(app: App, server: Redis, spawn_worker: Spawn) -> Spawn:
    """Start a worker on this Redis."""

    def spawn(*arguments: str, **settings: Any) -> WorkerProcess:
        fixed = {"CELERY_IMPORTS": ["tests.worker.jobs"], "BROKER_URL": server.url(), "WORKER_LEASE": LEASE}
        return spawn_worker("-l", "INFO", *arguments, settings={**fixed, **settings})

    return spawn


def is_empty(app: App) -> bool:
    return app.broker.sizes(["celery"])["celery"] == Size()


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_tasks_run_and_the_idle_worker_waits(app: App, spawn: Spawn, server: Redis, pool: str) -> None:
    worker = spawn("-P", pool, "-c", "2")
    wait_for(lambda: server.connect().info("clients")["blocked_clients"] >= 4)
    assert add.delay(1, 2).get(timeout=20) == 3
    results = echo.delay_many([(number,) for number in range(300)])
    assert [result.get(timeout=20)[0][0] for result in results] == list(range(300))
    delayed = add.apply_async((3, 4), countdown=3)
    assert app.broker.sizes(["celery"])["celery"].delayed == 1
    assert delayed.get(timeout=20) == 7
    worker.send_signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert is_empty(app)
    assert app.broker.browser.workers() == []


def test_a_killed_worker_loses_nothing(app: App, spawn: Spawn, tmp_path: Path) -> None:
    path = tmp_path / "runs"
    first = spawn("-c", "2")
    held = [jobs.hold.delay(str(path)) for _ in range(2)]
    waiting = add.delay(1, 1)
    wait_for(lambda: len(jobs.read(path)) == 2)
    first.kill()
    Path(f"{path}.go").touch()
    spawn("-c", "2")
    for result in (*held, waiting):
        result.get(timeout=30)
    wait_for(lambda: is_empty(app))


def test_a_process_that_is_killed_with_its_task_is_no_longer_listed(app: App, spawn: Spawn, tmp_path: Path) -> None:
    """Long before its last sign of life is too old."""
    path = tmp_path / "runs"
    spawn("-c", "1", WORKER_LEASE=600)
    result = jobs.hold.delay(str(path))
    wait_for(lambda: len(jobs.read(path)) == 1)

    def listed() -> list[str]:
        return [each.identity for each in app.broker.browser.workers() if not each.janitor]

    wait_for(lambda: len(listed()) == 1)
    (killed,) = listed()
    result.revoke(terminate=True)
    wait_for(lambda: len(listed()) == 1 and killed not in listed(), message="one process in the place of the other")


def test_messages_left_in_the_database_are_told_at_the_start(app: App, spawn: Spawn) -> None:
    with app_of_test("django-db://"):
        add.delay(1, 1)
    spawn().wait_for_log("1 message waits in django-db://default, which BROKER_URL does not name.")


def test_workers_go_on_after_their_server_was_killed(app: App, spawn: Spawn, server: Redis) -> None:
    worker = spawn("-c", "2")
    assert add.delay(1, 2).get(timeout=20) == 3
    for _ in range(2):
        server.kill()
        worker.wait_for_log("cannot be reached")
        server.start()
        results = [add.delay(number, 1) for number in range(20)]
        assert [result.get(timeout=20) for result in results] == list(range(1, 21))
    wait_for(lambda: is_empty(app))


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_a_worker_with_nothing_to_do_stops_though_its_server_is_away(
    app: App, spawn: Spawn, server: Redis, pool: str
) -> None:
    worker = spawn("-P", pool, "-c", "1")
    server.kill()
    worker.wait_for_log("cannot be reached")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(15) == 0  # WORKER_SHUTDOWN_TIMEOUT is 25 s
    assert "stopped." in worker.log
    assert "The time to end is up" not in worker.log


def test_workers_go_on_after_their_server_was_frozen(app: App, spawn: Spawn, server: Redis) -> None:
    worker = spawn("-c", "2")
    results = [slow.delay(0.05) for _ in range(20)]
    server.freeze()
    worker.wait_for_log("does not answer")
    server.thaw()
    for result in results:
        result.get(timeout=30)
    assert add.delay(1, 2).get(timeout=20) == 3
    wait_for(lambda: is_empty(app))


# -- a server that refuses what a task came to


@pytest.fixture
def redis_app(redis_url: str) -> Iterator[App]:
    """An app whose messages and results are on Redis."""
    with app_of_test(redis_url) as app:
        app.task(name="echo")(lambda value: value)
        yield app
        app.close()


def poll(app: App, **options: Any) -> None:
    """Let a slot take up to three messages and end them; it would not try again for long."""
    slot = make_slot(app, giving_up=lambda: True, **options)
    slot.batch.size = 3
    slot.poll(slot.clock())


def send_three(app: App, **options: Any) -> list[Any]:
    return [app.send_task("echo", (number,), task_id=str(number), **options) for number in range(3)]


def test_a_result_that_the_server_refuses_is_the_trouble_of_one_task(redis_app: App, redis_server: Redis) -> None:
    results = send_three(redis_app)
    redis_server.connect().lpush("celery-task-meta-1", "theirs")
    poll(redis_app)
    assert [results[number].get(timeout=0) for number in (0, 2)] == [0, 2]
    assert redis_app.broker.sizes(["celery"])["celery"] == Size(dead=1)
    [letter] = redis_app.broker.browser.messages(Wanted(), 10)
    assert letter.id == "1"
    assert "something else under the name" in letter.reason


def test_a_callback_that_the_server_refuses_can_be_sent_later(redis_app: App, redis_server: Redis) -> None:
    client = redis_server.connect()
    client.set("other", "theirs")
    results = send_three(redis_app, link=signature("echo", queue="other"))
    poll(redis_app)
    assert [result.get(timeout=0) for result in results] == [0, 1, 2]
    assert redis_app.broker.sizes(["celery"])["celery"] == Size(dead=3)
    client.delete("other")
    redis_app.broker.browser.resend(list(redis_app.broker.browser.messages(Wanted(), 10)), redis_app.backend)
    poll(redis_app)
    assert client.llen("other") == 3
    assert redis_app.broker.sizes(["celery"])["celery"] == Size()


def test_a_user_who_may_not_store_results(redis_app: App, redis_server: Redis) -> None:
    results = send_three(redis_app)
    keys = ("~celery", "~celery\x06*", "~{*")  # what is ours, not the results
    redis_server.connect().execute_command("ACL", "SETUSER", "worker", "on", ">secret", "+@all", "allchannels", *keys)
    url = f"redis://worker:secret@127.0.0.1:{redis_server.port}/0"
    with app_of_test(url) as app:
        poll(app)
        app.close()
    redis_server.connect().execute_command("ACL", "DELUSER", "worker")
    assert redis_app.broker.sizes(["celery"])["celery"] == Size(dead=3)
    assert [result.state for result in results] == ["PENDING"] * 3


def test_a_server_that_takes_nothing_for_the_moment_is_waited_for(redis_app: App, redis_server: Redis) -> None:
    """What passes is no refusal: the outcomes are kept, and stored when it does."""
    send_three(redis_app)
    client, asked = redis_server.connect(), []

    def giving_up() -> bool:
        asked.append(1)
        client.config_set("min-replicas-to-write", 0 if len(asked) > 2 else 1)
        return False

    slot = make_slot(redis_app, giving_up=giving_up)
    slot.batch.size = 3
    real = slot.executor.run

    def run(delivery: Any) -> Any:
        client.config_set("min-replicas-to-write", 1)
        return real(delivery)

    slot.executor.run = run  # type: ignore[method-assign]
    slot.poll(slot.clock())
    assert len(asked) > 2
    assert redis_app.broker.sizes(["celery"])["celery"] == Size()
