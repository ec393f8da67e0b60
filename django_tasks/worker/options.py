"""What a worker is told: command-line options over settings, checked before anything starts."""

from __future__ import annotations

import os
import platform
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django_tasks.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from django_tasks.app import App

PREFORK, THREADS, SOLO = "prefork", "threads", "solo"
#: Where forking a process that has run other code is unsafe (macOS) or impossible (Windows).
CAN_FORK = hasattr(os, "fork") and platform.system() != "Darwin"


@dataclass(frozen=True)
class WorkerOptions:
    """The facts of one worker.

    Attributes:
        hostname: ``name@host``.
        queues: queues to take messages from.
        pool: prefork, threads or solo.
        concurrency: tasks that run at once, at most.
        least: processes that stay when there is little to do (``--autoscale``); 0 for as many as ``concurrency``.
        max_tasks: tasks after which a process is replaced.
        max_memory: KiB of resident memory after which it is.
        limits: hard and soft time limit (seconds) of tasks that have none of their own.
        shutdown_timeout: seconds that running tasks have after SIGTERM.
        burst: stop when the queues are empty.
        beat: send periodic tasks, too.
        healthcheck_file: where the probe looks.
        pidfile: where the process id is written.
    """

    hostname: str
    queues: tuple[str, ...]
    pool: str = PREFORK
    concurrency: int = 1
    least: int = 0
    max_tasks: int | None = None
    max_memory: int | None = None
    limits: tuple[float | None, float | None] = (None, None)
    shutdown_timeout: float = 25.0
    burst: bool = False
    beat: bool = False
    healthcheck_file: str | None = None
    pidfile: str | None = None

    @property
    def forks(self) -> bool:
        """Whether tasks run in processes of their own."""
        return CAN_FORK and self.pool != SOLO

    @property
    def processes(self) -> int:
        """How many worker processes there are at first."""
        return (self.least or self.concurrency) if self.pool == PREFORK else 1

    @property
    def slots(self) -> int:
        """How many tasks one process runs at once."""
        return self.concurrency if self.pool == THREADS else 1

    @property
    def can_resize(self) -> bool:
        """Whether it has more or fewer processes when it is told to; one that scales itself would undo that."""
        return self.forks and self.slots == 1 and not self.least


def worker_options(app: App, given: dict[str, Any]) -> WorkerOptions:
    """Make options of what the command line gives (None: not given) and the settings.

    Raises:
        ImproperlyConfigured: a value cannot be.
    """
    conf = app.conf
    pool = given.get("pool") or conf.worker_pool or (PREFORK if CAN_FORK else THREADS)
    if pool == PREFORK and not CAN_FORK:
        raise ImproperlyConfigured(
            f"The prefork pool does not work on {platform.system()}, where a fork is unsafe; use --pool threads."
        )
    for name in _NUMBERS:
        number = given.get(name)
        if number is not None and not number >= 0:
            raise ImproperlyConfigured(f"--{name.replace('_', '-')} must not be below 0, not {number:g}")
    most, least = _autoscale(given.get("autoscale"), pool)
    concurrency = most or given.get("concurrency") or conf.worker_concurrency or os.cpu_count() or 1
    hard = _first(given.get("time_limit"), conf.task_time_limit)
    soft = _first(given.get("soft_time_limit"), conf.task_soft_time_limit)
    if hard and soft and soft >= hard:
        raise ImproperlyConfigured(f"The soft time limit ({soft} s) must be shorter than the hard one ({hard} s).")
    return WorkerOptions(
        hostname=node_name(given.get("hostname")),
        queues=_queues(app, given.get("queues"), given.get("exclude_queues")),
        pool=pool,
        concurrency=1 if pool == SOLO else concurrency,
        least=least,
        max_tasks=_first(given.get("max_tasks_per_child"), conf.worker_max_tasks_per_child),
        max_memory=_first(given.get("max_memory_per_child"), conf.worker_max_memory_per_child),
        limits=(hard, soft),
        shutdown_timeout=conf.worker_shutdown_timeout,
        burst=bool(given.get("burst")),
        beat=bool(given.get("beat")),
        healthcheck_file=given.get("healthcheck_file"),
        pidfile=given.get("pidfile"),
    )


#: Options that are numbers; 0 stands for no limit, or for what the settings say.
_NUMBERS = ("concurrency", "max_tasks_per_child", "max_memory_per_child", "time_limit", "soft_time_limit")
#: Bytes of a node name; the names of its processes have to fit into their places.
LONGEST_NAME = 150


def _autoscale(text: str | None, pool: str) -> tuple[int, int]:
    """Return the most and the fewest processes of ``--autoscale MAX,MIN``; zeros for none."""
    if text is None:
        return 0, 0
    if pool != PREFORK:
        raise ImproperlyConfigured(
            f"--autoscale changes the number of processes, and the {pool} pool has one. Use --pool prefork"
            + (", or -c with as many threads as you ever want: idle ones cost little." if pool == THREADS else ".")
        )
    most, _, least = text.partition(",")
    try:
        numbers = int(most), int(least or 1)
    except ValueError:
        numbers = 0, 0
    if not numbers[0] >= numbers[1] >= 1:
        raise ImproperlyConfigured(
            f"--autoscale {text} is not MAX,MIN, two numbers with MAX >= MIN >= 1, such as --autoscale 10,3"
        )
    return numbers


def _first(given: Any, otherwise: Any) -> Any:
    return otherwise if given is None else given


def node_name(name: str | None) -> str:
    """Return ``name@host``; ``%h`` stands for the host, ``%n`` for its first part, ``%d`` for the domain (Celery's).

    Raises:
        ImproperlyConfigured: it is too long.
    """
    host = socket.gethostname()
    short, _, domain = host.partition(".")
    name = name or "celery"
    for placeholder, value in (("%h", host), ("%n", short), ("%d", domain)):
        name = name.replace(placeholder, value)
    node = name if "@" in name else f"{name}@{host}"
    if len(node.encode()) > LONGEST_NAME:
        raise ImproperlyConfigured(f"-n {node} is longer than {LONGEST_NAME} bytes; choose a shorter name.")
    return node


def _queues(app: App, wanted: str | None, unwanted: str | None) -> tuple[str, ...]:
    known = list(app.router.queues)
    queues = [name.strip() for name in wanted.split(",") if name.strip()] if wanted else known
    excluded = {name.strip() for name in (unwanted or "").split(",")}
    chosen = tuple(name for name in dict.fromkeys(queues) if name not in excluded)
    if not chosen:
        raise ImproperlyConfigured(
            f"No queue is left to take tasks from: -Q {wanted or ','.join(known)} without -X {unwanted}."
        )
    unknown = [name for name in chosen if name not in known]
    if unknown and not app.conf.task_create_missing_queues:
        raise ImproperlyConfigured(
            f"-Q names {', '.join(unknown)}, which TASK_QUEUES does not declare; it declares {', '.join(known)}."
        )
    return chosen
