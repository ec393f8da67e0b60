"""Several systems measured at the same time, each in a thread, where they leave each other alone."""

from __future__ import annotations

import threading


class Interrupted(Exception):
    """The run is to end now."""


class Company:
    """Those that are measured together.

    Args:
        size: how many they are.

    Attributes:
        turn: held by the one that does something, while the others have nothing to do.
    """

    def __init__(self, size: int = 1) -> None:
        self.turn = threading.Lock()
        self._size = size
        self._here = 0
        self._meetings = 0
        self._changed = threading.Condition()
        self._interrupted = threading.Event()

    def meet(self) -> None:
        """Wait until all the others that have not left are here, too."""
        with self._changed:
            number = self._meetings
            self._here += 1
            self._begin_if_complete()
            self._changed.wait_for(lambda: self._meetings > number)
        self.check()

    def leave(self) -> None:
        """Take part no longer: nobody waits for the caller any more."""
        with self._changed:
            self._size -= 1
            self._begin_if_complete()

    def _begin_if_complete(self) -> None:
        if self._here == self._size:
            self._here = 0
            self._meetings += 1
            self._changed.notify_all()

    def sleep(self, seconds: float) -> None:
        """Wait for so long.

        Raises:
            Interrupted: the run ends.
        """
        self._interrupted.wait(seconds)
        self.check()

    def check(self) -> None:
        """Raise ``Interrupted`` if the run ends."""
        if self._interrupted.is_set():
            raise Interrupted

    def interrupt(self) -> None:
        """Let all threads end soon."""
        self._interrupted.set()
