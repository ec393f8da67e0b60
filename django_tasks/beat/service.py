"""Beat as it runs: a scheduler in a loop that outlives outages and errors, until it is told to stop."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from django_tasks.beat.catalogue import Catalogue
from django_tasks.beat.scheduler import Scheduler
from django_tasks.beat.sources import sources_of
from django_tasks.exceptions import CeleriacError, ImproperlyConfigured
from django_tasks.pipes import drain, open_pipe, readable

if TYPE_CHECKING:
    from django_tasks.app import App

logger = logging.getLogger("django_tasks.beat")

#: Seconds between tries while something is away: at first, and at most. Other beats count on us within ten.
PAUSE, LONGEST_PAUSE = 0.25, 4.0
#: Seconds between reports of the same trouble.
REPORT = 60.0
#: Seconds between signs of life.
LOOK = 1.0


def make_scheduler(app: App, max_interval: float | None = None) -> Scheduler:
    """Return the scheduler of an app.

    Args:
        max_interval: seconds that it waits at most; by default as the settings say.

    Raises:
        ImproperlyConfigured: the broker has no place for claims.
    """
    store = app.broker.claim_store
    if store is None:
        raise ImproperlyConfigured(
            f"BROKER_URL = {app.conf.broker_url!r} cannot send periodic tasks. Use 'django-db://' or a Redis."
        )
    interval = max_interval or app.conf.beat_max_loop_interval or LOOK
    return Scheduler(app, Catalogue(sources_of(app)), store, interval)


class Beat:
    """One beat.

    Args:
        scheduler: what it does.
        on_round: called after each round, with whether it went well.
        on_loaded: called once, when the entries are there, before anything is sent.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        on_round: Callable[[bool], object] = bool,
        on_loaded: Callable[[Scheduler], object] = bool,
    ) -> None:
        self.scheduler = scheduler
        self.on_round = on_round
        self._on_loaded: Callable[[Scheduler], object] | None = on_loaded
        self._stopping = False
        self._pause = PAUSE
        self._trouble = ""
        self._report_after = 0.0
        self._wakeup = open_pipe(self)
        for descriptor in self._wakeup:
            os.set_blocking(descriptor, False)

    def stop(self) -> None:
        """End after this round (a signal handler, or another thread)."""
        self._stopping = True
        os.write(self._wakeup[1], b"!")

    def loop(self, is_over: Callable[[], bool] = bool) -> None:
        """Go round until told to stop, or until it ``is_over``."""
        while not self._stopping and not is_over():
            wait = self.poll()
            if readable([self._wakeup[0]], min(wait, LOOK)):
                drain(self._wakeup[0])

    def poll(self) -> float:
        """Go round once; return the seconds until the next."""
        try:
            now = self.scheduler.store.now()
            if self._on_loaded is not None:
                self._load(now, self._on_loaded)
            wait = self.scheduler.tick(now)
        except CeleriacError as exc:  # a server is away, or a table missing
            self._report(f"Beat waits: {exc}")
        except Exception:
            logger.exception("A round of beat failed; it goes on")
        else:
            return self._went_well(wait)
        self.on_round(False)
        wait, self._pause = self._pause, min(self._pause * 2, LONGEST_PAUSE)
        return wait

    def _load(self, now: float, on_loaded: Callable[[Scheduler], object]) -> None:
        self.scheduler.load(now)
        self._on_loaded = None
        try:
            on_loaded(self.scheduler)
        except Exception:
            logger.exception("The schedule cannot be shown; beat goes on")

    def _went_well(self, wait: float) -> float:
        if self._trouble:
            logger.warning("Beat goes on.")
        self._trouble, self._pause, self._report_after = "", PAUSE, 0.0
        self.on_round(True)
        return wait

    def _report(self, trouble: str) -> None:
        now = time.monotonic()
        if trouble != self._trouble or now >= self._report_after:
            logger.error("%s", trouble)
            self._report_after = now + REPORT
        self._trouble = trouble
