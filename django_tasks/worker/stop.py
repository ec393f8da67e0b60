"""The signals that tell a worker to stop, from its first line to its last."""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any

#: An order, Ctrl-C, a terminal that closes.
SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)]
#: Seconds after the first signal in which further ones mean the same.
ECHO = 1.0


class Stopped(BaseException):
    """The worker was told to stop before it had begun."""


class StopSignals:
    """What SIGTERM, SIGINT and SIGHUP do, as a context manager that a ``Stopped`` ends quietly.

    At first they raise ``Stopped``, so that a start is not waited for. After ``hold`` they are only noted, since there
    is something to put in order then. ``listen`` has them told to whoever does that. What comes within a second of the
    first is the same order once more: ``timeout`` and others send theirs to the process and to its group.

    Args:
        ends_process: nothing follows in this process: signals that come now are too late to mean anything.
        clock: seconds.
    """

    def __init__(self, *, ends_process: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self.ends_process = ends_process
        self.received: list[int] = []
        self._held = False
        self._clock = clock
        self._first_at: float | None = None
        self._listener: Callable[[int], Any] | None = None
        self._untold: deque[int] = deque()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        for signum in SIGNALS:
            # Shells have what they start in the background ignore SIGINT, which we do not; nohup is obeyed.
            if signum == signal.SIGINT or signal.getsignal(signum) is not signal.SIG_IGN:
                self._before[signum] = signal.signal(signum, self._receive)
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> bool:
        for signum, before in self._before.items():
            signal.signal(signum, signal.SIG_IGN if self.ends_process else before or signal.SIG_DFL)
        return isinstance(exc, Stopped)

    def _receive(self, signum: int, frame: Any) -> None:
        now = self._clock()
        if self._first_at is None or now - self._first_at >= ECHO:
            self.received.append(signum)
            self._untold.append(signum)
            self._tell()
        self._first_at = self._first_at or now
        if not self._held:
            raise Stopped

    def hold(self) -> None:
        """Raise nothing from here on."""
        self._held = True

    def listen(self, listener: Callable[[int], Any]) -> None:
        """Tell a function of every signal, also of those that have come: a ``Stopped`` may have been swallowed."""
        self._listener = listener
        self._tell()

    def _tell(self) -> None:
        # Another signal may come anywhere in here: each is taken off in one piece, so that it is told once.
        while self._listener is not None:
            try:
                signum = self._untold.popleft()
            except IndexError:
                return
            self._listener(signum)
