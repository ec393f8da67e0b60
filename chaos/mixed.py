"""Let workers of ours and of Celery consume one queue on Redis while both are killed: every task runs."""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from chaos import record
from chaos.farm import Farm, System, celery_that_keeps, holds
from chaos.farm_work import QUEUE
from chaos.stage import wait_until
from tests.servers import Redis

#: Seconds in which everything must have run once nothing is killed any more, beside the visibility time-out.
CALM = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what it takes."""
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=0.02, help="that each task takes")
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between two kills, about")
    parser.add_argument("--kill", choices=("both", "ours", "celery"), default="both", help="whose processes are killed")
    parser.add_argument("--celery", default="5.7", help="version: 5.7 or 5.4")
    parser.add_argument("--visibility", type=float, default=10, help="Celery's visibility_timeout in seconds")
    parser.add_argument("--seed", type=int, default=None)


def play(options: argparse.Namespace) -> bool:
    """Return whether no more tasks were lost than Celery's workers may lose between two of their commands."""
    seed = options.seed if options.seed is not None else random.randrange(10**6)
    print(
        f"{options.tasks:,} tasks for ours and Celery {options.celery}, killing {options.kill}, seed {seed}", flush=True
    )
    workers = {
        "ours": System(settings={"worker_lease": 3.0}),
        "celery": celery_that_keeps(options.celery, options.visibility),
    }
    with contextlib.ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="celeriac-mixed-"))
        if not options.keep:
            stack.callback(shutil.rmtree, directory)
        server = stack.enter_context(Redis())
        random.seed(seed)  # not before the server has chosen its port, which another run must not get
        farm = Farm(directory, workers, server.url(), server.url("1"))
        stack.callback(farm.close)
        farm.wait_until_ready()
        for sender in [farm.send(system, options.tasks // 2, options.seconds) for system in workers.values()]:
            sender.wait()
        ids = farm.sent()
        kills = kill_until(farm, lambda: len(farm.ended()) >= 0.97 * len(ids), options.pause, options.kill)
        took = wait_until(quiet := Quiet(server.connect()), CALM + 2 * options.visibility)
        print(", ".join(f"killed {what}: {count}" for what, count in sorted(kills.items())))
        good = judge(ids, farm, server, quiet(), kills["celery, all"])
        print(f"calm after {took:.1f} s; logs and record: {directory if options.keep else 'removed'}")
        return good and len(ids) == options.tasks // 2 * 2


def kill_until(farm: Farm, done: Callable[[], bool], pause: float, whose: str) -> Counter[str]:
    """SIGKILL a child, or a worker with all its children, every now and then; return what was, and how often."""
    kills = Counter[str]()
    while not done():
        name = random.choice(("ours", "celery")) if whose == "both" else whose
        wait_until(psutil.Process(farm.workers[name].pid).children, 5)
        time.sleep(random.uniform(0.5, 1.5) * pause)
        children = farm.family(name)[1:]
        whole = not children or random.random() < 0.4
        kills[f"{name}, {'all' if whole else 'a child'}"] += 1
        if whole:
            farm.replace(name)
            continue
        with contextlib.suppress(psutil.NoSuchProcess):
            random.choice(children).kill()
    return kills


class Quiet:
    """Whether for two seconds no message has been left, neither on the lists nor in anybody's hands.

    Args:
        client: of the broker's database.
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        self.since = float("inf")

    def __call__(self) -> bool:
        if any(holds(self.client, QUEUE)):
            self.since = float("inf")
        else:
            self.since = min(self.since, time.monotonic())
        return time.monotonic() - self.since > 2


def judge(ids: set[str], farm: Farm, server: Redis, calm: bool, excuse: int) -> bool:
    """Print what became of the tasks; return whether it is as promised.

    Args:
        excuse: how many messages Celery may lose: a worker that dies between its BRPOP and its note of that takes one
            with it, and no other. Whose fault a loss was cannot be seen, so up to as many prove nothing against ours:
            for that nobody of Celery's may be killed.
    """
    events = list(record.read(farm.record))
    sides = Counter(event.detail for event in events if event.kind == "end")
    starts = [event.subject for event in events if event.kind == "start"]
    never = ids - farm.ended()
    excused = calm and len(never) <= excuse and not never & set(starts)
    results = server.connect(db=1)
    bare = sum('"SUCCESS"' not in (results.get(f"celery-task-meta-{each}") or "") for each in ids - never)
    dead = server.connect().hlen(f"{{{QUEUE}}}.dead")
    print(f"sent {len(ids)}, run {len(ids) - len(never)}, by ours {sides['ours']}, by Celery {sides['celery']}, "
          f"started again {len(starts) - len(set(starts))}, without result {bare}, dead letters {dead}")  # fmt: skip
    print(f"lost {len(never)}; Celery may lose one at each kill of a whole worker of its own: {excuse}")
    return (excused or not never) and not (bare or dead) and min(sides["ours"], sides["celery"]) > 0
