"""A worker in one process: the solo pool, and threads where forking is unsafe. Its janitor is a thread."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from django_tasks import signals
from django_tasks.exceptions import OperationalError
from django_tasks.worker import shared
from django_tasks.worker.embedded import BeatThread
from django_tasks.worker.janitor import Janitor, janitor_identity
from django_tasks.worker.limits import RateLimiter
from django_tasks.worker.options import WorkerOptions
from django_tasks.worker.process import WorkerProcess, flush_output, take_seat
from django_tasks.worker.processes import say_stopping
from django_tasks.worker.shared import Page
from django_tasks.worker.stop import StopSignals

if TYPE_CHECKING:
    from django_tasks.app import App

logger = logging.getLogger("django_tasks.worker")


class SingleWorker:
    """A worker whose slots and janitor share one process.

    Args:
        app: the app.
        options: what the worker was told.
        signals_to_stop: what comes of signals that tell it to stop.
    """

    def __init__(self, app: App, options: WorkerOptions, signals_to_stop: StopSignals) -> None:
        self.app = app
        self.options = options
        self.signals_to_stop = signals_to_stop
        self.page = page = Page(options.slots, options.healthcheck_file)
        page.supervisor_pid = page.janitor_pid = os.getpid()
        for seat in page.seats:
            take_seat(seat, options.hostname, os.getpid())
        self.process = WorkerProcess(app, options, page, page.seats, RateLimiter(app.tasks.values()), None)
        self.process.on_ready, self.process.on_end = self._say_ready, self._say_stopping
        self.beat = BeatThread(app, page) if options.beat else None
        self.janitor = Janitor(app, options, page, janitor_identity(options))
        #: When tasks have to have ended, once the worker was told to stop.
        self.deadline = 0.0
        #: Whether a second signal has come.
        self.hurried = False
        self._stopped_by = ""
        self._saying = threading.Lock()
        self._ended = False
        self._wakeup = os.pipe()

    def run(self) -> int:
        """Run until told to stop, or until a burst is over; return the exit code."""
        for fd in self._wakeup:
            os.set_blocking(fd, False)
        self.signals_to_stop.listen(self.stop)
        self.janitor.safe_poll(time.monotonic())
        thread = threading.Thread(target=self.janitor.loop, args=(self._wakeup[0], self._is_over), name="janitor",
                                  daemon=True)  # fmt: skip
        thread.start()
        if self.beat is not None:
            self.beat.start()
        try:
            return self.process.run()
        finally:
            self._ended = True
            if self.beat is not None:
                self.beat.stop()
            self._wake_janitor()
            thread.join(2.0)
            self.janitor.leave()
            self._say_stopped()

    def _say_ready(self) -> None:
        logger.info("%s ready.", self.options.hostname)
        if signals.worker_ready.receivers:
            signals.worker_ready.send(sender=self.process)

    def stop(self, signum: int = signal.SIGTERM) -> None:
        """Stop in good order; when called again, at once (a signal handler)."""
        again = self.process.stop_asked
        self._stopped_by = self._stopped_by or signal.Signals(signum).name
        self.hurried = again
        self.deadline = time.monotonic() + (0.0 if again else self.options.shutdown_timeout)
        self.process.ask_to_stop()
        self._wake_janitor()

    def _wake_janitor(self) -> None:
        os.write(self._wakeup[1], b"!")

    def _is_over(self) -> bool:
        """Look after the process (the janitor asks this in each round)."""
        now = self.page.supervisor_tick = time.monotonic()
        if self.page.shutdown_ordered and not self.process.stop_asked:
            self.stop()
        self._say_stopping()
        if self.deadline and now >= self.deadline and not self._ended:
            self._end_now()
        return self._ended

    def _end_now(self) -> None:
        """Give everything back and end the process: the thread that runs a task cannot be stopped otherwise."""
        try:
            why = "A second signal has come" if self.hurried else "The time to end is up"
            logger.error("%s, and what runs goes back to its queue", why)
            for slot in self.process.minder.slots:
                slot.batch.abandon()
            self.app.broker.goodbye([self.janitor.identity, *(seat.identity for seat in self.page.seats)])
            self._say_stopped()
        except OperationalError as exc:
            logger.error("It cannot be reached, so that it goes back when its lease has run out: %s", exc)
        finally:
            if self.options.pidfile is not None:
                Path(self.options.pidfile).unlink(missing_ok=True)
            flush_output()
            os._exit(0)

    def _say_stopping(self) -> None:
        with self._saying:  # the janitor's thread in time, or the process when it has ended before that
            name, self._stopped_by = self._stopped_by, ""
        if name:
            say_stopping(self.options, name, sum(seat.state == shared.BUSY for seat in self.page.seats))

    def _say_stopped(self) -> None:
        self.page.remove()
        if signals.worker_shutdown.receivers:
            signals.worker_shutdown.send(sender=self.process)
        logger.info("%s stopped.", self.options.hostname)
