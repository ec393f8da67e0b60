"""``python -m chaos.producer``: sends tasks until it is killed."""

from __future__ import annotations

import os
import random
import time
import uuid

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "chaos.settings"
django.setup()

from chaos import record, tasks  # noqa: E402 - Django has to be set up first
from django_tasks.exceptions import OperationalError  # noqa: E402

#: How often each kind is sent.
WEIGHTS = {"short": 70, "middle": 10, "long": 0.3, "delayed": 8, "retried": 5, "linked": 5, "poison": 0.15}


def send(kind: str, task_id: str) -> None:
    """Send one task of a kind."""
    if kind == "short":
        tasks.work.apply_async((0,), task_id=task_id)
    elif kind == "middle":
        tasks.work.apply_async((random.uniform(0.001, 0.08),), task_id=task_id)
    elif kind == "long":
        tasks.work.apply_async((random.uniform(0.3, 1.2) * float(os.environ["CHAOS_LEASE"]),), task_id=task_id)
    elif kind == "delayed":
        tasks.work.apply_async((0,), task_id=task_id, countdown=random.uniform(0.5, 8))
    elif kind == "retried":
        tasks.second_try.apply_async(task_id=task_id)
    elif kind == "linked":
        tasks.work.apply_async((0,), task_id=task_id, link=tasks.linked.s(task_id))
    else:
        tasks.poison.apply_async(task_id=task_id)


def main() -> None:
    """Send at random until killed."""
    while True:
        kind = random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        task_id = str(uuid.uuid4())
        record.write("sending", task_id, kind)
        try:
            send(kind, task_id)
        except OperationalError:
            record.write("unsure", task_id, kind)
        else:
            record.write("sent", task_id, kind)
        time.sleep(random.expovariate(float(os.environ["CHAOS_RATE"])))


if __name__ == "__main__":
    main()
