"""Kill and freeze three beats at random: each slot has one message, and another beat takes over at once."""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from chaos.stage import DATABASES, Stage, wait_until
from tests.servers import Redis

BEATS = 3
#: Seconds that a message may be late while at least one beat is well.
TAKE_OVER = 10.0
#: Seconds that a beat stands still. On SQLite it may stop all others for as long.
FROZEN = (0.5, 8.0)
#: Seconds that a beat has to start.
START = 5.0
#: Entries by name, with the seconds between their slots.
SCHEDULE = {"half": 0.5, "second": 1.0, "third": 3.0, "cron": 5.0}
_CRON = "* * * * * */5"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what it takes."""
    parser.add_argument("--database", choices=DATABASES, default="sqlite")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--simulate", type=float, metavar="HOURS", help="invented hours, in this process, instead")


def play(options: argparse.Namespace) -> bool:
    """Play it; return whether each slot had one message, in time."""
    seed = options.seed if options.seed is not None else random.randrange(10**6)
    random.seed(seed)
    print(f"seed {seed}")
    settings = {"CHAOS_BEAT_SCHEDULE": json.dumps({name: _entry(name) for name in SCHEDULE})}
    with Stage(options.database, settings, keep=options.keep) as stage:
        return _simulate(stage, options.simulate, seed) if options.simulate else _break(stage, options.seconds)


def _entry(name: str) -> dict[str, Any]:
    schedule = _CRON if name == "cron" else SCHEDULE[name]
    return {"task": "chaos.tasks.work", "schedule": schedule, "catch_up": {"all": 100_000}}


# -- processes


@dataclass
class Beats:
    """The processes, and what is done to them."""

    stage: Stage
    faults: dict[str, int] = field(default_factory=lambda: {"killed": 0, "frozen": 0})
    well_since: list[float] = field(default_factory=list)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    thaw_at: dict[int, float] = field(default_factory=dict)

    def start(self) -> None:
        """Start all of them."""
        for _ in range(BEATS):
            self.processes.append(self._new())
            self.well_since.append(time.monotonic() + START)

    def _new(self) -> subprocess.Popen[bytes]:
        return self.stage.start("-m", "django", "runbeat", "-l", "INFO", log="beat")

    def hit(self) -> None:
        """Kill or freeze one, if at least one other is well."""
        now = time.monotonic()
        well = [n for n in range(BEATS) if n not in self.thaw_at and now > self.well_since[n]]
        if len(well) < 2:
            return
        victim = random.choice(well)
        if random.random() < 0.5:
            self.faults["killed"] += 1
            self.processes[victim].kill()
            self.processes[victim].wait()
            self.processes[victim], self.well_since[victim] = self._new(), now + START
        else:
            self.faults["frozen"] += 1
            self.processes[victim].send_signal(signal.SIGSTOP)
            self.thaw_at[victim] = now + random.uniform(*FROZEN)

    def thaw(self, *, all_: bool = False) -> None:
        """Let go on what has stood still for long enough."""
        for victim, at in list(self.thaw_at.items()):
            if all_ or time.monotonic() >= at:
                self.processes[victim].send_signal(signal.SIGCONT)
                del self.thaw_at[victim]
                self.well_since[victim] = time.monotonic() + 1

    def stop(self) -> None:
        """Stop all of them in good order."""
        self.thaw(all_=True)
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(30)


def _break(stage: Stage, seconds: float) -> bool:
    beats = Beats(stage)
    beats.start()
    wait_until(lambda: stage.log("beat").count("Beat ready") >= BEATS, 60)
    seen: dict[str, float] = {}
    next_fault = time.monotonic()
    calm = next_fault + seconds
    while time.monotonic() < calm + TAKE_OVER:  # by then what was claimed last and not sent is sent
        if next_fault <= time.monotonic() < calm:
            beats.hit()
            next_fault = time.monotonic() + random.uniform(0.1, 2.0)
        beats.thaw()
        _look(seen)
        time.sleep(0.1)
    beats.stop()
    _look(seen)
    return _audit(stage, beats, seen)


def _look(seen: dict[str, float]) -> None:
    """Note when each message was there."""
    now = time.time()
    for number in _ids():
        seen.setdefault(number, now)


def _ids() -> list[str]:
    """Return the ids of all messages, each as often as it is there."""
    from django.db import OperationalError

    from django_tasks.brokers.browse import Wanted
    from django_tasks.current import get_current_app

    browser: Any = get_current_app().broker.browser
    found: list[str] = []
    page = None
    with contextlib.suppress(OperationalError):
        while rows := browser.messages(Wanted(), 1000, page[-1] if page else None):
            found += [row.id for row in rows]
            page = rows
    return found


def _audit(stage: Stage, beats: Beats, seen: dict[str, float]) -> bool:
    """Hold the messages against the slots that there were."""
    there = _ids()
    expected = dict(_expected())
    missing, extra = expected.keys() - set(there), set(there) - expected.keys()
    double = len(there) - len(set(there))
    late = max((seen[number] - slot for number, slot in expected.items() if number in seen), default=0.0)
    print(f"{beats.faults['killed']} beats killed, {beats.faults['frozen']} frozen; slots {len(expected)}, messages "
          f"{len(there)}: missing {len(missing)}, twice {double}, of no slot {len(extra)}; "
          f"the latest message came {late:.1f} s late")  # fmt: skip
    trouble = [line for line in stage.log("beat").splitlines() if "Traceback" in line]
    if trouble:
        print(stage.log("beat")[-5000:])
    return bool(expected) and not (missing or extra or double or trouble) and late <= TAKE_OVER


def _expected() -> Iterator[tuple[str, float]]:
    """Yield id and instant of all slots that are done with."""
    from django_tasks.beat.entry import Entry
    from django_tasks.beat.messages import run_id
    from django_tasks.beat.slots import following
    from django_tasks.current import get_current_app

    app = get_current_app()
    store = app.broker.claim_store
    assert store is not None
    for name, state in store.states().items():
        entry = Entry.from_definition(name, _entry(name), app)
        for slot in following(entry, state.anchor, state.begun):
            if slot > state.done:
                break
            yield run_id(name, slot), slot


# -- invented time


def _simulate(stage: Stage, hours: float, seed: int) -> bool:
    """Play hours of an invented time, in which beats die and stand still between any two steps."""
    from tests.beat.simulation import World, every, known_task

    redis = stage.server if isinstance(stage.server, Redis) else None
    world = World(redis.url(), "redis") if redis else World("django-db://", "orm")
    world.faults.seed(seed)
    steps = {"minutes": 60, "quarters": 900, "sevens": 420}
    schedule = {
        "minutes": every("* * * * *", catch_up={"all": 10_000}),
        "quarters": every("*/15 * * * *", catch_up={"all": 10_000}),
        "sevens": every(420, catch_up={"all": 10_000}),
    }
    with known_task():
        for skew in (0.0, 5.0, -5.0):
            world.beat(schedule, skew=skew)
        world.run(0.5)
        world.deadly, world.freezing = 0.002, 0.002
        began = time.monotonic()
        world.run(hours * 3600)
        world.deadly = world.freezing = 0.0
        world.run(900)
    well = True
    found = world.slots_of_all(list(steps))
    for name, step in steps.items():
        slots = found[name]
        until = int(world.now - world.beats[0].state(name).begun) // step
        wanted = [float(step * number) for number in range(1, until + 1)]
        well = well and slots == wanted
        print(f"{name}: slots {len(wanted)}, messages {len(slots)}, " + ("each once" if slots == wanted else "WRONG"))
    print(f"{(world.now - world.start) / 3600:.0f} hours in {time.monotonic() - began:.0f} s: {world.deaths} deaths, "
          f"{world.stops} times a beat stood still")  # fmt: skip
    return well
