"""The janitor: signs of life, due messages, what the dead left behind, old results; also orders and the outbox."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from django_tasks import hooks, signals, states
from django_tasks.backends.base import utc_now
from django_tasks.brokers.base import Beat, Delivery, Settlement, Verb, new_lease
from django_tasks.brokers.browse import FIXED, JANITOR
from django_tasks.context import Context
from django_tasks.exceptions import OperationalError, TaskRevokedError, TimeLimitExceeded, WorkerLostError
from django_tasks.executor import time_limits
from django_tasks.finish import failure
from django_tasks.message import Message
from django_tasks.outcome import TaskMeta
from django_tasks.pipes import drain
from django_tasks.worker import logs, shared
from django_tasks.worker.autoscale import Load
from django_tasks.worker.batch import finish_all
from django_tasks.worker.options import WorkerOptions
from django_tasks.worker.orders import Orders
from django_tasks.worker.shared import Page, Seat

if TYPE_CHECKING:
    from django_tasks.app import App
    from django_tasks.backends.base import ResultBackend

logger = logging.getLogger("django_tasks.worker")

#: Seconds between two rounds, two looks at orders, at how much there is to do, at the outbox, two prunings of results.
ROUND, ORDERS, LOAD, RELAY, PRUNE = 0.5, 1.0, 1.0, 1.0, 30.0
#: Results removed at a time, and for how long (seconds) in one round: several times as many as workers can produce.
PRUNE_BATCH, PRUNE_FOR = 500, 0.2
#: Seconds between two reports of the same trouble.
REPORT = 60.0
#: Heartbeats in the time of one lease.
BEATS_PER_LEASE = 6


def kill_late(page: Page, now: float) -> None:
    """Kill the processes whose task is past its hard time limit."""
    for seat in page.taken():
        if shared.condition(seat.pid) is not shared.Condition.GONE and seat.convict_if_late(now):
            logger.error("Process %d is killed: task %s passed its hard time limit of %g s", seat.pid, seat.running,
                         seat.limit)  # fmt: skip
            with contextlib.suppress(ProcessLookupError):
                os.kill(seat.pid, signal.SIGKILL)


def _news(page: Page) -> object:
    """Return what people should see at once: that all pause, and who is there."""
    return bool(page.paused), frozenset(seat.identity for seat in page.taken())


def prune(backend: ResultBackend) -> bool:
    """Remove old results for a short time; return whether that was all of them."""
    until = time.monotonic() + PRUNE_FOR
    # More than was asked for, where ends and other states are counted singly.
    while backend.prune(PRUNE_BATCH) >= PRUNE_BATCH:
        if time.monotonic() >= until:
            return False
    return True


def janitor_identity(options: WorkerOptions) -> str:
    """Return the name of a new janitor in this process, which also says whether its worker can be resized."""
    return f"{options.hostname}/{JANITOR if options.can_resize else FIXED}{os.getpid()}-{time.time_ns()}"


class Janitor:
    """One worker's janitor.

    Args:
        app: the app.
        options: what the worker was told.
        page: the shared page.
        identity: its own name for the broker.
        alone: whether the supervisor has died, so that the janitor keeps the hard time limits of what still runs.
    """

    def __init__(
        self, app: App, options: WorkerOptions, page: Page, identity: str, alone: Callable[[], bool] = lambda: False
    ) -> None:
        from django_tasks.worker.relay import Relay  # its models cannot be imported before Django is set up

        self.app = app
        self.options = options
        self.page = page
        self.identity = identity
        self.alone = alone
        self.orders = Orders(app, options, page)
        self.load = Load(app, options, page) if options.least else None
        self.relay = Relay(app)
        self._next = dict.fromkeys(("beat", "orders", "load", "relay", "prune"), 0.0)
        relay = RELAY if app.conf.task_outbox else PRUNE
        self._interval = {"beat": app.broker.lease / BEATS_PER_LEASE, "orders": ORDERS, "load": LOAD, "relay": relay,
                          "prune": PRUNE}  # fmt: skip
        self._told: object = None
        self._trouble = ""
        self._trouble_since = self._report_after = 0.0
        #: Whether the broker has answered in the last round.
        self._is_answered = True
        #: Messages of dead workers that it has in its own hands, and the lease it holds them under.
        self._orphans: list[Delivery] = []
        self._lease = 0
        self._last_round: float | None = None
        #: After an outage: how long it was, and until when others may be silent only because of it.
        self._outage = self._forgive_until = 0.0

    def loop(self, wakeup: int, stopping: Callable[[], bool]) -> None:
        """Poll until stopping; ``wakeup`` (a file descriptor) ends a wait."""
        while not stopping():
            if self.alone():
                kill_late(self.page, time.monotonic())
            wait = self.safe_poll(time.monotonic())
            if select.select([wakeup], [], [], wait)[0]:
                drain(wakeup)

    def safe_poll(self, now: float) -> float:
        """Poll; whatever fails is reported now and then, and tried again."""
        try:
            wait = self.poll(now)
        except Exception as exc:
            # Nobody else renews the leases, so no failure may end this.
            if self._trouble != repr(exc) or now >= self._report_after:
                self._report(exc)
                self._report_after = now + REPORT
            self._trouble = repr(exc)
            self._trouble_since = self._trouble_since or now
            return ROUND
        if self._trouble:
            logger.warning("Messages can be reached again, after %.1f s", now - self._trouble_since)
            if now - self._trouble_since > self._interval["beat"]:
                self._next["beat"] = 0.0  # signs of life were missed, and this worker would look dead until the next
            self._trouble, self._trouble_since = "", 0.0
        return wait

    def _report(self, exc: Exception) -> None:
        if isinstance(exc, OperationalError):
            logger.error("Messages cannot be reached; this goes on trying: %s", exc)
        else:
            logger.critical("The janitor failed: %r", exc, exc_info=exc)

    def leave(self) -> None:
        """Do a last round, and say good-bye to the broker if it is there."""
        self.safe_poll(time.monotonic())
        if not self._is_answered:
            return  # or it would be waited for once more
        try:
            self.app.broker.goodbye([self.identity])
        except OperationalError as exc:
            logger.warning("Could not say good-bye to the broker: %s", exc)

    def poll(self, now: float) -> float:
        """Do what is due; return the seconds until the next round.

        Raises:
            OperationalError: the broker is away.
        """
        self.page.janitor_tick = now
        self._is_answered = False
        self._last_round = now if self._last_round is None else self._last_round
        if now - self._last_round > self.app.broker.lease / 2:
            self._outage, self._forgive_until = now - self._last_round, now + 2 * self._interval["beat"]
        news = _news(self.page)
        if self._is_due("beat", now) or news != self._told:
            self.app.broker.heartbeat(self._beats())
            self._told = news
        self.rescue(self._outage if now < self._forgive_until else 0.0)
        if self._is_due("orders", now):
            self.orders.obey()
        if self.load is not None and self._is_due("load", now):
            self.load.report()
        if self._is_due("relay", now):
            self.relay.publish()
        if self._is_due("prune", now) and not prune(self.app.backend):
            self._next["prune"] = now
        self._last_round = now
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
        beats = [Beat(self.identity, self.options.hostname, os.getpid(), self.options.queues, frozenset({self._lease}),
                      paused=bool(self.page.paused))]  # fmt: skip
        for seat in self.page.taken():
            if not seat.identity:
                continue
            how = shared.condition(seat.pid)
            if how is shared.Condition.GONE:
                seat.state = shared.DEAD  # the supervisor would say so, were it alive
            elif how is shared.Condition.ALIVE:
                beats.append(Beat(seat.identity, self.options.hostname, seat.pid, self.options.queues,
                                  seat.leases, seat.processed, bool(self.page.paused)))  # fmt: skip
        return beats

    # -- what the dead left behind

    def rescue(self, outage: float = 0.0) -> None:
        """Bring due messages to their queues, and decide about those of dead workers, ours at once.

        Args:
            outage: seconds for which the broker was away, so that nobody could give a sign of life.
        """
        dead = {seat.identity: seat for seat in self.page.seats if seat.state == shared.DEAD}
        while True:
            while self._orphans:  # also what an earlier round could not end because a server went away
                self._decide(self._orphans[-1], dead.get(self._orphans[-1].holder))
                self._orphans.pop()
            self._lease = new_lease()
            self._orphans = self.app.broker.rescue(
                self.app.broker.now() - outage, self.identity, self._lease, list(dead)
            )
            self._is_answered = True
            if not self._orphans:
                break
        for seat in dead.values():
            if seat.acknowledged == 2:
                self._fail_without_message(seat)
            seat.clear()

    def _decide(self, delivery: Delivery, seat: Seat | None) -> None:
        """End, return or bury one message whose worker died."""
        message = delivery.message
        verdict = seat.verdict if seat is not None else shared.NONE
        convicted = seat is not None and seat.is_convicted(message.id)
        if convicted and verdict == shared.TIME_LIMIT:
            self._fail(delivery, TimeLimitExceeded(self._limit(message)))
        elif seat is not None and convicted and verdict == shared.TERMINATED:
            self._end_terminated(delivery, seat.signum)
        elif verdict in (shared.SHUTDOWN, shared.TIME_LIMIT, shared.TERMINATED) or (seat is not None and seat.spared):
            delivery.redelivered = True  # it may have ended all the same
            self.app.broker.settle([Settlement(delivery, Verb.RETURN)])
        elif delivery.alone and delivery.deaths + 1 > self.app.conf.task_max_deliveries:
            self._bury(delivery)
        else:
            logger.warning("Task %s[%s] goes back to its queue: its worker died", message.task, message.id)
            self.app.broker.settle([Settlement(delivery, Verb.RETURN, died=True)])

    def _fail_without_message(self, seat: Seat) -> None:
        """Store why a task ended that is not run again, since its message was acknowledged before its run."""
        state = states.FAILURE
        exc: Exception = WorkerLostError("The worker process died while it ran this task (acks_late=False)")
        if seat.is_convicted(seat.running) and seat.verdict == shared.TIME_LIMIT:
            exc = TimeLimitExceeded(seat.limit)
        elif seat.is_convicted(seat.running) and seat.verdict == shared.TERMINATED:
            state, exc = states.REVOKED, TaskRevokedError("terminated")
        logger.error("Task %s ended: %r", seat.running, exc)
        now = utc_now(self.app.broker.now())
        self.app.backend.store([TaskMeta(seat.running, state, self.app.backend.encode(exc, state), date_done=now)])

    def _limit(self, message: Message) -> float | None:
        return time_limits(self.app.tasks.get(message.task), message, self.options.limits)[0]

    def _end_terminated(self, delivery: Delivery, signum: int) -> None:
        message = delivery.message
        finish_all(self.app, [failure(self.app, delivery, TaskRevokedError("terminated"), state=states.REVOKED)])
        logs.task_revoked(message, "terminated")
        if signals.task_revoked.receivers:
            signals.task_revoked.send(sender=self.app.tasks.get(message.task), request=Context(None, message),
                                      terminated=True, signum=signum, expired=False)  # fmt: skip

    def _bury(self, delivery: Delivery) -> None:
        exc = WorkerLostError(
            f"{delivery.deaths + 1} workers died while they ran this task and no other. Its message is among the dead "
            f"letters (TASK_MAX_DELIVERIES); `tasks dead resend {delivery.message.id}` lets it run after all."
        )
        self._fail(delivery, exc, Verb.DEAD)

    def _fail(self, delivery: Delivery, exc: BaseException, verb: Verb = Verb.ACK) -> None:
        message = delivery.message
        finish_all(self.app, [failure(self.app, delivery, exc, verb=verb)])
        logs.task_ended(message, exc)
        hooks.tell_of_failure(self.app.tasks.get(message.task), message, exc)
