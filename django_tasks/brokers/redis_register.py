"""What belongs to no list on Redis: which queues there are, and which workers, for those who look.

{_django_tasks}.queues    set: names of all queues that one of us has sent to or served
{_django_tasks}.workers   hash: identity -> JSON: node, pid, queues, tasks run, paused, last sign of life; a later
                          version may add to it
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import orjson

from django_tasks.brokers.base import Beat
from django_tasks.brokers.browse import SeenWorker
from django_tasks.brokers.redis_lists import Lists
from django_tasks.redis_connections import RedisConnections, Script

#: Seconds between looks for queues that others have begun.
QUEUES_AGE = 5.0
_WRITE = Script(Path(__file__).with_name("lua"), "register")


class Register:
    """The common keys.

    Args:
        connections: to the server.
        lists: names of keys.
    """

    def __init__(self, connections: RedisConnections, lists: Lists) -> None:
        self.connections = connections
        self._queues_key = f"{lists.common}queues"
        self._workers_key = f"{lists.common}workers"
        self._noted: set[str] = set()
        self._known: list[str] = []
        self._looked_at: float | None = None

    def note(self, queues: Iterable[str]) -> None:
        """Write down those queues that this process has not yet."""
        new = set(queues).difference(self._noted)
        if new:
            self._write(sorted(new), {})
            self._noted |= new

    def queues(self) -> list[str]:
        """Return the names of all queues."""
        found = self.connections.run(lambda client: client.smembers(self._queues_key))
        self._known = sorted(name.decode() for name in found)
        self._looked_at = time.monotonic()
        return self._known

    def known_queues(self, age: float = QUEUES_AGE) -> list[str]:
        """Return them as they were ``age`` seconds ago at most, and those of this process."""
        if self._looked_at is None or time.monotonic() - self._looked_at > age:
            self.queues()
        missing = self._noted.difference(self._known)
        return sorted({*self._known, *missing}) if missing else self._known

    def beat(self, beats: Sequence[Beat], now: float) -> None:
        """Write down who lives, and which queues are served, in case somebody lost them."""
        rows = {
            each.identity: orjson.dumps([each.node, each.pid, list(each.queues), each.processed, each.paused, now])
            for each in beats
        }
        self._write(sorted({queue for each in beats for queue in each.queues}), rows)

    def _write(self, queues: Sequence[str], rows: Mapping[str, bytes]) -> None:
        keys, values = [self._queues_key, self._workers_key], chain.from_iterable(rows.items())
        self.connections.execute(_WRITE, keys, [len(queues), *queues, *values])

    def remove(self, identities: Sequence[str]) -> None:
        """Forget workers."""
        self.connections.run(lambda client: client.hdel(self._workers_key, *identities))

    def forget_silent(self, since: float) -> None:
        """Forget workers without a sign of life since then."""
        silent = [identity for identity, row in self._rows() if row[5] < since]
        if silent:
            self.remove(silent)

    def workers(self, now: float, lease: float) -> list[SeenWorker]:
        """Return all workers that are written down, by node."""
        seen = []
        for identity, (node, pid, queues, processed, paused, at, *_) in self._rows():
            age = max(0.0, now - at)
            # Heartbeats come six times in the time of a lease.
            seen.append(
                SeenWorker(identity, node, pid, queues, age, age <= lease, processed, age > lease / 3, bool(paused))
            )
        return sorted(seen, key=lambda each: (each.node, each.identity))

    def _rows(self) -> list[tuple[str, list[Any]]]:
        found = self.connections.run(lambda client: client.hgetall(self._workers_key))
        return [(identity.decode(), orjson.loads(row)) for identity, row in found.items()]
