"""Kill, stop, cut off and restart everything under load, then audit what became of the tasks."""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter

from chaos.stage import DATABASES, Stage, wait_until

#: Seconds in which everything must have ended once nothing is broken any more.
CALM = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what it takes."""
    parser.add_argument("--database", choices=DATABASES, default="sqlite")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None, help="repeats the choices, though not their effects")
    parser.add_argument("--rate", type=float, default=50, help="tasks a second of each of the two producers")
    parser.add_argument("--only", nargs="+", default=(), metavar="FAULT", help="such as kill_child; see monkey.py")
    parser.add_argument("--pause", type=float, default=0.5, help="seconds between two faults, about")
    parser.add_argument("--lease", type=float, default=3, help="WORKER_LEASE in seconds")


def play(options: argparse.Namespace) -> bool:
    """Break things for a while; return whether the audit is clean."""
    seed = options.seed if options.seed is not None else random.randrange(10**6)
    print(f"faults on {options.database} for {options.seconds:g} s, seed {seed}", flush=True)
    settings = {"CHAOS_LEASE": str(options.lease), "CHAOS_RATE": str(options.rate)}
    with Stage(options.database, settings, keep=options.keep) as stage:
        # Django is set up only now.
        from chaos.audit import Sampler, audit
        from chaos.monkey import Monkey

        random.seed(seed)  # not before the server has chosen its port, which another run must not get
        sampler = Sampler()
        sampler.start()
        monkey = Monkey(stage, options.lease)
        monkey.play(options.seconds, options.only, options.pause)
        end = time.time()
        monkey.stop_breaking()
        took = wait_until(is_calm, CALM)
        sampler.finish()
        findings = audit(stage.record, sampler, monkey.faults, end)
        (stage.directory / "faults").write_text("\n".join(map(str, [*monkey.faults, *findings.explained])))
    done = Counter(fault.name for fault in monkey.faults)
    print(", ".join(f"{name} {count}" for name, count in sorted(done.items())))
    print(f"{findings.report()}; calm after {took:.1f} s")
    return findings.clean


def is_calm() -> bool:
    """Whether no message is left but dead letters."""
    from django.db import DatabaseError, connection
    from redis.exceptions import RedisError

    from chaos.tables import tables

    try:
        return not tables().left()
    except (DatabaseError, RedisError):
        connection.close()  # it was one to a server that has been restarted since
        return False
