"""What the product has stored, read without it: ends of tasks, messages that are left, dead letters."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from typing import Any, Protocol

import orjson

#: What an end is: state and result.
End = tuple[str, object]
#: Keys of Redis read at a time.
PAGE = 1000


class Tables(Protocol):
    """What an audit asks for."""

    def ends(self, newest: int | None = None) -> dict[str, End]:
        """Return how tasks have ended, by id; at least those of the newest, if only they are wanted."""

    def left(self) -> list[str]:
        """Return the ids of messages that are still there, dead letters aside."""

    def dead(self) -> set[str]:
        """Return the ids of dead letters."""


class SQLTables:
    """On a database."""

    def ends(self, newest: int | None = None) -> dict[str, End]:
        """Return how tasks have ended."""
        from django_tasks import states
        from django_tasks.models import TaskResult

        rows = TaskResult.objects.filter(status__in=states.READY_STATES).order_by("-date_done")
        return {task_id: (status, result) for task_id, status, result in rows.values_list(*_FIELDS)[:newest]}

    def left(self) -> list[str]:
        """Return what is still there, in an outbox, too."""
        from django_tasks.models import QueuedMessage

        return list(QueuedMessage.objects.exclude(status=QueuedMessage.DEAD).values_list("task_id", flat=True))

    def dead(self) -> set[str]:
        """Return the dead letters."""
        from django_tasks.models import QueuedMessage

        return set(QueuedMessage.objects.filter(status=QueuedMessage.DEAD).values_list("task_id", flat=True))


_FIELDS = ("task_id", "status", "result")


class RedisTables:
    """On Redis, with the outbox in the database.

    Args:
        url: of the server itself, whatever stands between it and the workers.
    """

    def __init__(self, url: str) -> None:
        import redis

        self.client: Any = redis.Redis.from_url(url, socket_timeout=2)

    def ends(self, newest: int | None = None) -> dict[str, End]:
        """Return how tasks have ended: of all of them, since there is no order among keys."""
        from django_tasks import states

        found: dict[str, End] = {}
        keys = self.client.scan_iter("celery-task-meta-*", count=PAGE)
        while page := list(islice(keys, PAGE)):
            metas = (orjson.loads(value) for value in self.client.mget(page) if value is not None)
            found |= {
                meta["task_id"]: (meta["status"], meta["result"])
                for meta in metas
                if meta["status"] in states.READY_STATES
            }
        return found

    def left(self) -> list[str]:
        """Return what is on lists, in inboxes, delayed, or in somebody's hands, and what is in the outbox."""
        # Twice, since what moves between two keys meanwhile may be seen in neither.
        found = {_task_id(envelope) for _ in range(2) for envelope in self._envelopes()}
        return [*found, *SQLTables().left()]

    def dead(self) -> set[str]:
        """Return the dead letters."""
        keys = self.client.scan_iter("{*}.dead", count=PAGE)
        return {_task_id(value.partition(b"\n")[2]) for key in keys for value in self.client.hvals(key)}

    def _envelopes(self) -> Iterator[bytes]:
        for key in list(self.client.scan_iter("celery*", count=PAGE, _type="list")):
            yield from self.client.lrange(key, 0, -1)
        for key in list(self.client.scan_iter("{*}.inbox.*", count=PAGE)):
            yield from self.client.lrange(key, 0, -1)
        for key in list(self.client.scan_iter("{*}.delayed", count=PAGE)):
            yield from self.client.zrange(key, 0, -1)
        for key in list(self.client.scan_iter("{*}.held.*", count=PAGE)):
            yield from (value.partition(b"\n")[2] for value in self.client.hvals(key))


def _task_id(envelope: bytes) -> str:
    return str(orjson.loads(envelope)["headers"]["id"])


def tables() -> Tables:
    """Return those of this scenario."""
    return RedisTables(os.environ["CHAOS_REDIS_URL"]) if "CHAOS_REDIS_URL" in os.environ else SQLTables()
