"""Restart a worker again and again while delayed tasks wait: each runs once, and none too early."""

from __future__ import annotations

import argparse
import random
import signal
import statistics
import subprocess
import time
from collections import Counter

import psutil

from chaos import record
from chaos.stage import DATABASES, Stage, wait_until

#: Seconds over which the tasks fall due, and in which all must have run after that.
SPREAD, PATIENCE = 5.0, 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what it takes."""
    parser.add_argument("--database", choices=DATABASES, default="sqlite")
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--restarts", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60, help="until the first task is due")


def play(options: argparse.Namespace) -> bool:
    """Return whether every task ran once, and none before it was due."""
    print(f"{options.tasks} delayed tasks and {options.restarts} restarts on {options.database}", flush=True)
    with Stage(options.database, keep=options.keep) as stage:
        due = _send(options.tasks, time.time() + options.seconds)
        worker = _start(stage)
        for _ in range(options.restarts):
            _end(worker)
            worker = _start(stage)
        left = min(due.values()) - time.time()
        print(f"the last restart ended {left:.1f} s before the first task was due")
        wait_until(lambda: _ended() == options.tasks, max(due.values()) - time.time() + PATIENCE)
        ended = _ended()
        events = [event for event in record.read(stage.record) if event.kind == "start"]
    return _judge(due, events, ended) and left > 0


def _send(number: int, first: float) -> dict[str, float]:
    """Send the tasks; return when they are due, by id."""
    from datetime import datetime, timezone

    from chaos.tasks import work

    due: dict[str, float] = {}
    for _ in range(number):
        when = first + random.uniform(0, SPREAD)
        eta = datetime.fromtimestamp(when, timezone.utc)
        due[work.apply_async(eta=eta).id] = eta.timestamp()
    return due


def _start(stage: Stage) -> subprocess.Popen[bytes]:
    """Start a worker and wait until it is at work."""
    before = stage.log("worker").count(" ready.")
    worker = stage.start_worker("-c", "2")
    wait_until(lambda: stage.log("worker").count(" ready.") > before, 30)
    return worker


def _end(worker: subprocess.Popen[bytes]) -> None:
    """Stop a worker in good order, or kill all its processes at once."""
    if random.random() < 0.5:
        worker.send_signal(signal.SIGTERM)
    else:
        supervisor = psutil.Process(worker.pid)
        for process in [supervisor, *supervisor.children()]:
            process.kill()
    worker.wait()


def _ended() -> int:
    from chaos.tables import tables
    from django_tasks import states

    return sum(state == states.SUCCESS for state, _ in tables().ends().values())


def _judge(due: dict[str, float], events: list[record.Event], ended: int) -> bool:
    runs = Counter(event.subject for event in events)
    late = sorted(event.time - due[event.subject] for event in events)
    early = sum(each < 0 for each in late)
    print(f"sent {len(due)}, runs {len(events)}, ended {ended}, never run {len(set(due) - set(runs))}, "
          f"run twice {sum(n > 1 for n in runs.values())}, early {early}")  # fmt: skip
    if late:
        print(f"started after they were due: median {statistics.median(late):.2f} s, longest {late[-1]:.2f} s")
    return set(runs) == set(due) and len(events) == ended == len(due) and not early
