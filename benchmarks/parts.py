"""Where the time of one task goes: our worker's loop in this process, with a stopwatch on each of its parts."""

from __future__ import annotations

import cProfile
import pstats
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, NamedTuple

from benchmarks.report import markdown
from benchmarks.systems.base import System

REST = "loop and what is not listed"
Parts = Mapping[str, tuple[str, ...]]
_RUN: Parts = {
    "refuse?": ("django_tasks.refusal:refuse",),
    "execute: around the call": ("django_tasks.executor:Executor.run",),
    "execute: does anybody listen?": ("django_tasks.hooks:wanted",),
    "execute: the task": ("django_tasks.task:Task.__call__",),
    "encode result": ("django_tasks.executor:Executor._encode",),
    "finish: the rest": ("django_tasks.worker.batch:Batch.flush",),
    "finish: follow-ups": ("django_tasks.finish:follow_ups",),
    "log": ("django_tasks.worker.slot:report", "django_tasks.worker.logs:task_received"),
    "clean up": ("django_tasks.worker.slot:clean_up",),
}
#: Which function belongs to which part, on databases and on Redis. A part's time is its own: what another part does
#: inside it is left out.
SQL_PARTS: Parts = {
    "reserve: statement": ("django_tasks.brokers.orm_table:MessageTable.claim",),
    "reserve: the rest": ("django_tasks.worker.slot:Slot._reserve",),
    "decode": ("django_tasks.brokers.orm_claims:deliver",),
    **_RUN,
    "finish: settle, statement": ("django_tasks.brokers.orm_table:MessageTable.settle_here",),
    "finish: store, values": ("django_tasks.backends.orm:_values",),
    "finish: store, statement": ("django_tasks.backends.orm:ORMBackend._store",),
    "finish: begin and commit": (
        "django.db.backends.base.base:BaseDatabaseWrapper._commit",
        "django.db.backends.base.base:BaseDatabaseWrapper.set_autocommit",
    ),
}
REDIS_PARTS: Parts = {
    "scripts and their answers": ("django_tasks.redis_connections:RedisConnections.execute",),
    "reserve: the rest": ("django_tasks.worker.slot:Slot._reserve",),
    "decode": ("django_tasks.brokers.redis_ledger:deliver",),
    **_RUN,
    "finish: values": ("django_tasks.backends.redis:RedisBackend.entry",),
    "finish: arguments of the script": ("django_tasks.brokers.redis_finish:_in_short",),
}
FUNCTIONS = 20
#: Tasks sent one by one to see what that costs.
ONE_BY_ONE = 2_000


class Cost(NamedTuple):
    """Microseconds per task: time, CPU time of the process, and of the server where there is one for it alone."""

    wall: float
    cpu: float
    server: float | None


class Profile(NamedTuple):
    """What one profile found; times in microseconds per task.

    Attributes:
        run: the plain loop, without stopwatches.
        one, many: sending by one call for each, and by one call for all.
        parts: time and calls of each part, with stopwatches.
        functions: the functions with most time of their own under cProfile: time, calls per task, name.
    """

    run: Cost
    one: Cost
    many: Cost
    parts: dict[str, tuple[float, float]]
    functions: list[tuple[float, float, str]]


class Stopwatch:
    """Counts time for the innermost part that runs."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.begin()

    def begin(self) -> None:
        """Forget what was counted so far."""
        self.spent = dict.fromkeys((*self.parts, REST), 0)
        self.calls = dict.fromkeys(self.spent, 0)
        self._stack = [REST]
        self._since = time.perf_counter_ns()

    def _switch(self) -> None:
        now = time.perf_counter_ns()
        self.spent[self._stack[-1]] += now - self._since
        self._since = now

    def watch(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that does the same and counts for a part."""

        def watched(*args: Any, **kwargs: Any) -> Any:
            self._switch()
            self._stack.append(part)
            self.calls[part] += 1
            try:
                return function(*args, **kwargs)
            finally:
                self._switch()
                self._stack.pop()

        return watched

    def install(self) -> None:
        """Put itself around the functions of its parts, for the rest of this process's life."""
        for part, names in self.parts.items():
            for name in names:
                path, _, attribute = name.replace(":", ".").rpartition(".")
                owner = resolve_name(path)
                setattr(owner, attribute, self.watch(part, getattr(owner, attribute)))

    def result(self, tasks: int) -> dict[str, tuple[float, float]]:
        """Return microseconds and calls per task."""
        self._switch()
        return {part: (spent / tasks / 1000, self.calls[part] / tasks) for part, spent in self.spent.items()}


def profile(system: System, tasks: int) -> Profile:
    """Run tasks three times over: plainly, under cProfile (fewer) and with stopwatches."""
    from django.conf import settings

    slot = _slot()
    _drain(system, slot, tasks // 10)  # batches grow, caches fill
    one = _cost(system, ONE_BY_ONE, lambda: system.enqueue_some(ONE_BY_ONE))
    _run(slot, ONE_BY_ONE)
    many = _cost(system, tasks, lambda: system.enqueue_bulk(tasks))
    run = _cost(system, tasks, lambda: _run(slot, tasks))
    profiler = cProfile.Profile()
    fewer = max(1, tasks // 4)
    _drain(system, slot, fewer, profiler)
    stopwatch = Stopwatch(REDIS_PARTS if settings.ON_REDIS else SQL_PARTS)
    stopwatch.install()
    # What sending adds to the stopwatch has no part of its own; start anew after it.
    _drain(system, slot, tasks, after_sending=stopwatch.begin)
    return Profile(run, one, many, stopwatch.result(tasks), _functions(profiler, fewer))


def _slot() -> Any:
    """Make one slot of a worker, as a worker process does."""
    from django_tasks.current import get_current_app
    from django_tasks.executor import Executor
    from django_tasks.worker.process import take_seat
    from django_tasks.worker.shared import Page
    from django_tasks.worker.slot import Slot

    (seat,) = Page(1).seats
    take_seat(seat, "profile@localhost", 0)
    app = get_current_app()
    executor = Executor(app, hostname="profile@localhost")
    queues = tuple(app.router.queues)
    return Slot(app, seat, executor, queues, stopping=lambda: False, giving_up=lambda: False)


def _drain(
    system: System,
    slot: Any,
    tasks: int,
    profiler: cProfile.Profile | None = None,
    after_sending: Callable[[], None] = lambda: None,
) -> None:
    """Send tasks and run them all."""
    system.enqueue_bulk(tasks)
    after_sending()
    if profiler:
        profiler.enable()
    _run(slot, tasks)
    if profiler:
        profiler.disable()


def _run(slot: Any, tasks: int) -> None:
    wanted = slot.seat.processed + tasks
    while slot.seat.processed < wanted:
        slot.poll(time.monotonic())


def _cost(system: System, tasks: int, work: Callable[[], None]) -> Cost:
    server, wall, cpu = system.server_seconds(), time.perf_counter(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    after = system.server_seconds()
    spent = None if after is None or server is None else (after - server) / tasks * 1e6
    return Cost(wall / tasks * 1e6, cpu / tasks * 1e6, spent)


def _functions(profiler: cProfile.Profile, tasks: int) -> list[tuple[float, float, str]]:
    stats = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    rows = [(own / tasks * 1e6, calls / tasks, _name(key)) for key, (_, calls, own, _, _) in stats.items()]
    return sorted(rows, reverse=True)[:FUNCTIONS]


def _name(key: tuple[str, int, str]) -> str:
    path, line, function = key
    if path == "~":  # written in C
        return re.sub(" at 0x[0-9a-f]+", "", function)
    return f"{'/'.join(Path(path).parts[-2:])}:{line} {function}"


def profile_report(tasks: int, found: Profile) -> str:
    """Return a profile as Markdown."""
    total = sum(spent for spent, _ in found.parts.values())
    parts = [
        [part, f"{spent:.1f}", f"{spent / total:.0%}", f"{calls:.2f}"] for part, (spent, calls) in found.parts.items()
    ]
    functions = [[name, f"{own:.1f}", f"{calls:.2f}"] for own, calls, name in found.functions]
    return "\n\n".join(
        [
            f"{tasks:,} tasks that do nothing: {_told(found.run)}, {1e6 / found.run.wall:,.0f} tasks/s. "
            f"Sent one by one {_told(found.one)}; sent together {_told(found.many)}. "
            f"With a stopwatch on each part {total:.1f} µs:",
            markdown([["part", "µs per task", "share", "calls per task"], *parts]),
            "Functions with the most time of their own under cProfile, which makes small functions look slower:",
            markdown([["function", "µs per task", "calls per task"], *functions]),
        ]
    )


def _told(cost: Cost) -> str:
    server = "" if cost.server is None else f" and {cost.server:.1f} of the server's"
    return f"{cost.wall:.1f} µs each, {cost.cpu:.1f} µs of CPU time{server}"
