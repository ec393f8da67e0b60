"""Starting a worker: checks first, then the banner, then processes."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import django
from django.utils.autoreload import StatReloader, get_child_arguments

from django_tasks import signals
from django_tasks.databases import keep_connections_open
from django_tasks.decorators import annotate
from django_tasks.exceptions import ImproperlyConfigured, OperationalError
from django_tasks.version import __version__
from django_tasks.worker import logs
from django_tasks.worker.banner import Facts, banner
from django_tasks.worker.files import written
from django_tasks.worker.options import SOLO, WorkerOptions, node_name, worker_options
from django_tasks.worker.redirect import redirected_output
from django_tasks.worker.single import SingleWorker
from django_tasks.worker.stop import StopSignals
from django_tasks.worker.supervisor import Supervisor

if TYPE_CHECKING:
    from django_tasks.app import App

logger = logging.getLogger("django_tasks.worker")


def run_worker(app: App, given: dict[str, Any]) -> int:
    """Run a worker until it is told to stop; return its exit code, which is 0 also if that comes while it starts.

    Args:
        given: command-line options by name; None for what was not given.

    Raises:
        ImproperlyConfigured: an option, a setting or the database is not fit for a worker.
    """
    with StopSignals() as stop:
        return _run(app, given, stop)
    return 0


def _run(app: App, given: dict[str, Any], stop: StopSignals) -> int:
    keep_connections_open()  # before the first is made, and before the fork
    if signals.celeryd_init.receivers:
        _let_configure(app, given)
    options = worker_options(app, given)
    level = given.get("loglevel") or "WARNING"
    ours = logs.setup_logging(level, given.get("logfile"), bool(given.get("json")), None, app.conf)
    if ours:
        logging.captureWarnings(True)
    check_stores(app)
    with held_pidfile(options.pidfile):
        _introduce(_facts(app, options), bool(given.get("json")))
        warn_of_limits(app, options, given.get("concurrency"))
        _warn_of_stranded(app)
        if signals.worker_init.receivers:
            signals.worker_init.send(sender=options)
        stop.hold()
        # A project that sets up its own logging has its own way with what is printed (as in Celery).
        with redirected_output(app.conf) if ours else contextlib.nullcontext():
            worker = Supervisor(app, options, stop.received) if options.forks else SingleWorker(app, options, stop)
            return worker.run()


def _let_configure(app: App, given: dict[str, Any]) -> None:
    """Let receivers change settings of this one worker, before anything is made of them."""
    signals.celeryd_init.send(sender=node_name(given.get("hostname")), instance=None, conf=app.conf, options=given)
    for task in app.tasks.values():
        annotate(app, task)


def _introduce(facts: Facts, json: bool) -> None:
    if json:  # nothing but JSON then
        logger.info("%s starts.", facts.node, extra=asdict(facts))
    else:
        print(banner(facts), flush=True)


def check_stores(app: App) -> None:
    """Make sure that worker processes can use the broker and the result backend; what is away now may come back."""
    if not app.broker.shared:
        raise ImproperlyConfigured(
            f"BROKER_URL = {app.conf.broker_url!r} lives in one process only, so that a worker would never see a task. "
            "Use 'django-db://' to work over the project's database."
        )
    for what, store in (("Messages", app.broker), ("Results", app.backend)):
        try:
            store.check()
        except OperationalError as exc:
            logger.error("%s cannot be reached, waiting for them: %s", what, exc)


def _warn_of_stranded(app: App) -> None:
    """Say which messages this worker is not going to run, though they wait in the project's databases."""
    from django_tasks.stranded import stranded  # its models cannot be imported before Django is set up

    for left in stranded(app):
        logger.warning("%s", left)


def warn_of_limits(app: App, options: WorkerOptions, concurrency: int | None) -> None:
    """Say which hard time limits the solo pool would have to keep, and cannot; and that it runs one task at a time."""
    if options.pool != SOLO:
        return
    if concurrency and concurrency > 1:
        logger.warning("The solo pool runs one task at a time: -c %d has no effect.", concurrency)
    of_tasks = [f"{name} ({task.time_limit:g} s)" for name, task in sorted(app.tasks.items()) if task.time_limit]
    shown = ", ".join(of_tasks[:5]) + (f" and {len(of_tasks) - 5} more" if len(of_tasks) > 5 else "")
    limits = [f"--time-limit or TASK_TIME_LIMIT ({options.limits[0]:g} s)"] if options.limits[0] else []
    limits += [f"time_limit of {shown}"] if of_tasks else []
    if limits:
        logger.warning("Hard time limits are not kept in the solo pool, where nobody could end a task: %s. Use another "
                       "pool (-P prefork or threads), or soft time limits.", "; ".join(limits))  # fmt: skip


def _facts(app: App, options: WorkerOptions) -> Facts:
    return Facts(
        node=options.hostname,
        version=__version__,
        platform=f"{platform.platform()}, Python {platform.python_version()}, Django {django.get_version()}",
        app=app.main or "default",
        broker=app.conf.broker_url,
        results=app.conf.result_backend,
        concurrency=options.concurrency,
        least=options.least,
        pool=options.pool,
        queues=options.queues,
        tasks=sorted(app.tasks),
    )


@contextlib.contextmanager
def held_pidfile(path: str | None) -> Iterator[None]:
    """Hold a pid file; one of a living process is an error, one of a dead process is replaced."""
    if path is None:
        yield
        return
    file = Path(path)
    with written("--pidfile", path):
        if file.exists() and (pid := _living(file)):
            raise ImproperlyConfigured(f"--pidfile {path} belongs to process {pid}, which is running. Stop it first.")
        file.write_text(f"{os.getpid()}\n")
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def _living(file: Path) -> int | None:
    text = file.read_text(errors="replace")
    try:
        pid = int(text)
        os.kill(pid, 0)
    except (ValueError, OverflowError, ProcessLookupError):
        return None
    except PermissionError:
        pass
    return pid if pid != os.getpid() else None


def restart_on_change() -> int:
    """Run this very command without ``--reload`` in a child, and again whenever a module changes (``--reload``).

    The modules that are looked at are those that this process has imported. The child is out of the terminal's reach,
    so that Ctrl-C reaches it once and through us; a second one would tell it to hurry.
    """
    command = get_child_arguments()
    with StopSignals() as stop:
        stop.hold()
        child = subprocess.Popen([each for each in command if not _means_reload(each)], start_new_session=True)
        stop.listen(lambda signum: child.terminate())
        try:
            for _ in StatReloader().tick():
                if (code := child.poll()) is not None:
                    return 0 if stop.received else code
        except SystemExit:  # what Django's reloader raises when a file has changed
            child.terminate()
            child.wait()
        if not stop.received:
            os.execv(command[0], command)
    return 0


def _means_reload(argument: str) -> bool:
    # Options may be shortened. One left over would start a reloader in the reloader, and so on without end.
    return argument.startswith("--r") and "--reload".startswith(argument)
