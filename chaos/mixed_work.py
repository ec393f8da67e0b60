"""The task of the scenario ``mixed``, made by either side's decorator; it imports neither Celery nor our package."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

QUEUE = "mixed"


def define(task: Callable[..., Any], side: str) -> Any:
    """Make the task.

    Args:
        task: the ``task`` of an app of Celery's or of ours.
        side: who runs it, for the record.
    """

    @task(name="mixed.work", bind=True)
    def work(self: Any, seconds: float) -> None:
        _write(f"start {side} {self.request.id}")
        time.sleep(seconds)
        _write(f"end {side} {self.request.id}")

    return work


def _write(line: str) -> None:
    # A single write to a file opened for appending is not torn by a kill.
    descriptor = os.open(os.environ["CHAOS_RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)
