"""A worker in a thread of the test's process, for tests whose browser waits for what a task does."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from django_tasks.backends.memory import MemoryBackend
from django_tasks.current import get_current_app
from django_tasks.executor import Executor
from django_tasks.testing.assertions import describe
from django_tasks.testing.parts import QueueBroker, installed, make_backend, make_broker
from django_tasks.testing.queue import NODE
from django_tasks.worker.process import take_seat
from django_tasks.worker.shared import Page
from django_tasks.worker.slot import Slot

if TYPE_CHECKING:
    from django_tasks.app import App

#: Seconds between two looks at the queue, and those that a running task has when the test is over.
LOOK, PATIENCE = 0.01, 10.0


class TaskWorker:
    """A worker with one slot, in a thread; ``task_worker()`` makes one.

    Args:
        app: the app whose calls it runs.
        broker: where it takes them from.
    """

    def __init__(self, app: App, broker: QueueBroker) -> None:
        self._broker = broker
        self._page = Page(1)
        seat = self._page.seats[0]
        take_seat(seat, NODE, os.getpid())
        self._stopping = threading.Event()
        self._error: BaseException | None = None
        self._slot = Slot(
            app, seat, Executor(app, hostname=NODE), (), stopping=self._stopping.is_set, giving_up=self._stopping.is_set
        )  # fmt: skip
        self._slot.idle_wait = LOOK
        self._thread = threading.Thread(target=self._run, name="task-worker", daemon=True)
        self._shared = {each.alias: each for each in connections.all() if _is_in_memory(each)}

    def join(self, timeout: float = 10.0) -> None:
        """Wait until it has run all that is due; calls of a later time are left.

        Args:
            timeout: seconds to wait.

        Raises:
            AssertionError: there was still something to do; says what.
            RuntimeError: the worker itself has failed, not a task.
        """
        deadline = time.monotonic() + timeout
        while due := self._due():
            self._raise_error()
            if time.monotonic() > deadline:
                raise AssertionError(f"After {timeout:g} s the task worker was not done with:{due}")
            time.sleep(LOOK)

    def _due(self) -> str:
        now = self._broker.now()
        with self._broker.lock:
            entries = [e for e in self._broker.entries.values() if e.reason is None and e.due_at <= now]
            return "".join(f"\n  {describe(self._broker.message(entry))}" for entry in entries)

    def start(self) -> None:
        """Begin to work."""
        for connection in self._shared.values():
            connection.inc_thread_sharing()
        self._thread.start()

    def stop(self) -> None:
        """Begin nothing more, and wait for the running task.

        Raises:
            AssertionError: it did not end in time.
            RuntimeError: the worker itself has failed, not a task.
        """
        self._stopping.set()
        self._thread.join(PATIENCE)
        for connection in self._shared.values():
            connection.dec_thread_sharing()
        if self._thread.is_alive():
            running = self._slot.seat.running
            raise AssertionError(f"Task {running} still runs {PATIENCE:g} s after its test; end the test with join()")
        self._raise_error()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise RuntimeError("The task worker of this test has failed and runs nothing more") from self._error

    def _run(self) -> None:
        # A database in memory has one connection, which Django's live server shares in the same way.
        for alias, connection in self._shared.items():
            connections[alias] = connection
        reading, writing = os.pipe()
        try:
            self._slot.loop(reading)
        except BaseException as exc:
            self._error = exc
        finally:
            connections.close_all()
            os.close(reading)
            os.close(writing)


@contextmanager
def task_worker(app: App | None = None) -> Iterator[TaskWorker]:
    """Run a worker in a thread, over a broker and a result backend in memory; a context manager, or a decorator.

    The worker sees what is committed only: use it in a ``LiveServerTestCase`` or a ``TransactionTestCase``.

    Args:
        app: the app whose calls it runs; the current one by default.
    """
    app = app or get_current_app()
    broker = make_broker(app)
    with installed(app, broker, make_backend(app, MemoryBackend)):
        worker = TaskWorker(app, broker)
        worker.start()
        try:
            yield worker
        finally:
            worker.stop()


def _is_in_memory(connection: BaseDatabaseWrapper) -> bool:
    return connection.vendor == "sqlite" and bool(connection.is_in_memory_db())
