"""One system at work on one fresh database: its agent, and its workers while they are wanted."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from multiprocessing import Pipe
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.catalogue import Entry
from benchmarks.company import Company
from benchmarks.environments import ROOT, python_of
from benchmarks.storage import Database
from tests.processes import die_with_parent

if TYPE_CHECKING:
    from typing_extensions import Self

Numbers = dict[str, float]

MIB = 1024 * 1024
#: Seconds after which an agent that does not answer, or a worker that does not stop, is given up.
ANSWER_TIMEOUT, STOP_TIMEOUT = 600.0, 8.0
LOG_LINES = 15


class Failed(Exception):
    """Something could not be measured.

    Args:
        reason: why, in one line.
        details: what else may help to find the cause.
    """

    def __init__(self, reason: str, details: str = "") -> None:
        super().__init__(reason)
        self.details = details


class Worker:
    """A running worker: one or several processes with their children."""

    def __init__(self, commands: Sequence[Sequence[str]], environment: dict[str, str], log: Path) -> None:
        with log.open("ab") as output:
            self.started = [_start(command, environment, output, log.parent) for command in commands]

    def has_ended(self) -> bool:
        """Whether one of the processes that were started has ended."""
        return any(each.poll() is not None for each in self.started)

    def processes(self) -> list[psutil.Process]:
        """Return all its processes."""
        tops = [psutil.Process(each.pid) for each in self.started]
        return [process for top in tops for process in (top, *top.children(recursive=True))]

    def cpu_seconds(self) -> float:
        """Return the CPU time that it has used so far."""
        return sum(sum(process.cpu_times()[:4]) for process in self.processes())

    def memory(self) -> tuple[float, float]:
        """Return the MiB that each of its processes has to itself (USS), and those with their share of the rest (PSS).

        After a fork, memory that parent and children have in common is in nobody's USS, but counts once in the PSS.
        """
        infos = [process.memory_full_info() for process in self.processes()]
        return sum(info.uss for info in infos) / MIB, sum(info.pss for info in infos) / MIB

    def stop(self) -> None:
        """Ask it to stop, and leave nothing of it behind."""
        for each in self.started:
            each.terminate()
        for each in self.started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                each.wait(STOP_TIMEOUT)
            _kill(each)


class Session:
    """A system on a database that nobody has used before.

    Args:
        entry: the system.
        database: nobody has used it.
        directory: an empty directory, where its processes run.
        company: who is measured at the same time; nobody else by default.

    Raises:
        Failed: it does not start.
        CannotInstall: it cannot be had here.
    """

    def __init__(self, entry: Entry, database: Database, directory: Path, company: Company | None = None) -> None:
        self.entry = entry
        self.database = database
        self.company = company or Company()
        self.log = directory / "output.log"
        self.environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {
            "DJANGO_SETTINGS_MODULE": "benchmarks.settings",
            "BENCH_SYSTEM": entry.module,
            "BENCH_VARIANT": entry.variant,
            "BENCH_DATABASE_URL": database.url,
            "BENCH_STAMPS": str(directory / "stamps"),
        }
        if entry.package is None:
            self.environment["PYTHONPATH"] = str(ROOT)
        self.workers: list[Worker] = []
        self.connection, theirs = Pipe()
        command = [python_of(entry), "-m", "benchmarks.agent", str(theirs.fileno())]
        with self.log.open("ab") as output, theirs:
            self.agent = _start(command, self.environment, output, directory, pass_fds=[theirs.fileno()])

    def ask(self, action: str, *arguments: Any) -> Any:
        """Let the agent do something and return what it says.

        Raises:
            Failed: it could not.
        """
        self.connection.send((action, arguments))
        return self._answer()

    def server_seconds(self) -> float | None:
        """Return the CPU time that the database's server has used so far, where it is one process."""
        process = self.database.server
        return sum(process.cpu_times()[:2]) if process else None

    def _answer(self) -> Any:
        deadline = time.monotonic() + ANSWER_TIMEOUT
        try:
            while not self.connection.poll(1.0):
                self.company.check()
                if any(worker.has_ended() for worker in self.workers):
                    raise Failed("its worker ended by itself", self._end_of_log())
                if time.monotonic() > deadline:
                    raise Failed(f"no answer for {ANSWER_TIMEOUT} s", self._end_of_log())
            good, value = self.connection.recv()
        except (EOFError, ConnectionError):
            raise Failed("its agent ended by itself", self._end_of_log()) from None
        if not good:
            raise Failed(value.splitlines()[-1], f"{value}\n{self._end_of_log()}")
        return value

    def _end_of_log(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_LINES:])

    @contextlib.contextmanager
    def worker(self, processes: int, **environment: str) -> Iterator[Worker]:
        """Run a worker of so many processes."""
        environment = self.environment | {"BENCH_PROCESSES": str(processes)} | environment
        worker = Worker(self.ask("worker", processes), environment, self.log)
        self.workers.append(worker)
        try:
            yield worker
        finally:
            self.workers.remove(worker)
            worker.stop()

    def __enter__(self) -> Self:
        try:
            self._answer()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()
        _kill(self.agent)


def _start(
    command: Sequence[str], environment: dict[str, str], output: Any, directory: Path, **options: Any
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        cwd=directory,
        start_new_session=True,
        preexec_fn=die_with_parent,
        **options,
    )


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Leave nothing of a process and its children behind."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
