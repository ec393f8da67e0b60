"""No results: for projects that never ask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NoReturn

from django_tasks.backends.base import ResultBackend
from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.outcome import TaskMeta


class DisabledBackend(ResultBackend):
    """Stores nothing (``disabled://``); asking for a result says so."""

    stores: ClassVar[bool] = False

    def store(self, metas: Sequence[TaskMeta]) -> list[TaskMeta]:
        """Store nothing."""
        return list(metas)

    def get(self, task_ids: Sequence[str]) -> NoReturn:
        """Refuse."""
        raise ImproperlyConfigured(
            "No result backend: RESULT_BACKEND is 'disabled://'. Set it to 'django-db://' to keep results in the "
            "project's database, or to another backend."
        )

    def forget(self, task_ids: Sequence[str]) -> None:
        """There is nothing to forget."""
