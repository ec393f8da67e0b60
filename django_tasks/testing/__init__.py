"""Help for the tests of projects: a queue that runs when the test says so, and a worker in a thread.

Names are loaded at their first use: pytest imports this package at its start, before Django is set up.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django_tasks.testing.install import TaskTestMixin as TaskTestMixin
    from django_tasks.testing.install import task_queue as task_queue
    from django_tasks.testing.queue import DeadLetter as DeadLetter
    from django_tasks.testing.queue import TaskQueue as TaskQueue
    from django_tasks.testing.worker import TaskWorker as TaskWorker
    from django_tasks.testing.worker import task_worker as task_worker

_HOME = {
    "DeadLetter": "queue",
    "TaskQueue": "queue",
    "TaskTestMixin": "install",
    "TaskWorker": "worker",
    "task_queue": "install",
    "task_worker": "worker",
}
__all__ = ["DeadLetter", "TaskQueue", "TaskTestMixin", "TaskWorker", "task_queue", "task_worker"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
