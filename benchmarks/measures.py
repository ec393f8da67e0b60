"""What is measured. Each function takes a system on a fresh database and returns numbers by their key in ``ROWS``."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks import draining, idleness
from benchmarks.catalogue import DATABASES, REDIS
from benchmarks.plan import Plan
from benchmarks.session import Numbers, Session

#: Seconds to which the CPU time of an idle worker is scaled.
IDLE = 30
#: Processes that get the mixed load; each is one slot.
MIXED_SLOTS = 2
#: Tasks that each process of a worker gets to run before it is measured.
WARM_UP = 20
#: Seconds from the sending of a single task in which no other system gets one: most have started by then.
ALONE = 0.02


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
    "worker_cpu": Row("CPU time of the worker a task", "µs"),
    "server_cpu": Row("CPU time of Redis a task", "µs"),
    "drain_2": Row("drain, 2 processes", "tasks/s", more_is_better=True),
    "drain_4": Row("drain, 4 processes", "tasks/s", more_is_better=True),
    "drain_registered": Row("drain, 200 tasks registered", "tasks/s", more_is_better=True),
    "drain_delayed": Row("drain, 1,000,000 delayed", "tasks/s", more_is_better=True),
    "drain_waiting": Row("drain, 1,000,000 waiting", "tasks/s", more_is_better=True),
    "load": Row("20,000 tasks, 10 processes, launch to last", "s", 1),
    "start_p50": Row("sending to start, p50", "ms", 1),
    "start_p99": Row("sending to start, p99", "ms", 1),
    "get_p50": Row("sending to result in get(), p50", "ms", 1),
    "idle_cpu": Row(f"idle CPU time in {IDLE} s", "s", 2),
    "uss_1": Row("own memory, 1 process", "MiB"),
    "pss_1": Row("with shared, 1 process", "MiB"),
    "uss_2": Row("own memory, 2 processes", "MiB"),
    "pss_2": Row("with shared, 2 processes", "MiB"),
    "visible_p50": Row("end to visible result, p50", "ms", 1),
    "visible_p99": Row("end to visible result, p99", "ms", 1),
    "idle_share": Row("a slot idle while tasks wait", "% of time", 1),
    "idle_p99": Row("a slot idle while tasks wait, p99", "ms", 1),
    "idle_longest": Row("a slot idle while tasks wait, longest", "ms", 1),
}


def latency(session: Session, plan: Plan) -> Numbers:
    """Send single tasks to an idle worker."""
    chance = random.Random(session.entry.name)
    waits = []
    with session.worker(1):
        session.ask("run_some", WARM_UP)
        session.company.meet()
        for _ in range(plan.samples):
            session.company.sleep(chance.uniform(*plan.pause))
            with session.company.turn:
                waits.append(session.ask("stamp"))
                session.company.sleep(ALONE)
        delays = session.ask("start_delays")
        session.company.meet()
    numbers = {"start_p50": 1000 * quantile(delays, 0.50), "start_p99": 1000 * quantile(delays, 0.99)}
    return numbers if None in waits else numbers | {"get_p50": 1000 * quantile(waits, 0.50)}


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
    with session.worker(MIXED_SLOTS):
        session.ask("run_some", WARM_UP)
        runs = session.ask("mixed", plan.mixed_seconds)
    delays = [run.seen - run.ended for run in runs]
    idle = idleness.stretches(runs, MIXED_SLOTS)
    lengths = [until - since for since, until in idle] or [0.0]
    return {
        "visible_p50": 1000 * quantile(delays, 0.50),
        "visible_p99": 1000 * quantile(delays, 0.99),
        "idle_share": 100 * idleness.share(runs, idle),
        "idle_p99": 1000 * quantile(lengths, 0.99),
        "idle_longest": 1000 * max(lengths),
    }


@dataclass(frozen=True)
class Measure:
    """One measure.

    Args:
        take: does it with one system and returns the numbers.
        databases: where it is taken.
        together: all systems are measured at the same time, as they hardly ever do anything.
        ours_only: the others cannot do it.
        without: names of systems that are left out.
    """

    take: Callable[[Session, Plan], Numbers]
    databases: Sequence[str] = DATABASES
    together: bool = False
    ours_only: bool = False
    without: Sequence[str] = ()


#: Where more than throughput is measured: to the rest, how SQLite is synchronised makes no difference worth the time.
ONCE = ("sqlite", "postgresql", "redis")
MEASURES: Mapping[str, Measure] = {
    "throughput": Measure(draining.throughput),
    "latency": Measure(latency, ONCE, together=True),
    "idle": Measure(idle, ONCE, together=True),
    "mixed": Measure(mixed, ONCE, ours_only=True),
    "load": Measure(draining.load, REDIS, without=("celery-threads", "celery-solo")),  # prefork is its way to ten
    "scale": Measure(draining.scale, REDIS, ours_only=True),
    "growth": Measure(draining.growth, REDIS, ours_only=True),
}


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[math.ceil(share * len(ordered)) - 1]
