"""Tasks that the tests send."""

from __future__ import annotations

import time
from typing import Any

from django_tasks import shared_task
from tests.testapp.models import Note


@shared_task
def add(x: int, y: int) -> int:
    return x + y


@shared_task
def echo(*args: Any, **kwargs: Any) -> list[Any]:
    """Return what the worker got."""
    return [list(args), kwargs]


@shared_task
def fail(message: str = "as asked") -> None:
    raise ValueError(message)


@shared_task
def slow(seconds: float) -> float:
    """Take that long, as a task that waits for somebody else does."""
    time.sleep(seconds)
    return seconds


@shared_task
def count_notes(title: str) -> int:
    """Return how many notes of that title the worker can see."""
    return Note.objects.filter(title=title).count()


@shared_task
def create_note(title: str) -> int:
    return Note.objects.create(title=title).pk
