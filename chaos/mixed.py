"""Let workers of ours and of Celery consume one queue on Redis while both are killed: every task runs."""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from chaos.mixed_work import QUEUE
from chaos.stage import wait_until
from tests.celery_environment import python_with_celery
from tests.processes import ROOT, die_with_parent
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
    """Return whether no task was lost but what Celery's workers lose between two of their commands."""
    seed = options.seed if options.seed is not None else random.randrange(10**6)
    random.seed(seed)
    print(
        f"{options.tasks:,} tasks for ours and Celery {options.celery}, killing {options.kill}, seed {seed}", flush=True
    )
    with contextlib.ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="celeriac-mixed-"))
        if not options.keep:
            stack.callback(shutil.rmtree, directory)
        server = stack.enter_context(Redis())
        os.environ.update(
            CHAOS_REDIS=server.url(),
            CHAOS_RESULTS=server.url("1"),
            CHAOS_RECORD=str(directory / "record"),
            CHAOS_VISIBILITY=str(options.visibility),
            PYTHONUNBUFFERED="1",
        )
        (directory / "record").touch()
        farm = Farm(directory, python_with_celery(options.celery))
        stack.callback(farm.close)
        ids = farm.send(options.tasks, options.seconds)
        farm.kill_until(lambda: len(ended(directory)) >= 0.97 * options.tasks, options.pause, options.kill)
        took = wait_until(quiet := Quiet(server.connect()), CALM + 2 * options.visibility)
        findings = judge(ids, directory, server, farm, quiet())
        print(f"calm after {took:.1f} s; logs and record: {directory if options.keep else 'removed'}")
        return findings


@dataclass
class Farm:
    """Workers of both kinds, and the clients that send.

    Attributes:
        directory: for the record and the logs.
        celery: the interpreter that has Celery.
        kills: what was killed, and how often.
    """

    directory: Path
    celery: str
    kills: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.workers = {side: self._worker(side) for side in ("ours", "celery")}
        for side in self.workers:
            wait_until(lambda log=self.directory / f"{side}.log": "ready" in log.read_text(), 60)

    def _command(self, side: str, *arguments: str) -> list[str]:
        if side == "celery":
            return [self.celery, str(ROOT / "chaos" / "mixed_celery.py"), *arguments]
        return [sys.executable, "-m", "django_tasks", "-A", "chaos.mixed_ours", *arguments]

    def _worker(self, side: str) -> subprocess.Popen[bytes]:
        command = self._command(side, "worker", *(("-c", "2", "-l", "INFO") if side == "ours" else ()))
        environment = _without_django() | ({"PYTHONPATH": str(ROOT)} if side == "ours" else {})
        with (self.directory / f"{side}.log").open("ab") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd=self.directory,
                start_new_session=True, preexec_fn=die_with_parent,
            )  # fmt: skip

    def send(self, tasks: int, seconds: float) -> set[str]:
        """Send half with each client; return all ids."""
        half = tasks // 2
        environment = _without_django()
        command = self._command("celery", "send", str(half), str(seconds))
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as sender:
            from chaos.mixed_ours import work

            ids = {result.id for result in work.delay_many([(seconds,)] * (tasks - half))}
            theirs = set(sender.communicate()[0].split())
        assert len(theirs) == half
        return ids | theirs

    def kill_until(self, done: Any, pause: float, whose: str) -> None:
        """SIGKILL a child, or a worker with all its children, every now and then; what died is replaced."""
        while not done():
            side = random.choice(("ours", "celery")) if whose == "both" else whose
            family = [psutil.Process(self.workers[side].pid)]
            wait_until(lambda: bool(family[0].children()), 5)  # noqa: B023 - called at once
            time.sleep(random.uniform(0.5, 1.5) * pause)
            family += family[0].children(recursive=True)
            whole = len(family) == 1 or random.random() < 0.4
            for process in family if whole else [random.choice(family[1:])]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            self.kills[f"{side}, {'all' if whole else 'a child'}"] += 1
            if whole:
                self.workers[side].wait()
                self.workers[side] = self._worker(side)

    def close(self) -> None:
        """Stop all workers."""
        for worker in self.workers.values():
            worker.terminate()
        for worker in self.workers.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(20)
            for process in [*_children(worker.pid)]:
                process.kill()
            worker.wait()


def _without_django() -> dict[str, str]:
    """Return the environment without what belongs to whoever has started this."""
    return {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "DJANGO_SETTINGS_MODULE")}


def _children(pid: int) -> Iterator[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        yield from [*psutil.Process(pid).children(recursive=True), psutil.Process(pid)]


def _lines(directory: Path) -> list[list[str]]:
    return [line.split() for line in (directory / "record").read_text().splitlines()]


def ended(directory: Path) -> set[str]:
    """Return the ids of the tasks that have run to their end."""
    return {task_id for kind, _, task_id in _lines(directory) if kind == "end"}


class Quiet:
    """Whether for two seconds no message has been left, neither on the lists nor in anybody's hands.

    Args:
        client: of the broker's database.
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        self.since = float("inf")

    def __call__(self) -> bool:
        if any(_holds(key) for key in self.client.scan_iter(count=1000)):
            self.since = float("inf")
        else:
            self.since = min(self.since, time.monotonic())
        return time.monotonic() - self.since > 2


def _holds(key: str) -> bool:
    own = key.startswith(f"{{{QUEUE}") and key.split(".")[1] in ("held", "inbox", "delayed")
    return own or key == QUEUE or key.startswith((f"{QUEUE}\x06", "unacked"))


def judge(ids: set[str], directory: Path, server: Redis, farm: Farm, calm: bool) -> bool:
    """Print what became of the tasks; return whether it is as promised."""
    lines = _lines(directory)
    sides = Counter(side for kind, side, _ in lines if kind == "end")
    starts = [task_id for kind, _, task_id in lines if kind == "start"]
    never = ids - ended(directory)
    # A worker of Celery's that dies between its BRPOP and its note of that takes one message with it, and no other.
    excuse = farm.kills["celery, all"]
    theirs = len(never) if calm and len(never) <= excuse and not never & set(starts) else 0
    results = server.connect(db=1)
    bare = sum('"SUCCESS"' not in (results.get(f"celery-task-meta-{each}") or "") for each in ids - never)
    dead = server.connect().hlen(f"{{{QUEUE}}}.dead")
    print(", ".join(f"killed {what}: {count}" for what, count in sorted(farm.kills.items())))
    print(f"sent {len(ids)}, run {len(ids) - len(never)}, by ours {sides['ours']}, by Celery {sides['celery']}, "
          f"started again {len(starts) - len(set(starts))}, without result {bare}, dead letters {dead}")  # fmt: skip
    print(f"lost by Celery's own kills {theirs} (at most {excuse}), lost otherwise {len(never) - theirs}")
    return not (len(never) - theirs or bare or dead) and min(sides["ours"], sides["celery"]) > 0
