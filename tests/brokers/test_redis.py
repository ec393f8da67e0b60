"""What only the Redis broker does: Celery's keys, parking, waiting without polling, a server that is full or gone."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chaos.proxy import proxied
from django_tasks.brokers.base import Delivery, Settlement, Size, Verb, new_lease
from django_tasks.brokers.browse import DEAD, DELAYED, RUNNING, WAITING, Wanted
from django_tasks.brokers.redis import RedisBroker
from django_tasks.brokers.redis_lists import own_prefix
from django_tasks.exceptions import ImproperlyConfigured, OperationalError
from tests.brokers.hands import ACCEPT, Clock, Hand, make_redis, message, pass_time, rescue, send
from tests.servers import Redis, free_port
from tests.threads import meanwhile
from tests.waiting import wait_for

SEP = "\x06\x16"


@pytest.fixture
def broker(redis_url: str, clock: Clock) -> RedisBroker:
    return make_redis(clock, redis_url)


@pytest.fixture
def client(redis_server: Redis, redis_url: str) -> Any:
    return redis_server.connect()


def celerys(id: str, **headers: Any) -> str:
    """Return the least that a Celery client sends (celery-wire 1.10)."""
    return json.dumps({
        "body": b64encode(b"[[],{},{}]").decode(), "content-encoding": "utf-8", "content-type": "application/json",
        "headers": {"task": "task", "id": id, **headers},
        "properties": {"delivery_info": {"exchange": "", "routing_key": "celery"}, "body_encoding": "base64",
                       "delivery_tag": f"tag of {id}"},
    })  # fmt: skip


def at(broker: RedisBroker, seconds: float) -> datetime:
    return datetime.fromtimestamp(broker.now() + seconds, timezone.utc)


# -- Celery's lists


def test_lists_and_envelopes_are_celerys(broker: RedisBroker, client: Any) -> None:
    for priority in (None, 0, 2, 3, 5, 6, 9, 12, -1):
        send(broker, str(priority), priority=priority)
    keys = [key for key in client.scan_iter() if client.type(key) == "list"]
    found = {key: [json.loads(each)["headers"]["id"] for each in client.lrange(key, 0, -1)] for key in keys}
    assert found == {
        "celery": ["-1", "2", "0", "None"], f"celery{SEP}3": ["5", "3"], f"celery{SEP}6": ["6"],
        f"celery{SEP}9": ["12", "9"],
    }  # fmt: skip
    envelope = json.loads(client.lindex("celery", -1))
    assert set(envelope) == {"body", "content-encoding", "content-type", "headers", "properties"}
    assert envelope["properties"]["delivery_info"] == {"exchange": "", "routing_key": "celery"}
    assert envelope["properties"]["body_encoding"] == "base64"
    assert len(envelope["properties"]["delivery_tag"]) == 36


def test_a_message_of_celerys(broker: RedisBroker, client: Any, hand: Hand) -> None:
    client.lpush("celery", celerys("theirs"))
    [delivery] = hand.take()
    assert delivery.message.id == "theirs"
    assert hand.settle(delivery, Verb.RETURN)
    assert client.lrange("celery", 0, -1) == [celerys("theirs")]


def test_recovery_pushes_the_envelope_with_both_flags(broker: RedisBroker, client: Any) -> None:
    client.lpush("celery", celerys("theirs"))
    Hand(broker, "dead").take()
    [orphan] = rescue(broker, "dead")
    broker.settle([Settlement(orphan, Verb.RETURN, died=True)])
    expected = json.loads(celerys("theirs"))
    expected["headers"]["redelivered"] = expected["properties"]["delivery_info"]["redelivered"] = True
    assert [json.loads(each) for each in client.lrange("celery", 0, -1)] == [expected]


@pytest.mark.parametrize(
    "envelope",
    [
        *(b"\xff\xfe", b"", b"null", b"[1]", b'{"headers": 1}', b'{"properties": []}', b"1\n2"),
        b'{"headers": {"n": NaN, "big": 99999999999999999999999}}',
    ],
)
def test_what_cannot_be_read_goes_all_ways(broker: RedisBroker, client: Any, hand: Hand, envelope: bytes) -> None:
    client.lpush("celery", envelope)
    [delivery] = hand.take()
    assert delivery.error is not None
    hand.settle(delivery, Verb.RETURN, died=True)
    [again] = hand.take()
    assert again.alone
    hand.settle(again, Verb.RETURN, delay=5)
    assert [each.state for each in broker.browser.messages(Wanted(), 10)] == [DELAYED]
    pass_time(broker, 6)
    rescue(broker)
    [again] = hand.take()
    assert hand.settle(again, Verb.DEAD, reason="unreadable")
    [letter] = broker.browser.messages(Wanted(), 10, payload=True)
    assert (letter.state, letter.reason) == (DEAD, "unreadable")
    if b"NaN" not in envelope:
        assert letter.payload == envelope
    assert broker.browser.drop([letter]) == 1
    assert broker.sizes() == {}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Return an envelope with something wrong in one place, or cut off, or no envelope at all."""
    envelope = json.loads(celerys("id"))
    table = draw(st.sampled_from([envelope, envelope["headers"], envelope["properties"]]))
    table[draw(st.sampled_from(sorted(table)))] = draw(JSON)
    data = json.dumps(envelope).encode()
    return draw(st.sampled_from([data, data[: draw(st.integers(0, len(data)))], draw(st.binary(max_size=50))]))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(envelope=damaged())
def test_nothing_that_anybody_sends_stops_a_worker(broker: RedisBroker, client: Any, envelope: bytes) -> None:
    client.flushall()
    client.sadd("{_django_tasks}.queues", "celery")
    client.lpush("celery", envelope)
    hand = Hand(broker)
    deliveries = hand.take()
    assert len(deliveries) <= 1  # none: it is for later
    broker.settle([Settlement(each, Verb.RETURN, died=True) for each in deliveries])
    again = hand.take()
    assert len(again) == len(deliveries)
    broker.settle([Settlement(each, Verb.DEAD, reason="no use") for each in again])
    [stored] = broker.browser.messages(Wanted(), 10)
    assert stored.state == (DEAD if again else DELAYED)


def test_prefix_steps_and_separator(redis_url: str, clock: Clock, client: Any) -> None:
    options = {"global_keyprefix": "mine:", "priority_steps": [0, 5], "sep": ":"}
    broker = make_redis(clock, redis_url, options=options)
    hand = Hand(broker)
    send(broker, "1", priority=9)
    send(broker, "2", priority=4)
    assert (client.llen("mine:celery:5"), client.llen("mine:celery")) == (1, 1)
    hand.beat()
    send(broker, "later", eta=at(broker, 9))
    assert hand.ids() == ["2", "1"]
    assert all(key.startswith(("mine:", "{mine:")) for key in client.scan_iter())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"global_keyprefx": "x"}, "no option 'global_keyprefx'. Did you mean global_keyprefix?"),
        ({"priority_steps": [3, 6]}, "with 0 among them"),
        ({"priority_steps": []}, "with 0 among them"),
        ({"wait_replicas": "all"}, "must be a whole number"),
        ({"socket_keepalive_optons": {}}, "no option"),
    ],
)
def test_options_that_mean_nothing(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=says):
        RedisBroker("redis://localhost", accept=ACCEPT, options=options)


def test_options_of_celerys_that_are_kombus_own() -> None:
    RedisBroker("redis://localhost", accept=ACCEPT, options={"visibility_timeout": 3600, "fanout_prefix": True})


def test_places_in_a_cluster() -> None:
    assert own_prefix("celery") == "{celery}."
    assert own_prefix(f"celery{SEP}3") == f"{{celery{SEP}3}}."
    assert own_prefix("a{b}c") == "a{b}c."
    assert own_prefix("{}") == "{{}}."
    assert own_prefix("a{b") == "{a{b}."


# -- parking


def test_delayed_messages_park_when_a_worker_of_ours_is_there(
    broker: RedisBroker, client: Any, clock: Clock, hand: Hand
) -> None:
    send(broker, "early", eta=at(broker, 60))
    assert client.llen("celery") == 1  # only Celery could be there to take it
    hand.beat()
    send(broker, "later", eta=at(broker, 60))
    assert client.llen("celery") == 1
    assert client.zcard("{celery}.delayed") == 1
    assert hand.ids() == []
    assert client.zcard("{celery}.delayed") == 2
    clock.advance(broker.lease + 1)
    send(broker, "alone again", eta=at(broker, 60))
    assert client.llen("celery") == 1


def test_what_is_not_due_does_not_hide_what_is(broker: RedisBroker, client: Any, hand: Hand) -> None:
    for number in range(7):
        client.lpush("celery", celerys(f"early {number}", eta=at(broker, 3600 - number).isoformat()))
    client.lpush("celery", celerys("now"))
    assert hand.ids(2) == ["now"]
    assert broker.sizes()["celery"] == Size(delayed=7, reserved=1)
    pass_time(broker, 3596.5)
    rescue(broker)
    assert hand.ids() == ["early 6", "early 5", "early 4"]


# -- waiting


@pytest.fixture
def waiting(broker: RedisBroker, client: Any, wakeup: tuple[int, int]) -> Iterator[Callable[..., Any]]:
    """Start a thread with a worker that waits for a minute and takes a message: ``waiting(worker, *queues)``.

    It returns the thread, and a list for what is taken.
    """
    threads = []

    def start(hand: Hand, *queues: str) -> tuple[threading.Thread, list[Delivery]]:
        taken: list[Delivery] = []

        def work() -> None:
            hand.queues = queues
            assert hand.take() == []
            broker.wait(queues, 60, wakeup[0])
            taken.extend(hand.take(1))

        thread = threading.Thread(target=work)
        threads.append(thread)
        blocked = blocked_clients(client)
        thread.start()
        wait_for(lambda: blocked_clients(client) == blocked + 4 * len(queues))
        return thread, taken

    yield start
    for thread in threads:
        if thread.is_alive():
            os.write(wakeup[1], b"!")
            thread.join()


def blocked_clients(client: Any) -> int:
    return int(client.info("clients")["blocked_clients"])


@pytest.mark.parametrize("priority", [None, 9])
def test_a_message_ends_a_wait_at_all_lists(
    broker: RedisBroker, client: Any, waiting: Any, priority: int | None
) -> None:
    hand = Hand(broker)
    thread, taken = waiting(hand, "other", "celery")
    send(broker, "elsewhere", queue="unknown")
    assert thread.is_alive()
    send(broker, "1", "2", priority=priority)
    thread.join()
    assert [each.message.id for each in taken] == ["1"]
    wait_for(lambda: blocked_clients(client) == 0)
    assert broker.sizes()["celery"] == Size(1, reserved=1, oldest=pytest.approx(0, abs=60))
    assert hand.ids() == ["2"]


def test_what_else_was_set_aside_is_for_others_when_it_is_not_taken(broker: RedisBroker, client: Any) -> None:
    """Its worker may be busy with the first one for hours."""
    hand = Hand(broker)
    hand.take()
    send(broker, "1")
    send(broker, "2", priority=9)
    for queue in ("celery", f"celery{SEP}9"):  # as two waits do in one moment
        client.lmove(queue, f"{{{queue}}}.inbox.worker")
    assert hand.ids(1) == ["1"]
    assert Hand(broker, "other").ids() == ["2"]


def test_a_message_wakes_one_worker(redis_url: str, clock: Clock, broker: RedisBroker, waiting: Any) -> None:
    first, _ = waiting(Hand(broker, "first"), "celery")
    second = make_redis(clock, redis_url)
    reading, writing = os.pipe()
    os.set_blocking(reading, False)

    def work() -> None:
        second.reserve("second", ["celery"], 1, new_lease())
        second.wait(["celery"], 60, reading)
        second.reserve("second", ["celery"], 1, new_lease())

    threads = [first, threading.Thread(target=work)]
    threads[1].start()
    wait_for(lambda: broker.connections.run(lambda client: client.info("clients"))["blocked_clients"] == 8)
    send(broker, "1")
    wait_for(lambda: sum(thread.is_alive() for thread in threads) == 1)
    os.write(writing, b"!")
    threads[1].join()
    second.close()
    os.close(reading)
    os.close(writing)


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_closing_leaves_alone_who_waits(broker: RedisBroker, client: Any, waiting: Any) -> None:
    hand = Hand(broker)
    thread, taken = waiting(hand, "celery")
    broker.close()
    send(broker, "1")
    thread.join(10)
    assert not thread.is_alive()
    assert [each.message.id for each in taken] == ["1"]
    clients = len(client.client_list())
    broker.close()
    wait_for(lambda: len(client.client_list()) <= clients - 5)


def test_what_was_set_aside_goes_back_when_its_worker_rests(broker: RedisBroker, wakeup: tuple[int, int]) -> None:
    hand = Hand(broker)
    hand.take()
    send(broker, "1", "2")
    broker.wait(["celery"], 60, wakeup[0])
    broker.wait((), 0.0, wakeup[0])
    assert Hand(broker, "other").ids() == ["1", "2"]


def test_what_was_set_aside_for_a_worker_that_never_beat(broker: RedisBroker, wakeup: tuple[int, int]) -> None:
    Hand(broker).take()
    send(broker, "1")
    broker.wait(["celery"], 60, wakeup[0])
    pass_time(broker, broker.lease + 1)
    assert rescue(broker) == []
    assert Hand(broker, "other").ids() == ["1"]


def test_what_was_set_aside_goes_back_when_its_worker_leaves_or_dies(
    broker: RedisBroker, wakeup: tuple[int, int]
) -> None:
    for leave in (lambda: broker.goodbye(["worker"]), lambda: rescue(broker, "worker")):
        hand = Hand(broker)
        hand.take()
        hand.beat()
        send(broker, "1", "2")
        broker.wait(["celery"], 60, wakeup[0])
        leave()
        other = Hand(broker, "other").take()
        assert [each.message.id for each in other] == ["1", "2"]
        broker.settle([Settlement(each, Verb.ACK) for each in other])


@pytest.mark.parametrize("way", ["good-bye", "death"])
def test_what_is_set_aside_for_a_worker_that_has_gone_is_found(clock: Clock, wakeup: tuple[int, int], way: str) -> None:
    """The server has not heard that its connections are closed, and waits on for it."""
    port = free_port()
    with Redis() as server, proxied(port, server.port) as proxy:
        admin = server.connect()
        wait_for(lambda: is_there(port))
        broker = make_redis(clock, f"redis://127.0.0.1:{port}/0", timeout=0.5)

        def work() -> None:
            Hand(broker).take()
            with pytest.raises(OperationalError, match="does not answer"):
                broker.wait(["celery"], 60, wakeup[0])

        with meanwhile(work):
            wait_for(lambda: admin.info("clients")["blocked_clients"] == 4)
            with socket.create_connection(("127.0.0.1", port), 0.1) as probe:
                wait_for(lambda: answers(probe))
                proxy.send_signal(signal.SIGUSR2)
                wait_for(lambda: not answers(probe))
            os.write(wakeup[1], b".")
        direct = make_redis(clock, server.url())  # after the worker, as its time stands still from here on
        if way == "death":
            assert rescue(direct, "worker") == []
        else:
            broker.goodbye(["worker"])
        send(direct, "1")
        assert admin.llen("{celery}.inbox.worker") == 1
        pass_time(direct, direct.lease + 1)
        assert rescue(direct) == []
        assert Hand(direct, "other").ids() == ["1"]
        pass_time(direct, 2 * direct.lease, Hand(direct, "other"))
        rescue(direct)
        assert admin.zscore("{celery}.workers", "worker") is None
        broker.close()


def is_there(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def answers(connection: socket.socket) -> bool:
    connection.sendall(b"PING\r\n")
    with contextlib.suppress(TimeoutError, socket.timeout):
        return bool(connection.recv(100))
    return False


def test_a_worker_that_has_waited_to_the_end_is_forgotten_at_once(
    broker: RedisBroker, client: Any, wakeup: tuple[int, int]
) -> None:
    Hand(broker).take()
    broker.wait(["celery"], 0.01, wakeup[0])
    broker.goodbye(["worker"])
    assert client.zscore("{celery}.workers", "worker") is None


def test_a_wait_survives_the_server(wakeup: tuple[int, int]) -> None:
    with Redis() as server:
        broker = RedisBroker(server.url(), accept=ACCEPT, timeout=0.5)
        hand = Hand(broker)
        hand.take()
        server.freeze()
        with pytest.raises(OperationalError, match="does not answer"):
            broker.wait(["celery"], 0.1, wakeup[0])
        server.thaw()
        hand.take()
        thread = threading.Thread(target=server.kill)
        thread.start()
        with pytest.raises(OperationalError, match="cannot be reached"):
            broker.wait(["celery"], 60, wakeup[0])
        thread.join()
        server.start()
        broker.wait(["celery"], 0.01, wakeup[0])
        send(broker, "1")
        broker.wait(["celery"], 60, wakeup[0])
        assert hand.ids() == ["1"]


# -- a server that is full, restarted, old


def test_a_full_server_lets_workers_go_on() -> None:
    with Redis() as server:
        broker = RedisBroker(server.url(), accept=ACCEPT, timeout=1)
        hand = Hand(broker)
        send(broker, *map(str, range(10)))
        hand.take(1)
        hand.beat()
        client = server.connect()
        client.config_set("maxmemory", "1")
        with pytest.raises(OperationalError, match="out of memory"):
            send(broker, "new")
        with pytest.raises(OperationalError, match="out of memory"):
            broker.send([message("new"), message("other", queue="other")])
        deliveries = hand.take()
        hand.beat()
        assert len(deliveries) == 9
        assert rescue(broker) == []
        verbs = [(Verb.ACK, 0), (Verb.DEAD, 0), (Verb.RETURN, 0), (Verb.RETURN, 60)]
        ends = [Settlement(each, verb, delay=delay) for each, (verb, delay) in zip(deliveries[:4], verbs, strict=True)]
        assert broker.settle(ends) == []
        assert broker.sizes()["celery"] == Size(1, 1, 6, 1, pytest.approx(0, abs=5))
        broker.goodbye(["nobody"])


def test_a_key_of_somebody_else_stops_nobody_for_good(broker: RedisBroker, client: Any, hand: Hand) -> None:
    client.set("celery", "theirs")
    later = message("2", eta=at(broker, 60))
    for act in (lambda: send(broker, "1"), lambda: broker.send([later]), hand.take):
        with pytest.raises(OperationalError, match="something else under the name"):
            act()
    with pytest.raises(OperationalError, match="something else under the name"):
        broker.send([message("4", queue="other"), message("5")])
    client.delete("celery", "other")
    send(broker, "3")
    assert hand.ids() == ["3"]


def test_a_master_that_becomes_a_replica_and_a_master_again() -> None:
    with Redis() as server:
        broker = RedisBroker(server.url(), accept=ACCEPT, timeout=1)
        hand = Hand(broker)
        send(broker, "1")
        server.connect().replicaof("127.0.0.1", free_port())
        for act in (lambda: send(broker, "2"), hand.take, hand.beat):
            with pytest.raises(OperationalError, match="is a read-only replica"):
                act()
        server.connect().replicaof("NO", "ONE")
        send(broker, "3")
        assert hand.ids() == ["1", "3"]


def test_a_killed_server_loses_nothing() -> None:
    with Redis() as server:
        broker = RedisBroker(server.url(), accept=ACCEPT, timeout=1)
        hand = Hand(broker)
        hand.beat()
        send(broker, "1", "2")
        send(broker, "late", eta=at(broker, 60))
        [delivery] = hand.take(1)
        server.kill()
        with pytest.raises(OperationalError):
            hand.beat()
        server.start()
        hand.beat()
        assert broker.sizes()["celery"] == Size(1, 1, 1, oldest=pytest.approx(0, abs=60))
        assert hand.settle(delivery, Verb.ACK)
        assert hand.ids() == ["2"]


def test_an_emptied_server_stops_nobody(broker: RedisBroker, client: Any, clock: Clock, hand: Hand) -> None:
    control = broker.control
    control.give_order("pause", "", {})
    [order] = control.orders(-1)
    send(broker, "1")
    [delivery] = hand.take()
    client.flushall()
    assert not hand.settle(delivery, Verb.ACK)
    hand.beat()
    assert broker.sizes() == {}
    assert broker.register.queues() == ["celery"]
    clock.advance(1)
    control.give_order("resume", "", {})
    assert [each.kind for each in control.orders(order.number)] == ["resume"]


def test_the_time_is_the_servers(redis_url: str) -> None:
    broker = RedisBroker(redis_url, accept=ACCEPT)
    broker.clock = lambda: 1000.0
    broker.heartbeat([])
    seconds, _ = broker.connections.run(lambda client: client.time())
    assert broker.now() == pytest.approx(seconds, abs=5)


def test_the_time_is_never_ahead_of_the_servers() -> None:
    """A delayed message must not come too early because it took long to ask what time it is."""
    with Redis() as server:
        broker, client = RedisBroker(server.url(), accept=ACCEPT), server.connect()
        broker.connections.run(lambda ours: ours.ping())
        client.client_pause(500)
        broker.server_clock.keep_set(broker.clock)
        now = broker.now()
        seconds, microseconds = client.time()
        assert now <= seconds + microseconds / 1e6


def test_an_old_server_is_refused(broker: RedisBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    broker.check()
    monkeypatch.setattr("django_tasks.redis_connections.OLDEST_SERVER", (99, 0))
    with pytest.raises(ImproperlyConfigured, match="needs Redis"):
        broker.check()


def test_a_server_that_deletes_messages_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with Redis("--maxmemory-policy", "allkeys-lru") as server:
        RedisBroker(server.url(), accept=ACCEPT).check()
    assert "has maxmemory-policy allkeys-lru" in caplog.text


# -- looking


def test_pages(broker: RedisBroker, client: Any, hand: Hand) -> None:
    hand.beat()
    send(broker, *(f"{n:04}" for n in range(1203)))
    send(broker, "late", eta=at(broker, 60))
    _, dead = hand.take(2)
    hand.settle(dead, Verb.DEAD, reason="no use")
    states = {each.id: each.state for each in broker.browser.messages(Wanted(), 2000)}
    assert len(states) == 1204
    assert (states["late"], states["0000"], states["0001"], states["0002"]) == (DELAYED, RUNNING, DEAD, WAITING)
    seen, after = [], None
    while page := broker.browser.messages(Wanted((WAITING,)), 200, after):
        seen += [each.id for each in page]
        taken = broker.control.take([each.id for each in page], new_lease())
        assert len(taken) == len(page)
        after = page[-1]
    assert sorted(seen) == [f"{n:04}" for n in range(2, 1203)]


def test_a_page_that_another_process_continues(broker: RedisBroker, redis_url: str, clock: Clock) -> None:
    send(broker, *map(str, range(10)))
    page = broker.browser.messages(Wanted(), 4)
    other = make_redis(clock, redis_url)
    rest = other.browser.messages(Wanted(), 10, page[-1])
    assert sorted(each.id for each in page + rest) == sorted(map(str, range(10)))


def test_resending_a_letter_that_killed_its_workers(broker: RedisBroker, hand: Hand) -> None:
    from django_tasks.backends.memory import MemoryBackend

    send(broker, "1", "2")
    backend = MemoryBackend("memory://", accept=ACCEPT)
    one, two = hand.take()
    hand.settle(two, Verb.DEAD)
    hand.settle(one, Verb.RETURN, died=True)
    hand.settle(hand.take()[0], Verb.DEAD, reason="it kills")
    letters = broker.browser.messages(Wanted((DEAD,)), 10)
    assert sorted(broker.browser.resend(letters, backend)) == ["1", "2"]
    assert broker.browser.resend(letters, backend) == []
    found = [each for _ in range(2) for each in hand.take(1)]
    assert {each.message.id: (each.alone, each.redelivered, each.deaths) for each in found} == {
        "1": (True, True, 0), "2": (False, True, 0),
    }  # fmt: skip
