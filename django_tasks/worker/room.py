"""Who may run a task now, in a process with several slots: all of them at once, or one with nothing beside it."""

from __future__ import annotations

import threading
from collections.abc import Callable

#: Seconds between two looks whether the process stops, while a slot waits for its neighbours.
LOOK = 0.1


class Room:
    """What the slots of one process share.

    A task that kills its process takes its neighbours with it. So a message that workers have died with twice is run
    with nothing beside it: what dies then did it by itself.

    Args:
        slots: how many there are; one has no neighbours to look out for.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._changed = threading.Condition()
        self._running = 0
        self._claimed_by: object = None

    def is_closed_to(self, slot: object) -> bool:
        """Whether another slot waits for the room to be empty, or has it to itself."""
        return self._claimed_by is not None and self._claimed_by is not slot

    def enter(self, slot: object, *, alone: bool, stopping: Callable[[], bool]) -> bool:
        """Begin a run; return False where it must not begin.

        Args:
            alone: wait until nothing else runs, and let nothing else begin.
            stopping: ends that wait.
        """
        if self._slots == 1:
            return True
        with self._changed:
            if self.is_closed_to(slot):
                return False
            if alone:
                self._claimed_by = slot
                while self._running:
                    if stopping():
                        self._claimed_by = None
                        return False
                    self._changed.wait(LOOK)
            self._running += 1
            return True

    def leave(self, slot: object) -> None:
        """End a run."""
        if self._slots == 1:
            return
        with self._changed:
            self._running -= 1
            if self._claimed_by is slot:
                self._claimed_by = None
            self._changed.notify_all()
