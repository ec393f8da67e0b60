"""Putting a task queue in the place of broker and result backend for the time of a test."""

from __future__ import annotations

import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from django_tasks.current import get_current_app
from django_tasks.testing.clock import Clock
from django_tasks.testing.parts import QueueBackend, installed, make_backend, make_broker
from django_tasks.testing.queue import TaskQueue

if TYPE_CHECKING:
    from django_tasks.app import App


@contextmanager
def task_queue(app: App | None = None) -> Iterator[TaskQueue]:
    """Let calls wait in memory until the test runs them; a context manager, or a decorator.

    ::

        with task_queue() as tasks:
            add.delay(2, 3)
            tasks.run()

    Args:
        app: the app whose calls to keep; the current one by default.
    """
    app = app or get_current_app()
    broker, backend, clock = make_broker(app), make_backend(app, QueueBackend), Clock()
    broker.clock = backend.clock = clock
    with installed(app, broker, backend):
        yield TaskQueue(app, broker, backend, clock)


class TaskTestMixin(unittest.TestCase):
    """Gives every test of a class a task queue of its own, as ``self.tasks``.

    A ``setUp`` of your own must call ``super().setUp()``.
    """

    tasks: TaskQueue

    def setUp(self) -> None:
        """Install the queue until the test's clean-ups."""
        super().setUp()
        manager = task_queue()
        self.tasks = manager.__enter__()
        self.addCleanup(manager.__exit__, None, None, None)
