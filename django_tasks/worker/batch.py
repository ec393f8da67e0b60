"""A batch: messages that one slot reserved together, so that many short tasks cost few round trips.

Batches must never be seen. What has ended is finished within ``FLUSH_AFTER``; when a task takes long, the minder
finishes what ended before it and gives back what has not started, so that an idle process can run it: soon when a
slot of the same worker is idle, later when there may be others.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from django_tasks.brokers.base import Delivery, Settlement, Verb
from django_tasks.exceptions import OperationalError, RequestRefused
from django_tasks.finish import failure, finish
from django_tasks.outcome import Outcome

if TYPE_CHECKING:
    from django_tasks.app import App

logger = logging.getLogger("django_tasks.worker")

#: Seconds: how long an outcome may wait for others; how long a task runs before what waits behind it goes back, for a
#: slot of this worker that is idle, or for whoever there may be.
FLUSH_AFTER, SHARE_AFTER, GIVE_BACK_AFTER = 0.010, 0.010, 0.100
#: Seconds that a task has to run before the minder finishes what ended before it; after a shorter one the slot does.
LONG = 0.002
#: Seconds of work that a reserve aims at, and the most messages that it takes.
WORTH, LARGEST = 0.020, 100
#: Seconds between two tries to reach a server that is away: the first, and the longest.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
#: Seconds between two looks in such a pause whether to stop.
LOOK = 0.05


class Batch:
    """The messages of one slot, between reserve and finish.

    Args:
        on_finished: told of each outcome that is stored, or does not count.
    """

    def __init__(
        self,
        app: App,
        clock: Callable[[], float] = time.monotonic,
        on_finished: Callable[[Outcome], None] = lambda outcome: None,
    ) -> None:
        self.app = app
        self.clock = clock
        self.on_finished = on_finished
        self.lock = threading.Lock()
        self.waiting: deque[Delivery] = deque()
        self.ended: list[Outcome] = []
        self.first_ended = 0.0
        self.running: Delivery | None = None
        self.running_since = 0.0
        #: Held while the minder is at work on what it took, so that the batch does not count as over.
        self.taken = threading.Lock()
        self.size = 1
        self._seconds_per_task = WORTH

    def start(self, deliveries: Sequence[Delivery]) -> None:
        """Begin with what was reserved."""
        with self.lock:
            self.waiting.extend(deliveries)

    def next(self) -> Delivery | None:
        """Return the next message to run; None when none is left."""
        with self.lock:
            self.running = self.waiting.popleft() if self.waiting else None
            self.running_since = self.clock()
            return self.running

    def take_back(self, delivery: Delivery) -> None:
        """Put a message in front again that was not run after all."""
        with self.lock:
            self.running = None
            self.waiting.appendleft(delivery)

    def add(self, outcome: Outcome) -> None:
        """Keep an outcome until the next flush."""
        with self.lock:
            self.running = None
            if not self.ended:
                self.first_ended = self.clock()
            self.ended.append(outcome)

    def is_due(self, now: float) -> bool:
        """Whether the oldest outcome has waited long enough."""
        return bool(self.ended) and now - self.first_ended >= FLUSH_AFTER

    def flush(self, give_up: Callable[[], bool]) -> None:
        """Finish what has ended; while a server is away, try again until ``give_up`` says to stop."""
        with self.lock:
            ended, self.ended = self.ended, []
        self._finish(ended, give_up)

    def finish_now(self, outcome: Outcome, give_up: Callable[[], bool]) -> None:
        """Finish an outcome that cannot wait, and what ended before it; its hooks still belong to its run."""
        with self.lock:
            ended, self.ended = [*self.ended, outcome], []
        self._finish(ended, give_up)
        with self.lock:
            self.running = None

    def _finish(self, ended: list[Outcome], give_up: Callable[[], bool]) -> None:
        pause = FIRST_PAUSE
        while ended:
            try:
                _finish_and_tell(self, ended)
                return
            except OperationalError as exc:
                if give_up():
                    logger.error("%d finished tasks could not be stored and will run again: %s", len(ended), exc)
                    return
                logger.warning("Cannot store %d finished tasks, trying again in %.1f s: %s", len(ended), pause, exc)
            _wait(pause, give_up)
            pause = min(pause * 2, LONGEST_PAUSE)

    def close(self, give_up: Callable[[], bool]) -> None:
        """Finish what has ended and give back what has not begun, until nothing is left, nor in the minder's hands."""
        while True:
            self.flush(give_up)
            self.give_back()
            with self.taken:  # what the minder fails to do, it puts back
                if not (self.ended or self.waiting):
                    return

    def due_at(self) -> float:
        """Return when the minder should look at what has ended, if something has."""
        return max(self.first_ended + FLUSH_AFTER, self.running_since + LONG) if self.ended else math.inf

    def mind(self, now: float, others_wait: Callable[[], bool] = lambda: False) -> None:
        """Take over what waits behind a long task (called by the minder's thread).

        Args:
            others_wait: says whether another slot of this worker has nothing to do.
        """
        with self.taken:
            with self.lock:
                busy = self.running is not None
                ended, waiting = [], []
                if busy and now >= self.due_at():
                    ended, self.ended = self.ended, []
                long = now - self.running_since
                if busy and (long >= GIVE_BACK_AFTER or (long >= SHARE_AFTER and self.waiting and others_wait())):
                    waiting, self.waiting = list(self.waiting), deque()
            try:
                if ended:
                    _finish_and_tell(self, ended)
                    ended = []
                if waiting:
                    self.app.broker.settle([Settlement(delivery, Verb.RETURN) for delivery in waiting])
                    waiting = []
            except OperationalError:
                with self.lock:  # the slot comes back to it
                    self.ended[:0] = ended
                    self.waiting.extend(waiting)

    def abandon(self) -> None:
        """Return even what runs, when its process ends in the middle of it."""
        with self.lock:
            if self.running is not None:
                self.running.redelivered = True
                self.waiting.appendleft(self.running)
        self.flush(lambda: True)
        self.give_back()

    def give_back(self) -> None:
        """Return what has not started; without a broker it comes back by itself, as nobody says any more that he
        holds it."""
        with self.lock:
            waiting, self.waiting = list(self.waiting), deque()
        if waiting:
            try:
                self.app.broker.settle([Settlement(delivery, Verb.RETURN) for delivery in waiting])
            except OperationalError as exc:
                logger.warning("%d messages cannot be given back now: %s", len(waiting), exc)

    def learn(self, tasks: int, seconds: float, full: bool) -> None:
        """Choose the size of the next reserve by how long the tasks of this one took.

        The servers' time is left out: the longer a round trip takes, the more it has to be shared.
        """
        self._seconds_per_task += 0.3 * (seconds / max(tasks, 1) - self._seconds_per_task)
        worth = int(WORTH / max(self._seconds_per_task, 1e-6)) or 1
        # Growing takes full batches; a slow one shrinks it at once.
        self.size = min(worth, LARGEST, self.size * 4 if full else self.size)
        self.size = max(self.size, 1)


def _wait(seconds: float, give_up: Callable[[], bool]) -> None:
    """Wait, but not for a stop that has come in the meantime."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0 and not give_up():
        time.sleep(min(left, LOOK))


def _finish_and_tell(batch: Batch, ended: list[Outcome]) -> None:
    finish_all(batch.app, ended)
    for outcome in ended:
        batch.on_finished(outcome)


def finish_all(app: App, outcomes: list[Outcome]) -> None:
    """Finish a batch; where one outcome cannot be finished, finish the others without it, and make it a failure.

    Raises:
        OperationalError: a server is away; nothing was finished.
    """
    try:
        finish(app, outcomes)
    except Exception as exc:  # what a server, or the value of a task, makes impossible is the trouble of one task only
        if _may_pass(exc):
            raise
        if len(outcomes) > 1:
            for outcome in outcomes:
                finish_all(app, [outcome])
            return
        _fail(app, outcomes[0], exc)


def _may_pass(exc: Exception) -> bool:
    """Whether the same may work later: a server is away, or takes nothing for the moment."""
    return isinstance(exc, OperationalError) and not isinstance(exc, RequestRefused)


def _fail(app: App, outcome: Outcome, exc: Exception) -> None:
    """End a task whose outcome the servers refuse: what they say is stored instead, and its message kept as dead."""
    message: Any = outcome.message
    logger.error("The outcome of task %s[%s] cannot be stored: %s", message.task, message.id, exc, exc_info=exc)
    replacement = failure(app, outcome.settlement.delivery if outcome.settlement else message, exc, verb=Verb.DEAD)
    if replacement.meta is not None:
        replacement.meta.args = replacement.meta.kwargs = None  # maybe they are what cannot be stored
    replacement.follow, replacement.tell = False, outcome.tell
    if _is_finished(app, replacement):
        return
    replacement.meta = None  # maybe nothing can be stored of it
    if not _is_finished(app, replacement):  # nothing is left to try, and the worker goes on
        logger.error("Task %s[%s] can neither end nor be kept as dead: it will run again", message.task, message.id)


def _is_finished(app: App, outcome: Outcome) -> bool:
    """Finish an outcome; return whether that could be done.

    Raises:
        OperationalError: a server is away.
    """
    try:
        finish(app, [outcome])
    except Exception as exc:
        if _may_pass(exc):
            raise
        logger.warning("Nor can that be stored of task %s: %s", outcome.message.id, exc)
        return False
    return True
