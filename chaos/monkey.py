"""What goes wrong: processes are killed and stopped, the server is restarted, frozen or locked."""

from __future__ import annotations

import contextlib
import random
import signal
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from chaos.stage import Stage

#: What each of the workers is told, by its name: one of each kind of pool.
WORKERS = {"prefork": ("-c", "2"), "threads": ("-c", "3", "-P", "threads")}
NODES = tuple(WORKERS)
PRODUCERS = 2
#: ``BROKER_CONNECTION_TIMEOUT`` in seconds.
CONNECTION_TIMEOUT = 2.0


@dataclass
class Fault:
    """Something that was broken.

    Attributes:
        name: the method of ``Monkey`` that did it.
        pids: the processes that it hit; none where all were hit through the database.
        siblings: the other processes of their workers.
        nodes: names of these workers.
        begin, end: seconds since the epoch.
    """

    name: str
    pids: frozenset[int] = frozenset()
    siblings: frozenset[int] = frozenset()
    nodes: frozenset[str] = frozenset()
    begin: float = field(default_factory=time.time)
    end: float = 0.0

    @property
    def hits_all(self) -> bool:
        """Whether it hit whatever needs the server."""
        return not self.pids and not self.nodes

    @property
    def lasts(self) -> bool:
        """Whether those that it hit cannot be expected to work before its end."""
        return self.name in _LASTING


_LASTING = frozenset({
    "kill_supervisor", "kill_worker", "freeze_supervisor", "freeze_worker", "restart_server", "freeze_server",
    "lock_database",
})  # fmt: skip


class Monkey:
    """Runs workers and producers, and breaks them.

    Args:
        stage: where they run.
        lease: ``WORKER_LEASE`` in seconds.
    """

    def __init__(self, stage: Stage, lease: float) -> None:
        self.stage = stage
        self.lease = lease
        self.workers = [self._start_worker(position) for position in range(len(NODES))]
        self.producers = [self._start_producer() for _ in range(PRODUCERS)]
        self.faults: list[Fault] = []
        #: When what was stopped goes on (monotonic seconds), and how.
        self._undo: list[tuple[float, Fault, Callable[[], None]]] = []

    def page(self, position: int) -> Path:
        """Return the health file of a worker."""
        return self.stage.directory / f"health-{position}"

    def _start_worker(self, position: int) -> subprocess.Popen[bytes]:
        node = NODES[position]
        return self.stage.start_worker(
            *WORKERS[node], "-n", f"{node}@%h", "--healthcheck-file", str(self.page(position))
        )

    def _start_producer(self) -> subprocess.Popen[bytes]:
        return self.stage.start("-m", "chaos.producer", log="producer")

    def play(self, seconds: float, only: Sequence[str] = (), pause: float = 0.5) -> None:
        """Break something every now and then.

        Args:
            only: names of the methods below to choose from; all when empty.
            pause: seconds between two of them, about.
        """
        acts: list[Callable[[], None]] = [self.kill_child] * 5 + [self.freeze_child] * 2
        acts += [self.kill_janitor, self.kill_supervisor, self.kill_worker, self.kill_producer]
        acts += [self.freeze_janitor, self.freeze_supervisor, self.freeze_worker]
        acts += [self.lock_database] if self.stage.server is None else [self.restart_server, self.freeze_server]
        acts += [self.reset_connections, self.silence_connections] * 2 if self.stage.proxy else []
        acts = [act for act in acts if not only or act.__name__ in only]
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(pause * random.uniform(0.2, 1.8))
            with contextlib.suppress(psutil.NoSuchProcess):
                random.choice(acts)()
            self._undo_due()

    # -- processes

    def kill_child(self) -> None:
        """SIGKILL a worker process."""
        self._kill("kill_child", [self._child()])

    def kill_janitor(self) -> None:
        """SIGKILL a janitor."""
        self._kill("kill_janitor", [self._janitor()])

    def kill_supervisor(self) -> None:
        """SIGKILL a supervisor, and start a new worker."""
        position = random.randrange(len(self.workers))
        fault = self._kill("kill_supervisor", self._family(position)[:1])
        self._replace_worker(position)
        self._go_on(fault)
        fault.end = time.time()

    def kill_worker(self) -> None:
        """SIGKILL a supervisor and all its children, as when a machine dies, and start a new worker."""
        position = random.randrange(len(self.workers))
        fault = self._kill("kill_worker", self._family(position))
        self._replace_worker(position)
        self._go_on(fault)
        fault.end = time.time()

    def freeze_child(self) -> None:
        """SIGSTOP a worker process for longer than the lease."""
        self._freeze("freeze_child", [self._child()])

    def freeze_janitor(self) -> None:
        """SIGSTOP a janitor for longer than the lease."""
        self._freeze("freeze_janitor", [self._janitor()])

    def freeze_supervisor(self) -> None:
        """SIGSTOP a supervisor for longer than the lease."""
        self._freeze("freeze_supervisor", self._family(random.randrange(len(self.workers)))[:1])

    def freeze_worker(self) -> None:
        """SIGSTOP a whole worker for longer than the lease, as when a machine is suspended."""
        self._freeze("freeze_worker", self._family(random.randrange(len(self.workers))))

    def kill_producer(self) -> None:
        """SIGKILL a producer in the middle of what it does, and start another."""
        position = random.randrange(len(self.producers))
        self._kill("kill_producer", [psutil.Process(self.producers[position].pid)])
        self.producers[position].wait()
        self.producers[position] = self._start_producer()

    def _family(self, position: int) -> list[psutil.Process]:
        """Return a worker's processes, its supervisor first."""
        supervisor = psutil.Process(self.workers[position].pid)
        return [supervisor, *supervisor.children()]

    def _child(self) -> psutil.Process:
        """Return a worker process. Raises: NoSuchProcess: there is none at the moment."""
        positions = range(len(self.workers))
        janitors = {janitor_pid(self.page(position)) for position in positions}
        children = [child for position in positions for child in self._family(position)[1:]]
        children = [child for child in children if child.pid not in janitors]
        if not children:
            raise psutil.NoSuchProcess(0)
        return random.choice(children)

    def _janitor(self) -> psutil.Process:
        """Return a worker's janitor. Raises: NoSuchProcess: it has none at the moment."""
        position = random.randrange(len(self.workers))
        pid = janitor_pid(self.page(position))
        for child in self._family(position)[1:]:
            if child.pid == pid:
                return child
        raise psutil.NoSuchProcess(pid)

    def _replace_worker(self, position: int) -> None:
        self.workers[position].wait()
        self.workers[position] = self._start_worker(position)

    def _fault(self, name: str, processes: Sequence[psutil.Process]) -> Fault:
        pids = frozenset(process.pid for process in processes)
        families = {node: {each.pid for each in self._family(place)} for place, node in enumerate(NODES)}
        hit = {node: family for node, family in families.items() if pids & family}
        fault = Fault(name, pids, frozenset().union(*hit.values()) - pids, frozenset(hit))
        self.faults.append(fault)
        return fault

    def _kill(self, name: str, processes: Sequence[psutil.Process]) -> Fault:
        fault = self._fault(name, processes)
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        fault.end = time.time()
        return fault

    def _freeze(self, name: str, processes: Sequence[psutil.Process]) -> None:
        fault = self._fault(name, processes)
        if fault.lasts:
            self._go_on(fault)

        def thaw() -> None:
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()
            fault.end = time.time()

        self._undo.append((time.monotonic() + self.lease * random.uniform(1.2, 3), fault, thaw))
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()

    # -- the database

    def restart_server(self) -> None:
        """Stop the server in good order or not, leave it down for a while, and start it again."""
        server = self.stage.server
        assert server is not None
        fault = Fault("restart_server")
        self.faults.append(fault)
        random.choice([server.stop, server.kill])()
        self._go_on(fault)
        time.sleep(random.uniform(0, 2))
        server.start()
        fault.end = time.time()

    def freeze_server(self) -> None:
        """SIGSTOP the server: connections stay open and nothing answers, for longer than the lease or not."""
        server = self.stage.server
        assert server is not None
        if self._is_under_way("freeze_server"):
            return
        fault = Fault("freeze_server")
        self.faults.append(fault)

        def thaw() -> None:
            server.thaw()
            fault.end = time.time()

        self._undo.append((time.monotonic() + self.lease * random.uniform(0.3, 2), fault, thaw))
        server.freeze()

    def reset_connections(self) -> None:
        """Reset all connections to the server."""
        self._cut("reset_connections", signal.SIGUSR1, 0.5)

    def silence_connections(self) -> None:
        """Let nothing through all connections that there are, without a word; new ones can be made."""
        # A heartbeat that is not answered in time may be one too many.
        self._cut("silence_connections", signal.SIGUSR2, CONNECTION_TIMEOUT + self.lease)

    def _cut(self, name: str, how: signal.Signals, noticed: float) -> None:
        """Cut all connections, which everybody notices after so many seconds."""
        assert self.stage.proxy is not None
        fault = Fault(name)
        self.stage.proxy.send_signal(how)
        fault.end = time.time() + noticed
        self.faults.append(fault)

    def lock_database(self) -> None:
        """Hold SQLite's write lock for longer than the lease or not, as a long transaction of a neighbour does."""
        if self._is_under_way("lock_database"):
            return
        fault = Fault("lock_database")
        self.faults.append(fault)
        release = threading.Event()

        def undo() -> None:
            release.set()
            thread.join()
            fault.end = time.time()

        thread = threading.Thread(target=_hold_the_write_lock, args=(release,))
        self._undo.append((time.monotonic() + self.lease * random.uniform(0.3, 2), fault, undo))
        thread.start()

    def _is_under_way(self, name: str) -> bool:
        return any(fault.name == name and not fault.end for fault in self.faults)

    # -- the end

    def _undo_due(self, everything: bool = False) -> None:
        now = time.monotonic()
        for each in [each for each in self._undo if everything or each[0] <= now]:
            self._undo.remove(each)
            each[2]()

    def _go_on(self, fault: Fault) -> None:
        """Undo what has stopped a whole worker, or the server, that a new fault hits: it excuses nobody any longer."""
        for each in [each for each in self._undo if each[1].lasts and each[1].nodes == fault.nodes]:
            self._undo.remove(each)
            each[2]()

    def stop_breaking(self) -> None:
        """Let everything live, and send nothing more."""
        self._undo_due(everything=True)
        for producer in self.producers:
            producer.terminate()
            producer.wait()
        for position, worker in enumerate(self.workers):
            if worker.poll() is not None:
                self._replace_worker(position)


def janitor_pid(page: Path) -> int:
    """Read it from a health file, whose layout is that of ``django_tasks.worker.shared``; 0 if there is none."""
    with contextlib.suppress(OSError, struct.error):
        return int(struct.unpack_from("=q", page.read_bytes(), 32)[0])
    return 0


def _hold_the_write_lock(release: threading.Event) -> None:
    from django.db import connection, transaction

    from chaos.models import Entry

    with transaction.atomic():
        Entry.objects.filter(task_id="").delete()
        release.wait()
    connection.close()
