"""What goes wrong: processes killed and frozen, the database restarted."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from chaos import record
from tests.servers import Server


class Monkey:
    """Runs workers and producers, and breaks them.

    Args:
        directory: for logs.
        workers: how many workers, each of two processes.
        producers: how many producers.
        server: the database server; None for SQLite.
        lease: ``WORKER_LEASE``.
    """

    def __init__(self, directory: Path, workers: int, producers: int, server: Server | None, lease: float) -> None:
        self.directory = directory
        self.server = server
        self.lease = lease
        self.workers = [self._start_worker() for _ in range(workers)]
        self.producers = [self._start_producer() for _ in range(producers)]
        self.done: dict[str, int] = {}
        self._thaw: list[tuple[float, psutil.Process]] = []

    def _start_worker(self) -> subprocess.Popen[bytes]:
        return self._spawn(["-m", "django", "runworker", "-c", "2", "-l", "INFO"], "worker")

    def _start_producer(self) -> subprocess.Popen[bytes]:
        return self._spawn(["-m", "chaos.producer"], "producer")

    def _spawn(self, arguments: list[str], name: str) -> subprocess.Popen[bytes]:
        with (self.directory / f"{name}.log").open("ab") as log:
            return subprocess.Popen([sys.executable, *arguments], stdout=log, stderr=log, start_new_session=True)

    def play(self, seconds: float) -> None:
        """Break something every now and then."""
        acts: list[Callable[[], None]] = [self.kill_child] * 6 + [self.freeze_child] * 2
        acts += [self.kill_worker, self.freeze_worker, self.kill_producer]
        if self.server is not None:
            acts.append(self.restart_server)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(random.uniform(0.1, 0.9))
            act = random.choice(acts)
            with contextlib.suppress(psutil.NoSuchProcess):
                act()
                self.done[act.__name__] = self.done.get(act.__name__, 0) + 1
            self._thaw_due()

    def kill_child(self) -> None:
        """SIGKILL a worker process or a janitor."""
        child = random.choice(self._children())
        child.kill()
        record.write("kill", "child", child.pid)

    def freeze_child(self) -> None:
        """SIGSTOP one for longer than the lease."""
        self._freeze([random.choice(self._children())])

    def kill_worker(self) -> None:
        """SIGKILL a supervisor, and start a new worker."""
        position = random.randrange(len(self.workers))
        worker = self.workers[position]
        children = psutil.Process(worker.pid).children()
        worker.kill()
        worker.wait()
        record.write("kill", "supervisor", worker.pid)
        for child in children:
            record.write("orphan", "child", child.pid)
        self.workers[position] = self._start_worker()

    def freeze_worker(self) -> None:
        """SIGSTOP a whole worker for longer than the lease, as when a machine is suspended."""
        worker = psutil.Process(random.choice(self.workers).pid)
        self._freeze([worker, *worker.children()])

    def kill_producer(self) -> None:
        """SIGKILL a producer in the middle of what it does, and start another."""
        position = random.randrange(len(self.producers))
        self.producers[position].kill()
        self.producers[position].wait()
        self.producers[position] = self._start_producer()

    def restart_server(self) -> None:
        """Stop the database in good order or not, leave it down for a while, and start it again."""
        assert self.server is not None
        random.choice([self.server.stop, self.server.kill])()
        time.sleep(random.uniform(0, 2))
        self.server.start()

    def _children(self) -> list[psutil.Process]:
        return [child for worker in self.workers for child in psutil.Process(worker.pid).children()] or [
            psutil.Process(self.workers[0].pid)
        ]

    def _freeze(self, processes: list[psutil.Process]) -> None:
        for process in processes:
            process.suspend()
            record.write("freeze", "process", process.pid)
            self._thaw.append((time.monotonic() + self.lease * random.uniform(0.5, 3), process))

    def _thaw_due(self, everything: bool = False) -> None:
        now = time.monotonic()
        for due, process in list(self._thaw):
            if everything or due <= now:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()
                self._thaw.remove((due, process))

    def stop_breaking(self) -> None:
        """Let everything live, and send nothing more."""
        self._thaw_due(everything=True)
        for producer in self.producers:
            producer.terminate()
            producer.wait()
        for position, worker in enumerate(self.workers):
            if worker.poll() is not None:
                self.workers[position] = self._start_worker()

    def end(self) -> None:
        """Stop the workers."""
        for worker in self.workers:
            worker.terminate()
        for worker in self.workers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(15)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)
