"""What the tests of brokers work with: brokers of each kind, a clock that stands still, a hand that takes messages."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from django_tasks.brokers.base import Beat, Broker, Delivery, Settlement, Verb, new_lease
from django_tasks.brokers.memory import MemoryBroker
from django_tasks.brokers.orm import ORMBroker
from django_tasks.brokers.redis import RedisBroker
from django_tasks.message import Message
from django_tasks.serialization import content_types

ACCEPT = content_types(["json"])


class Clock:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Hand:
    """A worker, as far as a broker sees one: it takes messages and settles them.

    Attributes:
        leases: of the reserves whose messages it still has.
    """

    broker: Broker
    identity: str = "worker"
    queues: Sequence[str] = ("celery",)
    leases: frozenset[int] = frozenset()

    def take(self, limit: int = 100, queues: Sequence[str] | None = None) -> list[Delivery]:
        """Reserve; the lease is listed from before that on."""
        lease = new_lease()
        self.leases |= {lease}
        return self.broker.reserve(self.identity, queues or self.queues, limit, lease)

    def ids(self, limit: int = 100, queues: Sequence[str] | None = None) -> list[str]:
        """Take and return task ids only."""
        return [delivery.message.id for delivery in self.take(limit, queues)]

    def settle(self, delivery: Delivery, verb: Verb, **options: Any) -> bool:
        """Settle one; return whether the lease still held."""
        return not self.broker.settle([Settlement(delivery, verb, **options)])

    def beat(self) -> None:
        self.broker.heartbeat([Beat(self.identity, "node@host", os.getpid(), self.queues, self.leases)])


@dataclass(frozen=True)
class Kind:
    """A broker under test.

    Attributes:
        takes_turns: a reserve begins with another queue each time; else the oldest message of all queues comes first.
        shared: other connections see the messages.
        by_number: the highest priority is the most urgent; else, as in Celery on Redis, the lowest, in steps.
        exact_places: what is given back singly has its old place again; else it comes next.
        remembers_ends: for some minutes it knows what followed from something, also when that has ended.
        readable: bodies are stored as plain text.
    """

    name: str
    make: Callable[..., Broker]
    takes_turns: bool
    shared: bool
    by_number: bool = True
    exact_places: bool = True
    remembers_ends: bool = False
    readable: bool = True


def make_memory(clock: Callable[[], float], **options: Any) -> Broker:
    broker = MemoryBroker("memory://", accept=ACCEPT, **options)
    broker.clock = clock
    return broker


def make_orm(clock: Callable[[], float], **options: Any) -> ORMBroker:
    broker = ORMBroker("django-db://", accept=ACCEPT, **options)
    broker.clock = clock
    broker.server_clock.keep_set(clock)  # from here on its time moves with the clock only
    return broker


def make_redis(clock: Callable[[], float], url: str, **options: Any) -> RedisBroker:
    broker = RedisBroker(url, accept=ACCEPT, **options)
    broker.clock = clock
    broker.server_clock.keep_set(clock)
    return broker


def redis_kind(url: str) -> Kind:
    """Return the broker on Redis at ``url``."""
    return Kind("redis", partial(make_redis, url=url), takes_turns=True, shared=True, by_number=False,
                exact_places=False, remembers_ends=True, readable=False)  # fmt: skip


MEMORY = Kind("memory", make_memory, takes_turns=False, shared=False)
ORM = Kind("orm", make_orm, takes_turns=True, shared=True)


def message(id: str = "id", task: str = "task", **fields: Any) -> Message:
    return Message(task, id, **fields)


def send(broker: Broker, *ids: str, **fields: Any) -> None:
    """Send one message for each id."""
    broker.send([message(each, **fields) for each in ids])


def rescue(broker: Broker, *dead: str, janitor: str = "janitor") -> list[Delivery]:
    """Do what a janitor does in each round."""
    return broker.rescue(broker.now(), janitor, new_lease(), dead)


def pass_time(broker: Broker, seconds: float, *alive: Hand) -> None:
    """Let time go by while some workers, and always a janitor, show that they live."""
    clock: Any = broker.clock
    step = broker.lease / 6
    while seconds > 0:
        clock.advance(min(step, seconds))
        seconds -= step
        for hand in (Hand(broker, "janitor"), *alive):
            hand.beat()
