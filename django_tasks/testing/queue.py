"""The task queue of a test: calls wait in it, and run when the test says so."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from django.conf import settings
from django.utils import timezone, translation

from django_tasks import hooks, states
from django_tasks.backends.base import utc_now
from django_tasks.backends.memory import MemoryBackend
from django_tasks.brokers.base import Delivery, new_lease
from django_tasks.exceptions import NotRegistered
from django_tasks.executor import Executor
from django_tasks.finish import finish
from django_tasks.message import Message
from django_tasks.outcome import Outcome
from django_tasks.testing.assertions import Assertions, describe
from django_tasks.testing.clock import Clock
from django_tasks.testing.commits import Commits
from django_tasks.testing.parts import QueueBroker
from django_tasks.worker import logs
from django_tasks.worker.slot import report

if TYPE_CHECKING:
    from django_tasks.app import App

#: What the worker of a test is called.
NODE = "tests@localhost"
#: Seconds by which an instant may be late because messages carry microseconds.
ROUNDING = 0.001


class DeadLetter(NamedTuple):
    """A message that no worker takes any more, and why."""

    message: Message
    reason: str


class TaskQueue(Assertions):
    """The calls that a test has made, and the means to run them; ``task_queue()`` makes one.

    Calls are serialised and stored as in production, and run by the worker's own executor, in this thread. Rate limits
    and time limits do not apply.

    Args:
        app: the app whose calls it gets.
        broker: where the messages are.
        backend: where the results are.
        clock: moves them both.

    Attributes:
        max_runs: how many tasks ``run()`` and ``advance()`` run before they take it for an endless loop.
    """

    def __init__(self, app: App, broker: QueueBroker, backend: MemoryBackend, clock: Clock) -> None:
        self.app = app
        self.max_runs = 10_000
        self._broker = broker
        self._backend = backend
        self._clock = clock
        self._commits = Commits(app)
        self._executor = Executor(app, hostname=NODE)

    # -- what is there

    @property
    def messages(self) -> list[Message]:
        """What waits, retries and delayed calls included, in the order of sending."""
        self._commits.send()
        with self._broker.lock:
            return [self._broker.message(entry) for entry in self._broker.free()]

    @property
    def sent(self) -> list[Message]:
        """All calls since the beginning or the last ``clear()``, run or not, without retries."""
        self._commits.send()
        messages = [self._broker.message(entry) for entry in list(self._broker.sent)]
        return [message for message in messages if not message.retries]

    @property
    def dead_letters(self) -> list[DeadLetter]:
        """Messages that were given up: unreadable, unknown for too long, or rejected by their task."""
        with self._broker.lock:
            dead = [entry for entry in self._broker.entries.values() if entry.reason is not None]
            return [DeadLetter(self._broker.message(entry), entry.reason or "") for entry in dead]

    def now(self) -> datetime:
        """Return the time by the queue's clock, in UTC."""
        return utc_now(self._clock())

    def uncommitted(self) -> int:
        """Return how many calls wait for a transaction that is open here."""
        return self._commits.uncommitted()

    def clear(self) -> None:
        """Forget all that waits, was sent or given up; results stay."""
        self._commits.send()
        with self._broker.lock:
            self._broker.entries.clear()
            self._broker.sent.clear()

    # -- running

    def run(self, *, propagate: bool = True) -> list[Outcome]:
        """Run all that is due, and what that sends, until nothing is due.

        Args:
            propagate: raise what a task raises, once it is retried no more; what has not run stays in the queue.

        Returns:
            What each run came to (``.state``, ``.value``, ``.message``), retries included.

        Raises:
            NotRegistered: there is no such task (unless ``propagate`` is false).
            RuntimeError: there is no end to it.
        """
        outcomes: list[Outcome] = []
        self._run_due(outcomes, propagate)
        return outcomes

    def run_next(self, *, propagate: bool = True) -> Outcome | None:
        """Run the one task whose turn it is; return what it came to, or None when nothing is due."""
        self._commits.send()
        deliveries = self._broker.reserve(NODE, (), 1, new_lease())
        return self._run(deliveries[0], propagate) if deliveries else None

    def advance(self, seconds: float | timedelta, *, run: bool = True, propagate: bool = True) -> list[Outcome]:
        """Move the clock ahead and run what is due and falls due on the way, each at its time.

        Args:
            seconds: how far.
            run: if false, move the clock only, as if no worker had been there in the meantime.
            propagate: as for ``run()``; the clock then stays at the time of the error.

        Returns:
            As ``run()``.

        Raises:
            ValueError: ``seconds`` is negative.
        """
        distance = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
        if distance < 0:
            raise ValueError(f"advance() moves the clock ahead only, not by {distance:g} s")
        outcomes: list[Outcome] = []
        self._commits.send()
        clock = self._clock
        end = clock.last + distance
        try:
            clock.stand_at(clock.last)
            while run and (due := self._next_due()) is not None and due <= end + ROUNDING:
                clock.stand_at(due)
                self._run_due(outcomes, propagate)
            clock.stand_at(end)
        finally:
            clock.go_on()
        while self._backend.prune(500):  # as the janitor of a worker does
            pass
        return outcomes

    def _next_due(self) -> float | None:
        self._commits.send()
        with self._broker.lock:
            return min((entry.due_at for entry in self._broker.free()), default=None)

    def _run_due(self, outcomes: list[Outcome], propagate: bool) -> None:
        while True:
            if len(outcomes) >= self.max_runs:
                self._check_end(len(outcomes))
            outcome = self.run_next(propagate=propagate)
            if outcome is None:
                return
            outcomes.append(outcome)

    def _check_end(self, runs: int) -> None:
        now = self._clock()
        with self._broker.lock:
            due = [self._broker.message(entry) for entry in self._broker.free() if entry.due_at <= now]
        if due:
            raise RuntimeError(
                f"{runs:,} tasks have run, and {describe(due[0])} is next. Do tasks send themselves without end? "
                "If not, raise max_runs of the task queue."
            )

    def _run(self, delivery: Delivery, propagate: bool) -> Outcome:
        message = delivery.message
        logs.task_received(message)
        hooks.tell_of_receipt(self.app, message, NODE)
        # A worker begins each task with the project's language and time zone, and leaves the test's alone.
        with translation.override(settings.LANGUAGE_CODE), timezone.override(None):
            outcome = self._executor.run(delivery)
        finish(self.app, [outcome])
        report(self.app, outcome)
        error = _error(outcome)
        # KeyboardInterrupt, pytest.fail() and their like are meant for us, not for the task's outcome.
        if error is not None and (propagate or not isinstance(error, Exception)):
            raise error
        return outcome


def _error(outcome: Outcome) -> BaseException | None:
    """Return what went wrong in a run for good, if anything did."""
    settlement = outcome.settlement
    if settlement is not None and settlement.refused:
        return NotRegistered(outcome.message.task)
    if outcome.state == states.FAILURE and isinstance(outcome.value, BaseException):
        return outcome.value
    return None
