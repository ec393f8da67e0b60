"""arq, without Django."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from arq import create_pool
from arq.connections import ArqRedis, RedisSettings
from arq.constants import default_queue_name

from benchmarks.systems import work
from benchmarks.systems.redis_store import URL, RedisSystem

SETTINGS = RedisSettings.from_dsn(URL)
#: It logs two lines a job otherwise.
QUIET = {"version": 1, "disable_existing_loggers": False}


async def noop(_: Any) -> int:
    return work.noop()


async def stamp(_: Any, sent: float) -> float:
    return work.stamp(sent)


class WorkerSettings:
    """What its worker reads."""

    functions = (noop, stamp)
    redis_settings = SETTINGS


class Arq(RedisSystem):
    """A job that has ended has left the queue, in the transaction that stores its result."""

    has_get = True
    pool: ArqRedis

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.sent = 0

    def prepare(self) -> None:
        self.pool = self.loop.run_until_complete(create_pool(SETTINGS))

    def enqueue_some(self, count: int) -> None:
        async def send() -> None:
            for _ in range(count):
                await self.pool.enqueue_job("noop")

        self.loop.run_until_complete(send())
        self.sent += count

    def stamp(self, sent: float) -> None:
        self.loop.run_until_complete(self.pool.enqueue_job("stamp", sent))
        self.sent += 1

    def get_stamp(self, sent: float) -> None:
        async def get() -> None:
            job = await self.pool.enqueue_job("stamp", sent)
            assert job is not None
            await job.result()

        self.loop.run_until_complete(get())
        self.sent += 1

    def finished(self) -> int:
        return self.sent - int(self.client.zcard(default_queue_name))

    def worker(self, processes: int) -> list[list[str]]:
        command = [sys.executable, "-m", "arq", "benchmarks.systems.arq.WorkerSettings"]
        return [[*command, "--custom-log-dict", "benchmarks.systems.arq.QUIET"]] * processes


SYSTEM = Arq()
