"""A farm: workers of ours and of Celery without a Django project, and the clients that send to them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from chaos import record
from chaos.monkey import janitor_pid
from chaos.stage import wait_until
from tests.celery_environment import python_with_celery
from tests.processes import ROOT, die_with_parent

#: Processes of a worker that run tasks.
PROCESSES = 2
#: Seconds without the end of a task after which no more is expected; and for which they are waited for at most.
CALM, LONGEST = 60.0, 600.0
#: Seconds between two looks at that.
LOOK = 0.2


@dataclass(frozen=True)
class System:
    """A kind of worker, and of client.

    Attributes:
        python: its interpreter.
        settings: of its app; values that JSON can hold.
        options: of its workers.
    """

    python: str = sys.executable
    settings: Mapping[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ()

    @property
    def is_ours(self) -> bool:
        """Whether it is ours and not Celery."""
        return self.python == sys.executable

    def worker(self, name: str, page: Path) -> list[str]:
        """Return the command of a worker of that name, which keeps its state in a file if it is ours."""
        options = ["-n", f"{name}@%h", "-c", str(PROCESSES), "-l", "INFO", *self.options]
        if self.is_ours:
            program = ["django_tasks", "-A", "chaos.farm_ours", "worker", "--healthcheck-file", str(page)]
            return [self.python, "-m", *program, *options]
        return [self.python, "-m", "chaos.farm_celery", "worker", *options]

    def sender(self, number: int, seconds: float, pause: float) -> list[str]:
        """Return the command of a client; see ``farm_work.send``."""
        program = "chaos.farm_ours" if self.is_ours else "chaos.farm_celery"
        return [self.python, "-m", program, "send", str(number), str(seconds), str(pause)]


def celery(version: str, *options: str, **settings: Any) -> System:
    """Return Celery with these options of its workers and settings, which its environment has to be made for first."""
    return System(python_with_celery(version), settings, options)


def celery_that_keeps(version: str, visibility: float) -> System:
    """Return Celery set up so that it loses as little as it can.

    Args:
        visibility: seconds after which what a killed worker held comes back.
    """
    # The last two make it look every second for what is to come back, and not every hundred.
    options = {"visibility_timeout": visibility, "unacked_restore_interval": 1, "unacked_restore_throttle": 1}
    return celery(
        version, task_acks_late=True, task_reject_on_worker_lost=True, worker_prefetch_multiplier=1,
        broker_connection_retry_on_startup=True, broker_transport_options=options,
    )  # fmt: skip


class Farm:
    """Workers, each of which is there until it is replaced.

    Args:
        directory: for the record, and a log of each.
        workers: what each is, by its name.
        broker, results: URLs.
    """

    def __init__(self, directory: Path, workers: Mapping[str, System], broker: str, results: str) -> None:
        self.directory = directory
        self.systems = workers
        self.urls = {"CHAOS_BROKER": broker, "CHAOS_RESULTS": results}
        self.record = directory / "record"
        self.record.touch()
        os.environ["CHAOS_RECORD"] = str(self.record)
        self.workers = {name: self._worker(name) for name in workers}

    def wait_until_ready(self) -> None:
        """Wait until every worker has said that it is."""
        for name in self.workers:
            log = self.directory / f"{name}.log"
            wait_until(lambda log=log: "ready" in log.read_text(errors="replace"), 60)

    def start(self, command: list[str], system: System, log: str) -> subprocess.Popen[bytes]:
        """Start a program that writes to ``<log>.log``."""
        environment = {key: value for key, value in os.environ.items() if key != "DJANGO_SETTINGS_MODULE"}
        settings = {"CHAOS_SETTINGS": json.dumps(dict(system.settings)), "PYTHONPATH": str(ROOT)}
        with (self.directory / f"{log}.log").open("ab") as output:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=self.directory,
                env={**environment, **self.urls, **settings, "PYTHONUNBUFFERED": "1"},
                start_new_session=True, preexec_fn=die_with_parent,
            )  # fmt: skip

    def _page(self, name: str) -> Path:
        return self.directory / f"{name}.page"

    def _worker(self, name: str) -> subprocess.Popen[bytes]:
        system = self.systems[name]
        return self.start(system.worker(name, self._page(name)), system, name)

    def send(self, system: System, number: int, seconds: float, pause: float = 0.0) -> subprocess.Popen[bytes]:
        """Start a client; see ``farm_work.send``."""
        return self.start(system.sender(number, seconds, pause), system, "sender")

    def sent(self) -> set[str]:
        """Return the ids that were acknowledged."""
        return {event.subject for event in record.read(self.record) if event.kind == "sent"}

    def ended(self) -> set[str]:
        """Return the ids of the tasks that have run to their end."""
        return {event.subject for event in record.read(self.record) if event.kind == "end"}

    def settle(self) -> None:
        """Wait until all that was sent has run, or nothing has for a minute."""
        deadline = time.monotonic() + LONGEST
        before, since = 0, time.monotonic()
        while time.monotonic() < min(deadline, since + CALM):
            time.sleep(LOOK)
            ended = self.ended()
            if self.sent() <= ended:
                return
            if len(ended) > before:
                before, since = len(ended), time.monotonic()

    def family(self, name: str) -> list[psutil.Process]:
        """Return a worker's processes, the one that was started first."""
        first = psutil.Process(self.workers[name].pid)
        return [first, *first.children(recursive=True)]

    def children(self, name: str) -> list[psutil.Process]:
        """Return the processes of a worker that run tasks. Raises: NoSuchProcess: there is no such worker."""
        janitor = janitor_pid(self._page(name))
        return [each for each in self.family(name)[1:] if each.pid != janitor]

    def replace(self, name: str) -> None:
        """Kill a worker with all its processes, if it still lives, and start another."""
        for process in self._alive(name):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.workers[name].wait()
        self.workers[name] = self._worker(name)

    def _alive(self, name: str) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            return self.family(name)
        return []

    def close(self) -> None:
        """Stop all workers."""
        left = [process for name in self.workers for process in self._alive(name)]
        for worker in self.workers.values():
            worker.terminate()
        for worker in self.workers.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(20)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for worker in self.workers.values():
            worker.wait()


def holds(client: Any, queue: str) -> Iterator[str]:
    """Yield the keys that hold messages of a queue of ours or of Celery's, waiting or in somebody's hands.

    Args:
        client: of the broker's database, which decodes what it reads.
    """
    for key in client.scan_iter(count=1000):
        own = key.startswith(f"{{{queue}") and key.split(".")[1] in ("held", "inbox", "delayed")
        if own or key == queue or key.startswith((f"{queue}\x06", "unacked")):
            yield key
