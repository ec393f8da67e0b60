"""A slot runs one task at a time: reserve, run, finish, again."""

from __future__ import annotations

import logging
import select
import time
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING

from django_tasks import hooks, states
from django_tasks.brokers.base import Delivery, new_lease
from django_tasks.exceptions import OperationalError
from django_tasks.executor import Executor
from django_tasks.outcome import Outcome
from django_tasks.pipes import drain
from django_tasks.worker import logs, redirect
from django_tasks.worker.batch import FIRST_PAUSE, LONGEST_PAUSE, Batch
from django_tasks.worker.cleaning import clean_up
from django_tasks.worker.room import Room
from django_tasks.worker.shared import IDLE, Seat

if TYPE_CHECKING:
    from django_tasks.app import App

logger = logging.getLogger("django_tasks.worker")

#: Seconds that an idle slot waits before it looks again by itself.
IDLE_WAIT = 5.0
#: Seconds a paused slot waits.
PAUSE_WAIT = 0.5


class Slot:
    """One slot of a worker.

    Args:
        app: the app.
        seat: its place on the shared page.
        executor: runs deliveries.
        queues: where it takes messages from.
        stopping: says whether to begin nothing more.
        giving_up: says whether not even to wait for a server that is away.
        paused: says whether to reserve nothing for now.
        on_batch: told when several messages are in work, so that somebody minds them.
        room: shared with the other slots of the process.
        clock: seconds, as ``poll`` is given them.
    """

    def __init__(
        self,
        app: App,
        seat: Seat,
        executor: Executor,
        queues: tuple[str, ...],
        *,
        stopping: Callable[[], bool],
        giving_up: Callable[[], bool],
        paused: Callable[[], bool] = lambda: False,
        on_batch: Callable[[], None] = lambda: None,
        room: Room | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.app = app
        self.seat = seat
        self.executor = executor
        self.queues = queues
        self.stopping = stopping
        self.giving_up = giving_up
        self.paused = paused
        self.on_batch = on_batch
        self.room = room or Room(1)
        self.clock = clock
        self.batch = Batch(app, clock, partial(report, app))
        #: It is not to reserve for now.
        self.resting = False
        self.idle_polls = 0
        self.idle_wait = IDLE_WAIT
        self._pause = FIRST_PAUSE

    def loop(self, wakeup: int) -> None:
        """Poll until stopping; ``wakeup`` (a file descriptor) ends a wait."""
        while True:
            try:
                if self.stopping():
                    self.app.broker.wait((), 0.0, wakeup)  # to give back what the last one may have brought
                    return
                if wait := self.poll(self.clock()):
                    self.app.broker.wait(() if self.resting else self.queues, wait, wakeup)
                self._pause = FIRST_PAUSE
            except OperationalError as exc:
                if self.giving_up():
                    return  # what the last wait may have brought goes back when this worker is known to be gone
                # The janitor says so once for all processes, and again as long as it lasts.
                logger.debug("Messages cannot be reached, trying again in %.1f s: %s", self._pause, exc)
                if select.select([wakeup], [], [], self._pause)[0]:
                    drain(wakeup)
                self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def poll(self, now: float) -> float:
        """Reserve, run and finish; return the seconds to wait before the next poll.

        Raises:
            OperationalError: the broker is away.
        """
        self.seat.tick = now
        self.seat.state = IDLE
        self.seat.spared = 0
        self.resting = self.paused() or self.room.is_closed_to(self)
        if self.resting:
            return PAUSE_WAIT
        lease = new_lease()
        deliveries = self._reserve(lease)
        if not deliveries:
            self.idle_polls += 1
            return self.idle_wait
        self.idle_polls = 0
        try:
            self._run_all(deliveries, now)
        finally:
            self.seat.drop_lease(lease)
        return 0.0

    def _reserve(self, lease: int) -> list[Delivery]:
        size = self.batch.size
        self.seat.add_lease(lease)
        try:
            deliveries = self.app.broker.reserve(self.seat.identity, self.queues, size, lease)
        except BaseException:
            # The reply may be lost and the messages be ours: no longer listed, they go back by the heartbeat.
            self.seat.drop_lease(lease)
            raise
        if not deliveries:
            self.seat.drop_lease(lease)
        return deliveries

    def _run_all(self, deliveries: list[Delivery], now: float) -> None:
        full = len(deliveries) >= self.batch.size
        self.seat.spared = deliveries[0].alone
        self.batch.start(deliveries)
        if len(deliveries) > 1:
            self.on_batch()
        count, worked, lease = 0, 0.0, self.app.broker.lease
        try:
            while (delivery := self.batch.next()) is not None:
                # In a process that was stopped meanwhile, others may have taken over what it held.
                began = self.clock()
                if began - now > lease or self.stopping() or not self._enter(delivery):
                    self.batch.take_back(delivery)
                    break
                try:
                    self._run(delivery)
                finally:
                    self.room.leave(self)
                count += 1
                ended = self.clock()
                worked += ended - began
                if self.batch.is_due(ended):
                    self.batch.flush(self._gives_up)
        finally:
            self.batch.close(self._gives_up)
        self.batch.learn(count, worked, full)

    def _enter(self, delivery: Delivery) -> bool:
        """Begin a run; after a death that counts, with nothing beside it in this process."""
        return self.room.enter(self, alone=delivery.deaths > 0, stopping=self._stops)

    def _stops(self) -> bool:
        """Say whether to wait no longer for the neighbours; asked as long as they run, which is a sign of life."""
        self.seat.tick = self.clock()
        return self.stopping()

    def _run(self, delivery: Delivery) -> None:
        message = delivery.message
        logs.task_received(message)
        hooks.tell_of_receipt(self.app, message, self.executor.hostname)
        self.seat.begin(message.id)
        try:
            outcome = copy_context().run(self.executor.run, delivery)
            redirect.flush()
        except OperationalError:
            self.batch.take_back(delivery)
            raise
        else:
            self._keep(outcome)
        finally:
            self.seat.end()
        clean_up()

    def _keep(self, outcome: Outcome) -> None:
        """Keep an outcome for the next flush, or finish it now where that cannot wait."""
        # Without a message it must not wait for a task that may kill us. Who is told of it is to find it stored.
        if outcome.settlement is None or outcome.tell is not None:
            clean_up()
            self.batch.finish_now(outcome, self._gives_up)
        else:
            self.batch.add(outcome)

    def _gives_up(self) -> bool:
        """Say whether to wait no longer for a server; asked as long as it is away, which is a sign of life."""
        self.seat.tick = self.clock()
        return self.giving_up()


def report(app: App, outcome: Outcome) -> None:
    """Log what a run came to, once it is stored."""
    try:
        _report(app, outcome)
    except Exception:  # a task's `throws`, or the repr of its value, are not ours
        logger.exception("What came of task %s[%s] could not be logged", outcome.message.task, outcome.message.id)


def _report(app: App, outcome: Outcome) -> None:
    message = outcome.message
    if outcome.discarded:
        logs.task_discarded(message, outcome.discarded, outcome.runtime)
    elif outcome.state == states.SUCCESS:
        if logger.isEnabledFor(logging.INFO):  # what follows would be for nothing after most runs
            maxsize = getattr(app.tasks.get(message.task), "resultrepr_maxsize", 1024)
            logs.task_succeeded(message, outcome.runtime, outcome.value, maxsize)
    elif outcome.settlement is not None and outcome.settlement.delivery.error is not None:
        pass  # an unreadable message, of which all has been said
    elif outcome.state == states.FAILURE:
        expected = isinstance(outcome.value, tuple(getattr(app.tasks.get(message.task), "throws", ())))
        logs.task_failed(message, outcome.value, outcome.runtime, expected=expected)
    elif outcome.state == states.RETRY:
        logs.task_retried(message, outcome.value, outcome.runtime)
    elif outcome.state == states.REVOKED:
        logs.task_revoked(message, str(outcome.value))
    elif outcome.state == states.REJECTED:
        logs.task_rejected(message, outcome.value, outcome.runtime)
    elif outcome.state == states.IGNORED:
        logs.task_ignored(message, outcome.runtime)
