"""Orders to a worker: terminate a task, pause, resume, resize, shut down (see ``control.py``)."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from typing import TYPE_CHECKING

from django_tasks import control
from django_tasks.brokers.control import Order
from django_tasks.worker import shared
from django_tasks.worker.options import WorkerOptions
from django_tasks.worker.shared import Page, Seat

if TYPE_CHECKING:
    from django_tasks.app import App

logger = logging.getLogger("django_tasks.worker")


class Orders:
    """Looks for orders and carries them out; the janitor does it.

    Args:
        app: the app.
        options: what the worker was told.
        page: the shared page.
    """

    def __init__(self, app: App, options: WorkerOptions, page: Page) -> None:
        self.app = app
        self.options = options
        self.page = page
        self.last = -1

    def obey(self) -> None:
        """Carry out the orders given since the last look; those from before this worker's start are not for it."""
        broker_control = self.app.broker.control
        if broker_control is None:
            return
        orders = broker_control.orders(self.last)
        if self.last < 0:
            self.last = orders[0].number if orders else 0
            return
        for order in orders:
            self.last = max(self.last, order.number)  # one that overtook others came before them
            if order.node in ("", self.options.hostname):
                self._carry_out(order)

    def _carry_out(self, order: Order) -> None:
        if order.kind == control.TERMINATE:
            for seat in self.page.taken():
                started = seat.started  # first: if the next task has begun, the verdict is void
                if seat.state == shared.BUSY and any(seat.runs(task_id) for task_id in order.arguments["ids"]):
                    self._terminate(seat, started, order.arguments["signal"])
        elif order.kind in (control.PAUSE, control.RESUME):
            self.page.paused = order.kind == control.PAUSE
            logger.warning("Told to %s", order.kind)
        elif order.kind == control.RESIZE and self.options.can_resize:
            most = len(self.page.seats) // 2
            asked = self.page.wanted + order.arguments["by"]
            self.page.wanted = max(1, min(asked, most))
            note = f", the most that this worker can have ({asked} were asked for)" if asked > most else ""
            logger.warning("Told to run %d processes%s", self.page.wanted, note)
        elif order.kind == control.SHUTDOWN:
            logger.warning("Told to shut down")
            self.page.shutdown_ordered = 1
        else:
            why = ": it scales itself (--autoscale)" if order.kind == control.RESIZE and self.options.least else ""
            logger.warning("Order %r cannot be carried out by this worker%s", order.kind, why)

    def _terminate(self, seat: Seat, started: float, signum: int) -> None:
        """Kill the process that runs a task. In a threads pool that would hit its neighbours."""
        if not self.options.forks or self.options.slots > 1:
            logger.warning("Task %s cannot be terminated in a %s pool", seat.running, self.options.pool)
            return
        seat.signum = signum
        seat.convict(shared.TERMINATED, started)
        # Worker processes take SIGTERM for "finish first" and ignore SIGINT, which is not what is meant here.
        with contextlib.suppress(ProcessLookupError):
            os.kill(seat.pid, signal.SIGKILL if signum in (signal.SIGTERM, signal.SIGINT) else signum)
