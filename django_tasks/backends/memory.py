"""Results in this process, for tests and for trying things out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, ClassVar

from django_tasks.backends.base import ResultBackend, utc_now
from django_tasks.outcome import TaskMeta


class MemoryBackend(ResultBackend):
    """Results in a dict (``memory://``)."""

    kept_here: ClassVar[tuple[str, ...]] = ("metas", "lock", "clock")

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self.metas: dict[str, TaskMeta] = {}
        self.lock = threading.Lock()
        self.clock: Callable[[], float] = time.time

    def store(self, metas: Sequence[TaskMeta]) -> list[TaskMeta]:
        """Keep the first end of each task."""
        winners = []
        with self.lock:
            for meta in metas:
                known = self.metas.get(meta.task_id)
                if known is not None and known.ready:
                    winners.append(replace(known))
                else:
                    # A copy: what the caller does to it later is not stored.
                    self.metas[meta.task_id] = replace(meta)
                    winners.append(meta)
        return winners

    def get(self, task_ids: Sequence[str]) -> dict[str, TaskMeta]:
        """Look up ids."""
        with self.lock:
            return {task_id: replace(self.metas[task_id]) for task_id in task_ids if task_id in self.metas}

    def forget(self, task_ids: Sequence[str]) -> None:
        """Remove ids."""
        for task_id in task_ids:
            self.metas.pop(task_id, None)

    def latest(self, *, state: str = "", queue: str = "", task: str = "", limit: int) -> list[TaskMeta]:
        """Look through all that is kept, by the age of its first state."""
        metas = reversed(list(self.metas.values()))
        wanted = [m for m in metas if state in ("", m.status) and queue in ("", m.queue) and task in ("", m.name)]
        return wanted[:limit]

    def prune(self, limit: int) -> int:
        """Remove what ended longer ago than ``expires``."""
        if self.expires is None:
            return 0
        oldest = utc_now(self.clock()) - timedelta(seconds=self.expires)
        expired = [m.task_id for m in list(self.metas.values()) if m.ready and m.date_done and m.date_done < oldest]
        self.forget(expired[:limit])
        return len(expired[:limit])
