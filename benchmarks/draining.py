"""Measures that fill a queue and let workers drain it."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.plan import Plan
from benchmarks.session import Numbers, Session

#: Processes of a worker beyond one.
SCALE = (2, 4)
MICRO = 1_000_000


def throughput(session: Session, plan: Plan) -> Numbers:
    """Send tasks, then let a worker of one process drain them."""
    numbers = {"enqueue": session.ask("enqueue", plan.tasks // 5, plan.enqueue_seconds)}
    bulk = session.ask("enqueue_bulk", plan.tasks, plan.fill_seconds)
    if bulk is None:
        session.ask("fill", plan.tasks, plan.fill_seconds)
    else:
        numbers["bulk"] = bulk
    return numbers | _drain(session, plan)


def scale(session: Session, plan: Plan) -> Numbers:
    """Drain with more processes (our system only)."""
    numbers = {}
    for processes in SCALE:
        session.ask("enqueue_bulk", plan.tasks, plan.fill_seconds)
        numbers[f"drain_{processes}"] = _drain(session, plan, processes)["drain"]
    return numbers


def growth(session: Session, plan: Plan) -> Numbers:
    """Drain beside many registered tasks, beside many delayed ones, and from a long queue (our system only)."""
    session.ask("enqueue_bulk", plan.tasks, plan.fill_seconds)
    numbers = {"drain_registered": _drain(session, plan, BENCH_REGISTERED=str(plan.registered))["drain"]}
    with session.worker(1):  # with which they are put aside as they are sent; else its successor would have to
        session.ask("run_some", 1)
        session.ask("delay", plan.many)
    session.ask("enqueue_bulk", plan.tasks, plan.fill_seconds)
    numbers["drain_delayed"] = _drain(session, plan)["drain"]
    session.ask("empty")
    session.ask("enqueue_bulk", plan.many)
    return numbers | {"drain_waiting": _drain(session, plan)["drain"]}


def load(session: Session, plan: Plan) -> Numbers:
    """Let many processes do what is queued: from their launch to the last result."""
    if session.ask("enqueue_bulk", plan.load) is None:
        session.ask("fill", plan.load)
    begun = time.perf_counter()
    with session.worker(plan.load_processes):
        session.ask("wait_for_all")
        return {"load": time.perf_counter() - begun}


def _drain(session: Session, plan: Plan, processes: int = 1, **environment: Any) -> Numbers:
    with session.worker(processes, **environment) as worker:
        session.ask("run_up")
        before, server_before = worker.cpu_seconds(), session.server_seconds()
        tasks, seconds = session.ask("drain", plan.drain_seconds)
        numbers = {"drain": tasks / seconds, "worker_cpu": MICRO * (worker.cpu_seconds() - before) / tasks}
        if server_before is not None:
            numbers["server_cpu"] = MICRO * (session.server_seconds() - server_before) / tasks
        return numbers
