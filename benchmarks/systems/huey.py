"""Huey in a Django project, on its own storage for SQLite, PostgreSQL or Redis."""

from __future__ import annotations

from huey.contrib.djhuey import HUEY, task

from benchmarks.systems import work
from benchmarks.systems.base import DJANGO, System

noop = task()(work.noop)
stamp = task()(work.stamp)


class HueySystem(System):
    """Its consumer's default is one thread; with several workers they are processes."""

    has_get = True

    def enqueue(self) -> None:
        noop()

    def stamp(self, sent: float) -> None:
        stamp(sent)

    def get_stamp(self, sent: float) -> None:
        stamp(sent).get(blocking=True, preserve=True)  # otherwise it is gone afterwards

    def finished(self) -> int:
        return int(HUEY.storage.result_store_size())

    def worker(self, processes: int) -> list[list[str]]:
        kind = "thread" if processes == 1 else "process"
        return [[*DJANGO, "run_huey", "--quiet", "--workers", str(processes), "--worker-type", kind]]


SYSTEM = HueySystem()
