"""What the tasks do, the same for every system."""

from __future__ import annotations

import os
import time


def noop() -> int:
    """Do nothing, and return something that has to be stored."""
    return 1


def stamp(sent: float) -> float:
    """Note how many seconds after ``sent`` this begins: in a file, as not every system keeps results."""
    delay = time.time() - sent
    with open(os.environ["BENCH_STAMPS"], "a") as file:
        file.write(f"{delay}\n")
    return delay


def spend(seconds: float) -> tuple[int, float, float]:
    """Take that long as a task that waits for somebody else does; return which process ran it, from when to when."""
    began = time.time()
    time.sleep(seconds)
    return os.getpid(), began, time.time()
