"""The beat of a worker with ``-B``: a child beside the janitor, or a thread where nothing is forked."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from django.db import connections

from django_tasks import signals
from django_tasks.beat.service import Beat, make_scheduler
from django_tasks.worker.forks import SILENT_LOOKS, fork, how_it_ended
from django_tasks.worker.shared import Page

if TYPE_CHECKING:
    from django_tasks.app import App

logger = logging.getLogger("django_tasks.worker")

#: Seconds after which a beat that has died is replaced.
PAUSE = 1.0
#: Seconds that a round may take, twice what the longest wait for a lock takes; and the first one, in which all entries
#: are read. Killing a beat loses nothing, but one that needed longer to read them would never get anywhere.
SILENCE, LOADING = 60.0, 600.0


class BeatChild:
    """A child process with a beat in it.

    Args:
        app: whose schedule it is.
        page: where it gives signs of life.
    """

    def __init__(self, app: App, page: Page) -> None:
        self.app = app
        self.page = page
        self.pid = 0
        self._began = 0.0
        self._fork_after = 0.0
        self._silent_looks = 0

    def watch(self, now: float) -> None:
        """Start it, again where it has died; kill it when it does not go round, whatever holds it up."""
        if not self.pid:
            if now >= self._fork_after:
                self._fork(now)
            return
        tick = self.page.beat_tick
        silence = now - max(tick, self._began)
        late = silence > (SILENCE if tick > self._began else LOADING)
        self._silent_looks = self._silent_looks + 1 if late else 0
        if self._silent_looks > SILENT_LOOKS:
            self._silent_looks = 0
            logger.error("The beat has not gone round for %.0f s and is killed", silence)
            self.page.beat_tick = tick or self._began  # so that the probe sees one that never did
            os.kill(self.pid, signal.SIGKILL)

    def _fork(self, now: float) -> None:
        parent = os.getpid()
        told: list[int] = []
        beats: list[Beat] = []

        def work() -> int:
            # Here and not before the fork, since it looks at servers.
            beat = Beat(make_scheduler(self.app), _sign_of_life(self.page))
            beats.append(beat)
            _say_begun(beat)
            beat.loop(lambda: bool(told) or os.getppid() != parent)
            return 0

        def stop(signum: int, frame: object) -> None:
            told.append(signum)
            for beat in beats:
                beat.stop()

        self._began = now
        try:
            self.pid = fork(work, "Beat", stop)
        except OSError as exc:
            logger.error("The beat cannot be started: %s", exc)
            self._fork_after = now + PAUSE

    def died(self, status: int, now: float, intended: bool) -> None:
        """Take note that it has ended, in good order if that was ``intended``."""
        self.pid, self._fork_after = 0, now + PAUSE
        if not intended:
            logger.error("The beat %s and is replaced", how_it_ended(status))

    def tell_to_stop(self) -> None:
        """Let it end."""
        if self.pid:
            os.kill(self.pid, signal.SIGTERM)


class BeatThread:
    """A thread with a beat in it. Args: as for ``BeatChild``. If it hangs, only the probe can tell."""

    def __init__(self, app: App, page: Page) -> None:
        self.beat = Beat(make_scheduler(app), _sign_of_life(page))
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


def _sign_of_life(page: Page) -> Callable[[bool], object]:
    def note(went_well: bool) -> None:
        page.beat_tick = time.monotonic()

    return note


def _say_begun(beat: Beat) -> None:
    logger.info("Beat starts.")
    if signals.beat_embedded_init.receivers:
        signals.beat_embedded_init.send(sender=beat)
