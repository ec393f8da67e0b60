"""Time limits inside a process, and rate limits across the processes of a worker."""

from __future__ import annotations

import ctypes
import mmap
import signal
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from django_tasks.exceptions import SoftTimeLimitExceeded
from django_tasks.task_options import parse_rate_limit
from django_tasks.worker.shared import Seat

try:
    import fcntl
except ImportError:
    # Windows, where threads are all there is. (A module's type has no None.)
    fcntl = None  # type: ignore[assignment]

Guard = Callable[["float | None", "float | None"], AbstractContextManager[None]]


def alarm_guard(seat: Seat) -> Guard:
    """Limits for a task in the main thread: a timer signal for the soft one, the supervisor for the hard one."""

    def too_long(signum: int, frame: Any) -> None:
        raise SoftTimeLimitExceeded()

    @contextmanager
    def guard(hard: float | None, soft: float | None) -> Iterator[None]:
        previous = signal.signal(signal.SIGALRM, too_long) if soft else None
        if hard:
            seat.limit, seat.deadline = hard, time.monotonic() + hard
        try:
            if soft:
                signal.setitimer(signal.ITIMER_REAL, soft)
            yield
        finally:
            seat.deadline = 0.0
            if soft:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, previous)

    return guard


class ThreadLimits:
    """Limits for a task in a thread; a watcher calls ``check`` from another.

    Attributes:
        soft_at: when to raise the soft limit in the thread (monotonic seconds; 0 for never).
        hard_at: when its time is up.
    """

    def __init__(self) -> None:
        self.soft_at = self.hard_at = 0.0
        self.thread = threading.get_ident()
        self.lock = threading.Lock()

    @contextmanager
    def guard(self, hard: float | None, soft: float | None) -> Iterator[None]:
        """Set the limits of one call."""
        now = time.monotonic()
        self.thread = threading.get_ident()
        self.soft_at, self.hard_at = now + soft if soft else 0.0, now + hard if hard else 0.0
        try:
            yield
        finally:
            try:
                # Under the lock: the exception must not come once the call is over. It may come right here.
                with self.lock:
                    self.soft_at = 0.0
            finally:
                self.hard_at = 0.0

    def check(self, now: float) -> bool:
        """Raise the soft limit in the thread if it has passed; return whether the hard one has."""
        with self.lock:
            if self.soft_at and now >= self.soft_at:
                self.soft_at = 0.0
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(self.thread), ctypes.py_object(SoftTimeLimitExceeded)
                )
            return bool(self.hard_at) and now >= self.hard_at


class RateLimiter:
    """Token buckets of one worker, in memory that its processes share.

    A bucket is one number: when the next token falls due. A task that comes before that gets the token all the same,
    and waits in the broker until then, so it is put back once however long the line is.

    Args:
        tasks: those that may have a limit.
        clock: seconds.
    """

    def __init__(self, tasks: Iterable[Any], clock: Callable[[], float] = time.monotonic) -> None:
        rates = {task.name: parse_rate_limit(task.rate_limit) for task in tasks}
        self.rates = {name: rate for name, rate in rates.items() if rate}
        self.places = {name: 8 * number for number, name in enumerate(self.rates)}
        self.memory = mmap.mmap(-1, max(8, 8 * len(self.rates)))
        self.clock = clock
        self._threads = threading.Lock()
        # A file lock: the system releases it when its holder is killed.
        self._file = tempfile.TemporaryFile() if fcntl else None  # noqa: SIM115 - open as long as the worker lives

    def admit(self, task: Any) -> float:
        """Take the task's next token; return the seconds until it falls due, 0 for now."""
        rate = self.rates.get(task.name)
        if not rate:
            return 0.0
        with self._locked():
            now = self.clock()
            due = max(now, struct.unpack_from("<d", self.memory, self.places[task.name])[0])
            struct.pack_into("<d", self.memory, self.places[task.name], due + 1 / rate)
        return float(due - now)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._threads:
            if self._file is not None:
                fcntl.lockf(self._file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                if self._file is not None:
                    fcntl.lockf(self._file, fcntl.LOCK_UN)
