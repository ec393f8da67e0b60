"""Database servers that go away and come back: our error at once, then work goes on where it was."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.db import DatabaseError, connection, connections, transaction

from django_tasks.backends.orm import ORMBackend
from django_tasks.brokers.base import Beat, Settlement, Verb, new_lease
from django_tasks.brokers.orm import ORMBroker
from django_tasks.exceptions import OperationalError
from django_tasks.message import Message
from django_tasks.models import QueuedMessage, TaskResult
from django_tasks.outcome import Outcome, TaskMeta
from django_tasks.states import SUCCESS
from tests import databases
from tests.brokers.hands import ACCEPT, Hand, message, rescue, send
from tests.servers import SERVERS, MariaDB, PostgreSQL
from tests.threads import meanwhile
from tests.waiting import wait_for

pytestmark = pytest.mark.skipif("connection.vendor == 'sqlite'", reason="SQLite has no server")

ALIAS = "private"


@pytest.fixture(scope="module")
def private_server(django_db_blocker: Any) -> Iterator[PostgreSQL | MariaDB]:
    """A server that a test may kill, of the kind that the tests run on, with our tables in it."""
    server: Any = SERVERS[databases.name_from_environment()]()
    maintenance = {"postgresql": "postgres", "mysql": "mysql"}[connection.vendor]
    with contextlib.ExitStack() as stack:
        stack.enter_context(server)
        stack.enter_context(django_db_blocker.unblock())
        connections.settings[ALIAS] = connection.settings_dict | databases.settings_of(server.url(maintenance))
        stack.callback(forget_alias)
        with connections[ALIAS].cursor() as cursor:
            cursor.execute("CREATE DATABASE main")
        connections[ALIAS].close()
        connections.settings[ALIAS]["NAME"] = "main"
        call_command("migrate", "django_tasks", database=ALIAS, verbosity=0)
        yield server


def forget_alias() -> None:
    connections[ALIAS].close()
    del connections[ALIAS]
    del connections.settings[ALIAS]


@pytest.fixture
def server(private_server: PostgreSQL | MariaDB) -> Iterator[PostgreSQL | MariaDB]:
    """The server, running and with empty tables."""
    for model in (QueuedMessage, TaskResult):
        model._default_manager.using(ALIAS).all().delete()
    yield private_server
    connections[ALIAS].close()
    if private_server.process is None or private_server.process.poll() is not None:
        private_server.start()


@pytest.fixture
def broker(server: PostgreSQL | MariaDB) -> ORMBroker:
    return ORMBroker(f"django-db://{ALIAS}", accept=ACCEPT)


@pytest.fixture
def backend(server: PostgreSQL | MariaDB) -> ORMBackend:
    return ORMBackend(f"django-db://{ALIAS}", accept=ACCEPT)


def insist(call: Callable[[], Any]) -> Any:
    """Call again as a worker does while the server is away; any error but ours fails the test."""

    def attempt() -> tuple[Any] | None:
        try:
            return (call(),)
        except OperationalError:
            return None

    return wait_for(attempt, timeout=20, message="the server to be back")[0]


def outcome_of(hand: Hand) -> Outcome:
    [delivery] = hand.take(1)
    meta = TaskMeta(delivery.message.id, SUCCESS, name="task", worker=hand.identity)
    return Outcome(delivery.message, SUCCESS, "1", meta=meta, settlement=Settlement(delivery, Verb.ACK))


def test_everything_says_that_the_server_is_away(
    broker: ORMBroker, backend: ORMBackend, server: PostgreSQL | MariaDB, wakeup: tuple[int, int]
) -> None:
    hand = Hand(broker)
    send(broker, "1")
    outcome = outcome_of(hand)
    assert outcome.settlement is not None
    settlement, control = outcome.settlement, broker.control
    server.kill()
    calls: dict[str, Callable[[], Any]] = {
        "send": lambda: send(broker, "2"),
        "reserve": hand.take,
        "settle": lambda: broker.settle([settlement]),
        "confirm": lambda: broker.confirm([settlement]),
        "finish": lambda: broker.finish(backend, [outcome], lambda outcome: []),
        "heartbeat": hand.beat,
        "rescue": lambda: rescue(broker, "somebody"),
        "sizes": broker.sizes,
        "goodbye": lambda: broker.goodbye(["worker"]),
        "take": lambda: control.take(["1"], new_lease()),
        "orders": lambda: control.orders(0),
        "give_order": lambda: control.give_order("pause", "", {}),
        "get": lambda: backend.get(["1"]),
        "store": lambda: backend.store([TaskMeta("1", SUCCESS)]),
        "forget": lambda: backend.forget(["1"]),
        "prune": lambda: backend.prune(10),
    }
    if connection.vendor == "postgresql":  # elsewhere a wait asks nobody
        calls["wait"] = lambda: [broker.wait(["celery"], 0.01, wakeup[0]) for _ in range(2)]
    for name, call in calls.items():
        for _ in range(2):  # on the connection that broke, then on a new one
            began = time.monotonic()
            with pytest.raises(OperationalError, match=f"Database '{ALIAS}'"):
                pytest.fail(f"{name} returned {call()!r}")
            assert time.monotonic() - began < 2, f"{name} took too long to say so"


@pytest.mark.parametrize("how", ["kill", "restart"])
def test_work_goes_on_after_a_restart(
    broker: ORMBroker, backend: ORMBackend, server: PostgreSQL | MariaDB, how: str
) -> None:
    hand = Hand(broker)
    send(broker, "1", "2")
    outcome = outcome_of(hand)
    if how == "kill":
        server.kill()
        server.start()
    else:
        server.restart()
    insist(lambda: send(broker, "3"))
    insist(hand.beat)
    assert insist(lambda: broker.finish(backend, [outcome], lambda each: [message("after 1")])) == [outcome]
    assert insist(hand.ids) == ["2", "3", "after 1"]
    assert list(backend.get(["1"])) == ["1"]


def test_an_outage_in_the_middle_of_finishing(
    broker: ORMBroker, backend: ORMBackend, server: PostgreSQL | MariaDB
) -> None:
    """The server dies when the message is deleted and the result stored, but nothing is committed."""
    hand = Hand(broker)
    send(broker, "1")
    outcome = outcome_of(hand)

    def follow(outcome: Outcome) -> list[Message]:
        server.kill()
        return [message("after 1")]

    with pytest.raises(OperationalError):
        broker.finish(backend, [outcome], follow)
    server.start()
    assert insist(lambda: backend.get(["1"])) == {}
    assert broker.sizes()["celery"].reserved == 1
    assert broker.finish(backend, [outcome], lambda each: [message("after 1")]) == [outcome]
    assert hand.ids() == ["after 1"]


def test_nothing_is_tried_again_inside_the_callers_transaction(broker: ORMBroker, server: PostgreSQL | MariaDB) -> None:
    """What came before in it is lost: to send on a new connection would send what was rolled back."""
    with contextlib.suppress(DatabaseError, OperationalError), transaction.atomic(using=ALIAS):
        send(broker, "1")
        server.kill()
        server.start()
        for number in range(3):
            with pytest.raises((OperationalError, DatabaseError)):
                send(broker, str(number))
    assert insist(broker.sizes) == {}
    send(broker, "2")
    assert broker.sizes()["celery"].waiting == 1


def test_a_waiting_worker_notices_and_comes_back(
    broker: ORMBroker, server: PostgreSQL | MariaDB, wakeup: tuple[int, int]
) -> None:
    ready: list[str] = []

    def worker() -> list[str]:
        hand = Hand(broker)
        deadline = time.monotonic() + 50
        while time.monotonic() < deadline:
            with contextlib.suppress(OperationalError):
                if ids := hand.ids():
                    return ids
                ready.append("looked")
                broker.wait(["celery"], 30, wakeup[0])
        return []

    with meanwhile(worker) as future:
        wait_for(lambda: len(ready) > 1)
        server.kill()
        server.start()
        insist(lambda: send(broker, "1"))
        assert future.result(40) == ["1"]


def test_the_outage_of_others_is_no_death(broker: ORMBroker, server: PostgreSQL | MariaDB) -> None:
    """The first janitor that finds the server again must not take over what the others hold."""
    times = [time.time()]
    broker.clock = lambda: times[0]
    broker.heartbeat([Beat("janitor", "node", 1), Beat("neighbour", "node", 2)])
    send(broker, "1")
    other = ORMBroker(f"django-db://{ALIAS}", accept=ACCEPT)
    other.clock = broker.clock
    hand = Hand(other, "far away")
    hand.beat()
    [delivery] = hand.take()
    server.kill()
    times[0] += 2 * broker.lease
    with pytest.raises(OperationalError):
        rescue(broker)
    server.start()
    insist(lambda: broker.heartbeat([Beat("janitor", "node", 1)]))
    assert rescue(broker) == []
    assert hand.settle(delivery, Verb.ACK)
