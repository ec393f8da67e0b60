"""What must be true after a run, by a record that the product has no part in."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from django.db import DatabaseError, connection
from redis.exceptions import RedisError

from chaos import record
from chaos.models import Entry
from chaos.monkey import Fault
from chaos.runs import Runs
from chaos.silence import longest_silences
from chaos.tables import End, tables
from django_tasks import states

#: Seconds between two looks at results, and how many of the newest are looked at.
LOOK, NEWEST = 0.3, 2000
#: Seconds in which a worker has to begin something when nothing is broken any more that hits it.
SILENCE = 10.0


class Sampler(threading.Thread):
    """Looks at results while they come, and remembers the first end of each task."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.first: dict[str, End] = {}
        self.changed: set[str] = set()
        self._stop_asked = threading.Event()

    def run(self) -> None:
        """Look until stopped."""
        while not self._stop_asked.wait(LOOK):
            try:
                self._look(NEWEST)
            except (DatabaseError, RedisError):
                connection.close()  # the server is being restarted
        connection.close()

    def finish(self) -> None:
        """Stop, and look at everything once more."""
        self._stop_asked.set()
        self.join()
        self._look(None)

    def _look(self, limit: int | None) -> None:
        for task_id, end in tables().ends(limit).items():
            if self.first.setdefault(task_id, end) != end:
                self.changed.add(task_id)


@dataclass
class Audit:
    """The findings of one run: what must be empty comes first."""

    #: Sent, and neither ended nor among the dead letters.
    lost: list[str] = field(default_factory=list)
    #: Succeeded, and the task that should follow did not run.
    lost_links: list[str] = field(default_factory=list)
    #: Ended, and later with another result.
    changed: list[str] = field(default_factory=list)
    #: Dead letters, though they did not kill a worker, nor was their worker killed or stopped each time.
    innocent_dead: list[str] = field(default_factory=list)
    #: Run, though their transaction was rolled back.
    ghosts: list[str] = field(default_factory=list)
    #: Run before they were due.
    early: list[str] = field(default_factory=list)
    #: ``acks_late=False``, and run a second time though nothing can have made its producer send it twice.
    twice: list[str] = field(default_factory=list)
    #: Followed by two tasks with different ids.
    doubled_links: list[str] = field(default_factory=list)
    #: Run again, though no fault had hit the run before, nor what its process finished in its last 20 ms.
    unexplained: list[str] = field(default_factory=list)
    #: Messages that are still there, dead letters aside.
    left: list[str] = field(default_factory=list)
    #: Workers that began nothing for more than ten seconds though nothing was broken that hits them.
    silent: list[str] = field(default_factory=list)

    sent: int = 0
    unsure: int = 0
    #: Dead letters: those that killed their workers, and those whose worker was killed each time.
    dead: int = 0
    unlucky: int = 0
    #: ``acks_late=False``, and neither run to its end nor known to have failed.
    unfinished: int = 0
    #: Extra runs by the fault that explains them.
    extra: Counter[str] = field(default_factory=Counter)
    #: The most of them that one killed process made necessary.
    most: int = 0
    #: The longest silence of each worker in seconds.
    silences: dict[str, float] = field(default_factory=dict)
    #: The same one by one, for whoever looks into them.
    explained: tuple[str, ...] = ()

    def found(self) -> dict[str, list[str]]:
        """Return what must be empty and is not."""
        return {name: value for name, value in vars(self).items() if isinstance(value, list) and value}

    @property
    def clean(self) -> bool:
        """Whether every promise was kept, and there was something to keep it about."""
        return self.sent > 0 and not self.found()

    def report(self) -> str:
        """Return the findings for people."""
        counts = ", ".join(f"{n.replace('_', ' ')} {len(v)}" for n, v in vars(self).items() if isinstance(v, list))
        extra = ", ".join(f"{name} {number}" for name, number in sorted(self.extra.items())) or "none"
        silences = ", ".join(f"{node} {seconds:.1f} s" for node, seconds in self.silences.items())
        shown = [f"\n{name}: {' '.join(ids[:10])}" for name, ids in self.found().items()]
        return (
            f"sent {self.sent} (and {self.unsure} unsure), {counts}\n"
            f"dead letters of tasks that killed their workers {self.dead}, of others whose worker was killed each time "
            f"{self.unlucky}; at most once and without an end {self.unfinished}\n"
            f"extra runs: {extra}; of one killed process {self.most} at most\n"
            f"longest silence of a worker: {silences}{''.join(shown)}"
        )


def audit(path: Path, sampler: Sampler, faults: list[Fault], end: float) -> Audit:
    """Compare the record with the tables.

    Args:
        path: of the record.
        sampler: what was seen of results meanwhile.
        faults: all that was broken.
        end: when the producers stopped sending (seconds since the epoch).
    """
    kinds: dict[str, str] = {}
    due: dict[str, float] = {}
    sent: set[str] = set()
    links: dict[str, set[str]] = defaultdict(set)
    runs = Runs(faults)
    for event in record.read(path):
        if event.kind == "sending":
            kinds[event.subject] = event.detail
            due[event.subject] = event.due
            runs.add(event)
        elif event.kind == "sent":
            sent.add(event.subject)
            runs.add(event)
        elif event.kind == "linked":
            links[event.subject].add(event.detail)
            runs.add(event)
        elif event.kind in ("start", "end"):
            runs.add(event)
    runs.add_suicides({task_id for task_id, kind in kinds.items() if kind == "poison"})
    committed = set(Entry.objects.values_list("task_id", flat=True))
    sent |= committed  # also where the producer died before it could say so
    findings = Audit(sent=len(sent), changed=sorted(sampler.changed))
    findings.unsure = sum(kind != "rolled_back" for task_id, kind in kinds.items() if task_id not in sent)
    _audit_tables(findings, sent, kinds, links, runs)
    first = {task_id: each[0].start for task_id, each in runs.by_id.items()}
    findings.early = [task_id for task_id, start in first.items() if start < due.get(task_id, 0.0)]
    dropped = {i for i, kind in kinds.items() if kind == "rolled_back" or (kind == "atomic" and i not in committed)}
    findings.ghosts = sorted(dropped & set(first))
    again = (i for i, each in runs.by_id.items() if kinds.get(i) == "once" and len(each) > 1)
    findings.twice = [i for i in again if not runs.twice_sent(i)]
    for run, fault in runs.extra():
        if not fault:
            findings.unexplained.append(run.task_id)
        elif kinds.get(run.task_id) != "poison":
            findings.extra[fault] += 1
            findings.explained += (f"{fault}: {run}",)
    findings.most = max(runs.by_killed.values(), default=0)
    findings.silences = longest_silences(runs.starts(), [fault for fault in faults if fault.lasts], end)
    findings.silent = [node for node, seconds in findings.silences.items() if seconds > SILENCE]
    return findings


def _audit_tables(
    findings: Audit, sent: set[str], kinds: dict[str, str], links: dict[str, set[str]], runs: Runs
) -> None:
    stored = tables()
    ended = {task_id: state for task_id, (state, _) in stored.ends().items()}
    dead = stored.dead()
    missing = sorted(sent - set(ended) - dead)
    findings.lost = [i for i in missing if kinds[i] != "once"]
    findings.unfinished = len(missing) - len(findings.lost)
    succeeded = [i for i in sent if kinds[i] == "linked" and ended.get(i) == states.SUCCESS]
    findings.lost_links = sorted(i for i in succeeded if not links[i])
    findings.doubled_links = sorted(i for i, ids in links.items() if len(ids) > 1)
    findings.left = stored.left()
    harmless = sorted(i for i in dead if kinds.get(i) != "poison")
    findings.innocent_dead = [i for i in harmless if not runs.is_unlucky(i)]
    findings.dead, findings.unlucky = len(dead) - len(harmless), len(harmless) - len(findings.innocent_dead)
