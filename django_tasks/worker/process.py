"""A worker process: its slots, their loops, and when it ends."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from asgiref.sync import SyncToAsync
from django.core.cache import caches
from django.db import connections

from django_tasks import signals
from django_tasks.executor import Executor
from django_tasks.worker.limits import RateLimiter, ThreadLimits, alarm_guard
from django_tasks.worker.minder import Minder, resident_memory
from django_tasks.worker.options import WorkerOptions
from django_tasks.worker.room import Room
from django_tasks.worker.shared import FREE, IDLE, STARTING, Page, Seat
from django_tasks.worker.slot import Slot

if TYPE_CHECKING:
    from django_tasks.app import App

logger = logging.getLogger("django_tasks.worker")

#: Seconds between two looks of an idle slot whose worker stops when the queues are empty.
BURST_WAIT = 0.1
#: Seconds between two measurements of the process's memory.
MEASURE = 0.01


class WorkerProcess:
    """One process of a worker: forked by the supervisor, or the only one there is.

    Args:
        app: the app.
        options: what the worker was told.
        page: the shared page.
        seats: the places of its slots.
        limiter: the rate limits of the whole worker.
        parent: pid of the supervisor; None when there is none.
    """

    def __init__(
        self, app: App, options: WorkerOptions, page: Page, seats: list[Seat], limiter: RateLimiter, parent: int | None
    ) -> None:
        self.app = app
        self.options = options
        self.page = page
        self.seats = seats
        self.limiter = limiter
        self.parent = parent
        #: Told when it begins to take tasks, and when it takes no more.
        self.on_ready: Callable[[], None] = lambda: None
        self.on_end: Callable[[], None] = lambda: None
        self.stop_asked = False
        self.overrun = False
        self.minder = Minder(app, self._on_overrun, page.has_waiting)
        self.room = Room(options.slots)
        self._wakeups: list[int] = []
        self._at_work: set[Slot] = set()
        self._changed = threading.Event()
        self._measure_after = 0.0

    def run(self) -> int:
        """Work until told to stop, or until this process is to be replaced; return the exit code."""
        for seat in self.seats:
            seat.pid, seat.tick = os.getpid(), time.monotonic()
        if signals.worker_process_init.receivers:
            signals.worker_process_init.send(sender=None)
        self.on_ready()
        slots = [self._slot(seat) for seat in self.seats]
        self.minder.slots = slots
        self.minder.start()
        try:
            if self.options.slots == 1:
                self._loop(slots[0])
            else:
                self._run_threads(slots)
        finally:
            self._leave()
        return 1 if self.overrun and self.parent is None else 0  # then nobody else replaces it

    def _slot(self, seat: Seat) -> Slot:
        executor = Executor(
            self.app,
            hostname=self.options.hostname,
            admit=self.limiter.admit if not self.app.conf.worker_disable_rate_limits else lambda task: 0.0,
            limits=self.options.limits,
        )
        slot = Slot(
            self.app, seat, executor, self.options.queues, stopping=lambda: self.is_stopping(slot),
            giving_up=self.is_stopping_now, paused=lambda: bool(self.page.paused), on_batch=self.minder.wake,
            room=self.room,
        )  # fmt: skip
        executor.on_acknowledged = seat.note_acknowledged
        if self.options.slots == 1 and threading.current_thread() is threading.main_thread():
            executor.guard = alarm_guard(seat)
        else:
            limits = self.minder.limits[slot] = ThreadLimits()
            executor.guard = _waking(limits, self.minder)
        if self.options.burst:
            slot.idle_wait = BURST_WAIT
        return slot

    def _loop(self, slot: Slot) -> None:
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)
        self._wakeups.append(writing)
        if threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        slot.seat.state = IDLE
        slot.loop(reading)

    def _run_threads(self, slots: list[Slot]) -> None:
        threads = [
            threading.Thread(target=self._thread, args=(slot,), name=f"slot-{number}", daemon=True)
            for number, slot in enumerate(slots, 1)
        ]
        self._at_work = set(slots)
        for thread in threads:
            thread.start()
        # A thread that hangs in a task which is past its hard limit is not waited for.
        while any(not self.overrun or slot in self.minder.limits for slot in list(self._at_work)):
            self._changed.wait()
            self._changed.clear()

    def _thread(self, slot: Slot) -> None:
        try:
            self._loop(slot)
        except BaseException:
            logger.exception("A slot of this process failed; the process is replaced")
            self.overrun = True
            self.wake()
        finally:
            connections.close_all()
            self._at_work.discard(slot)
            self._changed.set()

    # -- when to stop

    def ask_to_stop(self, signum: int = 0, frame: Any = None) -> None:
        """Finish what runs and begin nothing more (a signal handler)."""
        self.stop_asked = True
        self.wake()

    def wake(self) -> None:
        """End the waits of all slots."""
        for fd in self._wakeups:
            with contextlib.suppress(BlockingIOError):  # full: it wakes anyhow
                os.write(fd, b"!")

    def _on_overrun(self) -> None:
        self.overrun = True
        self.wake()
        self._changed.set()

    def is_stopping(self, slot: Slot) -> bool:
        """Whether a slot is to begin nothing more."""
        return self.overrun or self.is_stopping_now() or self._is_used_up(slot)

    def is_stopping_now(self) -> bool:
        """Whether not to wait for a server that is away."""
        orphaned = self.parent is not None and os.getppid() != self.parent
        return self.stop_asked or bool(self.page.stopping) or orphaned

    def _is_used_up(self, slot: Slot) -> bool:
        options = self.options
        if options.burst and slot.idle_polls > 0 and self._queues_are_empty():
            self.page.drained = 1
            return True
        if self.parent is None:
            return False  # nobody would replace it
        if options.max_tasks and sum(seat.processed for seat in self.seats) >= options.max_tasks:
            return True
        return bool(options.max_memory and slot.seat.processed and self._is_too_large(options.max_memory))

    def _is_too_large(self, limit: int) -> bool:
        now = time.monotonic()
        if now < self._measure_after:
            return False
        self._measure_after = now + MEASURE
        if resident_memory() <= limit:
            return False
        logger.warning("Process %d uses more than %d KiB and is replaced", os.getpid(), limit)
        self.stop_asked = True
        return True

    def _queues_are_empty(self) -> bool:
        sizes = self.app.broker.sizes(self.options.queues).values()
        return not any(size.waiting or size.reserved for size in sizes)

    def _leave(self) -> None:
        """Say good-bye to the broker in good order, and free the seats."""
        self.on_end()
        try:
            if not self.overrun:
                self.app.broker.goodbye([seat.identity for seat in self.seats])
                for seat in self.seats:
                    seat.state = FREE
        except Exception as exc:  # whatever it is, the end of this process is near, and the lease ends without it
            logger.warning("Could not say good-bye to the broker: %s", exc)
        if signals.worker_process_shutdown.receivers:
            signals.worker_process_shutdown.send(sender=None, pid=os.getpid(), exitcode=0)
        connections.close_all()


def _waking(limits: ThreadLimits, minder: Minder) -> Any:
    """Let the minder watch whenever a call has limits."""

    @contextlib.contextmanager
    def guard(hard: float | None, soft: float | None) -> Iterator[None]:
        with limits.guard(hard, soft):
            minder.wake()  # not before there is something to mind, or it would go to sleep again
            yield

    return guard


def take_seat(seat: Seat, hostname: str, pid: int) -> None:
    """Give a seat to a process, under an identity that no other start of a worker has."""
    seat.clear()
    seat.identity = f"{hostname}/{pid}-{uuid.uuid4().hex[:12]}"
    seat.pid = pid
    seat.tick = time.monotonic()
    seat.state = STARTING


def become_child(name: str, stop: Any) -> None:
    """Make a forked process its own: name, signals, chance, connections."""
    multiprocessing.current_process().name = name
    signal.signal(signal.SIGTERM, stop)
    # Ctrl-C and the end of a terminal go to the whole group of processes; only the supervisor decides what they mean.
    for signum in (signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    random.seed()
    close_connections()
    # If the parent had one, its thread is not here, and the first coroutine that uses the database would hang.
    SyncToAsync.single_thread_executor = ThreadPoolExecutor(max_workers=1)


def close_connections() -> None:
    """Close what two processes must not share."""
    connections.close_all()
    caches.close_all()


def flush_output() -> None:
    """Write out what tasks have printed and logged, before ``os._exit``."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
