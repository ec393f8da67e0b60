"""RQ, without Django. SimpleWorker runs jobs in its own process; the default forks for each of them."""

from __future__ import annotations

import sys

from rq import Queue

from benchmarks.systems import work
from benchmarks.systems.redis_store import URL, RedisSystem


class RQ(RedisSystem):
    """One process is one worker."""

    bulk_size = 10_000
    has_get = True

    def __init__(self) -> None:
        super().__init__()
        self.queue = Queue(connection=self.client)

    def enqueue(self) -> None:
        self.queue.enqueue(work.noop)

    def enqueue_bulk(self, count: int) -> None:
        self.queue.enqueue_many([Queue.prepare_data(work.noop) for _ in range(count)])

    def stamp(self, sent: float) -> None:
        self.queue.enqueue(work.stamp, sent)

    def get_stamp(self, sent: float) -> None:
        self.queue.enqueue(work.stamp, sent).latest_result(timeout=10)

    def finished(self) -> int:
        return int(self.client.zcard(self.queue.finished_job_registry.key))

    def worker(self, processes: int) -> list[list[str]]:
        command = [sys.executable, "-m", "rq.cli", "worker", "--url", URL, "--quiet", "-w", "rq.worker.SimpleWorker"]
        return [command] * processes


SYSTEM = RQ()
