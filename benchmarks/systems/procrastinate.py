"""Procrastinate in a Django project. It keeps no results: jobs that ended are counted."""

from __future__ import annotations

from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob

from benchmarks.systems import work
from benchmarks.systems.base import DJANGO, System

noop = app.task(work.noop, name="noop")
stamp = app.task(work.stamp, name="stamp")


class Procrastinate(System):
    """Each of its workers is one process; it logs as Django does, warnings."""

    bulk_size = 10_000

    def enqueue(self) -> None:
        noop.defer()

    def enqueue_bulk(self, count: int) -> None:
        noop.batch_defer(*[{}] * count)

    def stamp(self, sent: float) -> None:
        stamp.defer(sent=sent)

    def finished(self) -> int:
        return int(ProcrastinateJob.objects.filter(status="succeeded").count())

    def worker(self, processes: int) -> list[list[str]]:
        return [[*DJANGO, "procrastinate", "worker"]] * processes


SYSTEM = Procrastinate()
