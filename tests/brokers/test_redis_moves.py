"""A move of messages on Redis that fails in the middle, at a key of somebody else: none is lost, none comes twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

import pytest

from django_tasks.backends.disabled import DisabledBackend
from django_tasks.brokers.base import Beat, Settlement, Verb, new_lease
from django_tasks.brokers.browse import Wanted
from django_tasks.brokers.redis import RedisBroker
from django_tasks.exceptions import RequestRefused
from tests.brokers.hands import ACCEPT, Clock, Hand, make_redis, message, pass_time, rescue, send
from tests.servers import Redis

Act = Callable[[], Any]


@pytest.fixture
def broker(redis_url: str, clock: Clock) -> RedisBroker:
    return make_redis(clock, redis_url)


@pytest.fixture
def client(redis_server: Redis, redis_url: str) -> Any:
    return redis_server.connect()


@contextmanager
def somebody_elses(client: Any, key: str) -> Iterator[None]:
    """Let a key be something else for a while."""
    existed = client.exists(key)
    if existed:
        client.rename(key, "aside")
    client.set(key, "theirs")
    yield
    client.delete(key)
    if existed:
        client.rename("aside", key)


def total(broker: RedisBroker) -> int:
    """Return how many messages can be found."""
    sizes = broker.sizes(["celery", "other"]).values()
    return sum(size.waiting + size.delayed + size.reserved + size.dead for size in sizes)


def due(broker: RedisBroker, hand: Hand) -> Act:
    hand.beat()
    eta = datetime.fromtimestamp(broker.now() + 5, timezone.utc)
    send(broker, "1", "2", "3", eta=eta)
    pass_time(broker, 6, hand)
    return lambda: rescue(broker)


def unknown(broker: RedisBroker, hand: Hand) -> Act:
    send(broker, "1", "2", "3")
    hand.take()
    hand.leases = frozenset()
    pass_time(broker, 5, Hand(broker, "other"))
    broker.clock.advance(10)  # type: ignore[attr-defined]
    return hand.beat


def settle(verb: Verb, **options: Any) -> Callable[[RedisBroker, Hand], Act]:
    def prepare(broker: RedisBroker, hand: Hand) -> Act:
        send(broker, "1", "2", "3")
        deliveries = hand.take()
        return lambda: broker.settle([Settlement(each, verb, **options) for each in deliveries])

    return prepare


def reserve(broker: RedisBroker, hand: Hand) -> Act:
    send(broker, "1", "2", "3")
    return lambda: hand.take(queues=["celery", "other"])


def reserve_with_facts(broker: RedisBroker, hand: Hand) -> Act:
    settle(Verb.RETURN, died=True)(broker, hand)()
    return hand.take


def dead(broker: RedisBroker, hand: Hand) -> Act:
    send(broker, "1", "2", "3")
    hand.take()
    return lambda: rescue(broker, hand.identity)


def resend(broker: RedisBroker, hand: Hand) -> Act:
    settle(Verb.DEAD)(broker, hand)()
    letters = list(broker.browser.messages(Wanted(), 10))
    return lambda: broker.browser.resend(letters, DisabledBackend("disabled://", accept=ACCEPT))


def revoke(broker: RedisBroker, hand: Hand) -> Act:
    send(broker, "1", "2", "3")
    return lambda: broker.control.take(["1"], new_lease())


@pytest.mark.parametrize(
    ("prepare", "key"),
    [
        pytest.param(due, "celery", id="due"),
        pytest.param(unknown, "celery", id="unknown to its worker"),
        pytest.param(settle(Verb.RETURN), "celery", id="returned"),
        pytest.param(settle(Verb.RETURN, died=True), "{celery}.facts", id="returned with facts"),
        pytest.param(settle(Verb.RETURN, delay=9), "{celery}.delayed", id="returned for later"),
        pytest.param(settle(Verb.DEAD), "{celery}.dead", id="buried"),
        pytest.param(reserve, "{celery}.held.worker", id="reserved"),
        pytest.param(reserve, "{celery}.workers", id="reserved by nobody"),
        pytest.param(reserve, "other", id="reserved from several lists"),
        pytest.param(reserve_with_facts, "{celery}.held.worker", id="reserved with facts"),
        pytest.param(dead, "{celery}.held.janitor", id="taken over"),
        pytest.param(resend, "{celery}.workers", id="sent again"),
        pytest.param(revoke, "{celery}.workers", id="taken out"),
    ],
)
def test_what_cannot_go_on_stays(
    broker: RedisBroker, client: Any, prepare: Callable[[RedisBroker, Hand], Act], key: str
) -> None:
    hand = Hand(broker)
    act = prepare(broker, hand)
    before = broker.sizes(["celery", "other"])
    with somebody_elses(client, key):
        for _ in range(2):
            with pytest.raises(RequestRefused, match="something else under the name"):
                act()
    assert broker.sizes(["celery", "other"]) == before
    act()
    assert total(broker) == 3


def test_a_sign_of_life_counts_though_something_cannot_be_given_back(broker: RedisBroker, client: Any) -> None:
    first, second = Hand(broker, "first"), Hand(broker, "second")
    unknown(broker, first)
    beats = [Beat(each.identity, "node@host", 1, ("celery",), frozenset()) for each in (first, second)]
    with somebody_elses(client, "celery"), pytest.raises(RequestRefused):
        broker.heartbeat(beats)
    seen = dict(client.zrange("{celery}.workers", 0, -1, withscores=True))
    assert seen["first"] == seen["second"] == pytest.approx(broker.now())


def test_what_could_not_be_sent_does_not_count_as_sent(broker: RedisBroker, client: Any) -> None:
    following = [message("1", cause="why"), message("2", cause="why", queue="other")]
    with somebody_elses(client, "other"), pytest.raises(RequestRefused):
        broker.send(following)
    for _ in range(2):
        broker.send(following)
    assert total(broker) == 2
