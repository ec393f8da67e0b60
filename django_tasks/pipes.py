"""Waiting for file descriptors, and pipes that wake whoever does."""

from __future__ import annotations

import contextlib
import os
import select
import time
import weakref
from collections.abc import Sequence


def readable(descriptors: Sequence[int], timeout: float) -> list[int]:
    """Wait up to ``timeout`` seconds for one of the descriptors to become readable; return those that are."""
    if not hasattr(select, "poll"):
        return select.select(descriptors, [], [], timeout)[0]
    poll = select.poll()  # unlike select() it takes descriptors above 1023
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return [descriptor for descriptor, _ in poll.poll(max(0.0, timeout) * 1000)]


def drain(fd: int) -> None:
    """Empty a wake-up pipe."""
    try:
        while os.read(fd, 4096):
            pass
    except BlockingIOError:
        pass


def open_pipe(owner: object) -> tuple[int, int]:
    """Open a pipe that is closed when its owner has gone."""
    ends = os.pipe()
    for end in ends:
        weakref.finalize(owner, os.close, end).atexit = False  # threads may use it to the very end
    return ends


class Place:
    """A place for one thread of a process, which the others wait for; they can be woken meanwhile."""

    def __init__(self) -> None:
        self._free, self._leaving = open_pipe(self)
        os.set_blocking(self._free, False)
        self.leave()

    def leave(self) -> None:
        """Let the next one wait."""
        os.write(self._leaving, b".")

    def take_free(self) -> bool:
        """Take the place if it is free; return whether it was."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._free, 1)
            return True
        return False

    def take(self, timeout: float, wakeup: int) -> bool:
        """Wait to be the one that waits; return whether it came to that."""
        deadline = time.monotonic() + timeout
        while not self.take_free():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            if wakeup in readable([wakeup, self._free], left):
                drain(wakeup)
                return False
        return True
