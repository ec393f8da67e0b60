"""Results in one of Django's caches, under Celery's keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from django.core.cache import caches

from django_tasks.backends.base import ResultBackend
from django_tasks.conf import parse_url
from django_tasks.outcome import TaskMeta
from django_tasks.serialization import Encoded

KEY_PREFIX = "celery-task-meta-"


class CacheBackend(ResultBackend):
    """Results in the cache ``django-cache://alias`` (``default`` when no alias is given).

    A cache cannot compare and set, so of two ends of one task that are stored in the same instant the later may stay;
    and a cache may drop a result before its time.
    """

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self.alias = parse_url(url)[1] or "default"

    def store(self, metas: Sequence[TaskMeta]) -> list[TaskMeta]:
        """Write what has not ended yet, all in one call of the cache."""
        known = self.get([meta.task_id for meta in metas])
        winners: dict[str, TaskMeta] = {task_id: meta for task_id, meta in known.items() if meta.ready}
        fresh: dict[str, Any] = {}
        result = []
        for meta in metas:
            winner = winners.setdefault(meta.task_id, meta) if meta.ready else winners.get(meta.task_id, meta)
            if winner is meta:
                fresh[KEY_PREFIX + meta.task_id] = asdict(meta)
            result.append(winner)
        if fresh:
            caches[self.alias].set_many(fresh, timeout=self.expires)
        return result

    def get(self, task_ids: Sequence[str]) -> dict[str, TaskMeta]:
        """Read ids in one call of the cache."""
        found = caches[self.alias].get_many([KEY_PREFIX + task_id for task_id in task_ids])
        return {data["task_id"]: _from_dict(data) for data in found.values()}

    def forget(self, task_ids: Sequence[str]) -> None:
        """Delete ids."""
        caches[self.alias].delete_many([KEY_PREFIX + task_id for task_id in task_ids])

    def close(self) -> None:
        """Close the cache's connections."""
        caches[self.alias].close()


def _from_dict(data: dict[str, Any]) -> TaskMeta:
    meta = TaskMeta(**data)
    if meta.result is not None:
        meta.result = Encoded(*meta.result)
    return meta
