"""What ours and Celery do alike in a farm: the task, and who sends it. It imports neither Celery nor our package."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from chaos import record

QUEUE = "mixed"


def define(task: Callable[..., Any]) -> Any:
    """Make the task with the ``task`` of an app of Celery's or of ours."""

    @task(name="farm.work", bind=True)
    def work(self: Any, seconds: float) -> None:
        node = self.request.hostname.partition("@")[0]
        record.write("start", self.request.id, node)
        time.sleep(seconds)
        record.write("end", self.request.id, node)

    return work


def send(work: Any, arguments: Sequence[str]) -> None:
    """Send tasks one by one, and write down which of them were acknowledged.

    Who is held up sends the next ones at once, until all is as if it had not been: so two systems are sent the same.

    Args:
        work: the task.
        arguments: how many, the seconds that each takes, and the seconds between two of them.
    """
    number, seconds, pause = int(arguments[0]), float(arguments[1]), float(arguments[2])
    begin = time.monotonic()
    for place in range(number):
        time.sleep(max(0.0, begin + place * pause - time.monotonic()))
        task_id = str(uuid.uuid4())
        record.write("sending", task_id)
        try:
            work.apply_async((seconds,), task_id=task_id)
        except Exception as exc:
            record.write("unsure", task_id, type(exc).__name__)
        else:
            record.write("sent", task_id)
