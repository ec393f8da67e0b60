"""The beat of a worker with ``-B``: a child beside the janitor, or a thread where nothing is forked."""

from __future__ import annotations

import logging
import os
import signal
import threading
from typing import TYPE_CHECKING

from django.db import connections

from django_tasks import signals
from django_tasks.beat.service import Beat, make_scheduler
from django_tasks.worker import shared
from django_tasks.worker.forks import fork, how_it_ended

if TYPE_CHECKING:
    from django_tasks.app import App

logger = logging.getLogger("django_tasks.worker")

#: Seconds after which a beat that has died is replaced.
PAUSE = 1.0


class BeatChild:
    """A child process with a beat in it.

    Args:
        app: whose schedule it is.
    """

    def __init__(self, app: App) -> None:
        self.app = app
        self.pid = 0
        self._fork_after = 0.0
        self._stopped_since: float | None = None

    def watch(self, now: float) -> None:
        """Start it, again where it has died; kill it when it has been stopped for as long as a lease."""
        if not self.pid:
            if now >= self._fork_after:
                self._fork(now)
        elif shared.condition(self.pid) is not shared.Condition.STOPPED:
            self._stopped_since = None
        elif self._stopped_since is None:
            self._stopped_since = now
        elif now - self._stopped_since > self.app.broker.lease:
            logger.error("The beat has been stopped for %g s and is killed", self.app.broker.lease)
            os.kill(self.pid, signal.SIGKILL)

    def _fork(self, now: float) -> None:
        parent = os.getpid()
        told: list[int] = []
        beats: list[Beat] = []

        def work() -> int:
            # Here and not before the fork, since it looks at servers.
            beat = Beat(make_scheduler(self.app))
            beats.append(beat)
            _say_begun(beat)
            beat.loop(lambda: bool(told) or os.getppid() != parent)
            return 0

        def stop(signum: int, frame: object) -> None:
            told.append(signum)
            for beat in beats:
                beat.stop()

        try:
            self.pid = fork(work, "Beat", stop)
        except OSError as exc:
            logger.error("The beat cannot be started: %s", exc)
            self._fork_after = now + PAUSE

    def died(self, status: int, now: float, intended: bool) -> None:
        """Take note that it has ended, in good order if that was ``intended``."""
        self.pid, self._stopped_since, self._fork_after = 0, None, now + PAUSE
        if not intended:
            logger.error("The beat %s and is replaced", how_it_ended(status))

    def tell_to_stop(self) -> None:
        """Let it end."""
        if self.pid:
            os.kill(self.pid, signal.SIGTERM)


class BeatThread:
    """A thread with a beat in it. Args: as for ``BeatChild``."""

    def __init__(self, app: App) -> None:
        self.beat = Beat(make_scheduler(app))
        self._thread = threading.Thread(target=self._run, name="beat", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def _run(self) -> None:
        _say_begun(self.beat)
        try:
            self.beat.loop()
        finally:
            connections.close_all()

    def stop(self) -> None:
        """End, and wait for that for a moment."""
        self.beat.stop()
        self._thread.join(2.0)


def _say_begun(beat: Beat) -> None:
    logger.info("Beat starts.")
    if signals.beat_embedded_init.receivers:
        signals.beat_embedded_init.send(sender=beat)
