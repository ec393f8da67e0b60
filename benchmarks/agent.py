"""The process in a system's virtual environment: sends tasks and asks its store, as the measuring process says.

    python -m benchmarks.agent FD

It reads pairs (name of a method of ``Agent``, its arguments) from the connection on the file descriptor and answers
with pairs (whether it went well, the value or the traceback). The first answer comes unasked, when all is ready.
"""

from __future__ import annotations

import math
import os
import sys
import time
import traceback
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import django

from benchmarks.idleness import Run
from benchmarks.systems.base import System

#: Seconds between two looks at the store, and without any progress until a worker counts as broken.
LOOK, PATIENCE = 0.02, 30.0
#: Tasks sent before sending is timed: connections are made, caches filled.
FIRST = 20
#: Tasks sent between two looks at the clock.
TOGETHER = 20
#: Tasks, or share of all of them, that have ended when a drain begins to count.
RUN_UP, RUN_UP_SHARE = 200, 0.05


class Agent:
    """What the measuring process can ask for."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.sent = 0

    def versions(self, package: str | None) -> dict[str, str]:
        """Return the versions of a distribution (None: this project) and of what it stands on."""
        return self.system.versions(package)

    def worker(self, processes: int) -> list[list[str]]:
        """Return the commands that start a worker."""
        return self.system.worker(processes)

    def enqueue(self, count: int, seconds: float) -> float:
        """Send tasks one by one, for no longer than that; return how many a second."""
        self.fill(FIRST)
        begun, before = time.perf_counter(), self.sent
        self.fill(count, seconds)
        return (self.sent - before) / (time.perf_counter() - begun)

    def enqueue_bulk(self, count: int, seconds: float = math.inf) -> float | None:
        """Send tasks in calls for many, for no longer than that; return how many a second, None if there is no call."""
        if not self.system.bulk_size:
            return None
        begun, before = time.perf_counter(), self.sent
        while self.sent - before < count and time.perf_counter() - begun < seconds:
            size = min(self.system.bulk_size, before + count - self.sent)
            self.system.enqueue_bulk(size)
            self.sent += size
        return (self.sent - before) / (time.perf_counter() - begun)

    def fill(self, count: int, seconds: float = math.inf) -> None:
        """Send tasks one by one, for no longer than that."""
        end, wanted = time.perf_counter() + seconds, self.sent + count
        while self.sent < wanted and time.perf_counter() < end:
            size = min(TOGETHER, wanted - self.sent)
            self.system.enqueue_some(size)
            self.sent += size

    def run_some(self, count: int) -> None:
        """Send a few tasks and wait until they have ended."""
        self.fill(count)
        self._wait(self.sent)

    def run_up(self) -> None:
        """Wait until a worker that has just been started has finished the first tasks."""
        done = self.system.finished()
        self._wait(done + min(RUN_UP, int((self.sent - done) * RUN_UP_SHARE)))

    def drain(self, seconds: float) -> tuple[int, float]:
        """Watch a worker finish all that was sent; return how many it finished, and in how many seconds.

        Measured to the look that finds all of them finished, or the last within ``seconds``.
        """
        first = done = self.system.finished()
        begun = time.perf_counter()
        while done < self.sent and time.perf_counter() - begun < seconds:
            time.sleep(LOOK)
            done = self.system.finished()
        elapsed = time.perf_counter() - begun
        if done == first:
            raise RuntimeError(f"{first} of {self.sent} tasks were finished at the first look, and no more afterwards")
        return done - first, elapsed

    def wait_for_all(self) -> None:
        """Wait until all that was sent has ended."""
        self._wait(self.sent)

    def _wait(self, wanted: int) -> int:
        """Return how many tasks have ended, as soon as it is as many as wanted."""
        last, progress = -1, time.monotonic()
        while (done := self.system.finished()) < wanted:
            if done > last:
                last, progress = done, time.monotonic()
            if time.monotonic() - progress > PATIENCE:
                raise TimeoutError(f"no task has ended for {PATIENCE} s: {done} have, {wanted} are waited for")
            time.sleep(LOOK)
        return done

    def stamp(self) -> float | None:
        """Send a task that notes how long ago that was when it starts.

        Returns the seconds until its result was here, if the system has a call that waits for it.
        """
        begun = time.perf_counter()
        send = self.system.get_stamp if self.system.has_get else self.system.stamp
        send(time.time())
        self.sent += 1
        return time.perf_counter() - begun if self.system.has_get else None

    def start_delays(self) -> list[float]:
        """Return for each of those tasks the seconds from its sending to its start, when all have ended."""
        self._wait(self.sent)
        return [float(line) for line in Path(os.environ["BENCH_STAMPS"]).read_text().splitlines()]

    def delay(self, count: int) -> None:
        """Send tasks that are not due before tomorrow, by a system that has such."""
        for begun in range(0, count, self.system.bulk_size):
            self.system.delay(min(count - begun, self.system.bulk_size))

    def empty(self) -> None:
        """Throw all away, of a system that can."""
        self.system.empty()
        self.sent = 0

    def mixed(self, seconds: float) -> list[Run] | None:
        """Run the mixed load of a system that has one."""
        run = getattr(self.system, "mixed", None)
        return run(seconds) if run else None

    def profile(self, tasks: int) -> Any:
        """Run tasks in this process and tell where their time goes (our system only)."""
        from benchmarks.parts import profile

        return profile(self.system, tasks)


def main(descriptor: int) -> None:
    """Answer until the measuring process is gone."""
    connection = Connection(descriptor)
    try:
        django.setup()
        system: System = import_module(f"benchmarks.systems.{os.environ['BENCH_SYSTEM']}").SYSTEM
        system.prepare()
        agent = Agent(system)
        connection.send((True, None))
        while True:
            action, arguments = connection.recv()
            connection.send((True, getattr(agent, action)(*arguments)))
    except EOFError:
        pass
    except Exception:
        connection.send((False, traceback.format_exc()))


if __name__ == "__main__":
    main(int(sys.argv[1]))
