"""The janitor: signs of life, due messages, what the dead left behind, old results, orders."""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from django_tasks import control, signals, states
from django_tasks.brokers.base import Beat, Delivery, Order, Settlement, Verb, drain, new_lease
from django_tasks.context import Context
from django_tasks.exceptions import OperationalError, TaskRevokedError, TimeLimitExceeded, WorkerLostError
from django_tasks.finish import failure
from django_tasks.worker import shared
from django_tasks.worker.batch import finish_all
from django_tasks.worker.options import WorkerOptions
from django_tasks.worker.shared import Page, Seat

if TYPE_CHECKING:
    from django_tasks.app import App

logger = logging.getLogger("django_tasks.worker")

#: Seconds between two rounds, two looks at orders, two prunings of old results.
ROUND, ORDERS, PRUNE = 0.5, 1.0, 30.0
#: Results removed at a time.
PRUNE_BATCH = 500
#: Heartbeats in the time of one lease.
BEATS_PER_LEASE = 6


class Janitor:
    """One worker's janitor.

    Args:
        app: the app.
        options: what the worker was told.
        page: the shared page.
        identity: its own name for the broker.
    """

    def __init__(self, app: App, options: WorkerOptions, page: Page, identity: str) -> None:
        self.app = app
        self.options = options
        self.page = page
        self.identity = identity
        self.last_order = -1
        self._next = dict.fromkeys(("beat", "orders", "prune"), 0.0)
        self._interval = {"beat": app.broker.lease / BEATS_PER_LEASE, "orders": ORDERS, "prune": PRUNE}
        self._away_since = 0.0

    def loop(self, wakeup: int, stopping: Callable[[], bool]) -> None:
        """Poll until stopping; ``wakeup`` (a file descriptor) ends a wait."""
        while not stopping():
            wait = self.safe_poll(time.monotonic())
            if select.select([wakeup], [], [], wait)[0]:
                drain(wakeup)

    def safe_poll(self, now: float) -> float:
        """Poll; a broker that is away is reported once, and asked again."""
        try:
            wait = self.poll(now)
        except OperationalError as exc:
            if not self._away_since:
                logger.error("The broker is away: %s", exc)
                self._away_since = now
            return ROUND
        if self._away_since:
            logger.warning("The broker is back after %.1f s", now - self._away_since)
            self._away_since = 0.0
        return wait

    def poll(self, now: float) -> float:
        """Do what is due; return the seconds until the next round.

        Raises:
            OperationalError: the broker is away.
        """
        self.page.janitor_tick = now
        if self._is_due("beat", now):
            self.app.broker.heartbeat(self._beats())
        self.rescue()
        if self._is_due("orders", now):
            self.obey()
        if self._is_due("prune", now) and self.app.backend.prune(PRUNE_BATCH) == PRUNE_BATCH:
            self._next["prune"] = now + 1.0
        self.page.broker_tick = time.monotonic()
        return ROUND

    def _is_due(self, what: str, now: float) -> bool:
        if now < self._next[what]:
            return False
        self._next[what] = now + self._interval[what]
        return True

    # -- signs of life

    def _beats(self) -> list[Beat]:
        """Return signs of life of every slot that has any: a stopped process has none, a busy one has."""
        beats = [Beat(self.identity, self.options.hostname, os.getpid(), self.options.queues)]
        for seat in self.page.taken():
            if not seat.identity:
                continue
            how = shared.condition(seat.pid)
            if how is shared.Condition.GONE:
                seat.state = shared.DEAD  # the supervisor would say so, were it alive
            elif how is shared.Condition.ALIVE:
                beats.append(Beat(seat.identity, self.options.hostname, seat.pid, self.options.queues,
                                  seat.leases, seat.processed))  # fmt: skip
        return beats

    # -- what the dead left behind

    def rescue(self) -> None:
        """Bring due messages to their queues, and decide about those of dead workers, ours at once."""
        dead = {seat.identity: seat for seat in self.page.seats if seat.state == shared.DEAD}
        while True:
            lease = new_lease()
            orphans = self.app.broker.rescue(self.app.broker.now(), self.identity, lease, list(dead))
            for delivery in orphans:
                self._decide(delivery, dead.get(delivery.holder))
            if not orphans:
                break
        for seat in dead.values():
            seat.clear()

    def _decide(self, delivery: Delivery, seat: Seat | None) -> None:
        """End, return or bury one message whose worker died."""
        message = delivery.message
        was_running = seat is not None and seat.running == message.id
        verdict = seat.verdict if seat is not None else shared.NONE
        if was_running and verdict == shared.TIME_LIMIT:
            self._end(delivery, TimeLimitExceeded(round(seat.deadline - seat.started, 1) if seat else 0))
        elif was_running and verdict == shared.TERMINATED:
            self._end_terminated(delivery)
        elif verdict in (shared.SHUTDOWN, shared.TIME_LIMIT, shared.TERMINATED):
            self.app.broker.settle([Settlement(delivery, Verb.RETURN)])
        elif delivery.alone and delivery.deaths + 1 > self.app.conf.task_max_deliveries:
            self._bury(delivery)
        else:
            logger.warning("Task %s[%s] goes back to its queue: its worker died", message.task, message.id)
            self.app.broker.settle([Settlement(delivery, Verb.RETURN, died=True)])

    def _end(self, delivery: Delivery, exc: BaseException) -> None:
        message = delivery.message
        logger.error("Task %s[%s] failed: %r", message.task, message.id, exc)
        finish_all(self.app, [failure(self.app, delivery, exc)])

    def _end_terminated(self, delivery: Delivery) -> None:
        message = delivery.message
        logger.info("Task %s[%s] terminated", message.task, message.id)
        if signals.task_revoked.receivers:
            signals.task_revoked.send(sender=self.app.tasks.get(message.task), request=Context(None, message),
                                      terminated=True, signum=int(signal.SIGTERM), expired=False)  # fmt: skip
        finish_all(self.app, [failure(self.app, delivery, TaskRevokedError("terminated"), state=states.REVOKED)])

    def _bury(self, delivery: Delivery) -> None:
        message = delivery.message
        exc = WorkerLostError(
            f"{delivery.deaths + 1} workers died while they ran this task and no other. Its message is among the dead "
            "letters (TASK_MAX_DELIVERIES)."
        )
        logger.error("Task %s[%s] goes to the dead letters: %s", message.task, message.id, exc)
        finish_all(self.app, [failure(self.app, delivery, exc, verb=Verb.DEAD)])

    # -- orders

    def obey(self) -> None:
        """Carry out the orders given since the last look; those from before this worker's start are not for it."""
        broker_control = self.app.broker.control
        if broker_control is None:
            return
        orders = broker_control.orders(self.last_order)
        if self.last_order < 0:
            self.last_order = orders[0].number if orders else 0
            return
        for order in orders:
            self.last_order = order.number
            if order.node in ("", self.options.hostname):
                self._carry_out(order)

    def _carry_out(self, order: Order) -> None:
        if order.kind == control.TERMINATE:
            for seat in self.page.taken():
                if seat.state == shared.BUSY and seat.running in order.arguments["ids"]:
                    self._terminate(seat, order.arguments["signal"])
        elif order.kind in (control.PAUSE, control.RESUME):
            self.page.paused = order.kind == control.PAUSE
            logger.warning("Told to %s", order.kind)
        elif order.kind == control.RESIZE and self.options.forks and self.options.slots == 1:
            self.page.wanted = max(1, min(self.page.wanted + order.arguments["by"], len(self.page.seats) // 2))
            logger.warning("Told to run %d processes", self.page.wanted)
        elif order.kind == control.SHUTDOWN:
            logger.warning("Told to shut down")
            self.page.shutdown_ordered = 1
        else:
            logger.warning("Order %r cannot be carried out by this worker", order.kind)

    def _terminate(self, seat: Seat, signum: int) -> None:
        """Kill the process that runs a task. In a threads pool that would hit its neighbours."""
        if not self.options.forks or self.options.slots > 1:
            logger.warning("Task %s cannot be terminated in a %s pool", seat.running, self.options.pool)
            return
        seat.verdict = shared.TERMINATED
        # Worker processes understand SIGTERM as "finish first", which is not what is meant here.
        os.kill(seat.pid, signal.SIGKILL if signum == signal.SIGTERM else signum)


def run_in_thread(janitor: Janitor, stopping: Callable[[], bool]) -> threading.Thread:
    """Run a janitor beside the slots of the only process there is."""
    reading, _ = os.pipe()
    thread = threading.Thread(target=janitor.loop, args=(reading, stopping), name="janitor", daemon=True)
    thread.start()
    return thread
