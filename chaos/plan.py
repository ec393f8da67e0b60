"""Faults by plan: what is broken when, to whom and for how long is settled before, so that two systems get the same."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil

from chaos.farm import Farm
from chaos.monkey import Fault
from tests.servers import Redis

#: How often in a minute each method of ``Breaker`` is called, and at least once.
A_MINUTE = {
    "kill_child": 8.0, "kill_worker": 2.0, "freeze_worker": 0.8, "restart_server": 1.6, "freeze_server": 0.4,
    "reset_connections": 2.4, "silence_connections": 1.2,
}  # fmt: skip
#: Seconds for which Redis stands still, and for which it is down at most.
FROZEN, DOWN = 20.0, 2.0


@dataclass(frozen=True)
class Act:
    """One thing to break.

    Attributes:
        at: seconds after the beginning.
        name: the method of ``Breaker``.
        worker: whom it hits, where it hits one.
        share: 0 to 1, for what else there is to choose.
    """

    at: float
    name: str
    worker: str
    share: float


def make_plan(seed: int, seconds: float, workers: Sequence[str], only: Sequence[str] = ()) -> list[Act]:
    """Return what to break in so many seconds, the same for the same arguments."""
    dice = random.Random(seed)
    plan = [
        Act(dice.uniform(0, seconds), name, dice.choice(workers), dice.random())
        for name, often in A_MINUTE.items()
        for _ in range(max(1, round(often * seconds / 60)))
    ]
    return sorted((act for act in plan if not only or act.name in only), key=lambda act: act.at)


class Breaker:
    """Breaks the workers of a farm, their Redis, and the connections between them.

    Args:
        proxy: through which they reach it; see ``chaos.proxy``.
        standstill: seconds for which a worker is stopped.
    """

    def __init__(self, farm: Farm, server: Redis, proxy: subprocess.Popen[bytes], standstill: float) -> None:
        self.farm = farm
        self.server = server
        self.proxy = proxy
        self.standstill = standstill
        self.faults: list[Fault] = []
        #: When what was stopped goes on (monotonic seconds), and how.
        self._undo: list[tuple[float, Fault, Callable[[], None]]] = []

    def do(self, act: Act) -> None:
        """Break something."""
        hits_worker = act.name.endswith(("child", "worker"))
        fault = Fault(act.name, nodes=frozenset({act.worker}) if hits_worker else frozenset())
        self.faults.append(fault)
        with contextlib.suppress(psutil.NoSuchProcess):
            getattr(self, act.name)(act, fault)

    def kill_child(self, act: Act, fault: Fault) -> None:
        """SIGKILL a process that runs tasks."""
        children = self.farm.children(act.worker)
        if children:
            children[int(act.share * len(children))].kill()
        fault.end = time.time()

    def kill_worker(self, act: Act, fault: Fault) -> None:
        """SIGKILL a worker with all its processes, as when a machine dies, and start another."""
        self.farm.replace(act.worker)
        self._go_on(fault)
        fault.end = time.time()

    def freeze_worker(self, act: Act, fault: Fault) -> None:
        """SIGSTOP a whole worker, as when a machine is suspended."""
        processes = self.farm.family(act.worker)
        self._go_on(fault)
        self._undo.append((time.monotonic() + self.standstill, fault, lambda: self._thaw(processes, fault)))
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()

    def _thaw(self, processes: list[psutil.Process], fault: Fault) -> None:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
        fault.end = time.time()

    def restart_server(self, act: Act, fault: Fault) -> None:
        """SIGKILL Redis, leave it down for a while, and start it again."""
        self.server.kill()
        self._go_on(fault)
        time.sleep(act.share * DOWN)
        self.server.start()
        fault.end = time.time()

    def freeze_server(self, act: Act, fault: Fault) -> None:
        """SIGSTOP Redis: connections stay open and nothing answers."""

        def thaw() -> None:
            self.server.thaw()
            fault.end = time.time()

        self._go_on(fault)
        self._undo.append((time.monotonic() + FROZEN, fault, thaw))
        self.server.freeze()

    def _go_on(self, fault: Fault) -> None:
        """Undo what has stopped whom a new fault hits: killed or not, that excuses nobody any longer."""
        for each in [each for each in self._undo if each[1].nodes == fault.nodes]:
            self._undo.remove(each)
            each[2]()

    def reset_connections(self, act: Act, fault: Fault) -> None:
        """Reset all connections to Redis."""
        self.proxy.send_signal(signal.SIGUSR1)
        fault.end = time.time()

    def silence_connections(self, act: Act, fault: Fault) -> None:
        """Let nothing through all connections that there are, without a word, until both ends are told."""
        self.proxy.send_signal(signal.SIGUSR2)
        fault.end = time.time()

    def mend(self, *, everything: bool = False) -> None:
        """Undo what is due."""
        now = time.monotonic()
        for each in [each for each in self._undo if everything or each[0] <= now]:
            self._undo.remove(each)
            each[2]()
