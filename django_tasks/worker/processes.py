"""The processes of a worker, as their parent sees them: forked, reaped, killed."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django_tasks.worker import shared
from django_tasks.worker.janitor import Janitor
from django_tasks.worker.limits import RateLimiter
from django_tasks.worker.options import WorkerOptions
from django_tasks.worker.process import WorkerProcess, become_child, take_seat
from django_tasks.worker.shared import Page, Seat

if TYPE_CHECKING:
    from django_tasks.app import App

logger = logging.getLogger("django_tasks.worker")

#: A process that dies sooner than this after its start (seconds) is replaced only after the same time.
QUICK_DEATH = 1.0
#: Seconds that the janitor has to put things in order at the end.
LAST_ROUND = 5.0


class Processes:
    """The children of one supervisor.

    Args:
        app: the app.
        options: what the worker was told.
        page: the shared page.
    """

    def __init__(self, app: App, options: WorkerOptions, page: Page) -> None:
        self.app = app
        self.options = options
        self.page = page
        self.limiter = RateLimiter(app.tasks.values())
        #: Seats by process id.
        self.workers: dict[int, list[Seat]] = {}
        self.started: dict[int, float] = {}
        self.janitor_pid = 0
        self.fork_after = 0.0

    def fork_worker(self) -> bool:
        """Start one more worker process, if seats are free."""
        free = [seat for seat in self.page.seats if seat.state == shared.FREE]
        seats = free[: self.options.slots]
        if len(seats) < self.options.slots:
            return False
        process = WorkerProcess(self.app, self.options, self.page, seats, self.limiter, os.getpid())
        for seat in seats:
            seat.state = shared.STARTING

        def work() -> int:
            for seat in seats:
                take_seat(seat, self.options.hostname, os.getpid())
            return process.run()

        pid = _fork(work, f"Worker-{len(self.workers) + 1}", process.ask_to_stop)
        self.workers[pid] = seats
        self.started[pid] = time.monotonic()
        return True

    def fork_janitor(self) -> None:
        """Start the janitor."""
        stop = threading.Event()
        parent = os.getpid()

        def stopping() -> bool:
            # A janitor whose supervisor died keeps its siblings' leases until they have finished.
            return stop.is_set() or (os.getppid() != parent and not any(self.page.taken()))

        def work() -> int:
            identity = f"{self.options.hostname}/janitor-{os.getpid()}-{time.time_ns()}"
            self.page.janitor_pid = os.getpid()
            janitor = Janitor(self.app, self.options, self.page, identity)
            reading, writing = os.pipe()
            os.set_blocking(reading, False)
            os.set_blocking(writing, False)
            signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
            janitor.loop(reading, stopping)
            janitor.safe_poll(time.monotonic())
            self.app.broker.goodbye([identity])
            return 0

        self.janitor_pid = _fork(work, "Janitor", lambda *_: stop.set())

    def reap(self, now: float) -> None:
        """Bury what has ended: in good order, or leaving messages for the janitor."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.janitor_pid:
                self._janitor_died(status)
            elif pid in self.workers:
                self._worker_died(pid, status, now)

    def _worker_died(self, pid: int, status: int, now: float) -> None:
        for seat in self.workers.pop(pid):
            if seat.state != shared.FREE and seat.pid in (0, pid):
                seat.state = shared.DEAD if seat.identity else shared.FREE
        if status and not self.page.stopping:
            logger.error("Worker process %d %s", pid, _how(status))
            if now - self.started[pid] < QUICK_DEATH:
                self.fork_after = now + QUICK_DEATH

    def _janitor_died(self, status: int) -> None:
        self.janitor_pid = 0
        if not self.page.stopping:
            logger.error("The janitor %s and is replaced", _how(status))
            self.fork_janitor()

    def signal_workers(self, signum: int, pids: list[int] | None = None) -> None:
        """Send a signal to worker processes, all by default."""
        for pid in list(self.workers) if pids is None else pids:
            os.kill(pid, signum)

    def kill(self, pid: int, verdict: int) -> None:
        """Kill a worker process, and note why for the janitor."""
        for seat in self.workers[pid]:
            if not seat.verdict:
                seat.verdict = verdict
        os.kill(pid, signal.SIGKILL)

    def kill_all(self) -> None:
        """Kill the workers that are left when their time is up."""
        for pid, seats in self.workers.items():
            if not any(seat.verdict for seat in seats):
                logger.warning("Process %d is killed; what it runs goes back to its queue", pid)
                self.kill(pid, shared.SHUTDOWN)

    def stop_janitor(self) -> None:
        """Let the janitor do a last round, and stop it."""
        if not self.janitor_pid:
            return
        os.kill(self.janitor_pid, signal.SIGTERM)
        deadline = time.monotonic() + LAST_ROUND
        while self.janitor_pid and time.monotonic() < deadline:
            self.reap(time.monotonic())
            time.sleep(0.01)
        if self.janitor_pid:
            logger.error("The janitor does not stop and is killed")
            os.kill(self.janitor_pid, signal.SIGKILL)


def _fork(work: Callable[[], int], name: str, stop: Callable[..., Any]) -> int:
    """Run ``work`` in a child; ``stop`` is its SIGTERM handler."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        become_child(name, stop)
        code = work()
    except BaseException:
        logger.critical("%s failed", name, exc_info=True)
    finally:
        logging.shutdown()
        os._exit(code)


def _how(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"was killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"ended with exit code {os.WEXITSTATUS(status)}"
