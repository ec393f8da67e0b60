"""Run tasks of three leases, some of which never let go of the interpreter: each starts once."""

from __future__ import annotations

import argparse
from collections import Counter

from chaos import record
from chaos.stage import DATABASES, Stage, wait_until

#: Leases that a task takes.
LEASES = 3.2
#: Seconds for the worker to start, and to begin and end the tasks beside what they take.
PATIENCE = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what it takes."""
    parser.add_argument("--database", choices=DATABASES, default="sqlite")
    parser.add_argument("--tasks", type=int, default=4, help="of each of the two kinds")
    parser.add_argument("--lease", type=float, default=3, help="WORKER_LEASE in seconds")


def play(options: argparse.Namespace) -> bool:
    """Return whether each task ran once."""
    seconds = LEASES * options.lease
    print(f"tasks of {seconds:g} s under a lease of {options.lease:g} s on {options.database}", flush=True)
    with Stage(options.database, {"CHAOS_LEASE": str(options.lease)}, keep=options.keep) as stage:
        from chaos.tables import tables
        from chaos.tasks import hold_the_interpreter, work

        for _ in range(options.tasks):
            work.delay(seconds)
            hold_the_interpreter.delay(seconds)
        # The second one would take over what the first seems to have let go.
        stage.start_worker("-c", "2", "-n", "prefork@%h")
        stage.start_worker("-c", "2", "-P", "threads", "-n", "threads@%h")
        wait_until(lambda: len(tables().ends()) == 2 * options.tasks, PATIENCE + options.tasks * seconds)
        ended = len(tables().ends())
        starts = Counter(event.subject for event in record.read(stage.record) if event.kind == "start")
    print(f"sent {2 * options.tasks}, started {len(starts)}, started twice {sum(n > 1 for n in starts.values())}, "
          f"ended {ended}")  # fmt: skip
    return len(starts) == ended == 2 * options.tasks and max(starts.values()) == 1
