"""A worker in one process: the solo pool, and threads where forking is unsafe. Its janitor is a thread."""

from __future__ import annotations

import logging
import os
import signal
import time
from typing import TYPE_CHECKING, Any

from django_tasks import signals
from django_tasks.worker.janitor import Janitor, run_in_thread
from django_tasks.worker.limits import RateLimiter
from django_tasks.worker.options import WorkerOptions
from django_tasks.worker.process import WorkerProcess, take_seat
from django_tasks.worker.shared import Page

if TYPE_CHECKING:
    from django_tasks.app import App

logger = logging.getLogger("django_tasks.worker")


def run_single(app: App, options: WorkerOptions) -> int:
    """Run a worker in this process until SIGTERM, SIGINT or the end of a burst; return the exit code."""
    page = Page(options.slots, options.healthcheck_file)
    page.supervisor_pid = page.janitor_pid = os.getpid()
    for seat in page.seats:
        take_seat(seat, options.hostname, os.getpid())
    process = WorkerProcess(app, options, page, page.seats, RateLimiter(app.tasks.values()), None)
    ended = False

    def stop(signum: int, frame: Any) -> None:
        if process.stop_asked:  # a second signal: what runs goes back when its lease ends
            os._exit(1)
        process.stop_asked = True
        process.wake()

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, stop)
    janitor = Janitor(app, options, page, f"{options.hostname}/janitor-{os.getpid()}-{time.time_ns()}")
    janitor.safe_poll(time.monotonic())

    def over() -> bool:
        page.supervisor_tick = time.monotonic()
        if page.shutdown_ordered and not process.stop_asked:
            process.stop_asked = True
            process.wake()
        return ended

    thread = run_in_thread(janitor, over)
    logger.info("%s ready.", options.hostname)
    if signals.worker_ready.receivers:
        signals.worker_ready.send(sender=process)
    try:
        return process.run()
    finally:
        ended = True
        thread.join(2.0)
        app.broker.goodbye([janitor.identity])
        page.remove()
        logger.info("%s stopped.", options.hostname)
