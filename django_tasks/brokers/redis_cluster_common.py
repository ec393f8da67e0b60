"""What belongs to no list, in a Redis Cluster: its node may be away while those of the lists live."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence

from django_tasks.brokers.base import Beat
from django_tasks.brokers.control import Order
from django_tasks.brokers.redis_control import RedisControl
from django_tasks.brokers.redis_register import QUEUES_AGE, Register
from django_tasks.exceptions import OperationalError

logger = logging.getLogger("django_tasks.worker")

#: Seconds between two reports that nodes are away.
REPORT = 60.0


class Reporting:
    """Says now and then that a part of the cluster is away, of what is done again and again for the rest."""

    _report_after = 0.0

    def report(self, failure: OperationalError) -> None:
        """Log a failure, unless one was logged a moment ago."""
        now = time.monotonic()
        if now >= self._report_after:
            logger.error("A part of the cluster cannot be reached, the rest is served: %s", failure)
            self._report_after = now + REPORT


class ClusterRegister(Reporting, Register):
    """As ``Register``; while its node is away, it is what it was."""

    def note(self, queues: Iterable[str]) -> None:
        """Write down those queues that this process has not yet, if that is possible; whoever serves them does too."""
        try:
            super().note(queues)
        except OperationalError as exc:
            self.report(exc)

    def beat(self, beats: Sequence[Beat], now: float) -> None:
        """Write down who lives, if that is possible."""
        try:
            super().beat(beats, now)
        except OperationalError as exc:
            self.report(exc)
            self._known = sorted({*self._known, *(queue for each in beats for queue in each.queues)})

    def known_queues(self, age: float = QUEUES_AGE) -> list[str]:
        """Return the queues that are known, if need be as they were before the node went away."""
        try:
            return super().known_queues(age)
        except OperationalError as exc:
            self.report(exc)
            return sorted({*self._known, *self._noted})

    def remove(self, identities: Sequence[str]) -> None:
        """Forget workers, if that is possible; they are silent from now on."""
        try:
            super().remove(identities)
        except OperationalError as exc:
            self.report(exc)

    def forget_silent(self, since: float) -> None:
        """Forget workers without a sign of life since then, if that is possible."""
        try:
            super().forget_silent(since)
        except OperationalError as exc:
            self.report(exc)


class ClusterControl(Reporting, RedisControl):
    """As ``RedisControl``; while the node of the orders is away there are none."""

    def orders(self, after: int) -> list[Order]:
        """Return orders by number; for a negative ``after`` just the newest."""
        try:
            return super().orders(after)
        except OperationalError as exc:
            if after < 0:  # or all that there are would count as new
                raise
            self.report(exc)
            return []
