"""Where the ready messages of a queue begin, behind rows that the database cannot clean up."""

from __future__ import annotations

from collections import deque

#: A message's place in its queue: ranking and id.
Place = tuple[int, int]

#: Seconds that a look from the very beginning takes where something is wrong, and how many such looks in a row.
SLOW, SLOW_LOOKS = 0.020, 2
#: The part of the time that looks from the beginning may take then.
SHARE = 0.01
#: Seconds for which a transaction may hold back a message with a lower id than those that were claimed since: most, and
#: nearly all. What is held back for longer than the first is looked for every ``EVERY`` seconds.
SOON, LATE, EVERY = 0.2, 2.0, 0.5
#: Seconds between two places that are remembered.
STEP = 0.1


class Frontier:
    """Says where a claim begins.

    While somebody holds an old snapshot, PostgreSQL keeps the rows of messages that have ended, and their index entries
    before those of the messages that wait: a claim from the beginning goes through all of them. So once that takes
    long, claims begin where those of a moment ago ended. What comes to its queue before that place (it was delayed, or
    given back, or its transaction took longer) is found by looks from the beginning, which go on more rarely.
    """

    def __init__(self) -> None:
        #: Where claims of ``LATE`` seconds ago ended, and of those since: when, and where.
        self._start: Place | None = None
        self._reached: deque[tuple[float, Place]] = deque()
        self._slow_looks = 0
        self._look_after = self._look_back_after = 0.0

    def start(self, now: float) -> Place | None:
        """Return the place to begin at, where there is reason for one; None for the very beginning."""
        while self._reached and self._reached[0][0] <= now - LATE:
            place = self._reached.popleft()[1]
            self._start = max(place, self._start or place)
        if self._start is None or now >= self._look_after:
            return None
        if now >= self._look_back_after:
            self._look_back_after = now + EVERY
            return self._start
        return max([self._start, *(place for when, place in self._reached if when <= now - SOON)])

    def reached(self, place: Place, now: float) -> None:
        """Note the last of the messages that a claim has found."""
        if not self._reached or now - self._reached[-1][0] >= STEP:
            self._reached.append((now, place))

    def looked(self, seconds: float, now: float) -> None:
        """Note how long a claim from the very beginning took."""
        self._slow_looks = self._slow_looks + 1 if seconds > SLOW else 0
        if self._slow_looks >= SLOW_LOOKS:
            self._look_after = now + seconds / SHARE
