"""What the workers of a scenario do."""

from __future__ import annotations

import ctypes
import os
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import transaction

from chaos import record
from chaos.models import Entry
from django_tasks import shared_task, signals
from django_tasks.current import get_current_app


@contextmanager
def recorded(request: Any) -> Iterator[None]:
    """Write down when the run of a task begins and ends, and where."""
    run = f"{os.getpid()}/{request.retries}/{request.hostname}"
    record.write("start", request.id, run)
    try:
        yield
    finally:
        record.write("end", request.id, run)


@shared_task(bind=True)
def work(self: Any, seconds: float = 0.0) -> str:
    """Take that long; return another value at each run, so that a result that changes is seen."""
    with recorded(self.request):
        time.sleep(seconds)
    return uuid.uuid4().hex


@shared_task(bind=True)
def hold_the_interpreter(self: Any, seconds: float) -> None:
    """Take that long in a library that lets no other thread of the process run."""
    with recorded(self.request):
        ctypes.PyDLL(None).usleep(int(seconds * 1e6))


@shared_task(bind=True, acks_late=False)
def at_most_once(self: Any) -> str:
    """Never run twice."""
    with recorded(self.request):
        time.sleep(0.01)
    return uuid.uuid4().hex


@shared_task(bind=True, max_retries=5)
def second_try(self: Any) -> str:
    """Succeed at the second run."""
    with recorded(self.request):
        if self.request.retries == 0:
            raise self.retry(countdown=0.5)
    return uuid.uuid4().hex


@shared_task(bind=True)
def linked(self: Any, value: str, parent: str) -> None:
    """Follow another task."""
    with recorded(self.request):
        record.write("linked", parent, self.request.id)


@shared_task(bind=True)
def poison(self: Any) -> None:
    """Kill the process that runs this."""
    with recorded(self.request):
        os.kill(os.getpid(), signal.SIGKILL)


@shared_task
@transaction.atomic
def write() -> int:
    """Read first, then write, as most tasks do."""
    count = Entry.objects.count()
    Entry.objects.create(task_id=f"task {count % 1000}")
    return count


@shared_task(ignore_result=True)
def nothing() -> None:
    """Do nothing."""


@signals.worker_process_init.connect
def time_claims(**_: Any) -> None:
    """Write down how long each claim takes that brings something, where a scenario wants to know."""
    if "CHAOS_TIME_CLAIMS" not in os.environ:
        return
    broker: Any = get_current_app().broker
    reserve = broker.reserve

    def timed(*arguments: Any) -> Any:
        begin = time.perf_counter()
        deliveries = reserve(*arguments)
        if deliveries:
            record.write("claim", f"{time.perf_counter() - begin:.6f}", str(len(deliveries)))
        return deliveries

    broker.reserve = timed
