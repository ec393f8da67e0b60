"""What is measured. Each function takes a system on a fresh database and returns numbers by their key in ``ROWS``."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.catalogue import DATABASES
from benchmarks.plan import Plan
from benchmarks.session import Session

#: Seconds to which the CPU time of an idle worker is scaled.
IDLE = 30
#: Tasks that each process of a worker gets to run before it is measured.
WARM_UP = 20
#: Seconds from the sending of a single task in which no other system gets one: most have started by then.
ALONE = 0.02

Numbers = dict[str, float]


@dataclass(frozen=True)
class Row:
    """One row of the report."""

    title: str
    unit: str
    digits: int = 0
    more_is_better: bool = False


ROWS: Mapping[str, Row] = {
    "enqueue": Row("send one by one", "tasks/s", more_is_better=True),
    "bulk": Row("send in bulk", "tasks/s", more_is_better=True),
    "drain": Row("drain, 1 process", "tasks/s", more_is_better=True),
    "start_p50": Row("sending to start, p50", "ms", 1),
    "start_p99": Row("sending to start, p99", "ms", 1),
    "idle_cpu": Row(f"idle CPU time in {IDLE} s", "s", 2),
    "uss_1": Row("own memory, 1 process", "MiB"),
    "pss_1": Row("with shared, 1 process", "MiB"),
    "uss_2": Row("own memory, 2 processes", "MiB"),
    "pss_2": Row("with shared, 2 processes", "MiB"),
    "visible_p50": Row("end to visible result, p50", "ms", 1),
    "visible_p99": Row("end to visible result, p99", "ms", 1),
}


def throughput(session: Session, plan: Plan) -> Numbers:
    """Send tasks, then let a worker of one process drain them."""
    numbers = {"enqueue": session.ask("enqueue", plan.tasks // 5, plan.enqueue_seconds)}
    bulk = session.ask("enqueue_bulk", plan.tasks)
    if bulk is None:
        session.ask("fill", plan.tasks, plan.fill_seconds)
    else:
        numbers["bulk"] = bulk
    with session.worker(1):
        numbers["drain"] = session.ask("drain", plan.drain_seconds)
    return numbers


def latency(session: Session, plan: Plan) -> Numbers:
    """Send single tasks to an idle worker."""
    chance = random.Random(session.entry.name)
    with session.worker(1):
        session.ask("run_some", WARM_UP)
        session.company.meet()
        for _ in range(plan.samples):
            session.company.sleep(chance.uniform(*plan.pause))
            with session.company.turn:
                session.ask("stamp")
                session.company.sleep(ALONE)
        delays = session.ask("start_delays")
        session.company.meet()
    return {"start_p50": 1000 * quantile(delays, 0.50), "start_p99": 1000 * quantile(delays, 0.99)}


def idle(session: Session, plan: Plan) -> Numbers:
    """Leave workers alone and see what they use."""
    numbers = {}
    for processes in (1, 2):
        with session.worker(processes) as worker:
            session.ask("run_some", WARM_UP * processes)
            session.company.meet()
            session.company.sleep(plan.settle_seconds)
            numbers[f"uss_{processes}"], numbers[f"pss_{processes}"] = worker.memory()
            if processes == 1:
                before = worker.cpu_seconds()
                session.company.sleep(plan.idle_seconds)
                numbers["idle_cpu"] = (worker.cpu_seconds() - before) * IDLE / plan.idle_seconds
            session.company.meet()
    return numbers


def mixed(session: Session, plan: Plan) -> Numbers:
    """Send short and long tasks for a while (our system only)."""
    with session.worker(2):
        session.ask("run_some", WARM_UP)
        delays = session.ask("mixed", plan.mixed_seconds)
    return {"visible_p50": 1000 * quantile(delays, 0.50), "visible_p99": 1000 * quantile(delays, 0.99)}


@dataclass(frozen=True)
class Measure:
    """One measure.

    Args:
        take: does it with one system and returns the numbers.
        databases: where it is taken.
        together: all systems are measured at the same time, as they hardly ever do anything.
        ours_only: the others cannot do it.
    """

    take: Callable[[Session, Plan], Numbers]
    databases: Sequence[str] = DATABASES
    together: bool = False
    ours_only: bool = False


#: Where more than throughput is measured: to the rest, how SQLite is synchronised makes no difference worth the time.
ONCE = ("sqlite", "postgresql")
MEASURES: Mapping[str, Measure] = {
    "throughput": Measure(throughput),
    "latency": Measure(latency, ONCE, together=True),
    "idle": Measure(idle, ONCE, together=True),
    "mixed": Measure(mixed, ONCE, ours_only=True),
}


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[math.ceil(share * len(ordered)) - 1]
