"""Many connections at once: no message is taken twice, none is lost, and nobody hears of a lock."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from functools import partial
from itertools import count

import pytest

from django_tasks.backends.orm import ORMBackend
from django_tasks.brokers.base import Delivery, Settlement, Verb
from django_tasks.brokers.orm import ORMBroker
from django_tasks.message import Message
from django_tasks.models import QueuedMessage, TaskResult
from django_tasks.outcome import Outcome, TaskMeta
from django_tasks.states import SUCCESS
from tests.brokers.hands import ACCEPT, Clock, Hand, make_orm, message, pass_time, rescue, send
from tests.processes import environment
from tests.tables import our_tables
from tests.threads import together

pytestmark = our_tables

#: Workers at a time.
WORKERS = 4


def take_all(broker: ORMBroker, name: str, limit: int) -> list[str]:
    """Reserve until nothing is left, without settling anything."""
    hand = Hand(broker, name, queues=("a", "b"))
    taken: list[str] = []
    misses = 0
    while misses < 20:
        some = hand.ids(limit)
        taken += some
        misses = 0 if some else misses + 1
    return taken


@pytest.mark.parametrize("shared", [True, False], ids=["one broker for all threads", "a broker for each"])
@pytest.mark.parametrize("limit", [1, 7])
def test_threads_never_take_one_message_twice(clock: Clock, shared: bool, limit: int) -> None:
    broker = make_orm(clock)
    ids = [str(number) for number in range(60 * limit)]
    send(broker, *ids[::2], queue="a")
    send(broker, *ids[1::2], queue="b")
    brokers = [broker if shared else make_orm(clock) for _ in range(WORKERS)]
    taken = together(*(partial(take_all, each, f"worker {n}", limit) for n, each in enumerate(brokers)))
    assert sorted(each for some in taken for each in some) == sorted(ids)


def test_processes_never_take_one_message_twice(orm: ORMBroker) -> None:
    ids = [str(number) for number in range(500)]
    send(orm, *ids[::2], queue="a")
    send(orm, *ids[1::2], queue="b")
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.brokers.take_all", f"worker {number}"],
            env=environment({}), stdout=subprocess.PIPE, text=True,
        )
        for number in range(3)
    ]  # fmt: skip
    taken = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sorted(each for some in taken for each in some) == sorted(ids)
    assert QueuedMessage.objects.filter(status=QueuedMessage.RESERVED).count() == len(ids)


def work(broker: ORMBroker, name: str, stop: threading.Event, ran: list[str]) -> None:
    """Do what a worker does, until told to stop: take some, give one in five back, finish the others."""
    backend = ORMBackend("django-db://", accept=ACCEPT)
    hand = Hand(broker, name)

    def follow(outcome: Outcome) -> list[Message]:
        task_id = outcome.message.id
        return [] if task_id.startswith("after") else [message(f"after {task_id}")]

    for number in count():
        deliveries = hand.take(5)
        if not deliveries and stop.is_set():
            return
        back = deliveries[:1] if number % 5 == 0 else []
        outcomes = [outcome_of(delivery, name) for delivery in deliveries[len(back) :]]
        assert broker.settle([Settlement(delivery, Verb.RETURN) for delivery in back]) == []
        assert broker.finish(backend, outcomes, follow) == outcomes
        ran += [outcome.message.id for outcome in outcomes]
        hand.beat()


def outcome_of(delivery: Delivery, worker: str) -> Outcome:
    meta = TaskMeta(delivery.message.id, SUCCESS, name="task", worker=worker)
    return Outcome(delivery.message, SUCCESS, "1", meta=meta, settlement=Settlement(delivery, Verb.ACK))


def test_workers_producers_and_a_janitor_at_once(clock: Clock) -> None:
    """Everything that writes, at the same time, in transactions of several statements: nothing fails or gets lost."""
    stop = threading.Event()
    ran: list[list[str]] = [[] for _ in range(3)]

    def produce() -> None:
        broker = make_orm(clock)
        try:
            for number in range(0, 90, 3):
                send(broker, *(str(number + n) for n in range(3)))
                rescue(broker)
        finally:
            stop.set()

    together(produce, *(partial(work, make_orm(clock), f"worker {n}", stop, ran[n]) for n in range(3)))
    expected = [str(number) for number in range(90)]
    expected += [f"after {each}" for each in expected]
    assert Counter(each for some in ran for each in some) == Counter(expected)
    assert QueuedMessage.objects.count() == 0
    assert TaskResult.objects.filter(status=SUCCESS).count() == len(expected)


def test_four_threads_that_write_hear_of_no_lock(clock: Clock) -> None:
    def write(name: str) -> None:
        broker = make_orm(clock)
        backend = ORMBackend("django-db://", accept=ACCEPT)
        for number in range(60):
            send(broker, f"{name} {number}", queue=name)
            backend.store([TaskMeta(f"{name} {number}", SUCCESS), TaskMeta("everybody's", "PROGRESS")])

    together(*(partial(write, f"writer {number}") for number in range(4)))
    assert QueuedMessage.objects.count() == 240
    assert TaskResult.objects.count() == 241


def test_two_janitors_rescue_each_message_once(clock: Clock) -> None:
    first, *brokers = (make_orm(clock) for _ in range(4))
    ids = [str(number) for number in range(300)]
    send(first, *ids)
    hand = Hand(first)
    hand.take(1000)
    hand.beat()
    pass_time(first, first.lease + 1)

    def janitor(broker: ORMBroker, name: str) -> list[str]:
        rescued = []
        while orphans := rescue(broker, janitor=name):
            assert broker.settle([Settlement(each, Verb.RETURN, died=True) for each in orphans]) == []
            rescued += [each.message.id for each in orphans]
        return rescued

    for number, broker in enumerate(brokers):
        Hand(broker, f"janitor {number}").beat()
    rescued = together(*(partial(janitor, each, f"janitor {n}") for n, each in enumerate(brokers)))
    assert sorted(each for some in rescued for each in some) == sorted(ids)
    alone = QueuedMessage.objects.filter(status=QueuedMessage.ALONE, alone=True, redelivered=True, deaths=0)
    assert alone.count() == len(ids)


def test_a_frozen_worker_that_thaws_during_its_rescue(clock: Clock) -> None:
    """Either it finishes its task, or the janitor has it: never both."""
    broker, other = make_orm(clock), make_orm(clock)
    backend = ORMBackend("django-db://", accept=ACCEPT)
    for _ in range(20):
        QueuedMessage.objects.all().delete()
        TaskResult.objects.all().delete()
        send(broker, *map(str, range(4)))
        hand = Hand(broker)
        outcomes = [outcome_of(delivery, "worker") for delivery in hand.take()]
        hand.beat()
        pass_time(broker, broker.lease + 1)

        def thaw(outcomes: list[Outcome] = outcomes) -> list[str]:
            return [outcome.message.id for outcome in broker.finish(backend, outcomes, lambda outcome: [])]

        def janitor() -> list[str]:
            return [each.message.id for each in rescue(other, janitor="other janitor")]

        finished, rescued = together(thaw, janitor)
        assert sorted(finished + rescued) == ["0", "1", "2", "3"]
        assert sorted(TaskResult.objects.values_list("task_id", flat=True)) == sorted(finished)


def test_a_message_is_either_taken_back_or_run(clock: Clock) -> None:
    broker = make_orm(clock)
    ids = [str(number) for number in range(40)]
    send(broker, *ids, queue="a")

    def take_back() -> list[str]:
        control = make_orm(clock).control
        return [each.message.id for number in ids for each in control.take([number], 1 + int(number))]

    revoked, taken = together(take_back, partial(take_all, make_orm(clock), "worker", 1))
    assert sorted(revoked + taken) == sorted(ids)
