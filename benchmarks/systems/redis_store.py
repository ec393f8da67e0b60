"""What systems on Redis alone have in common."""

from __future__ import annotations

import os

from redis import Redis

from benchmarks.systems.base import System

URL = os.environ["BENCH_DATABASE_URL"]


class RedisSystem(System):
    """Has no tables, and keeps results as keys that expire."""

    def __init__(self) -> None:
        self.client = Redis.from_url(URL)

    def prepare(self) -> None:
        """Nothing."""

    def finished(self) -> int:
        """Return how many keys have a time to live."""
        name = f"db{URL.rpartition('/')[2]}"
        return int(self.client.info("keyspace").get(name, {}).get("expires", 0))
