"""A Redis Cluster of which one node is away, while the others go on: nothing is lost there, and nothing done twice."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest
from django.db import transaction

from django_tasks import publishing
from django_tasks.backends.memory import MemoryBackend
from django_tasks.brokers.base import Settlement, Size, Verb, new_lease
from django_tasks.brokers.redis import RedisBroker
from django_tasks.brokers.redis_envelopes import digest_of
from django_tasks.brokers.redis_lists import SEPARATOR
from django_tasks.exceptions import ImproperlyConfigured, OperationalError, ReplicationError
from django_tasks.message import Message
from django_tasks.models import QueuedMessage
from django_tasks.outbox import Outbox
from django_tasks.outcome import Outcome
from django_tasks.states import SUCCESS
from django_tasks.worker.relay import Relay
from tests.brokers.hands import ACCEPT, Clock, Hand, make_redis, message, rescue, send
from tests.running import app_of_test
from tests.servers import RedisCluster, RedisNode, require
from tests.waiting import wait_for

#: How the log begins to say so.
REPORT = "A part of the cluster cannot be reached"


@pytest.fixture(scope="module")
def servers() -> Iterator[RedisCluster]:
    require("redis")
    with RedisCluster() as cluster:
        yield cluster


@pytest.fixture
def cluster(servers: RedisCluster) -> Iterator[RedisCluster]:
    """A cluster whose nodes go on when one is away; afterwards all are there again."""
    servers.flush()
    for node in servers.nodes:
        node.connect().config_set("cluster-require-full-coverage", "no")
        node.connect().config_set(
            "appendfsync", "always"
        )  # the other setting may hold back what a busy disk has to wait for
    yield servers
    for node in servers.nodes:
        if node.process is None or node.process.poll() is not None:
            node.start()
    wait_for(servers.is_whole)


@pytest.fixture
def broker(cluster: RedisCluster, clock: Clock) -> RedisBroker:
    return make_redis(clock, cluster.url())


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def home(cluster: RedisCluster) -> RedisNode:
    """The node of the register and of the orders."""
    return cluster.node_of("{_django_tasks}")


@pytest.fixture
def other(cluster: RedisCluster, home: RedisNode) -> RedisNode:
    """Another node."""
    return next(node for node in cluster.nodes if node is not home)


def queue_on(cluster: RedisCluster, node: RedisNode, number: int = 0) -> str:
    """Return the name of a queue whose lists are all on a node."""
    names = [name for name in (f"{{q{n}}}" for n in range(100)) if cluster.node_of(name) is node]
    return names[number]


def bring_back(cluster: RedisCluster, node: RedisNode) -> None:
    node.start()
    wait_for(cluster.is_whole)


def waiting(broker: RedisBroker, *queues: str) -> list[int]:
    sizes = broker.sizes(queues)
    return [sizes[queue].waiting for queue in queues]


# -- sending


def test_a_shortfall_of_replicas_in_one_slot_keeps_nothing_from_the_others(
    cluster: RedisCluster, home: RedisNode, other: RedisNode
) -> None:
    here, there = queue_on(cluster, home), queue_on(cluster, other)
    broker = RedisBroker(cluster.url(), accept=ACCEPT, timeout=0.5, options={"wait_replicas": 1})
    with pytest.raises(ReplicationError, match=r"All 2 messages are sent.*only 0 replicas have confirmed them"):
        broker.send([message("1", queue=here), message("2", queue=there)])
    assert waiting(broker, here, there) == [1, 1]
    other.kill()
    with pytest.raises(OperationalError, match="1 of 2 messages are sent, but not 1 for") as caught:
        broker.send([message("3", queue=here), message("4", queue=there)])
    assert not isinstance(caught.value, ReplicationError)  # as that would say that all are sent


def test_what_is_sent_in_part_is_not_sent_again(cluster: RedisCluster, home: RedisNode, other: RedisNode) -> None:
    here, there = queue_on(cluster, home), queue_on(cluster, other)
    calls = [Message("task", f"id-{n}", queue=here if n % 3 else there) for n in range(9)]
    with app_of_test(cluster.url()) as app:
        other.kill()
        with pytest.raises(OperationalError, match=rf"6 of 9 messages are sent, but not 3 for '{there}'\. Redis at"):
            publishing.send(app, calls, {})  # tries again by itself
        with pytest.raises(OperationalError, match="6 of 9"):
            publishing.send(app, calls, {"retry": False})
        assert waiting(app.broker, here) == [6]
        bring_back(cluster, other)
        publishing.send(app, calls, {})
        assert waiting(app.broker, here, there) == [6, 3]


def test_an_outbox_is_not_published_again_for_the_sake_of_a_part(
    transactional_db: None, cluster: RedisCluster, home: RedisNode, other: RedisNode
) -> None:
    names = (f"queue{n}" for n in range(100))
    queue = next(
        each for each in names if cluster.node_of(each) is home and cluster.node_of(f"{each}{SEPARATOR}9") is other
    )
    with app_of_test(cluster.url(), task_outbox=True) as app:
        with transaction.atomic():
            Outbox("default").write(
                [message("1", queue=queue), message("2", queue=queue, priority=9)], app.broker.now(), None
            )
        other.kill()
        for _ in range(2):
            QueuedMessage.objects.update(due_at=0)
            with pytest.raises(OperationalError, match="1 of 2 messages are sent"):
                Relay(app).publish()
        assert home.connect().llen(queue) == 1
        bring_back(cluster, other)
        QueuedMessage.objects.update(due_at=0)
        Relay(app).publish()
        assert waiting(app.broker, queue) == [2]
        assert not QueuedMessage.objects.exists()


def test_the_same_id_can_be_called_again(broker: RedisBroker, cluster: RedisCluster) -> None:
    queues = [queue_on(cluster, node) for node in cluster.nodes]
    for _ in range(2):
        broker.send([message("same", queue=queue) for queue in queues])
    assert waiting(broker, *queues) == [2, 2, 2]


def test_what_was_sent_for_a_cause_is_remembered_while_somebody_tries_again(
    broker: RedisBroker, cluster: RedisCluster
) -> None:
    following = message("next", cause="first")
    broker.send([following])
    client = cluster.node_of("celery").connect()
    [marker] = client.scan_iter("{celery}.cause.*")
    client.expire(marker, 20)
    broker.send([following])
    assert client.ttl(marker) > 200
    assert waiting(broker, "celery") == [1]


# -- janitors


def test_due_messages_come_while_a_node_is_away(
    broker: RedisBroker, cluster: RedisCluster, clock: Clock, home: RedisNode, other: RedisNode,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    here, there = queue_on(cluster, home), queue_on(cluster, other)
    hand = Hand(broker, queues=[there, here])
    hand.beat()
    send(broker, "later", queue=here, eta=datetime.fromtimestamp(broker.now() + 60, timezone.utc))
    send(broker, "lost for now", queue=there)
    other.kill()
    clock.advance(61)
    for _ in range(3):
        assert rescue(broker) == []
    assert hand.ids() == ["later"]
    assert caplog.text.count(REPORT) == 1


@pytest.mark.parametrize("victim", ["home", "other"])
def test_leases_are_kept_and_the_dead_found_while_a_node_is_away(
    broker: RedisBroker, cluster: RedisCluster, clock: Clock, victim: str, request: pytest.FixtureRequest
) -> None:
    away = request.getfixturevalue(victim)
    here, there = (queue_on(cluster, node) for node in (next(n for n in cluster.nodes if n is not away), away))
    alive, dying = Hand(broker, "alive", [there, here]), Hand(broker, "dying", [there, here])
    for hand in (alive, dying):
        hand.beat()
        send(broker, hand.identity, queue=here)
        assert hand.ids() == [hand.identity]
    janitor = Hand(broker, "janitor", [there, here])
    janitor.beat()
    assert rescue(broker) == []
    away.kill()
    for _ in range(8):
        clock.advance(broker.lease / 6)
        alive.beat()
        janitor.beat()
    assert [delivery.message.id for delivery in rescue(broker)] == ["dying"]
    assert rescue(broker) == []
    assert broker.control.orders(0) == []


def test_what_was_taken_over_before_a_node_failed_is_returned(
    broker: RedisBroker, cluster: RedisCluster, home: RedisNode, other: RedisNode
) -> None:
    here, there = sorted([queue_on(cluster, home), queue_on(cluster, other)])
    dead = Hand(broker, "dead", [here, there])
    dead.beat()
    for queue in (here, there):
        send(broker, queue, queue=queue)
    assert len(dead.take()) == 2
    cluster.node_of(there).kill()
    [delivery] = rescue(broker, "dead")
    assert delivery.message.id == here
    assert broker.settle([Settlement(delivery, Verb.ACK)]) == []
    with pytest.raises(OperationalError):  # so that it is asked for until it comes
        rescue(broker, "dead")
    bring_back(cluster, cluster.node_of(there))
    assert [each.message.id for each in rescue(broker, "dead")] == [there]


def test_a_node_that_comes_back_finds_nobody_dead_at_once(
    broker: RedisBroker, cluster: RedisCluster, clock: Clock, home: RedisNode, other: RedisNode
) -> None:
    here, there = queue_on(cluster, home), queue_on(cluster, other)
    janitor, neighbour = Hand(broker, "janitor", [here, there]), Hand(broker, "neighbour", [here, there])
    for hand in (janitor, neighbour):
        hand.beat()
    send(broker, "1", queue=there)
    [delivery] = neighbour.take()
    other.kill()
    for _ in range(12):
        clock.advance(broker.lease / 6)
        for hand in (janitor, neighbour):
            hand.beat()
        assert rescue(broker) == []
    bring_back(cluster, other)
    janitor.beat()
    clock.advance(broker.lease / 6)
    assert rescue(broker) == []
    neighbour.beat()
    assert neighbour.settle(delivery, Verb.ACK)


# -- ends


def outcome_of(delivery: Any) -> Outcome:
    return Outcome(delivery.message, SUCCESS, 1, settlement=Settlement(delivery, Verb.ACK))


def test_tasks_end_whose_own_messages_are_sent(
    broker: RedisBroker, cluster: RedisCluster, home: RedisNode, other: RedisNode
) -> None:
    work, here, there = queue_on(cluster, home), queue_on(cluster, home, 1), queue_on(cluster, other)
    send(broker, "quiet", "near", "far", queue=work)
    deliveries = Hand(broker, queues=[work]).take()
    outcomes = [outcome_of(each) for each in deliveries]
    backend = MemoryBackend("memory://", accept=ACCEPT)

    def follow(outcome: Outcome) -> list[Message]:
        name = outcome.message.id
        queues = {"quiet": [], "near": [here], "far": [here, there]}[name]
        return [message(f"{name} {queue}", queue=queue, cause=name) for queue in queues]

    other.kill()
    for _ in range(2):
        with pytest.raises(OperationalError):
            broker.finish(backend, outcomes, follow)
        assert broker.sizes([work])[work] == Size(reserved=1)
        assert waiting(broker, here) == [2]
        # As when nobody remembers the cause any more.
        home.connect().delete(f"{here}.cause.{digest_of(f'near {here} near'.encode())}")
    bring_back(cluster, other)
    assert broker.finish(backend, outcomes, follow) == outcomes
    assert waiting(broker, here, there) == [2, 1]
    assert broker.finish(backend, outcomes, follow) == []
    assert broker.sizes([work])[work] == Size()


def test_what_could_be_settled_does_not_count_as_lost_later(
    broker: RedisBroker, cluster: RedisCluster, home: RedisNode, other: RedisNode
) -> None:
    queues = [queue_on(cluster, home), queue_on(cluster, other)]
    for queue in queues:
        send(broker, queue, queue=queue)
    settlements = [Settlement(each, Verb.ACK) for each in Hand(broker, queues=queues).take()]
    other.kill()
    with pytest.raises(OperationalError):
        broker.settle(settlements)
    assert broker.sizes(queues[:1]) == {queues[0]: Size()}
    bring_back(cluster, other)
    assert broker.settle(settlements) == []
    assert broker.settle(settlements) == settlements


# -- nodes that accept and never answer


def test_a_silent_node_is_asked_once_and_not_for_each_list(
    cluster: RedisCluster, home: RedisNode, other: RedisNode
) -> None:
    broker = RedisBroker(cluster.url(), accept=ACCEPT, timeout=1.0)
    here = queue_on(cluster, home)
    hand = Hand(broker, queues=[*(f"many{n}" for n in range(15)), here])
    hand.beat()

    def asked() -> int:
        return int(other.connect().info("commandstats")["cmdstat_evalsha"]["calls"])

    before, beat_at = asked(), home.connect().zscore(f"{here}.workers", "worker")
    other.freeze()
    try:
        hand.beat()
    finally:
        other.thaw()
    wait_for(cluster.is_whole)
    assert asked() <= before + 1  # though it has some twenty of the lists
    assert home.connect().zscore(f"{here}.workers", "worker") > beat_at


# -- names


@pytest.mark.parametrize("queue", ["a}b", "{}x{y}", "{}"])
def test_names_that_would_be_in_two_slots(broker: RedisBroker, queue: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"cannot be in a cluster.*Use another name"):
        send(broker, "1", queue=queue)
    with pytest.raises(ImproperlyConfigured, match="cannot be in a cluster"):
        broker.reserve("worker", [queue], 1, new_lease())
    assert broker.sizes() == {}
