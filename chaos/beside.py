"""Break ours and Celery in the same way under the same load on Redis, and print what became of the tasks of each."""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from chaos.attendant import Attendant
from chaos.beside_audit import Findings, audit, table
from chaos.farm import Farm, System, celery, celery_that_keeps
from chaos.plan import A_MINUTE, Act, Breaker, make_plan
from chaos.proxy import proxied
from tests.servers import Redis, free_port

WORKERS = ("first", "second")
#: What is compared. They are made when they are asked for, as Celery's need an environment of their own.
SYSTEMS: dict[str, Callable[[argparse.Namespace], System]] = {
    "ours": lambda options: System(),
    "celery": lambda options: celery(options.celery),
    "celery-late": lambda options: celery_that_keeps(options.celery, options.visibility),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what it takes."""
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--seconds", type=float, default=150, help="in which things are broken")
    parser.add_argument("--after", type=float, default=40, help="seconds for which sending goes on after that")
    parser.add_argument("--seed", type=int, default=None, help="repeats the choices, though not their effects")
    parser.add_argument("--rate", type=float, default=40, help="tasks a second")
    parser.add_argument("--only", nargs="+", default=(), choices=A_MINUTE, metavar="FAULT", help="see plan.py")
    parser.add_argument("--standstill", type=float, default=36, help="seconds for which a worker is stopped")
    parser.add_argument("--celery", default="5.7", help="version: 5.7 or 5.4")
    parser.add_argument("--visibility", type=float, default=10, help="visibility_timeout of celery-late in seconds")


def play(options: argparse.Namespace) -> bool:
    """Return whether ours lost nothing, and nobody had to help its workers."""
    seed = options.seed if options.seed is not None else random.randrange(10**6)
    print(f"{', '.join(options.systems)} on Redis, faults for {options.seconds:g} s, seed {seed}", flush=True)
    plan = make_plan(seed, options.seconds, WORKERS, options.only)
    found = {}
    for name in options.systems:
        found[name] = run(SYSTEMS[name](options), plan, options)
        print(f"{name}: {found[name]}", flush=True)
    print(table(found))
    return "ours" not in found or found["ours"].is_clean


def run(system: System, plan: list[Act], options: argparse.Namespace) -> Findings:
    """Play the plan to one system, and audit it."""
    with contextlib.ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="celeriac-beside-"))
        if options.keep:
            print(f"logs and record: {directory}")
        else:
            stack.callback(shutil.rmtree, directory)
        server = stack.enter_context(Redis("--appendfsync", "always"))
        port = free_port()
        proxy = stack.enter_context(proxied(port, server.port))
        url = f"redis://127.0.0.1:{port}"
        farm = Farm(directory, dict.fromkeys(WORKERS, system), f"{url}/0", f"{url}/1")
        stack.callback(farm.close)
        farm.wait_until_ready()
        breaker = Breaker(farm, server, proxy, options.standstill)
        stack.callback(breaker.mend, everything=True)
        number = int((options.seconds + options.after) * options.rate)
        sender = farm.send(system, number, 0.01, 1 / options.rate)
        stack.callback(sender.kill)
        attendant = stack.enter_context(contextlib.closing(Attendant(farm, breaker)))
        begin = time.monotonic()
        for act in plan:
            while time.monotonic() < begin + act.at:
                attendant.look()
            breaker.do(act)
        while sender.poll() is None:
            attendant.look()
        end = time.time()
        farm.settle()
        return audit(farm, server, breaker.faults, attendant, end)
