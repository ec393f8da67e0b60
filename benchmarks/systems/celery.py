"""Celery on Redis, in a Django project: it sets Django up by itself. The variant is its pool."""

from __future__ import annotations

import os
import sys

from celery import Celery, group

from benchmarks.systems import work
from benchmarks.systems.redis_store import URL, RedisSystem

POOL = os.environ["BENCH_VARIANT"]

app = Celery("benchmarks", broker=URL, backend=URL)
app.conf.worker_prefetch_multiplier = 100  # its guide to optimizing: 50 or 150 for many short tasks
noop = app.task(name="noop")(work.noop)
stamp = app.task(name="stamp")(work.stamp)


class CelerySystem(RedisSystem):
    """Only prefork has several processes; of the others there are several workers."""

    bulk_size = 1_000  # a group sends them one by one
    has_get = True

    def enqueue(self) -> None:
        noop.delay()

    def enqueue_bulk(self, count: int) -> None:
        group(noop.s() for _ in range(count)).apply_async()

    def stamp(self, sent: float) -> None:
        stamp.delay(sent)

    def get_stamp(self, sent: float) -> None:
        stamp.delay(sent).get()

    def worker(self, processes: int) -> list[list[str]]:
        command = [sys.executable, "-m", "celery", "-A", "benchmarks.systems.celery", "worker", "-l", "WARNING"]
        if POOL == "prefork":
            return [[*command, "-P", POOL, "-c", str(processes)]]
        threads = ["-c", "10"] if POOL == "threads" else []
        return [[*command, "-P", POOL, *threads, "-n", f"worker{number}@%h"] for number in range(processes)]


SYSTEM = CelerySystem()
