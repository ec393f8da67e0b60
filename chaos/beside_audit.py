"""What became of the tasks of a farm, by the record that each of them writes, whatever the system says of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import orjson

from chaos import record
from chaos.attendant import Attendant
from chaos.farm import Farm
from chaos.monkey import Fault
from chaos.silence import longest_silences
from tests.servers import Redis

#: Seconds in which a worker has to begin something when nothing is broken any more that hits it.
SILENCE = 10.0
#: Seconds without an acknowledged call that are no silence of the workers.
UNSENT = 0.5
#: ``TASK_MAX_DELIVERIES``: what a worker died with more often than that is buried, whoever killed the worker.
MOST_DELIVERIES = 3
#: What an id looks like, wherever it is.
ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass
class Findings:
    """The findings of one system; of tasks only those whose calls were acknowledged, but for the runs.

    Attributes:
        unlucky: of those that failed, how many had begun so often that a worker of ours buries them.
    """

    sent: int
    refused: int
    slowest: float
    ran: int
    failed: int
    waiting: int
    lost: int
    again: int
    twice: int
    late: float
    silence: float
    stuck: int
    ended: int
    unlucky: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether there were calls, all have run but those that every worker died with, and workers came back."""
        bad = self.lost or self.waiting or self.failed > self.unlucky or self.stuck or self.ended
        return self.sent > 0 and not bad and self.silence <= SILENCE


#: What the rows of the table are called.
ROWS = {
    "sent": "calls that were acknowledged",
    "refused": "calls that raised an error",
    "slowest": "longest time that a call took",
    "ran": "run to the end",
    "failed": "not run to the end, and a dead letter or a result says so",
    "waiting": "still in Redis when nothing had run for a minute",
    "lost": "lost: neither run nor anywhere",
    "again": "begun more than once",
    "twice": "run to the end more than once",
    "late": "longest time from a call to its first run",
    "silence": "longest time in which a worker that nothing hit began nothing",
    "stuck": "workers that had to be restarted, since they began nothing for 30 s",
    "ended": "workers that ended by themselves",
}


def table(found: Mapping[str, Findings]) -> str:
    """Return the findings side by side, in Markdown."""
    lines = [["", *found], ["---"] * (len(found) + 1)]
    for row, meaning in ROWS.items():
        values = (getattr(each, row) for each in found.values())
        cells = (f"{value:.1f} s" if isinstance(value, float) else f"{value:,}" for value in values)
        lines.append([meaning, *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def audit(farm: Farm, server: Redis, faults: Iterable[Fault], attendant: Attendant, end: float) -> Findings:
    """Compare the record with what is in Redis.

    Args:
        server: whose database 0 has the messages, and 1 the results.
        faults: all that was broken.
        attendant: who knows how often workers were helped.
        end: when sending ended (seconds since the epoch).
    """
    times: dict[str, dict[str, float]] = {kind: {} for kind in ("sending", "sent", "unsure", "start")}
    starts: dict[str, list[float]] = {name: [] for name in farm.workers}
    begun, ended = Counter[str](), Counter[str]()
    for event in record.read(farm.record):
        if event.kind == "start":
            starts[event.detail].append(event.time)
            begun[event.subject] += 1
        if event.kind == "end":
            ended[event.subject] += 1
        else:
            times[event.kind].setdefault(event.subject, event.time)
    sent = times["sent"]
    dead, there = messages(server.connect(encoding_errors="replace"))
    missing = set(sent) - set(ended)
    failed = missing & (dead | _failures(server.connect(db=1)))
    waiting = (missing - failed) & there
    unsent = [Fault("unsent", begin=a, end=b) for a, b in pairwise(sorted(sent.values())) if b - a > UNSENT]
    excuses = [fault for fault in faults if fault.lasts] + unsent
    return Findings(
        sent=len(sent),
        refused=len(times["unsure"]),
        slowest=max((at - times["sending"][i] for i, at in (sent | times["unsure"]).items()), default=0.0),
        ran=len(sent) - len(missing),
        failed=len(failed),
        waiting=len(waiting),
        lost=len(missing - failed - waiting),
        again=sum(number > 1 for number in begun.values()),
        twice=sum(number > 1 for number in ended.values()),
        late=max((at - sent[i] for i, at in times["start"].items() if i in sent), default=0.0),
        silence=max(longest_silences(starts, excuses, end).values()),
        stuck=attendant.stuck,
        ended=attendant.ended,
        unlucky=sum(begun[i] > MOST_DELIVERIES for i in failed),
    )


def messages(client: Any) -> tuple[set[str], set[str]]:
    """Return the ids of dead letters of ours, and those of all other messages wherever they are."""
    dead, there = set[str](), set[str]()
    for key in client.scan_iter(count=1000):
        kind = client.type(key)
        values = client.lrange(key, 0, -1) if kind == "list" else client.zrange(key, 0, -1) if kind == "zset" else []
        values = client.hvals(key) if kind == "hash" else values
        (dead if key.endswith(".dead") else there).update(i for value in values for i in ID.findall(value))
    return dead, there


def _failures(client: Any) -> set[str]:
    """Return the ids of tasks that have failed, by their results."""
    keys = list(client.scan_iter("celery-task-meta-*", count=1000))
    metas = [orjson.loads(value) for value in client.mget(keys)] if keys else []
    return {meta["task_id"] for meta in metas if meta["status"] == "FAILURE"}
