"""``runbeat``: checks first, then the schedule for people to read, then the loop."""

from __future__ import annotations

import logging
import os
import signal
import time
from argparse import SUPPRESS, ArgumentParser
from typing import TYPE_CHECKING, Any

from django_tasks import signals
from django_tasks.beat.listing import banner, dry_run
from django_tasks.beat.scheduler import Scheduler
from django_tasks.beat.service import Beat, make_scheduler
from django_tasks.databases import keep_connections_open
from django_tasks.exceptions import ImproperlyConfigured, OperationalError
from django_tasks.worker import logs
from django_tasks.worker.run import held_pidfile
from django_tasks.worker.shared import Page
from django_tasks.worker.stop import Stopped, StopSignals

if TYPE_CHECKING:
    from django_tasks.app import App

logger = logging.getLogger("django_tasks.beat")

#: Firings that ``--dry-run`` lists.
DRY_RUN = 20
#: Seconds that the round in which a signal comes has to end. Whatever it is at, nothing is lost.
LAST_ROUND = 1.0


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options, under Celery's names where it has them."""
    add = parser.add_argument
    add("--max-interval", type=float, metavar="S", help="seconds between two looks at the schedule, at most (1)")
    add("-l", "--loglevel", default="WARNING", metavar="LEVEL", help="DEBUG, INFO, WARNING, ERROR, CRITICAL (WARNING)")
    add("-f", "--logfile", metavar="PATH", help="log to this file instead of the terminal")
    add("--json", action="store_true", help="log, and list with --dry-run, one JSON object a line")
    add("--pidfile", metavar="PATH", help="write the process id here")
    add("--healthcheck-file", metavar="PATH", help="keep signs of life here for `python -m django_tasks.health`")
    add("--dry-run", type=int, nargs="?", const=DRY_RUN, metavar="N", help=f"list the next N runs ({DRY_RUN}) and exit")
    # Those of Celery's that name where a beat keeps what it knows.
    add("-s", "--schedule", help=SUPPRESS)
    add("-S", "--scheduler", help=SUPPRESS)


def run_beat(app: App, given: dict[str, Any]) -> int:
    """Run a beat until it is told to stop; return its exit code.

    Args:
        given: command-line options by name; None for what was not given.

    Raises:
        ImproperlyConfigured: an option, a setting or the database is not fit for a beat.
    """
    with StopSignals() as stop:
        return _run(app, given, stop)
    return 0


def _run(app: App, given: dict[str, Any], stop: StopSignals) -> int:
    keep_connections_open()  # before the first is made
    interval, count = given.get("max_interval"), given.get("dry_run")
    if interval is not None and not interval > 0:
        raise ImproperlyConfigured(f"--max-interval must be above 0 seconds, not {interval:g}.")
    if count is not None and count < 1:
        raise ImproperlyConfigured(f"--dry-run lists that many runs, at least 1, not {count}.")
    level = given.get("loglevel") or "WARNING"
    if logs.setup_logging(level, given.get("logfile"), bool(given.get("json")), None, app.conf):
        logging.captureWarnings(True)
    if given.get("schedule") or given.get("scheduler"):
        logger.warning("-s and -S have no effect: beat keeps what it knows with the broker, and heeds the settings "
                       "and the schedule in the database.")  # fmt: skip
    scheduler = make_scheduler(app, interval)
    if count is not None:
        if text := dry_run(app, scheduler, count, bool(given.get("json"))):
            print(text, flush=True)
        return 0
    _check(app, scheduler)
    with held_pidfile(given.get("pidfile")):
        return _loop(app, scheduler, given, stop)


def _check(app: App, scheduler: Scheduler) -> None:
    """Make sure that other processes see what is sent, and that claims can be made; what is away may come back."""
    if not app.broker.shared:
        raise ImproperlyConfigured(
            f"BROKER_URL = {app.conf.broker_url!r} lives in one process only, so that no worker would see what beat "
            "sends. Use 'django-db://' to work over the project's database."
        )
    try:
        app.broker.check()
        scheduler.store.check()
    except OperationalError as exc:
        logger.error("Messages cannot be reached, waiting for them: %s", exc)


def _loop(app: App, scheduler: Scheduler, given: dict[str, Any], stop: StopSignals) -> int:
    page = Page(1, given["healthcheck_file"]) if given.get("healthcheck_file") else None
    if page is not None:
        page.supervisor_pid = os.getpid()

    def sign_of_life(went_well: bool) -> None:
        if page is not None:
            page.supervisor_tick = page.janitor_tick = time.monotonic()
            if went_well:
                page.broker_tick = time.monotonic()

    def introduce(scheduler: Scheduler) -> None:
        if not given.get("json"):
            print(banner(app, scheduler), flush=True)
        logger.info("Beat ready, %d entries.", len(scheduler.catalogue))

    beat = Beat(scheduler, sign_of_life, introduce)
    if signals.beat_init.receivers:
        signals.beat_init.send(sender=beat)
    stop.hold()
    stop.listen(lambda signum: _stop(beat))
    try:
        beat.loop()
    except Stopped:
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        if page is not None:
            page.remove()
    logger.info("Beat stopped.")
    return 0


def _stop(beat: Beat) -> None:
    """Let the round end, for a moment; what it leaves undone then, other beats do, or this one when it comes back."""
    beat.stop()
    signal.signal(signal.SIGALRM, _end_now)
    signal.setitimer(signal.ITIMER_REAL, LAST_ROUND)


def _end_now(signum: int, frame: Any) -> None:
    raise Stopped
