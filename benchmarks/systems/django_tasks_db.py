"""django-tasks-db, the database backend for Django's own tasks."""

from __future__ import annotations

from django_tasks_db.models import DBTaskResult

from benchmarks.systems import work
from benchmarks.systems.base import DJANGO, System

try:
    from django.tasks import task
except ImportError:  # before Django 6.0; inside this virtual environment that is the backport, not this project
    from django_tasks import task


@task
def noop() -> int:
    return work.noop()


@task
def stamp(sent: float) -> float:
    return work.stamp(sent)


class DjangoTasksDB(System):
    """One process is one worker; quiet means that it logs less than warnings."""

    def enqueue(self) -> None:
        noop.enqueue()

    def stamp(self, sent: float) -> None:
        stamp.enqueue(sent)

    def finished(self) -> int:
        return int(DBTaskResult.objects.successful().count())

    def worker(self, processes: int) -> list[list[str]]:
        return [[*DJANGO, "db_worker", "--verbosity", "0"]] * processes


SYSTEM = DjangoTasksDB()
