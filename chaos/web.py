"""``python -m chaos.web``: a web process that reads, writes and sends a task in each request, until SIGTERM."""

from __future__ import annotations

import os
import random
import signal
import time

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "chaos.settings"
django.setup()

from django.db import transaction  # noqa: E402 - Django has to be set up first

from chaos import record  # noqa: E402 - as above
from chaos.models import Entry  # noqa: E402 - as above
from chaos.tasks import write  # noqa: E402 - as above
from django_tasks import AsyncResult  # noqa: E402 - as above


@transaction.atomic
def request(earlier: list[str]) -> None:
    """Do what a view does under ``ATOMIC_REQUESTS``: read first, then write, send, and look at earlier results."""
    count = Entry.objects.count()
    Entry.objects.create(task_id=f"request {count % 1000}")
    earlier.append(write.delay().id)
    for task_id in random.sample(earlier, min(3, len(earlier))):
        AsyncResult(task_id).state  # noqa: B018 - reading it asks the database


def main() -> None:
    """Answer requests until SIGTERM."""
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopping.append(number))
    earlier: list[str] = []
    while not stopping:
        begin = time.monotonic()
        try:
            request(earlier)
        except Exception as exc:
            record.write("error", "", repr(exc).replace("\n", " ").replace("\t", " "))
        else:
            record.write("request", "", f"{time.monotonic() - begin:.6f}")
        time.sleep(random.expovariate(1 / float(os.environ["CHAOS_PAUSE"])))


if __name__ == "__main__":
    main()
