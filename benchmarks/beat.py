"""``python -m benchmarks beat``: what a beat with many entries costs, and how near to its slots it fires."""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

#: Kinds of schedules, in turn: intervals of minutes, and crontabs of which many are different.
_EVERY = (60, 300, 3600)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what it takes."""
    parser.add_argument("--entries", type=int, default=100_000, help="rows in the database (100000)")
    parser.add_argument("--minutes", type=float, default=10, help="invented minutes of ticks (10)")
    parser.add_argument("--drift", type=float, metavar="SECONDS", help="instead: fire 1-second entries for so long")


def measure(directory: Path, options: argparse.Namespace) -> str:
    """Return the report."""
    _set_up(directory)
    return _drift(options.drift) if options.drift else _many(options.entries, options.minutes)


def _set_up(directory: Path) -> None:
    from django_tasks import shared_task, standalone

    # Its database is made in the current directory.
    os.chdir(directory)
    standalone.configure()
    standalone.migrate()
    shared_task(name="t")(_work)


def _work() -> None:
    """Do what the entries are for: nothing, as no worker runs here."""


def _many(entries: int, minutes: float) -> str:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    from django_tasks.beat.service import make_scheduler
    from django_tasks.current import get_current_app
    from django_tasks.models import PeriodicTask

    _fill(entries)
    lines = [f"{entries:,} entries in the database (SQLite)"]
    app = get_current_app()
    for what in ("first start", "next start"):
        scheduler = make_scheduler(app)
        now = scheduler.store.now()
        began = time.perf_counter()
        scheduler.load(now)
        lines.append(f"{what}: {time.perf_counter() - began:.1f} s")
    took, fired = _ticks(scheduler, now, minutes)
    lines.append(f"{len(took):,} ticks of {minutes:g} invented minutes, {fired:,} messages: {_spread(took)}")
    row = PeriodicTask.objects.get(name="entry 5")
    row.args = [6]
    began = time.perf_counter()
    with CaptureQueriesContext(connection) as queries:
        row.save()
        scheduler.tick(now + minutes * 60 + 2)
    passed = (time.perf_counter() - began) * 1000
    lines.append(f"an edit and the tick after it: {len(queries)} statements, {passed:.1f} ms")
    return "\n".join(lines)


def _fill(entries: int) -> None:
    from django_tasks.models import PeriodicTask

    rows = []
    for number in range(entries):
        if number % 2:
            schedule: dict[str, Any] = {"kind": "interval", "schedule": str(_EVERY[number // 2 % len(_EVERY)])}
        else:
            schedule = {"kind": "cron", "schedule": f"{number % 60} {number // 60 % 24} * * {number // 1440 % 7}"}
        rows.append(PeriodicTask(name=f"entry {number}", task="t", **schedule))
    PeriodicTask.objects.bulk_create(rows, batch_size=2000)


def _ticks(scheduler: Any, now: float, minutes: float) -> tuple[list[float], int]:
    """Play some invented minutes; return what each tick took, in ms and sorted, and how many messages were sent."""
    from django_tasks.models import QueuedMessage

    end, took = now + minutes * 60, []
    while now < end:
        began = time.perf_counter()
        wait = scheduler.tick(now)
        took.append((time.perf_counter() - began) * 1000)
        now += max(wait, took[-1] / 1000)
    return sorted(took), QueuedMessage.objects.count()


def _spread(values: Sequence[float]) -> str:
    """Describe times in ms, which are sorted."""
    p99 = values[min(len(values) - 1, int(len(values) * 0.99))]
    return f"median {statistics.median(values):.1f} ms, p99 {p99:.1f} ms, worst {values[-1]:.1f} ms"


def _drift(seconds: float) -> str:
    """Fire entries of every second in real time; return how late their messages were written."""
    from django_tasks.beat.service import Beat, make_scheduler
    from django_tasks.brokers.orm_beat import ORMClaims
    from django_tasks.current import get_current_app

    late: list[float] = []
    app = get_current_app()
    app.conf.beat_schedule = {f"every second {n}": {"task": "t", "schedule": 1} for n in range(5)}
    scheduler = make_scheduler(app)
    store = scheduler.store
    assert isinstance(store, ORMClaims)
    claim = store.claim

    def timed(claims: Any) -> set[str]:
        won = claim(claims)
        late.extend(time.time() - slot for each in claims if each.before.name in won for slot in each.slots)
        return won

    store.claim = timed  # type: ignore[method-assign] # a stopwatch around the store of this one run
    beat, end = Beat(scheduler), time.monotonic() + seconds
    beat.loop(lambda: time.monotonic() >= end)
    state = scheduler.agenda["every second 0"].state
    slots = 5 * round(state.done - state.anchor)
    spread = _spread(sorted(each * 1000 for each in late))
    return f"5 entries of every second for {seconds:g} s: {len(late)} of {slots} slots fired; late by {spread}"
