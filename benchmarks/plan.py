"""How much of everything is done."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Plan:
    """The size of a run.

    Args:
        rounds: how often everything is measured; the report has the medians.
        tasks: how many are sent in bulk and then drained; a fifth of them is sent one by one.
        enqueue_seconds: the longest that sending one by one may take; what is slower sends fewer.
        fill_seconds: the longest that filling the queue one by one may take, likewise.
        drain_seconds: the longest that draining is watched, from the first 5% on.
        samples: tasks sent to an idle worker, to see how soon they start.
        pause: shortest and longest pause between these (seconds); random, so that no rhythm of polling is met.
        settle_seconds: how long a worker is left alone before it counts as idle.
        idle_seconds: how long its CPU time is watched.
        mixed_seconds: how long the mixed load lasts.
        load, load_processes: how many tasks wait for how many processes to be launched.
        many: how many tasks wait, or are delayed beside those that our workers drain.
        registered: tasks beside those that are called.
    """

    rounds: int = 3
    tasks: int = 10_000
    enqueue_seconds: float = 4
    fill_seconds: float = 5
    drain_seconds: float = 10
    samples: int = 50
    pause: tuple[float, float] = (0.2, 0.6)
    settle_seconds: float = 3
    idle_seconds: float = 30
    mixed_seconds: float = 15
    load: int = 20_000
    load_processes: int = 10
    many: int = 1_000_000
    registered: int = 200

    def on(self, database: str) -> Plan:
        """Return what is done on a database: ten times as many tasks on Redis, which takes that many more."""
        return replace(self, tasks=10 * self.tasks) if database == "redis" else self


#: Shows that everything runs, and measures nothing worth knowing. Fewer tasks would have ended before the first look.
QUICK = Plan(
    rounds=1,
    tasks=2_000,
    samples=3,
    pause=(0.05, 0.1),
    settle_seconds=0.2,
    idle_seconds=0.5,
    mixed_seconds=1,
    load=500,
    load_processes=2,
    many=2_000,
    registered=10,
)
