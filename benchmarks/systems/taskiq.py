"""taskiq with the broker that taskiq-redis recommends, without Django."""

from __future__ import annotations

import asyncio
import sys

from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from benchmarks.systems import work
from benchmarks.systems.redis_store import URL, RedisSystem

DAY = 24 * 60 * 60
broker = RedisStreamBroker(url=URL).with_result_backend(RedisAsyncResultBackend(redis_url=URL, result_ex_time=DAY))


@broker.task
async def noop() -> int:
    return work.noop()


@broker.task
async def stamp(sent: float) -> float:
    return work.stamp(sent)


class Taskiq(RedisSystem):
    """Sends from a loop that runs as long as something is sent."""

    has_get = True

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()

    def prepare(self) -> None:
        self.loop.run_until_complete(broker.startup())

    def enqueue_some(self, count: int) -> None:
        async def send() -> None:
            for _ in range(count):
                await noop.kiq()

        self.loop.run_until_complete(send())

    def stamp(self, sent: float) -> None:
        self.loop.run_until_complete(stamp.kiq(sent))

    def get_stamp(self, sent: float) -> None:
        async def get() -> None:
            await (await stamp.kiq(sent)).wait_result()

        self.loop.run_until_complete(get())

    def worker(self, processes: int) -> list[list[str]]:
        command = [sys.executable, "-m", "taskiq", "worker", "benchmarks.systems.taskiq:broker"]
        return [[*command, "--workers", str(processes), "--log-level", "WARNING"]]


SYSTEM = Taskiq()
