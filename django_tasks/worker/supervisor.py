"""The supervisor: starts, waits, replaces. It has no threads and no connections, so that nothing can hold it up."""

from __future__ import annotations

import gc
import logging
import os
import select
import signal
import threading
import time
from typing import TYPE_CHECKING

from django_tasks import signals
from django_tasks.pipes import drain
from django_tasks.worker import shared
from django_tasks.worker.autoscale import Autoscaler
from django_tasks.worker.options import WorkerOptions
from django_tasks.worker.processes import Processes, say_stopping
from django_tasks.worker.shared import Page

if TYPE_CHECKING:
    from django_tasks.app import App

logger = logging.getLogger("django_tasks.worker")

#: Seconds between two looks at the processes, and while no task runs; a signal or a death ends the wait. The janitor
#: hears of an order within a second, so that it is obeyed within two.
LOOK, REST = 0.5, 1.0


class Supervisor:
    """Keeps the processes of one worker alive.

    Args:
        app: the app.
        options: what the worker was told.
        signals_received: where signals that tell it to stop are noted.
    """

    def __init__(self, app: App, options: WorkerOptions, signals_received: list[int]) -> None:
        self.app = app
        self.options = options
        # Twice the seats: a dead process keeps its own until the janitor has seen to what it held.
        self.page = Page(2 * (options.concurrency + shared.SPARE), options.healthcheck_file)
        self.page.supervisor_pid = os.getpid()
        self.page.wanted = options.processes
        self.processes = Processes(app, options, self.page)
        self.autoscaler = Autoscaler(options, self.page) if options.least else None
        self.signals_received = signals_received
        self.deadline = 0.0
        #: Whether a second signal has come.
        self.hurried = False
        self.ready = False

    def run(self) -> int:
        """Run until told to stop, or until a burst is over; return the exit code."""
        wakeup = _wake_on_signals()
        _prepare_to_fork()
        try:
            while self.poll(time.monotonic()):
                if select.select([wakeup], [], [], self._pause())[0]:
                    drain(wakeup)
        finally:
            self._end()
        return 0

    def poll(self, now: float) -> bool:
        """Look at every process once; return whether there is anything left to supervise."""
        self.page.supervisor_tick = now
        self.processes.reap(now)
        self.processes.watch_janitor(now)
        self._obey_signals(now)
        self._enforce_limits(now)
        if self.page.stopping:
            if now >= self.deadline:
                self.processes.kill_all("a second signal has come" if self.hurried else "the time to end is up")
            return bool(self.processes.workers)
        if self.autoscaler is not None:
            self.autoscaler.scale(now)
        self._replace(now)
        self.processes.watch_beat(now)
        self._report_ready()
        return bool(self.processes.workers) or not (self.options.burst and self.page.drained)

    def _pause(self) -> float:
        """Return the seconds until the next look: a task that begins meanwhile may pass a limit by that."""
        rests = self.ready and not self.page.stopping and self.autoscaler is None
        return REST if rests and all(seat.state != shared.BUSY for seat in self.page.seats) else LOOK

    def _replace(self, now: float) -> None:
        """Have as many processes as are wanted, but for a burst that is over."""
        processes = self.processes
        if self.options.burst and self.page.drained:
            return
        # Those that were told to stop do not count: they take nothing more, and may be long at what they have.
        while len(processes.staying()) < self.page.wanted and now >= processes.fork_after and processes.fork_worker():
            pass
        processes.shrink(self.page.wanted)

    def _enforce_limits(self, now: float) -> None:
        """Kill what ran longer than its hard limit, and what has been stopped for longer than a lease."""
        for pid, seats in self.processes.workers.items():
            stopped = shared.condition(pid) is shared.Condition.STOPPED
            for seat in seats:
                seat.frozen_since = (seat.frozen_since or now) if stopped else 0.0
                if seat.convict_if_late(now):
                    self.processes.kill(
                        pid, shared.TIME_LIMIT, f"task {seat.running} passed its hard time limit of {seat.limit:g} s"
                    )
            if stopped and now - seats[0].frozen_since > self.app.broker.lease:
                self.processes.kill(pid, shared.STUCK, f"it has been stopped for {self.app.broker.lease:g} s")

    def _report_ready(self) -> None:
        at_work = self.page.broker_tick and all(seat.state != shared.STARTING for seat in self.page.seats)
        if not self.ready and (at_work or self.page.drained):  # a burst may be over before anybody has looked
            self.ready = True
            logger.info("%s ready.", self.options.hostname)
            if signals.worker_ready.receivers:
                signals.worker_ready.send(sender=self)

    def _obey_signals(self, now: float) -> None:
        """First signal: stop in good order. Second: at once."""
        if self.page.shutdown_ordered and not self.page.stopping:
            self.signals_received.append(signal.SIGTERM)
        while self.signals_received:
            name = signal.Signals(self.signals_received.pop(0)).name
            if self.page.stopping:
                self.deadline, self.hurried = now, True
                continue
            self.page.stopping = 1
            self.deadline = now + self.options.shutdown_timeout
            say_stopping(self.options, name, sum(seat.state == shared.BUSY for seat in self.page.seats))
            self.processes.tell_to_stop(list(self.processes.workers))
            if self.processes.beat is not None:
                self.processes.beat.tell_to_stop()

    def _end(self) -> None:
        """Stop the janitor last: it returns what killed processes held."""
        self.page.stopping = max(self.page.stopping, 1)
        while self.processes.workers:
            self.processes.kill_all()
            self.processes.reap(time.monotonic())
            time.sleep(0.01)
        self.processes.stop_others()
        self.page.remove()
        if signals.worker_shutdown.receivers:
            signals.worker_shutdown.send(sender=self)
        logger.info("%s stopped.", self.options.hostname)


def _wake_on_signals() -> int:
    """Return a file descriptor that can be read when a signal has come, a child's death included."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    return reading


def _prepare_to_fork() -> None:
    """Leave nothing to children that they must not share, and memory that they can."""
    others = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    if others:
        logger.warning("Threads run before the fork (%s): what they lock stays locked in worker processes. Start them "
                       "in worker_process_init instead.", ", ".join(others))  # fmt: skip
    gc.collect()
    gc.freeze()
