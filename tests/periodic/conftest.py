"""Fixtures of periodic tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from django_tasks import App
from django_tasks.models import PeriodicTask

ADD = "tests.testapp.tasks.add"


@pytest.fixture
def make(database_app: App) -> Callable[..., PeriodicTask]:
    """Make a row: ``make("sums", schedule="1 day")``."""

    def create(name: str = "sums", **values: Any) -> PeriodicTask:
        return PeriodicTask.objects.create(
            **{"name": name, "task": ADD, "schedule": "5 minutes", "args": [1, 2], **values}
        )

    return create
