"""A Redis Cluster: what is in several slots, slots that move, nodes that are away, and real workers on it."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from django_tasks import App
from django_tasks.backends.memory import MemoryBackend
from django_tasks.backends.redis import RedisBackend
from django_tasks.brokers.base import Settlement, Size, Verb
from django_tasks.brokers.redis import RedisBroker
from django_tasks.brokers.redis_browse import RUNNING, Wanted
from django_tasks.exceptions import ImproperlyConfigured, OperationalError, ReplicationError
from django_tasks.outcome import Outcome, TaskMeta
from django_tasks.redis_cluster import connections_to
from django_tasks.redis_connections import Script
from django_tasks.states import SUCCESS
from tests.brokers.hands import ACCEPT, Hand, message, send
from tests.processes import WorkerProcess
from tests.running import app_of_test
from tests.servers import Redis, RedisCluster, free_port, require
from tests.testapp.tasks import add, echo
from tests.threads import meanwhile
from tests.waiting import wait_for

AWAY = r"cannot be reached|some slots are not served"


@pytest.fixture
def cluster() -> Iterator[RedisCluster]:
    """A cluster of the test's own."""
    require("redis")
    with RedisCluster() as cluster:
        yield cluster


@pytest.fixture
def broker(cluster_url: str) -> RedisBroker:
    return make(cluster_url)


def make(url: str, **options: Any) -> RedisBroker:
    return RedisBroker(url, accept=ACCEPT, **options)


@pytest.fixture
def wakeup() -> Iterator[int]:
    """The reading end of a pipe that nobody writes to."""
    reading, writing = os.pipe()
    yield reading
    os.close(reading)
    os.close(writing)


# -- addresses


def test_urls() -> None:
    found = connections_to("BROKER_URL", "rediss+cluster://me:a%2Fb@one:7000,two/?ssl_cert_reqs=none").found.servers
    places = [(each["host"], each.get("port"), each["username"], each["password"]) for each in found]
    assert places == [("one", 7000, "me", "a/b"), ("two", None, "me", "a/b")]
    assert {each["ssl_cert_reqs"] for each in found} == {"none"}


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis+cluster://:hunter2@a,b/1", "no other database"),
        ("redis+cluster://:hunter2@a;redis://b", "mixes"),
        ("redis+cluster://:hunter2@a:b,c", "cannot be read"),
        ("rediss+cluster://:hunter2@a?ssl_ciphers=ALL", "no ssl_ciphers for clusters"),
    ],
)
def test_bad_urls(url: str, says: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=says) as caught:
        connections_to("BROKER_URL", url)
    assert "hunter2" not in str(caught.value)


def test_a_library_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis, "__version__", "5.3.1")
    with pytest.raises(ImproperlyConfigured, match=r"needs redis-py 6 or newer, and 5\.3\.1 is installed"):
        connections_to("BROKER_URL", "redis+cluster://one:7000")
    connections_to("BROKER_URL", "redis://one:7000")


def test_the_wrong_kind_of_url(redis_cluster: RedisCluster, redis_server: Redis) -> None:
    broker = make(f"redis+cluster://127.0.0.1:{redis_server.port}")
    with pytest.raises(OperationalError, match="is no cluster: use redis://"):
        broker.check()
    broker = make(redis_cluster.nodes[0].url())
    with pytest.raises(OperationalError, match=r"is a node of a cluster: use redis\+cluster://"):
        broker.reserve("worker", ["celery"], 1, 1)


def test_what_the_servers_say_of_themselves(broker: RedisBroker, caplog: pytest.LogCaptureFixture) -> None:
    broker.check()
    assert not caplog.records


# -- several slots


def test_lists_are_on_several_nodes_and_what_belongs_to_one_on_its_node(
    broker: RedisBroker, redis_cluster: RedisCluster
) -> None:
    hand = Hand(broker, queues=["celery", "mail"])
    hand.beat()
    for queue in hand.queues:
        for priority in (0, 3, 6, 9):
            send(broker, f"{queue} {priority}", queue=queue, priority=priority)
    assert all(node.connect().dbsize() for node in redis_cluster.nodes)
    assert len(hand.take()) == 8
    assert sum(size.reserved for size in broker.sizes().values()) == 8
    assert len(broker.browser.messages(Wanted((RUNNING,)), 10)) == 8


def test_what_follows_into_another_slot_is_sent_once_and_only_with_the_lease(broker: RedisBroker) -> None:
    backend = MemoryBackend("memory://", accept=ACCEPT)
    send(broker, "first")
    [delivery] = Hand(broker).take()
    following = message("next", queue="elsewhere", cause="first")
    # As when a process dies before it has settled, and another one does it again.
    broker.send([following])
    outcome = Outcome(delivery.message, SUCCESS, 1, settlement=Settlement(delivery, Verb.ACK))
    assert broker.finish(backend, [outcome], lambda _: [following]) == [outcome]
    late = message("late", queue="elsewhere", cause="other")
    assert broker.finish(backend, [outcome], lambda _: [late]) == []
    assert broker.sizes() == {"elsewhere": Size(waiting=1, oldest=pytest.approx(0, abs=60))}


def test_waiting_for_replicas_that_are_not_there(cluster_url: str) -> None:
    broker = make(cluster_url, timeout=0.5, options={"wait_replicas": 1})
    for count in (1, 2):
        with pytest.raises(ReplicationError, match="only 0 replicas have confirmed them"):
            send(broker, str(count))
        assert broker.sizes()["celery"].waiting == count


def test_waiting_for_replicas_of_a_slot_that_has_moved(cluster: RedisCluster) -> None:
    broker = make(cluster.url(), timeout=0.5, options={"wait_replicas": 1})
    target = next(node for node in cluster.nodes if node is not cluster.node_of("celery"))
    for count in (1, 2, 3):
        with pytest.raises(ReplicationError, match="only 0 replicas have confirmed them"):
            send(broker, str(count))
        assert broker.sizes()["celery"].waiting == count
        if count == 1:
            cluster.begin_move("celery", target)
            cluster.end_move("celery", target)


class Interrupted(BaseException):
    """A time limit, which may be raised anywhere in a thread."""


def test_answers_that_nobody_has_read_are_not_taken_for_others(
    cluster: RedisCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise Interrupted

    (tmp_path / "echo.lua").write_text("return ARGV[1]")
    script = Script(tmp_path, "echo")
    connections = connections_to("BROKER_URL", f"{cluster.url()}?max_connections=1", timeout=5.0)
    assert connections.execute(script, ["key"], ["first"]) == b"first"
    node = cluster.node_of("key")
    for run in (
        lambda: connections.execute(script, ["key"], ["late"]),
        lambda: connections.run_each([("SET", "key", "late"), ("GET", "key")]),
    ):
        node.freeze()  # so that they come later than whoever looks for some
        with monkeypatch.context() as patch:
            patch.setattr(redis.Redis, "parse_response", interrupt)
            with pytest.raises(Interrupted):
                run()
        with meanwhile(lambda: connections.execute(script, ["key"], ["mine"])) as answer:
            node.thaw()
        assert answer.result() == b"mine"


def test_braces_keep_queues_in_one_slot(broker: RedisBroker, redis_cluster: RedisCluster) -> None:
    hand = Hand(broker, queues=["{mail}", "{mail}.urgent"])
    hand.beat()
    for queue in hand.queues:
        send(broker, queue, queue=queue, priority=9)
    assert sorted(hand.ids()) == ["{mail}", "{mail}.urgent"]
    node = redis_cluster.node_of("{mail}")
    assert {key for key in node.connect().scan_iter() if "mail" in key} == {
        "{mail}\x06\x169.held.worker", "{mail}.urgent\x06\x169.held.worker",
        *(f"{queue}{step}.workers" for queue in hand.queues for step in ("", "\x06\x163", "\x06\x166", "\x06\x169")),
    }  # fmt: skip


# -- slots that move


def test_a_slot_moves_under_a_worker_that_waits(cluster: RedisCluster, wakeup: int) -> None:
    source = cluster.node_of("celery")
    target = next(node for node in cluster.nodes if node is not source)
    broker, sender = make(cluster.url()), make(cluster.url())
    hand = Hand(broker)
    send(sender, "1")
    [delivery] = hand.take()

    def wait() -> None:
        if not hand.take():
            broker.wait(["celery"], 60, wakeup)

    waited = threading.Thread(target=wait)
    waited.start()
    wait_for(lambda: sum(node.connect().info("clients")["blocked_clients"] for node in cluster.nodes) == 4)
    cluster.begin_move("celery", target)
    # Nothing is done by halves meanwhile, but it may have to be tried again.
    for act in (lambda: send(sender, "2"), lambda: hand.settle(delivery, Verb.ACK)):
        with pytest.raises(OperationalError, match="is moving these keys to another node"):
            act()
    hand.beat()  # on the three other lists
    cluster.end_move("celery", target)
    waited.join()
    send(sender, "3")
    assert hand.ids() == ["3"]
    waited = threading.Thread(target=wait)
    waited.start()
    wait_for(lambda: target.connect().info("clients")["blocked_clients"])
    send(sender, "4")
    waited.join()
    assert hand.ids() == ["4"]
    assert hand.settle(delivery, Verb.ACK)
    assert broker.sizes()["celery"] == Size(reserved=2)
    assert target.connect().exists("{celery}.held.worker")


def test_results_follow_a_slot_that_moves(cluster: RedisCluster) -> None:
    backend = RedisBackend(cluster.url(), accept=ACCEPT)
    metas = [TaskMeta(f"id-{n}", SUCCESS, backend.encode(n, SUCCESS)) for n in range(30)]
    key = "celery-task-meta-id-7"
    source = cluster.node_of(key)
    target = next(node for node in cluster.nodes if node is not source)
    backend.store(metas[:20])
    cluster.begin_move(key, target)
    assert backend.store(metas) == metas
    assert len(backend.get([meta.task_id for meta in metas])) == 30
    cluster.end_move(key, target)
    target.connect().script_flush()  # as on a new node, which knows no script
    assert backend.store(metas) == metas
    assert len(backend.get([meta.task_id for meta in metas])) == 30
    backend.forget([meta.task_id for meta in metas])
    assert all(node.connect().dbsize() == 0 for node in cluster.nodes)
    backend.close()


# -- nodes that are away


def test_nodes_that_are_away(cluster: RedisCluster) -> None:
    url = f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{cluster.nodes[2].port}"
    broker, hand = make(url), Hand(make(url))
    send(broker, "1")
    victim = cluster.node_of("celery")
    victim.kill()
    wait_for(lambda: not cluster.is_served())
    for _ in range(2):
        with pytest.raises(OperationalError, match=AWAY):
            send(broker, "2")
        with pytest.raises(OperationalError, match=AWAY):
            hand.take()
    victim.start()
    wait_for(cluster.is_whole)
    send(broker, "3")
    assert hand.ids() == ["1", "3"]


def test_a_cluster_without_full_coverage_goes_on_elsewhere(cluster: RedisCluster) -> None:
    for node in cluster.nodes:
        node.connect().config_set("cluster-require-full-coverage", "no")
    broker = make(cluster.url())
    home = cluster.node_of("{_django_tasks}")
    queues = [f"queue{number}" for number in range(20)]
    victim = next(node for node in cluster.nodes if node is not home)
    lost = next(queue for queue in queues if cluster.node_of(queue) is victim)
    alive = next(queue for queue in queues if cluster.node_of(queue) is home)
    hand = Hand(broker, queues=[lost, alive])
    hand.beat()
    victim.kill()
    send(broker, "1", queue=alive)
    with pytest.raises(OperationalError):
        send(broker, "2", queue=lost)
    assert hand.ids() == ["1"]
    with pytest.raises(OperationalError):
        hand.take()


def test_nodes_that_accept_and_never_answer(cluster: RedisCluster) -> None:
    fresh, used = make(cluster.url(), timeout=1.0), make(cluster.url(), timeout=1.0)
    send(used, "1")
    for node in cluster.nodes:
        node.freeze()
    for broker in (fresh, used):
        began = time.monotonic()
        with pytest.raises(OperationalError, match="does not answer"):
            send(broker, "2")
        assert time.monotonic() - began < 10  # one time-out and not one for each node of each list
    for node in cluster.nodes:
        node.thaw()
    wait_for(cluster.is_whole)
    send(used, "3")


def test_a_fork_shares_no_connection(broker: RedisBroker) -> None:
    def client_ids() -> dict[str, int]:
        found = broker.connections.run(lambda client: client.client_id(target_nodes="primaries"))
        return dict(found)

    ours = client_ids()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, json.dumps(client_ids()).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    theirs = json.loads(os.read(reading, 1000))
    os.close(reading)
    os.close(writing)
    assert len(theirs) == 3
    assert not theirs.items() & ours.items()
    assert client_ids() == ours


# -- real workers


@pytest.fixture
def app(transactional_db: None, cluster: RedisCluster) -> Iterator[App]:
    with app_of_test(backend=cluster.url(), broker=cluster.url(), worker_lease=3.0) as app:
        yield app


def test_workers_run_wait_and_go_on_after_a_node_was_killed(
    app: App, cluster: RedisCluster, spawn_worker: Callable[..., WorkerProcess]
) -> None:
    url = cluster.url()
    settings = {"BROKER_URL": url, "RESULT_BACKEND": url, "WORKER_LEASE": 3.0}
    worker = spawn_worker("-l", "INFO", "-c", "2", "-Q", "celery,mail", settings=settings)
    wait_for(lambda: sum(node.connect().info("clients")["blocked_clients"] for node in cluster.nodes) >= 8)
    assert add.delay(1, 2).get(timeout=20) == 3
    results = echo.delay_many([(number,) for number in range(100)])
    assert [result.get(timeout=20)[0][0] for result in results] == list(range(100))
    assert add.apply_async((1, 3), queue="mail", priority=6, link=add.s(5)).get(timeout=20) == 4
    victim = cluster.node_of("celery")
    victim.kill()
    worker.wait_for_log("Redis at redis+cluster://")
    victim.start()
    wait_for(cluster.is_whole)
    assert [add.delay(number, 1).get(timeout=20) for number in range(5)] == list(range(1, 6))
    wait_for(lambda: app.broker.sizes() == {})
