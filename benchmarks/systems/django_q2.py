"""django-q2 with its ORM broker."""

from __future__ import annotations

from django_q.models import Success
from django_q.tasks import async_task

from benchmarks.systems.base import DJANGO, System


class DjangoQ2(System):
    """How many workers it has stands in the settings."""

    def enqueue(self) -> None:
        async_task("benchmarks.systems.work.noop")

    def stamp(self, sent: float) -> None:
        async_task("benchmarks.systems.work.stamp", sent)

    def finished(self) -> int:
        return int(Success.objects.count())

    def worker(self, processes: int) -> list[list[str]]:
        return [[*DJANGO, "qcluster"]]


SYSTEM = DjangoQ2()
