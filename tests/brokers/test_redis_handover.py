"""A message that a wait has brought is begun before the server has said that it is reserved."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from functools import partial
from typing import Any

import pytest

from django_tasks.brokers.base import Delivery, Size, Verb
from django_tasks.brokers.redis import RedisBroker
from django_tasks.brokers.redis_blocked import Blocked, end_waits
from django_tasks.brokers.redis_wait import IN_FORCE
from django_tasks.exceptions import OperationalError, RequestRefused
from django_tasks.message import Message
from tests.brokers.hands import ACCEPT, Clock, Hand, make_redis, message, rescue, send
from tests.servers import Redis
from tests.threads import meanwhile, together
from tests.waiting import wait_for

Act = Callable[[], object]
Bring = Callable[[Act], Hand]
SEP = "\x06\x16"


@pytest.fixture
def broker(redis_url: str, clock: Clock) -> RedisBroker:
    return make_redis(clock, redis_url)


@pytest.fixture
def client(redis_server: Redis, redis_url: str) -> Any:
    return redis_server.connect()


@pytest.fixture
def bring(broker: RedisBroker, hand: Hand, client: Any, wakeup: tuple[int, int]) -> Bring:
    """Wait with a worker until something that is done meanwhile brings a message."""

    def bring(act: Act) -> Hand:
        def act_later() -> None:
            wait_for(lambda: blocked(client) == 4)
            begun = time.monotonic()
            wait_for(lambda: time.monotonic() > begun + 2 * IN_FORCE)
            act()

        assert hand.take() == []
        with meanwhile(act_later):
            broker.wait(("celery",), 60, wakeup[0])
        return hand

    return bring


@pytest.fixture
def brought(bring: Bring, redis_url: str, clock: Clock) -> Hand:
    """A worker to whom a wait has brought message 1."""
    return bring(lambda: send(make_redis(clock, redis_url), "1"))


def blocked(client: Any) -> int:
    return int(client.info("clients")["blocked_clients"])


def size(broker: RedisBroker) -> Size:
    found = broker.sizes(["celery"])["celery"]
    found.oldest = 0
    return found


def test_it_is_in_the_ledger_and_no_other_is_brought(broker: RedisBroker, brought: Hand, client: Any) -> None:
    [delivery] = brought.take()
    send(broker, "2", priority=9)
    send(broker, "3")
    wait_for(lambda: blocked(client) == 0)
    assert size(broker) == Size(2, reserved=1)
    assert brought.settle(delivery, Verb.ACK)
    assert brought.ids() == ["3", "2"]


def test_what_another_wait_brings_at_the_same_time_is_for_others(broker: RedisBroker, brought: Hand) -> None:
    send(broker, "2", priority=9)  # its wait goes on until message 1 is taken
    [delivery] = brought.take()
    assert Hand(broker, "other").ids() == ["2"]
    assert brought.settle(delivery, Verb.ACK)


def test_one_after_another(broker: RedisBroker, bring: Bring, redis_url: str, clock: Clock) -> None:
    """Each begins where the last one has left its connections, whether or not it has been settled."""
    others = make_redis(clock, redis_url)
    for number in range(4):
        hand = bring(partial(send, others, str(number)))
        [delivery] = hand.take()
        if number % 2:
            assert hand.settle(delivery, Verb.ACK)
    assert size(broker) == Size(reserved=2)


def test_threads_that_take_turns(broker: RedisBroker, redis_url: str, clock: Clock, wakeup: tuple[int, int]) -> None:
    done: list[str] = []

    def work(name: str) -> None:
        hand = Hand(broker, name)
        while len(done) < 60:
            for delivery in hand.take(1):
                assert hand.settle(delivery, Verb.ACK)
                done.append(delivery.message.id)
            broker.wait(("celery",), 0.1, wakeup[0])
        broker.wait((), 0.0, wakeup[0])

    def produce() -> None:
        producer = make_redis(clock, redis_url)
        for number in range(60):
            send(producer, f"{number:02}", priority=number % 10)
            wait_for(lambda number=number: len(done) > number - 3)

    together(*(partial(work, name) for name in ("a", "b", "c")), produce)
    assert sorted(done) == [f"{number:02}" for number in range(60)]
    assert size(broker) == Size()


# -- what the envelope does not tell


def test_what_is_known_besides_is_asked_for(bring: Bring, brought: Hand) -> None:
    [delivery] = brought.take()
    bring(lambda: brought.settle(delivery, Verb.RETURN, refused=True, admitted=True))
    [delivery] = brought.take()
    delivery.complete()
    assert (delivery.refusals, delivery.admitted) == (1, True)


def test_one_that_a_worker_died_with(bring: Bring, brought: Hand) -> None:
    [delivery] = brought.take()
    bring(lambda: brought.settle(delivery, Verb.RETURN, died=True))
    [delivery] = brought.take()
    assert (delivery.alone, delivery.redelivered) == (True, True)
    assert brought.settle(delivery, Verb.ACK)


def test_one_that_is_not_due_is_parked(broker: RedisBroker, bring: Bring, client: Any) -> None:
    eta = datetime.fromtimestamp(broker.now() + 60, timezone.utc)
    envelope = broker.ledger.outgoing(message("1", eta=eta), None).envelope
    hand = bring(lambda: client.lpush("celery", envelope))  # as Celery does
    assert hand.take() == []
    assert size(broker) == Size(delayed=1)


def test_one_that_cannot_be_read(broker: RedisBroker, bring: Bring, client: Any) -> None:
    hand = bring(lambda: client.lpush("celery", "nonsense"))
    [delivery] = hand.take()
    assert delivery.error is not None
    assert hand.settle(delivery, Verb.DEAD)
    assert size(broker) == Size(dead=1)


# -- what may happen in between


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("next_one", [None, message("2"), message("1", retries=1)])
def test_it_was_taken_over_meanwhile(
    broker: RedisBroker, redis_url: str, clock: Clock, brought: Hand, next_one: Message | None, late: bool
) -> None:
    """Others thought that its worker was dead, and have run it; perhaps its next try waits."""
    others = make_redis(clock, redis_url)
    rescue(others, "worker")
    other = Hand(others, "other")
    [delivery] = other.take()
    assert other.settle(delivery, Verb.ACK)
    if next_one is not None:
        others.send([next_one])
    if late:  # then the answer is waited for
        broker.ledger.lease = 0.0
    found = brought.take()
    assert tries(found) == ([] if late else [("1", 0)])
    assert [brought.settle(each, Verb.ACK) for each in found] == ([] if late else [False])
    assert tries(other.take()) == ([] if next_one is None else [(next_one.id, next_one.retries)])


def tries(deliveries: list[Delivery]) -> list[tuple[str, int]]:
    return [(each.message.id, each.message.retries) for each in deliveries]


def test_its_worker_rests_after_all(broker: RedisBroker, brought: Hand, client: Any, wakeup: tuple[int, int]) -> None:
    broker.wait((), 0.0, wakeup[0])
    assert blocked(client) == 0
    assert Hand(broker, "other").ids() == ["1"]


def test_another_worker_of_the_thread(broker: RedisBroker, brought: Hand, client: Any) -> None:
    assert Hand(broker, "other").ids() == ["1"]
    assert blocked(client) == 0


def test_the_connections_are_closed(broker: RedisBroker, brought: Hand, client: Any) -> None:
    broker.close()
    wait_for(lambda: blocked(client) == 0)
    assert brought.ids() == ["1"]


def test_the_server_has_forgotten_the_script(broker: RedisBroker, brought: Hand, client: Any) -> None:
    client.script_flush()
    [delivery] = brought.take()
    assert brought.settle(delivery, Verb.ACK)
    assert size(broker) == Size()


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_connection_is_lost(broker: RedisBroker, brought: Hand, client: Any, when: str) -> None:
    """Whether it was reserved is seen when it is settled; if not, it comes again."""

    def cut() -> None:
        client.client_kill_filter(skipme=True, _type="normal")

    found: list[Delivery] = []
    if when == "before":
        cut()
    with contextlib.suppress(OperationalError):
        found = brought.take()
    if when == "after":
        cut()
    settled = False
    for delivery in found:
        settled = settle_in_the_end(brought, delivery)
    assert brought.ids() == ([] if settled else ["1"])


def settle_in_the_end(hand: Hand, delivery: Delivery, verb: Verb = Verb.ACK, **options: Any) -> bool:
    """Try again while the server is away."""
    for _ in range(10):
        with contextlib.suppress(OperationalError):
            return hand.settle(delivery, verb, **options)
    raise AssertionError("the server is away")


def test_what_was_left_in_the_inbox_is_for_others(broker: RedisBroker, brought: Hand, client: Any) -> None:
    client.lpush("{celery}.inbox.worker", broker.ledger.outgoing(message("left"), None).envelope)
    [delivery] = brought.take()
    assert delivery.message.id == "1"
    assert Hand(broker, "other").ids() == ["left"]
    assert brought.settle(delivery, Verb.ACK)


def test_what_is_known_is_asked_for_again_when_the_answer_got_lost(bring: Bring, brought: Hand, client: Any) -> None:
    [delivery] = brought.take()
    bring(lambda: brought.settle(delivery, Verb.RETURN, refused=True))
    [delivery] = brought.take()
    wait_for(lambda: client.hlen("{celery}.held.worker") == 1)
    client.client_kill_filter(skipme=True, _type="normal")
    with contextlib.suppress(OperationalError):
        delivery.complete()
    delivery.complete()
    assert delivery.refusals == 1
    assert settle_in_the_end(brought, delivery, Verb.RETURN, refused=True)
    assert [each.refusals for each in brought.take()] == [2]


def test_a_time_limit_while_the_answer_is_waited_for(
    redis_url: str, redis_server: Redis, broker: RedisBroker, brought: Hand, bring: Bring, clock: Clock
) -> None:
    """No answer is left to whoever waits next."""

    class TimeIsUp(Exception):
        pass

    def stop(*_: object) -> None:
        raise TimeIsUp

    previous = signal.signal(signal.SIGALRM, stop)
    redis_server.freeze()
    [delivery] = brought.take()
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(TimeIsUp):
            delivery.complete()
    finally:
        signal.signal(signal.SIGALRM, previous)
        redis_server.thaw()
    settle_in_the_end(brought, delivery)
    brought.take()
    assert bring(lambda: send(make_redis(clock, redis_url), "2")).ids() == ["2"]


def test_a_process_that_a_task_forks(broker: RedisBroker, brought: Hand) -> None:
    """The answer is for its parent."""
    [delivery] = brought.take()
    child = os.fork()
    if child == 0:
        broker.waiter.read_answer()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert brought.settle(delivery, Verb.ACK)


def test_a_user_who_may_not_end_waits(redis_server: Redis, client: Any, bring: Bring, clock: Clock) -> None:
    client.acl_setuser(
        "some",
        enabled=True,
        nopass=True,
        keys=["*"],
        channels=["*"],
        categories=["+@all"],
        commands=["-client|unblock"],
    )
    broker = make_redis(clock, f"redis://some@127.0.0.1:{redis_server.port}/0", timeout=0.5)
    hand = Hand(broker)
    reading, writing = os.pipe()
    assert hand.take() == []
    begun = time.monotonic()

    def send_later() -> None:
        wait_for(lambda: time.monotonic() > begun + 10 * IN_FORCE)
        send(make_redis(clock, redis_server.url()), "1")

    with meanwhile(send_later):
        broker.wait(("celery",), 60, reading)
    [delivery] = hand.take()
    with pytest.raises(RequestRefused, match="does not let this user do that"):
        hand.settle(delivery, Verb.ACK)
    assert hand.settle(delivery, Verb.ACK)
    broker.close()
    os.close(reading)
    os.close(writing)


def test_threads_that_begin_to_wait_together(redis_url: str, clock: Clock, wakeup: tuple[int, int]) -> None:
    """One place for all of them."""
    for _ in range(20):
        broker = make_redis(clock, redis_url)

        def wait(name: str, broker: RedisBroker = broker) -> None:
            Hand(broker, name).take()
            broker.wait(("celery",), 0.001, wakeup[0])

        together(*(partial(wait, name) for name in "abcd"))
        assert [broker.waiter._place.take_free() for _ in range(2)] == [True, False]


def test_the_server_is_frozen(wakeup: tuple[int, int]) -> None:
    with Redis() as server:
        broker, other = (RedisBroker(server.url(), accept=ACCEPT, timeout=0.3) for _ in range(2))
        hand = Hand(broker)
        hand.take()

        def send_later() -> None:
            begun = time.monotonic()
            wait_for(lambda: time.monotonic() > begun + 10 * IN_FORCE)
            send(other, "1")

        with meanwhile(send_later):
            broker.wait(("celery",), 60, wakeup[0])
        server.freeze()
        [delivery] = hand.take()
        with pytest.raises(OperationalError):
            hand.settle(delivery, Verb.ACK)
        server.thaw()
        assert hand.ids() == ([] if settle_in_the_end(hand, delivery) else ["1"])
        broker.close()


# -- waits that end as soon as they begin


def test_a_wait_that_the_server_has_yet_to_read_is_ended(broker: RedisBroker, client: Any) -> None:
    """What ends it comes over another connection, and may be read first."""
    free, late = (Blocked(broker.connections.new_connection(), name) for name in ("celery", f"celery{SEP}9"))
    late.begin("inbox", 60)
    wait_for(lambda: blocked(client) == 1)
    free.begin("inbox", 0.001)
    assert free.end() is None
    asked: list[int] = []

    def unblock(waiting: Sequence[Blocked]) -> list[int]:
        if not asked:  # an answer that says that nobody waits
            asked.append(1)
            return [0]
        return free.unblock(waiting)

    begun = time.monotonic()
    assert end_waits([late], unblock, 60) == [None]
    assert time.monotonic() - begun < 30
    free.close()
    late.close()


def test_a_wait_that_cannot_be_ended_is_an_error(broker: RedisBroker) -> None:
    late = Blocked(broker.connections.new_connection(), "celery")
    late.begin("inbox", 60)
    with pytest.raises(TimeoutError):
        end_waits([late], lambda waiting: [0] * len(waiting), 0.05)
    late.close()
