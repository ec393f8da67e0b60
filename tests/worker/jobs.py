"""Tasks of the tests with real workers, which name this module in ``CELERY_IMPORTS``.

They write what they do into a file, so that the tests know of runs that have no result.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.utils import timezone, translation

from django_tasks import shared_task, signals
from django_tasks.exceptions import SoftTimeLimitExceeded
from django_tasks.worker import options
from tests.testapp.models import Note


def write(path: str, word: str) -> None:
    """Append a line: what happens, and in which process."""
    with open(path, "a") as file:
        file.write(f"{word} {os.getpid()}\n")


def read(path: Path) -> list[tuple[str, int]]:
    """Return the lines of such a file."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [(word, int(pid)) for word, pid in (line.split() for line in lines)]


@shared_task(bind=True)
def hold(self: Any, path: str) -> bool:
    """Run until the file ``<path>.go`` is there; return whether the message was redelivered."""
    write(path, "begin")
    deadline = time.monotonic() + 30
    while not os.path.exists(f"{path}.go"):
        assert time.monotonic() < deadline, "nobody said go"
        time.sleep(0.02)
    write(path, "end")
    return bool(self.request.delivery_info["redelivered"])


@shared_task
def process_id(path: str = "") -> int:
    if path:
        write(path, "ran")
    return os.getpid()


@shared_task
def die(path: str) -> None:
    """Kill the process that runs this."""
    write(path, "ran")
    os.kill(os.getpid(), signal.SIGKILL)


@shared_task(acks_late=False)
def die_at_most_once(path: str) -> None:
    write(path, "ran")
    os.kill(os.getpid(), signal.SIGKILL)


@shared_task
def die_once(path: str) -> str:
    first = not os.path.exists(path)
    write(path, "ran")
    if first:
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


@shared_task
def spin(path: str) -> str:
    """Run until the soft limit is raised."""
    write(path, "begin")
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            time.sleep(0.01)
    except SoftTimeLimitExceeded:
        return "caught"
    return "nobody stopped it"


@shared_task(bind=True, default_retry_delay=0)
def retry_once(self: Any) -> None:
    if self.request.retries == 0:
        raise self.retry()


@shared_task
def warn() -> None:
    warnings.warn("careful", stacklevel=1)


@shared_task
def leave_an_orphan(path: str) -> None:
    """Start a process that outlives its parent, until the file ``<path>.go`` is there."""
    wait = f"until [ -e {path}.go ]; do sleep 0.05; done"
    subprocess.run(["sh", "-c", f"sh -c '{wait}' orphan &"], check=True)


@shared_task
def eat(mebibytes: int) -> int:
    """Take memory and keep it."""
    _eaten.append(b"x" * (1024 * 1024 * mebibytes))
    return os.getpid()


if getattr(settings, "CANNOT_FORK", False):  # as on macOS
    options.CAN_FORK = False


_eaten: list[bytes] = []


@shared_task
def leave_a_mess() -> int:
    translation.activate("de")
    timezone.activate("Asia/Tokyo")
    transaction.atomic().__enter__()
    Note.objects.create(title="never committed")
    return os.getpid()


@shared_task
def look_around() -> list[Any]:
    return [os.getpid(), translation.get_language(), timezone.get_current_timezone_name(), connection.in_atomic_block,
            Note.objects.filter(title="never committed").count()]  # fmt: skip


@shared_task
def break_connection(path: str, how: str) -> str:
    """Leave a connection that cannot be used, or not as it was."""
    write(path, "ran")
    connection.ensure_connection()
    if how == "autocommit":
        connection.set_autocommit(False)
        Note.objects.create(title="never committed")
    elif how == "failed transaction":
        connection.set_autocommit(False)
        with contextlib.suppress(DatabaseError), connection.cursor() as cursor:
            cursor.execute("SELECT no_such_column")
    else:
        connection.connection.close()
    return how


@shared_task
def own_connection() -> list[int]:
    """Return which process this is, and which one of the server's it talks to."""
    time.sleep(0.05)  # so that both processes get some of these
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            return [os.getpid(), os.getpid()]
        cursor.execute("SELECT pg_backend_pid()" if connection.vendor == "postgresql" else "SELECT CONNECTION_ID()")
        return [os.getpid(), cursor.fetchone()[0]]


@shared_task
def chat(word: str) -> None:
    """Print in the ways that there are."""
    print(word, "to stdout")
    print(word, "to stderr", file=sys.stderr)
    print(word, "without an end", end="")


def be_told_to_stop(moment: str) -> None:
    """Send this process the signals that a test wants it to get at a moment of its life."""
    for signum in getattr(settings, "TOLD_TO_STOP", {}).get(moment, ()):
        try:
            os.kill(os.getpid(), signum)
        except BaseException:
            # What somebody's careless `except:` does.
            if not getattr(settings, "SWALLOW", False):
                raise


@signals.celeryd_init.connect
@signals.worker_init.connect
@signals.worker_ready.connect
@signals.worker_shutdown.connect
def live(signal: Any, **_: Any) -> None:
    """Come to a moment of a worker's life."""
    moments = ("celeryd_init", "worker_init", "worker_ready", "worker_shutdown")
    be_told_to_stop(next(name for name in moments if getattr(signals, name) is signal))


atexit.register(be_told_to_stop, "exit")


@signals.worker_init.connect
def before_the_fork(**_: Any) -> None:
    """Do what a project should not: open a connection and start a thread before the worker forks."""
    if getattr(settings, "CARELESS_PROJECT", False):
        Note.objects.count()
        threading.Thread(target=threading.Event().wait, name="careless", daemon=True).start()


if getattr(settings, "OWN_LOGGING", False):

    @signals.setup_logging.connect
    def own_logging(**_: Any) -> None:
        logging.basicConfig(level=logging.INFO)
