"""Take the server away for 20 s, frozen and killed: workers are not ready, and come back by themselves."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chaos import record
from chaos.stage import SERVED, Stage, wait_until
from django_tasks.health import problem

if TYPE_CHECKING:
    from chaos.monkey import Monkey

#: Seconds between two looks; in which every worker has to begin a task again; in which the queues have to be empty.
LOOK, BACK, CALM = 0.2, 10.0, 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what it takes."""
    parser.add_argument("--database", choices=SERVED, default="redis")
    parser.add_argument("--seconds", type=float, default=22, help="of each outage")
    parser.add_argument("--rate", type=float, default=50, help="tasks a second of each of the two producers")


def play(options: argparse.Namespace) -> bool:
    """Return whether every worker was not ready, then ready, and at work again in time, and the audit is clean."""
    print(f"outages of {options.seconds:g} s on {options.database}", flush=True)
    settings = {"CHAOS_LEASE": "30", "CHAOS_RATE": str(options.rate)}
    with Stage(options.database, settings, keep=options.keep) as stage:
        from chaos.audit import Sampler, audit
        from chaos.faults import is_calm
        from chaos.monkey import Fault, Monkey

        server = stage.server
        assert server is not None
        sampler = Sampler()
        sampler.start()
        monkey = Monkey(stage, 30)
        watch = Watch(stage, monkey)
        wait_until(lambda: not watch.missing(0.0), 60)
        good = True
        for name, begin, end in (("freeze_server", server.freeze, server.thaw),
                                 ("restart_server", server.kill, server.start)):  # fmt: skip
            fault = Fault(name)
            monkey.faults.append(fault)
            unready = watch.break_for(options.seconds, begin, end)
            fault.end = time.time()
            good &= watch.report(name, unready)
        ended = time.time()
        monkey.stop_breaking()
        took = wait_until(is_calm, CALM)
        sampler.finish()
        findings = audit(stage.record, sampler, monkey.faults, ended)
    print(f"{findings.report()}; calm after {took:.1f} s")
    return good and findings.clean


@dataclass
class Watch:
    """Looks at the workers of a monkey: whether they are ready, and at work."""

    stage: Stage
    monkey: Monkey
    _last: dict[str, float] = field(default_factory=dict)

    def missing(self, since: float) -> set[str]:
        """Return the workers that have begun no task since then."""
        from chaos.monkey import NODES

        for event in record.read(self.stage.record):
            if event.kind == "start":
                node = event.detail.split("/")[2].partition("@")[0]
                self._last[node] = event.time
        return {node for node in NODES if self._last.get(node, 0.0) <= since}

    def unready(self) -> set[str]:
        """Return the workers whose probe of readiness fails."""
        from chaos.monkey import NODES

        now = time.monotonic()
        return {
            node
            for place, node in enumerate(NODES)
            if problem(self.monkey.page(place).read_bytes(), now, ready=True) is not None
        }

    def break_for(self, seconds: float, begin: Callable[[], None], end: Callable[[], None]) -> set[str]:
        """Break something, and mend it; return the workers that were not ready meanwhile."""
        begin()
        until, unready = time.monotonic() + seconds, set[str]()
        while time.monotonic() < until:
            time.sleep(LOOK)
            unready |= self.unready()
        end()
        return unready

    def report(self, name: str, unready: set[str]) -> bool:
        """Print how workers come back after a fault; return whether all is as it should be."""
        from chaos.monkey import NODES

        mended = time.time()
        ready = wait_until(lambda: not self.unready(), 60)
        back = wait_until(lambda: not self.missing(mended), 60)
        took = {node: self._first_start(node, mended) - mended for node in NODES}
        begun = ", ".join(f"{seconds:.1f} s ({node})" for node, seconds in took.items())
        print(f"{name}: not ready meanwhile {', '.join(sorted(unready)) or 'nobody'}; all ready after {ready:.1f} s; "
              f"a task began after {begun}", flush=True)  # fmt: skip
        return unready == set(NODES) and ready <= BACK and back <= BACK

    def _first_start(self, node: str, since: float) -> float:
        starts = (
            event.time
            for event in record.read(self.stage.record)
            if event.kind == "start" and event.time > since and event.detail.split("/")[2].startswith(node)
        )
        return next(starts, float("inf"))
