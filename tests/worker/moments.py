"""Receivers of a worker's own signals, which write what they hear into a file (``settings.MOMENTS``)."""

from __future__ import annotations

from typing import Any

from django.conf import settings

from django_tasks import shared_task, signals
from tests.worker.jobs import write


@signals.worker_init.connect
@signals.worker_process_init.connect
@signals.worker_ready.connect
@signals.worker_shutting_down.connect
@signals.worker_process_shutdown.connect
@signals.worker_shutdown.connect
def note(signal: Any, **_: Any) -> None:
    write(settings.MOMENTS, signal.name)


@signals.celeryd_init.connect
def configure(signal: Any, sender: str, conf: Any, **_: Any) -> None:
    """Change what the settings say, as the example in Celery's documentation does."""
    note(signal)
    if sender == "special@host":
        conf.worker_concurrency = 3
        conf.worker_max_tasks_per_child = 1
        conf.task_default_rate_limit = "1/h"


@shared_task
def limited(path: str) -> None:
    write(path, "ran")
