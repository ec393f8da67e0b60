"""``python -m chaos.producer``: sends tasks until it is killed."""

from __future__ import annotations

import os
import random
import time
import uuid
from collections.abc import Callable

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "chaos.settings"
django.setup()

from django.db import DatabaseError, connection, transaction  # noqa: E402 - Django has to be set up first

from chaos import record, tasks  # noqa: E402 - as above
from chaos.models import Entry  # noqa: E402 - as above
from django_tasks.exceptions import OperationalError  # noqa: E402 - as above

LEASE = float(os.environ.get("CHAOS_LEASE", "3"))


def short(task_id: str) -> None:
    """Send a task that takes no time."""
    tasks.work.apply_async((0,), task_id=task_id)


def middle(task_id: str) -> None:
    """Send a task that ends at once, or after the batch that it is in would be given back."""
    tasks.work.apply_async((random.uniform(0.001, 0.15),), task_id=task_id)


def long(task_id: str) -> None:
    """Send a task that may take longer than a lease, if that is short: else all slots would soon be taken."""
    tasks.work.apply_async((random.uniform(0.3, 1.2) * min(LEASE, 4.0),), task_id=task_id)


def delayed(task_id: str) -> None:
    """Send a task that is due in a while."""
    countdown = random.uniform(0.5, 8)
    record.write("sending", task_id, "delayed", due=time.time() + countdown)
    tasks.work.apply_async((0,), task_id=task_id, countdown=countdown)


def retried(task_id: str) -> None:
    """Send a task that has to run twice."""
    tasks.second_try.apply_async(task_id=task_id)


def linked(task_id: str) -> None:
    """Send a task that another one follows."""
    tasks.work.apply_async((0,), task_id=task_id, link=tasks.linked.s(task_id))


def once(task_id: str) -> None:
    """Send a task that may not run twice."""
    tasks.at_most_once.apply_async(task_id=task_id)


def atomic(task_id: str) -> None:
    """Send a task and write an entry, both or neither."""
    with transaction.atomic():
        Entry.objects.create(task_id=task_id)
        tasks.work.apply_async((0,), task_id=task_id)


def rolled_back(task_id: str) -> None:
    """Send a task and think better of it."""
    with transaction.atomic():
        tasks.work.apply_async((0,), task_id=task_id)
        transaction.set_rollback(True)


def poison(task_id: str) -> None:
    """Send a task that kills its worker."""
    tasks.poison.apply_async(task_id=task_id)


#: What is sent, and how often.
KINDS: dict[Callable[[str], None], float] = {
    short: 65, middle: 8, long: 0.3, delayed: 7, retried: 5, linked: 5, once: 4, atomic: 4, rolled_back: 2,
    poison: 0.15,
}  # fmt: skip


def main() -> None:
    """Send at random until killed."""
    while True:
        send = random.choices(list(KINDS), list(KINDS.values()))[0]
        task_id = str(uuid.uuid4())
        record.write("sending", task_id, send.__name__)
        try:
            send(task_id)
        except (OperationalError, DatabaseError):
            record.write("unsure", task_id, send.__name__)
            connection.close()
        else:
            record.write("dropped" if send is rolled_back else "sent", task_id, send.__name__)
        time.sleep(random.expovariate(float(os.environ["CHAOS_RATE"])))


if __name__ == "__main__":
    main()
