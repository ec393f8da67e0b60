"""django-celeriac, this project."""

from __future__ import annotations

import os
import random
import threading
import time

from django.conf import settings
from django.db import connections

from benchmarks.idleness import Run
from benchmarks.systems import work
from benchmarks.systems.base import DJANGO, System
from benchmarks.systems.redis_store import RedisSystem
from django_tasks import current_app, shared_task
from django_tasks.models import TaskResult

noop = shared_task(name="noop")(work.noop)
stamp = shared_task(name="stamp")(work.stamp)
for number in range(int(os.environ.get("BENCH_REGISTERED", "0"))):
    shared_task(name=f"another{number}")(work.noop)
spend = shared_task(name="spend")(work.spend)

#: The mixed load: this many tasks of so many seconds, in random order, every ``BURST_EVERY`` seconds.
BURST = [0.0] * 9 + [0.001] * 9 + [0.050] * 2
BURST_EVERY = 0.1


class Celeriac(System):
    """Messages and results in the project's database, which is the default, or on Redis."""

    bulk_size = 10_000
    has_get = True

    def enqueue(self) -> None:
        noop.delay()

    def enqueue_bulk(self, count: int) -> None:
        noop.delay_many([()] * count)

    def delay(self, count: int) -> None:
        """Send many tasks that are not due before tomorrow."""
        noop.delay_many([()] * count, countdown=24 * 60 * 60)

    def stamp(self, sent: float) -> None:
        stamp.delay(sent)

    def get_stamp(self, sent: float) -> None:
        stamp.delay(sent).get()

    def finished(self) -> int:
        return int(TaskResult.objects.filter(status="SUCCESS").count())

    def worker(self, processes: int) -> list[list[str]]:
        return [[*DJANGO, "runworker", "-c", str(processes), "-l", "WARNING"]]

    def mixed(self, seconds: float) -> list[Run]:
        """Send a mixed load; return what became of each task, with when its result could be read."""
        pending: dict[str, float] = {}
        producer = threading.Thread(target=_produce, args=(seconds, pending))
        producer.start()
        runs: list[Run] = []
        deadline = time.monotonic() + seconds + 30
        while producer.is_alive() or pending:
            metas = current_app.backend.get(list(pending))
            seen = time.time()
            for task_id, meta in metas.items():
                runs.append(Run(pending.pop(task_id), *current_app.backend.decode(meta), seen))
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(pending)} tasks of the mixed load have no result after {seconds + 30} s")
            time.sleep(0.001)
        return runs


def _produce(seconds: float, pending: dict[str, float]) -> None:
    """Send bursts for a while, and note when each task was sent."""
    chance = random.Random(1)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        begun = time.monotonic()
        for duration in chance.sample(BURST, len(BURST)):
            pending[spend.delay(duration).id] = time.time()
        time.sleep(max(0.0, begun + BURST_EVERY - time.monotonic()))
    connections.close_all()


class OnRedis(RedisSystem, Celeriac):
    """Results expire on Redis, as Celery's do."""

    def empty(self) -> None:
        """Throw all messages and results away."""
        self.client.flushdb()

    def server_seconds(self) -> float:
        """Return what the server tells of itself."""
        told = self.client.info("cpu")
        return float(told["used_cpu_user"] + told["used_cpu_sys"])


SYSTEM = OnRedis() if settings.ON_REDIS else Celeriac()
