"""Measure what an idle worker costs with many tasks that are due in a day, against none of them."""

from __future__ import annotations

import argparse
import time

import psutil

from chaos.stage import DATABASES, Stage, wait_until

#: Messages of one send.
CHUNK = 1000
#: How many transactions (PostgreSQL) or statements (MariaDB) there were since the start; SQLite does not count them.
ROUNDS = {
    "postgresql": "SELECT 0, xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()",
    "mysql": "SHOW GLOBAL STATUS LIKE 'Questions'",
}
REDIS_ROUNDS = "total_commands_processed"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what it takes."""
    parser.add_argument("--database", choices=DATABASES, default="sqlite")
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=30, help="for which each of the two is measured")


def play(options: argparse.Namespace) -> bool:
    """Print the figures; there is nothing that could fail."""
    with Stage(options.database, keep=options.keep) as stage:
        worker = psutil.Process(stage.start_worker("-c", "1").pid)
        wait_until(lambda: " ready." in stage.log("worker"), 30)
        without = _measure(stage, worker, options.seconds)
        _print(f"idle worker on {options.database}, nothing queued", without)
        _send(options.tasks)
        # What the server does by itself after that many rows (it collects statistics) is not the worker's.
        time.sleep(options.seconds / 3)
        with_them = _measure(stage, worker, options.seconds)
        _print(f"with {options.tasks:,} tasks due in a day", with_them)
        ratios = (f"{name} {with_them[name] / value:.2f}" for name, value in without.items() if value)
        print(f"ratio: {', '.join(ratios)}")
    return True


def _send(number: int) -> None:
    from datetime import timedelta

    from django.utils.timezone import now

    from django_tasks.current import get_current_app
    from django_tasks.message import Message

    eta = now() + timedelta(days=1)
    broker = get_current_app().broker
    for start in range(0, number, CHUNK):
        ids = range(start, min(start + CHUNK, number))
        broker.send([Message("chaos.tasks.work", f"delayed-{each}", eta=eta) for each in ids])


def _measure(stage: Stage, worker: psutil.Process, seconds: float) -> dict[str, float]:
    """Return what one second cost."""
    server = psutil.Process(stage.server.process.pid) if stage.server and stage.server.process else None
    before, begin = _read(worker, server), time.monotonic()
    time.sleep(seconds)
    after, took = _read(worker, server), time.monotonic() - begin
    return {name: (after[name] - before[name]) / took for name in before}


def _read(worker: psutil.Process, server: psutil.Process | None) -> dict[str, float]:
    figures = {"worker CPU (ms/s)": _cpu(worker)}
    if server is not None:
        figures["server CPU (ms/s)"] = _cpu(server)
        figures["rounds/s"] = _rounds()
    return figures


def _cpu(process: psutil.Process) -> float:
    times = [each.cpu_times() for each in [process, *process.children(recursive=True)]]
    # Those that have ended count, too: PostgreSQL starts a process for each connection.
    ended = process.cpu_times()
    return 1000 * (sum(each.user + each.system for each in times) + ended.children_user + ended.children_system)


def _rounds() -> float:
    from django.db import connection

    from chaos.tables import RedisTables, tables

    stored = tables()
    if isinstance(stored, RedisTables):
        return float(stored.client.info("stats")[REDIS_ROUNDS])
    with connection.cursor() as cursor:
        cursor.execute(ROUNDS[connection.vendor])
        return float(cursor.fetchone()[1])


def _print(what: str, figures: dict[str, float]) -> None:
    print(f"{what}: {', '.join(f'{name} {value:.2f}' for name, value in figures.items())}", flush=True)
