"""``--autoscale MAX,MIN``: as many processes as there is work for.

The janitor says how many tasks run or wait, the supervisor decides: it has no connection of its own to ask over.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from django_tasks.worker import shared
from django_tasks.worker.options import WorkerOptions
from django_tasks.worker.shared import Page

if TYPE_CHECKING:
    from django_tasks.app import App

logger = logging.getLogger("django_tasks.worker")

#: Seconds for which processes must have been too many before some end; under Celery's name, in the environment.
KEEPALIVE = float(os.environ.get("AUTOSCALE_KEEPALIVE", 30))


class Load:
    """What the janitor tells: how many processes there would be work for.

    Args:
        app: the app.
        options: what the worker was told.
        page: the shared page.
    """

    def __init__(self, app: App, options: WorkerOptions, page: Page) -> None:
        self.app = app
        self.options = options
        self.page = page
        #: What each slot had run at the last look.
        self._processed: dict[str, int] = {}

    def report(self) -> None:
        """Count processes that work; when none rests and there may be more, count what waits, too.

        Raises:
            OperationalError: the broker is away.
        """
        before, self._processed = self._processed, {seat.identity: seat.processed for seat in self.page.taken()}
        # One that runs short tasks may be between two of them just now.
        working = [seat for seat in self.page.taken()
                   if seat.state == shared.BUSY or before.get(seat.identity, 0) != seat.processed]  # fmt: skip
        demand = len(working)
        if demand >= self.page.wanted and demand < self.options.concurrency and not self.page.paused:
            demand += sum(size.waiting for size in self.app.broker.sizes(self.options.queues).values())
        self.page.demand = demand
        self.page.reports += 1  # last: whoever sees this may read the other


class Autoscaler:
    """What the supervisor decides: more processes at once, fewer after a while (as in Celery).

    Args:
        options: what the worker was told.
        page: the shared page.
    """

    def __init__(self, options: WorkerOptions, page: Page) -> None:
        self.page = page
        self.most, self.least = options.concurrency, options.processes
        self._seen = 0
        self._enough_since = 0.0
        #: The most processes that there was work for since then.
        self._peak = self.least

    def scale(self, now: float) -> None:
        """Change how many processes are wanted, if the janitor has something new to say."""
        if self.page.reports == self._seen:
            return
        self._seen = self.page.reports
        needed = min(max(self.page.demand, self.least), self.most)
        self._peak = max(self._peak, needed)
        if needed >= self.page.wanted:
            self._want(needed)
        elif now - self._enough_since < KEEPALIVE:
            return
        else:
            self._want(self._peak)
        self._enough_since, self._peak = now, self.least

    def _want(self, processes: int) -> None:
        if processes != self.page.wanted:
            way = "up" if processes > self.page.wanted else "down"
            logger.info("Scaling %s to %d processes: %d tasks run or wait", way, processes, self.page.demand)
            self.page.wanted = processes
