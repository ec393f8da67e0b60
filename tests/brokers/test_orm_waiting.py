"""How an idle worker on a database hears of messages. Waits are long: who is not woken fails by a shorter deadline."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import wait as wait_for_futures
from datetime import datetime, timezone
from functools import partial

import pytest
from django.db import connection, connections, transaction

from django_tasks.brokers import base, orm_wait
from django_tasks.brokers.base import Verb, new_lease
from django_tasks.brokers.orm import ORMBroker
from django_tasks.brokers.orm_wait import LONGEST_LOOK, SHORTEST_LOOK
from django_tasks.exceptions import OperationalError
from tests.brokers.hands import Clock, Hand, make_orm, rescue, send
from tests.tables import our_tables
from tests.threads import elsewhere, meanwhile

pytestmark = our_tables

#: Seconds that a worker waits, and within which it has to be woken.
WAIT, WOKEN = 60.0, 20.0

needs_postgresql = pytest.mark.skipif("connection.vendor != 'postgresql'", reason="only PostgreSQL notifies")


class Sleeper:
    """A worker on a connection of its own that has found nothing and waits, once."""

    def __init__(self, broker: ORMBroker, wakeup: int) -> None:
        self.broker = broker
        self.wakeup = wakeup
        self.waiting = threading.Event()

    def __call__(self) -> list[str]:
        hand = Hand(self.broker, "sleeper")
        assert hand.ids() == []
        self.broker.wait(hand.queues, 0.01, self.wakeup)  # it listens from here on
        assert hand.ids() == []
        self.waiting.set()
        self.broker.wait(hand.queues, WAIT, self.wakeup)
        return hand.ids()

    def until_it_sleeps(self) -> None:
        assert self.waiting.wait(WOKEN)


def has_ended(future: Future[list[str]]) -> bool:
    return bool(wait_for_futures([future], WOKEN).done)


@pytest.fixture
def sleeper(orm: ORMBroker, wakeup: tuple[int, int]) -> Sleeper:
    return Sleeper(orm, wakeup[0])


def test_woken_by_a_message(orm: ORMBroker, sleeper: Sleeper) -> None:
    with meanwhile(sleeper) as future:
        sleeper.until_it_sleeps()
        send(orm, "1")
        assert has_ended(future)
    if connection.vendor != "mysql":  # who has to ask may have asked just before
        assert future.result() == ["1"]


def test_woken_by_the_pipe(sleeper: Sleeper, wakeup: tuple[int, int]) -> None:
    with meanwhile(sleeper) as future:
        sleeper.until_it_sleeps()
        os.write(wakeup[1], b"x")
        assert has_ended(future)
    assert future.result() == []


@needs_postgresql
def test_woken_by_the_commit_and_not_before(orm: ORMBroker, sleeper: Sleeper) -> None:
    with meanwhile(sleeper) as future:
        sleeper.until_it_sleeps()
        with transaction.atomic():
            send(orm, "1")
            assert not future.done()
        assert has_ended(future)
    assert future.result() == ["1"]


@needs_postgresql
@pytest.mark.parametrize("how", ["returned", "due", "known"])
def test_woken_by_whatever_becomes_ready(orm: ORMBroker, sleeper: Sleeper, clock: Clock, how: str) -> None:
    send(orm, "1")
    hand = Hand(orm)
    [delivery] = hand.take()
    if how == "due":
        hand.settle(delivery, Verb.RETURN, delay=30)
    with meanwhile(sleeper) as future:
        sleeper.until_it_sleeps()
        if how == "returned":
            hand.settle(delivery, Verb.RETURN)
        elif how == "due":
            clock.advance(31)
            rescue(orm)
        else:
            clock.advance(11)
            hand.leases = frozenset()
            hand.beat()
        assert has_ended(future)
    assert future.result() == ["1"]


@needs_postgresql
def test_nobody_is_woken_for_later(orm: ORMBroker, sleeper: Sleeper, wakeup: tuple[int, int]) -> None:
    """A delayed message wakes workers when it is due. (The pipe ends the wait, and nothing did before it.)"""
    with meanwhile(sleeper) as future:
        sleeper.until_it_sleeps()
        send(orm, "1", eta=datetime.fromtimestamp(orm.now() + 3600, timezone.utc))
        assert not wait_for_futures([future], 0.3).done
        os.write(wakeup[1], b"x")
        assert has_ended(future)


@pytest.mark.skipif("connection.vendor == 'mysql'", reason="MariaDB has to be asked")
@pytest.mark.parametrize("listening", [True, False], ids=["second wait", "first wait"])
def test_what_comes_between_a_reserve_and_the_wait_is_not_missed(
    orm: ORMBroker, wakeup: tuple[int, int], listening: bool
) -> None:
    hand, other = Hand(orm), make_orm(Clock())
    if listening:
        hand.take()
        orm.wait(hand.queues, 0.01, wakeup[0])
    for number in range(3):
        assert hand.ids() == []
        elsewhere(partial(send, other, str(number)))
        orm.sizes()  # on PostgreSQL the notification comes with the answer to another statement
        with EndedByPipe(lambda: orm.wait(hand.queues, WAIT, wakeup[0]), wakeup) as pipe_was_needed:
            assert not pipe_was_needed()
        assert hand.ids() == [str(number)]


class EndedByPipe:
    """Run a wait in this thread; another one writes to the wake-up pipe at the deadline."""

    def __init__(self, wait: Callable[[], None], wakeup: tuple[int, int]) -> None:
        self.wait = wait
        self.late = False
        self.timer = threading.Timer(WOKEN, self.end, [wakeup[1]])

    def end(self, writing: int) -> None:
        self.late = True
        os.write(writing, b"x")

    def __enter__(self) -> Callable[[], bool]:
        self.timer.start()
        self.wait()
        self.timer.cancel()
        return lambda: self.late

    def __exit__(self, *_: object) -> None:
        self.timer.join()


def test_behind_a_pooler_it_asks(sleeper: Sleeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``DISABLE_SERVER_SIDE_CURSORS`` there may be a pooler that drops notifications: waits are short then."""
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has no pooler")
    monkeypatch.setitem(connection.settings_dict, "DISABLE_SERVER_SIDE_CURSORS", True)
    with meanwhile(sleeper) as future:
        sleeper.until_it_sleeps()
        assert has_ended(future)
    assert future.result() == []


@pytest.mark.skipif("connection.vendor != 'sqlite'", reason="the others do not look at a counter")
def test_on_sqlite_it_looks_often_after_a_message(
    orm: ORMBroker, wakeup: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    def readable(descriptors: list[int], seconds: float) -> list[int]:
        pauses.append(seconds)
        return base.readable(descriptors, seconds)

    def wait(seconds: float) -> list[float]:
        assert hand.ids() == []
        pauses.clear()
        orm.wait(hand.queues, seconds, wakeup[0])
        return pauses[:-1]  # the last one has no more time than is left

    monkeypatch.setattr(orm_wait, "readable", readable)
    hand = Hand(orm)
    looks = wait(1.0)
    assert looks[0] == SHORTEST_LOOK
    assert looks == sorted(looks)
    assert wait(0.3)[0] == LONGEST_LOOK
    send(orm, "1")
    assert hand.ids() == ["1"]
    assert wait(0.1)[0] == SHORTEST_LOOK


@needs_postgresql
def test_a_new_connection_listens_again(orm: ORMBroker, sleeper: Sleeper) -> None:
    def lose_connection_then_sleep() -> list[str]:
        hand = Hand(orm, "sleeper")
        hand.take()
        orm.wait(hand.queues, 0.01, sleeper.wakeup)
        connections["default"].close()
        return sleeper()

    with meanwhile(lose_connection_then_sleep) as future:
        sleeper.until_it_sleeps()
        send(orm, "1")
        assert has_ended(future)
    assert future.result() == ["1"]


@needs_postgresql
def test_a_connection_that_somebody_else_closed(orm: ORMBroker, wakeup: tuple[int, int]) -> None:
    """A task may close the driver's connection under our hands: our error, not the driver's, and then a new one."""
    hand = Hand(orm)
    hand.take()
    orm.wait(hand.queues, 0.01, wakeup[0])
    connection.connection.close()
    with pytest.raises(OperationalError):
        orm.wait(hand.queues, 1, wakeup[0])
    orm.wait(hand.queues, 0.01, wakeup[0])
    assert orm.reserve("worker", ["celery"], 1, new_lease()) == []


def test_waits_take_descriptors_of_any_number(orm: ORMBroker, wakeup: tuple[int, int]) -> None:
    """``select()`` takes none above 1023, and a task may leave that many files open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 1300:
        pytest.skip("this system allows too few open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1300), hard))
    high = os.dup2(wakeup[0], 1200)
    try:
        Hand(orm).take()
        orm.wait(["celery"], 0.01, high)
        os.write(wakeup[1], b"x")
        orm.wait(["celery"], WAIT, high)
        with pytest.raises(BlockingIOError):
            os.read(wakeup[0], 1)
    finally:
        os.close(high)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
