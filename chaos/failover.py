"""Kill the master that sentinels watch again and again, and count the acknowledged calls that are lost."""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from math import inf
from pathlib import Path

from chaos import record
from chaos.beside_audit import messages
from chaos.farm import Farm, System
from chaos.trio import NAME, Trio, trio
from tests.waiting import wait_for

#: Seconds that a task takes, and between two calls of one sender: more than a worker does, so that some always wait.
TASK, PAUSE = 0.015, 0.04
#: Seconds in which a worker has to begin a task after the promotion.
BACK = 10.0
#: Seconds within which a sender has heard what the master said before it died: less than until the promotion.
HEARD = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what it takes."""
    parser.add_argument("--wait", type=int, nargs="+", default=[0, 1], help="wait_replicas, a run for each")
    parser.add_argument("--lags", type=float, nargs="+", default=[0.05], help="of each replica, in seconds")
    parser.add_argument("--times", type=int, default=8, help="that the master is killed")
    parser.add_argument("--senders", type=int, default=6)
    parser.add_argument("--seed", type=int, default=None)


def play(options: argparse.Namespace) -> bool:
    """Return whether nothing was lost that all replicas had, and workers came back in time."""
    seed = options.seed if options.seed is not None else random.randrange(10**6)
    lags = ", ".join(f"{seconds * 1000:g} ms" for seconds in options.lags)
    print(f"{options.times} fail-overs to one of {len(options.lags)} replicas (lag {lags}), seed {seed}", flush=True)
    good = True
    for wait in options.wait:
        random.seed(seed)
        found = run(wait, options)
        print(f"wait_replicas {wait}: {found}", flush=True)
        good &= found.is_as_promised(every_replica=wait >= len(options.lags))
    return good


@dataclass
class Findings:
    """What was seen in the fail-overs of one setting.

    Attributes:
        lost: acknowledged and gone, for each fail-over.
        oldest: seconds before its kill in which what is lost was acknowledged.
        waiting: acknowledged and not run, but still there.
        deposed: masters that were replaced though they lived, since they had been too slow for the sentinels.
        promoted: seconds from each kill to the promotion.
        sending, consuming: seconds from each promotion to the first acknowledged call and the first task.
    """

    sent: int = 0
    lost: list[int] = field(default_factory=list)
    oldest: float = 0.0
    waiting: int = 0
    again: int = 0
    deposed: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    promoted: list[float] = field(default_factory=list)
    sending: list[float] = field(default_factory=list)
    consuming: list[float] = field(default_factory=list)

    def longest(self, what: str) -> float:
        """Return the longest of the times of that name."""
        return max(getattr(self, what))

    def is_as_promised(self, every_replica: bool) -> bool:
        """Return whether workers came back in time, and nothing was lost if every replica was waited for."""
        return self.longest("consuming") <= BACK and not (every_replica and sum(self.lost))

    def __str__(self) -> str:
        errors = ", ".join(f"{name} {number}" for name, number in sorted(self.errors.items())) or "none"
        times = (f"{what} {min(getattr(self, what)):.1f} to {self.longest(what):.1f} s" for what in _TIMES)
        return (
            f"acknowledged {self.sent}, lost {sum(self.lost)} ({', '.join(map(str, self.lost))}), all of the last "
            f"{self.oldest:.2f} s before the kill, left {self.waiting}, begun again {self.again}, living masters "
            f"deposed {self.deposed}; errors: {errors}; "
            f"after the kill {next(times)}, after that {', '.join(times)}"
        )


_TIMES = ("promoted", "sending", "consuming")


def run(wait: int, options: argparse.Namespace) -> Findings:
    """Play all fail-overs with one setting."""
    with contextlib.ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="celeriac-failover-"))
        if options.keep:
            print(f"logs and record: {directory}")
        else:
            stack.callback(shutil.rmtree, directory)
        servers = stack.enter_context(trio([options.lags[0], *options.lags]))
        where = {"master_name": NAME}
        system = System(settings={
            "broker_transport_options": {**where, "wait_replicas": wait}, "result_backend_transport_options": where,
        })  # fmt: skip
        farm = Farm(directory, {"worker": system}, servers.url(), servers.url())
        stack.callback(farm.close)
        farm.wait_until_ready()
        senders = [farm.send(system, 10**6, TASK, PAUSE) for _ in range(options.senders)]
        for sender in senders:
            stack.callback(sender.kill)
        found, kills, master = Findings(), [], servers.master
        for _ in range(options.times):
            time.sleep(random.uniform(2, 4))
            found.deposed += servers.master is not master
            kills.append(fail_over(servers, farm, found))
            master = servers.master
        for sender in senders:
            sender.kill()
            sender.wait()
        farm.settle()
        return audit(found, farm, servers, kills)


def fail_over(servers: Trio, farm: Farm, found: Findings) -> float:
    """Kill the master, and wait until all is as before with another one; return when it was killed."""
    old = servers.master
    old.kill()
    killed = time.time()
    new = wait_for(lambda: servers.successor_of(old), timeout=60, message="a replica to be promoted")
    promoted = time.time()
    found.promoted.append(promoted - killed)
    old.follow(new.entrance)
    old.start()
    for kind, times in (("sent", found.sending), ("start", found.consuming)):
        wait_for(partial(_first, farm, kind, promoted), timeout=60, message=f"{kind!r} after the fail-over")
        times.append(_first(farm, kind, promoted) - promoted)
    wait_for(servers.is_complete, timeout=60, message="the old master to follow the new one")
    return killed


def _first(farm: Farm, kind: str, since: float) -> float:
    """Return when the first event of a kind was after a time; 0 if there is none."""
    times = (event.time for event in record.read(farm.record) if event.kind == kind and event.time > since)
    return next(times, 0.0)


def audit(found: Findings, farm: Farm, servers: Trio, kills: list[float]) -> Findings:
    """Count what was lost, by the kill that came next."""
    sent: dict[str, float] = {}
    begun, ended = Counter[str](), set[str]()
    for event in record.read(farm.record):
        if event.kind == "sent":
            sent[event.subject] = event.time
        elif event.kind == "unsure":
            found.errors[event.detail] += 1
        elif event.kind == "start":
            begun[event.subject] += 1
        elif event.kind == "end":
            ended.add(event.subject)
    dead, there = messages(servers.master.connect(encoding_errors="replace"))
    missing = sent.keys() - ended
    lost = missing - dead - there
    found.lost = [0] * len(kills)
    for task_id in lost:
        place = next((n for n, at in enumerate(kills) if sent[task_id] <= at + HEARD), -1)
        found.lost[place] += 1
        found.oldest = max(found.oldest, kills[place] - sent[task_id] if place >= 0 else inf)
    found.sent, found.waiting = len(sent), len(missing - lost)
    found.again = sum(number > 1 for number in begun.values())
    return found
