"""The processes of a worker, as their parent sees them: forked, reaped, killed."""

from __future__ import annotations

import logging
import os
import signal
import time
from typing import TYPE_CHECKING

from django_tasks import signals
from django_tasks.worker import shared
from django_tasks.worker.embedded import BeatChild
from django_tasks.worker.forks import SILENT_LOOKS, fork, how_it_ended
from django_tasks.worker.janitor import Janitor, janitor_identity
from django_tasks.worker.limits import RateLimiter
from django_tasks.worker.options import WorkerOptions
from django_tasks.worker.process import WorkerProcess, take_seat
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
        self.janitor_pid = 0
        self.beat = BeatChild(app, page) if options.beat else None
        #: When the next fork may be: after a quick death, not at once.
        self.fork_after = self.janitor_after = 0.0
        self._started: dict[int, float] = {}
        self._told: set[int] = set()
        self._killed: set[int] = set()
        self._forks = self._silent_looks = 0

    def fork_worker(self) -> bool:
        """Start one more worker process, if seats are free."""
        seats = [seat for seat in self.page.seats if seat.state == shared.FREE][: self.options.slots]
        if len(seats) < self.options.slots:
            return False
        for seat in seats:
            # Here rather than in the child: until it gets to it, the next fork would find them free.
            take_seat(seat, self.options.hostname, os.getpid())
        process = WorkerProcess(self.app, self.options, self.page, seats, self.limiter, os.getpid())
        self._forks += 1
        try:
            pid = fork(process.run, f"Worker-{self._forks}", process.ask_to_stop)
        except OSError as exc:
            logger.error("A worker process cannot be started: %s", exc)
            self.fork_after = time.monotonic() + QUICK_DEATH
            for seat in seats:
                seat.clear()
            return False
        for seat in seats:
            seat.pid = pid
        self.workers[pid] = seats
        self._started[pid] = time.monotonic()
        return True

    def fork_janitor(self) -> None:
        """Start the janitor."""
        parent = os.getpid()

        def alone() -> bool:
            return os.getppid() != parent

        def stopping() -> bool:
            # Not when it is sent SIGTERM, as the managers of containers and services send it to all processes: while
            # tasks run, even after the supervisor died, the janitor keeps their leases.
            return self.page.stopping > 1 or (alone() and not any(self.page.taken()))

        def work() -> int:
            identity = janitor_identity(self.options)
            self.page.janitor_pid = os.getpid()
            janitor = Janitor(self.app, self.options, self.page, identity, alone)
            reading, writing = os.pipe()
            os.set_blocking(reading, False)
            os.set_blocking(writing, False)
            signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
            janitor.loop(reading, stopping)
            janitor.leave()
            return 0

        try:
            self.janitor_pid = fork(work, "Janitor", lambda *_: None)
        except OSError as exc:
            logger.error("The janitor cannot be started: %s", exc)
            self.janitor_after = time.monotonic() + QUICK_DEATH
            return
        self.page.janitor_tick = time.monotonic()
        self._started[self.janitor_pid] = time.monotonic()

    def reap(self, now: float) -> None:
        """Bury what has ended: in good order, or leaving messages for the janitor."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            quick = now - self._started.pop(pid, 0.0) < QUICK_DEATH
            if pid == self.janitor_pid:
                self.janitor_pid = 0
                self.janitor_after = now + QUICK_DEATH if quick else now
                if self.page.stopping < 2:
                    logger.error("The janitor %s and is replaced", how_it_ended(status))
            elif self.beat is not None and pid == self.beat.pid:
                self.beat.died(status, now, bool(self.page.stopping))
            elif pid in self.workers:
                self._worker_died(pid, status)
                if status and quick:
                    self.fork_after = now + QUICK_DEATH

    def _worker_died(self, pid: int, status: int) -> None:
        self._told.discard(pid)
        self._killed.discard(pid)
        seats = self.workers.pop(pid)
        intended = any(seat.verdict == shared.TERMINATED and seat.pid == pid for seat in seats)
        for seat in seats:
            # The janitor may have seen to it before us, and a new process have taken it.
            if seat.state != shared.FREE and seat.pid == pid:
                seat.state = shared.DEAD
        if status and not self.page.stopping:
            level, why = (logging.INFO, ", since its task was revoked") if intended else (logging.ERROR, "")
            logger.log(level, "Worker process %d %s%s", pid, how_it_ended(status), why)

    def watch_janitor(self, now: float) -> None:
        """Have a janitor that goes round: without one the leases run out."""
        if not self.janitor_pid:
            if now >= self.janitor_after:
                self.fork_janitor()
            return
        silence = now - self.page.janitor_tick
        self._silent_looks = self._silent_looks + 1 if silence > self.app.broker.lease / 2 else 0
        if self._silent_looks > SILENT_LOOKS:
            self._silent_looks = 0
            logger.error("The janitor has not gone round for %.0f s and is killed", silence)
            os.kill(self.janitor_pid, signal.SIGKILL)

    def staying(self) -> list[int]:
        """Return the worker processes that were not told to stop."""
        return [pid for pid in self.workers if pid not in self._told]

    def shrink(self, wanted: int) -> None:
        """Tell processes that are too many to stop: those that run nothing before others, the youngest first."""
        staying = self.staying()
        staying.reverse()
        staying.sort(key=lambda pid: any(seat.state == shared.BUSY for seat in self.workers[pid]))
        self.tell_to_stop(staying[: max(0, len(staying) - wanted)])

    def watch_beat(self, now: float) -> None:
        """Have the beat that was asked for (``-B``), until the worker stops."""
        if self.beat is not None and not self.page.stopping:
            self.beat.watch(now)

    def tell_to_stop(self, pids: list[int]) -> None:
        """Let worker processes finish what they run and end; each is told once."""
        for pid in pids:
            if pid not in self._told:
                self._told.add(pid)
                os.kill(pid, signal.SIGTERM)

    def kill(self, pid: int, verdict: int, reason: str) -> None:
        """Kill a worker process, and note why for the janitor; what it was convicted of before stays."""
        for seat in self.workers[pid]:
            if not seat.verdict:
                seat.verdict = verdict
        if pid not in self._killed:
            self._killed.add(pid)
            logger.error("Process %d is killed: %s", pid, reason)
        os.kill(pid, signal.SIGKILL)

    def kill_all(self, why: str = "the time to end is up") -> None:
        """Kill the workers that are left when their time is up."""
        for pid in self.workers:
            self.kill(pid, shared.SHUTDOWN, f"{why}, and what it runs goes back to its queue")

    def stop_others(self) -> None:
        """Let the janitor do a last round, and stop it, and the beat."""
        self.page.stopping = 2
        if self.beat is not None:
            self.beat.tell_to_stop()
        if self.janitor_pid:
            os.kill(self.janitor_pid, signal.SIGTERM)  # ends its wait
        deadline = time.monotonic() + LAST_ROUND
        while self._others() and time.monotonic() < deadline:
            self.reap(time.monotonic())
            time.sleep(0.01)
        for pid, name in self._others().items():
            logger.error("The %s does not stop and is killed", name)
            os.kill(pid, signal.SIGKILL)

    def _others(self) -> dict[int, str]:
        """Return the children that run no tasks, by name."""
        pids = {self.janitor_pid: "janitor", self.beat.pid if self.beat is not None else 0: "beat"}
        return {pid: name for pid, name in pids.items() if pid}


def say_stopping(options: WorkerOptions, signal_name: str, running: int) -> None:
    """Log that the worker begins to stop, and tell receivers."""
    if running:
        tasks = "1 task runs and has" if running == 1 else f"{running} tasks run and have"
        logger.warning("Stopping (%s): %s %g s to end; a second signal does not wait", signal_name, tasks,
                       options.shutdown_timeout)  # fmt: skip
    else:
        logger.warning("Stopping (%s): no task runs", signal_name)
    if signals.worker_shutting_down.receivers:
        signals.worker_shutting_down.send(sender=options.hostname, sig=signal_name, how="Warm", exitcode=0)
