"""Results in this process, for tests and for trying things out."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, ClassVar

from django_tasks.backends.base import ResultBackend
from django_tasks.outcome import TaskMeta


class MemoryBackend(ResultBackend):
    """Results in a dict (``memory://``)."""

    supports_fencing: ClassVar[bool] = True

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self.metas: dict[str, TaskMeta] = {}
        self.lock = threading.Lock()

    def store(self, metas: Sequence[TaskMeta]) -> list[TaskMeta]:
        """Keep the first end of each task."""
        winners = []
        with self.lock:
            for meta in metas:
                known = self.metas.get(meta.task_id)
                winner = known if known is not None and known.ready else meta
                self.metas[meta.task_id] = winner
                winners.append(winner)
        return winners

    def get(self, task_ids: Sequence[str]) -> dict[str, TaskMeta]:
        """Look up ids."""
        return {task_id: self.metas[task_id] for task_id in task_ids if task_id in self.metas}

    def forget(self, task_ids: Sequence[str]) -> None:
        """Remove ids."""
        for task_id in task_ids:
            self.metas.pop(task_id, None)

    def prune(self, limit: int) -> int:
        """Remove what ended longer ago than ``expires``."""
        if self.expires is None:
            return 0
        oldest = datetime.now(timezone.utc) - timedelta(seconds=self.expires)
        expired = [m.task_id for m in list(self.metas.values()) if m.ready and m.date_done and m.date_done < oldest]
        self.forget(expired[:limit])
        return len(expired[:limit])
