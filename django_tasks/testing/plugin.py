"""The pytest plugin: fixtures ``task_queue`` and ``task_worker``. pytest finds it when the package is installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from django_tasks import testing

if TYPE_CHECKING:
    from django_tasks.testing import TaskQueue, TaskWorker


@pytest.fixture
def task_queue() -> Iterator[TaskQueue]:
    """Calls wait in memory until the test runs them: ``task_queue.run()``."""
    with testing.task_queue() as tasks:
        yield tasks


@pytest.fixture
def task_worker(transactional_db: None) -> Iterator[TaskWorker]:
    """A worker in a thread runs calls as they come, until the test ends."""
    with testing.task_worker() as worker:
        yield worker
