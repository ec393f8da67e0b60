"""The clock of a task queue in a test."""

from __future__ import annotations

import time


class Clock:
    """The real time plus what the test has moved it ahead; called, it returns seconds since the epoch."""

    def __init__(self) -> None:
        #: Seconds by which it is ahead of the real time.
        self.ahead = 0.0
        #: Where it stands while the test moves it; None while it goes by itself.
        self.standing: float | None = None
        #: What it said last. Moves begin here rather than now, so that a slow test does not make them longer.
        self.last = time.time()

    def __call__(self) -> float:
        if self.standing is None:
            self.last = time.time() + self.ahead
        else:
            self.last = self.standing
        return self.last

    def stand_at(self, instant: float) -> None:
        """Move it there, and let it stand until ``go_on``; where it stands already it never goes back."""
        start = self.last if self.standing is None else self.standing
        self.standing = max(instant, start)
        self.ahead += self.standing - start

    def go_on(self) -> None:
        """Let it go by itself again, from the instant where it stands."""
        self.last = self.last if self.standing is None else self.standing
        self.standing = None
