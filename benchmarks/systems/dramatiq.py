"""Dramatiq on Redis, without Django. Its default is eight threads a process."""

from __future__ import annotations

import sys

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from benchmarks.systems import work
from benchmarks.systems.redis_store import URL, RedisSystem

broker = RedisBroker(url=URL)
broker.add_middleware(Results(backend=RedisBackend(url=URL)))
dramatiq.set_broker(broker)
noop = dramatiq.actor(work.noop, store_results=True)
stamp = dramatiq.actor(work.stamp, store_results=True)


class Dramatiq(RedisSystem):
    """Its groups send their messages one by one, so there is no bulk."""

    has_get = True

    def enqueue(self) -> None:
        noop.send()

    def stamp(self, sent: float) -> None:
        stamp.send(sent)

    def get_stamp(self, sent: float) -> None:
        stamp.send(sent).get_result(block=True)

    def worker(self, processes: int) -> list[list[str]]:
        return [[sys.executable, "-m", "dramatiq", "benchmarks.systems.dramatiq", "--processes", str(processes)]]


SYSTEM = Dramatiq()
