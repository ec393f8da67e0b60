"""Running tasks without processes: real brokers, the worker's own executor, at the time that the test says."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django_tasks import App, current
from django_tasks.brokers.base import Delivery, deliver, new_lease
from django_tasks.brokers.browse import DELAYED, WAITING, Wanted
from django_tasks.brokers.memory import MemoryBroker
from django_tasks.brokers.redis import RedisBroker
from django_tasks.executor import Executor
from django_tasks.finish import finish
from django_tasks.message import Message
from django_tasks.models import QueuedMessage
from django_tasks.outcome import Outcome
from django_tasks.registry import tasks
from django_tasks.serialization import content_types

NODE = "test@localhost"


@contextmanager
def app_of_test(url: str = "memory://", **settings: Any) -> Iterator[App]:
    """Return a new app that is the current one; afterwards the current app and all tasks are what they were."""
    known, previous = {name: (task, dict(vars(task))) for name, task in tasks.items()}, current.find_current_app()
    settings = {"broker": url, "backend": url, **settings}
    try:
        yield App("tests", **settings)
    finally:
        tasks.clear()
        for name, (task, attributes) in known.items():
            tasks[name] = task
            task.__dict__.clear()
            task.__dict__.update(attributes)
        current.set_current_app(previous)


def reserve(app: App, limit: int = 100) -> list[Delivery]:
    """Take what is due from all queues."""
    app.broker.rescue(app.broker.now(), NODE, new_lease())
    return app.broker.reserve(NODE, sorted(app.broker.sizes()) or ["celery"], limit, new_lease())


def drain(app: App, **options: Any) -> list[Outcome]:
    """Run what is due, and what follows from it, until nothing is left; return all outcomes in order.

    Args:
        options: of the executor.
    """
    executor = Executor(app, hostname=NODE, **options)
    outcomes: list[Outcome] = []
    while deliveries := reserve(app, 1):
        outcome = executor.run(deliveries[0])
        finish(app, [outcome])
        outcomes.append(outcome)
        assert len(outcomes) < 1000, f"no end in sight: {outcomes[-1].message}"
    return outcomes


def waiting(app: App) -> list[Message]:
    """Return the messages of all queues, due or not; the most urgent first where that can be told."""
    if isinstance(app.broker, MemoryBroker):
        entries = sorted(app.broker.free(), key=lambda entry: (-entry.priority, entry.number))
        rows = [(entry.payload, entry.queue) for entry in entries]
    elif isinstance(app.broker, RedisBroker):
        found = app.broker.browser.messages(Wanted(states=(WAITING, DELAYED)), 1000, payload=True)
        rows = [(each.payload, each.queue) for each in reversed(found)]
    else:
        held = (QueuedMessage.RESERVED, QueuedMessage.DEAD)
        stored = QueuedMessage.objects.exclude(status__in=held).order_by("ranking", "id")
        rows = list(stored.values_list("payload", "queue"))
    accept = content_types(["json", "pickle"])
    return [deliver(payload, accept, queue, None, 0).message for payload, queue in rows]


def message_of(app: App) -> Message:
    """Return the one message that there is."""
    (message,) = waiting(app)
    return message


def advance(app: App, seconds: float) -> None:
    """Move the broker's clock ahead."""
    app.broker.heartbeat([])  # compares its clock with its server's, now and not when they differ
    clock = app.broker.clock
    app.broker.clock = lambda: clock() + seconds


def seconds_from_now(instant: Any) -> float:
    """Return the seconds until an aware instant."""
    return float(instant.timestamp() - time.time())
