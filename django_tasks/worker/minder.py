"""The minder: a thread that looks after what the slots of its process cannot while they run a task."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from django.db import connections

from django_tasks import hooks
from django_tasks.brokers.base import Delivery
from django_tasks.exceptions import OperationalError, TimeLimitExceeded
from django_tasks.executor import time_limits
from django_tasks.finish import failure
from django_tasks.worker import logs
from django_tasks.worker.batch import finish_all
from django_tasks.worker.limits import ThreadLimits
from django_tasks.worker.slot import Slot

if TYPE_CHECKING:
    from django_tasks.app import App

logger = logging.getLogger("django_tasks.worker")

#: Seconds between two looks while there is something to mind: the most, and the least.
INTERVAL, SHORTEST = 0.010, 0.001
#: Seconds without anything to mind after which the thread's connections are closed. Making one takes as long as some
#: tasks, whose results would have to wait for it.
KEEP_CONNECTIONS = 10.0


class Minder:
    """Minds the batches, and in a threads pool the time limits, of one process.

    Args:
        app: the app.
        on_overrun: called when a thread has passed its hard limit; the process is to be replaced.
        others_wait: says whether a slot of this worker has nothing to do.
    """

    def __init__(
        self, app: App, on_overrun: Callable[[], None], others_wait: Callable[[], bool] = lambda: False
    ) -> None:
        self.app = app
        self.on_overrun = on_overrun
        self.others_wait = others_wait
        self.slots: list[Slot] = []
        self.limits: dict[Slot, ThreadLimits] = {}
        self._wanted = threading.Event()

    def start(self) -> None:
        """Start the thread; it sleeps until ``wake``."""
        threading.Thread(target=self._run, name="minder", daemon=True).start()

    def wake(self) -> None:
        """Say that there is something to mind."""
        self._wanted.set()

    def _run(self) -> None:
        while True:
            if not self._wanted.wait(KEEP_CONNECTIONS):
                connections.close_all()
                self._wanted.wait()
            self._wanted.clear()
            while self._something_to_mind():
                due = min(slot.batch.due_at() for slot in self.slots) - time.monotonic()
                time.sleep(max(SHORTEST, min(INTERVAL, due)))
                try:
                    self.mind(time.monotonic())
                except Exception:  # without this thread there are no time limits any more
                    logger.exception("The minder failed")

    def _something_to_mind(self) -> bool:
        watched = any(limits.soft_at or limits.hard_at for limits in self.limits.values())
        return watched or any(slot.batch.waiting or slot.batch.ended for slot in self.slots)

    def mind(self, now: float) -> None:
        """Look at every slot once."""
        for slot in self.slots:
            slot.batch.mind(now, self.others_wait)
            limits = self.limits.get(slot)
            running = slot.batch.running
            if limits is not None and limits.check(now) and running is not None:
                self._overrun(slot, running)

    def _overrun(self, slot: Slot, delivery: Delivery) -> None:
        """Store the failure of a task whose thread cannot be stopped, and let its process be replaced."""
        message = delivery.message
        limit = time_limits(self.app.tasks.get(message.task), message, slot.executor.limits)[0]
        slot.batch.running = None
        error = TimeLimitExceeded(limit)
        logs.task_ended(message, error)
        try:
            ended = message if slot.seat.acknowledged else delivery
            finish_all(self.app, [failure(self.app, ended, error)])
            hooks.tell_of_failure(self.app.tasks.get(message.task), message, error)
        except OperationalError as exc:
            logger.warning("Its failure cannot be stored, so that it runs again: %s", exc)
        self.limits.pop(slot)
        self.on_overrun()


def resident_memory() -> int:
    """Return this process's resident memory in KiB."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # bytes on macOS, which has no /proc
