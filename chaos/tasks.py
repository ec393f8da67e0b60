"""What the workers of a chaos run do."""

from __future__ import annotations

import os
import signal
import time
import uuid
from typing import Any

from chaos import record
from django_tasks import shared_task


@shared_task(bind=True)
def work(self: Any, seconds: float = 0.0) -> str:
    """Take that long; return another value at each run, so that a result that changes is seen."""
    record.write("start", self.request.id, os.getpid())
    time.sleep(seconds)
    record.write("end", self.request.id, os.getpid())
    return uuid.uuid4().hex


@shared_task(bind=True, max_retries=5)
def second_try(self: Any) -> str:
    """Succeed at the second run."""
    record.write("start", self.request.id, os.getpid())
    if self.request.retries == 0:
        raise self.retry(countdown=0.5)
    return uuid.uuid4().hex


@shared_task
def linked(value: str, parent: str) -> None:
    """Follow another task."""
    record.write("linked", parent)


@shared_task(bind=True)
def poison(self: Any) -> None:
    """Kill the process that runs this."""
    record.write("start", self.request.id, os.getpid())
    os.kill(os.getpid(), signal.SIGKILL)
