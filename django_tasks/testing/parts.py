"""The broker and the result backend that tests use, and how an app comes to use them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django_tasks.app import App
from django_tasks.backends.memory import MemoryBackend
from django_tasks.brokers.base import Delivery, deliver
from django_tasks.brokers.memory import Entry, MemoryBroker
from django_tasks.conf import parse_url
from django_tasks.message import Message
from django_tasks.outcome import TaskMeta
from django_tasks.parts import Part
from django_tasks.serialization import content_types

URL = "memory://tests"


class QueueBroker(MemoryBroker):
    """A memory broker that remembers what was sent, and whose one worker looks at all queues."""

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        #: All that was ever sent, retries included.
        self.sent: list[Entry] = []

    def send(self, messages: Sequence[Message]) -> None:
        """Store the messages."""
        with self.lock:
            known = len(self.entries)
            super().send(messages)
            self.sent += list(self.entries.values())[known:]

    def reserve(self, worker: str, queues: Sequence[str], limit: int, lease: int) -> list[Delivery]:
        """Take ready entries of any queue, whatever ``queues`` says."""
        with self.lock:
            return super().reserve(worker, list({entry.queue for entry in self.entries.values()}), limit, lease)

    def message(self, entry: Entry) -> Message:
        """Return the message of an entry as a worker gets it."""
        return deliver(entry.payload, self.accept, entry.queue, entry.number, 0).message


class QueueBackend(MemoryBackend):
    """A memory backend where nobody waits for a task: it runs when the test says so, or not at all."""

    def check_wait(self) -> None:
        """Raise, as waiting cannot end."""
        raise RuntimeError(
            "get() cannot wait here: the task has not run, and nothing runs until the test says so. "
            "Call run() of the task queue before get(); advance() if the task has a countdown, an eta or retries."
        )

    def wait(self, task_ids: Sequence[str], timeout: float | None, interval: float | None) -> Iterator[TaskMeta]:
        """Yield the metas of tasks that have ended; raise for others, whatever ``timeout`` says."""
        ended = {task_id: meta for task_id, meta in self.get(task_ids).items() if meta.ready}
        yield from ended.values()
        if len(ended) < len(set(task_ids)):
            self.check_wait()


def make_broker(app: App) -> QueueBroker:
    """Make a broker that takes from the app's settings what a real one does."""
    conf = app.conf
    return QueueBroker(
        URL, accept=content_types(conf.accept_content), max_size=conf.task_max_message_size, lease=conf.worker_lease
    )


def make_backend(app: App, kind: type[MemoryBackend]) -> MemoryBackend:
    """Make a result backend of a kind, from the app's settings."""
    conf = app.conf
    accept = content_types([*(conf.result_accept_content or conf.accept_content), conf.result_serializer])
    return kind(URL, serializer=conf.result_serializer, accept=accept, expires=conf.result_expires or None)


@contextmanager
def installed(app: App, broker: MemoryBroker, backend: MemoryBackend) -> Iterator[None]:
    """Let an app use these, whatever its settings say, until the block ends.

    An app without result backend has none here either. ``TASK_ALWAYS_EAGER`` is off: what is called is sent. So is
    ``TASK_OUTBOX``, since this broker is never away, and the test may have no database.
    """
    conf, made = app.conf, app._parts.made
    changes: dict[str, Any] = {"broker_url": broker.url, "task_always_eager": False, "task_outbox": False}
    parts = {"broker": Part(broker)}
    if parse_url(conf.result_backend).scheme != "disabled":
        changes["result_backend"] = backend.url
        parts["backend"] = Part(backend)
    overridden = {name: conf._overrides[name] for name in changes if name in conf._overrides}
    replaced = {name: made[name] for name in parts if name in made}
    conf.update(changes)
    made.update(parts)
    try:
        yield
    finally:
        for name in changes:
            conf._overrides.pop(name, None)
        for name in parts:
            made.pop(name, None)
        conf.update(overridden)
        made.update(replaced)
        conf._forget()
