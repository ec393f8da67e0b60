"""What must be true after a run, by a record that the product has no part in."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field

from django.conf import settings
from django.db import DatabaseError, connection

from chaos import record
from django_tasks import states
from django_tasks.models import QueuedMessage, TaskResult


class Sampler(threading.Thread):
    """Looks at results while they come, and remembers the first end of each task."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.first: dict[str, str | None] = {}
        self.changed: list[str] = []
        self.stop = threading.Event()

    def run(self) -> None:
        """Look until stopped."""
        while not self.stop.wait(0.3):
            try:
                self.look()
            except DatabaseError:
                connection.close()  # the database is being restarted

    def look(self, everything: bool = False) -> None:
        """Compare what is stored with what was seen first."""
        rows = TaskResult.objects.filter(status__in=states.READY_STATES).order_by("-date_done")
        for task_id, result in rows.values_list("task_id", "result")[: None if everything else 2000]:
            if self.first.setdefault(task_id, result) != result:
                self.changed.append(task_id)


@dataclass
class Audit:
    """The findings of one run."""

    sent: int = 0
    unsure: int = 0
    lost: list[str] = field(default_factory=list)
    lost_links: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    innocent_dead: list[str] = field(default_factory=list)
    #: Dead letters that killed nobody, but whose worker the monkey did kill each time.
    unlucky: list[str] = field(default_factory=list)
    early: list[str] = field(default_factory=list)
    still_running: int = 0
    extra_starts: int = 0
    kills: int = 0

    @property
    def clean(self) -> bool:
        """Whether nothing was lost, changed, buried by mistake or left behind."""
        return not (self.lost or self.lost_links or self.changed or self.innocent_dead or self.still_running)

    def report(self) -> str:
        """Return the findings for people."""
        return (
            f"sent {self.sent} (and {self.unsure} unsure), lost {len(self.lost)}, "
            f"lost callbacks {len(self.lost_links)}, "
            f"changed results {len(self.changed)}, innocent dead letters {len(self.innocent_dead)} "
            f"(and {len(self.unlucky)} whose worker was killed each time), "
            f"still running {self.still_running}, extra starts {self.extra_starts} for {self.kills} kills and freezes"
        )


def audit(path: str, sampler: Sampler) -> Audit:
    """Compare the record with the tables."""
    kinds: dict[str, str] = {}
    sent: set[str] = set()
    starts: Counter[str] = Counter()
    followed: set[str] = set()
    findings = Audit()
    for event in record.read(path):
        if event.kind == "sending":
            kinds[event.subject] = event.detail
        elif event.kind == "sent":
            sent.add(event.subject)
        elif event.kind == "start":
            starts[event.subject] += 1
        elif event.kind == "linked":
            followed.add(event.subject)
        elif event.kind in ("kill", "orphan", "freeze"):
            findings.kills += 1
    ended = dict(TaskResult.objects.filter(status__in=states.READY_STATES).values_list("task_id", "status"))
    dead = set(QueuedMessage.objects.filter(status=QueuedMessage.DEAD).values_list("task_id", flat=True))
    sampler.look(everything=True)
    findings.sent, findings.unsure = len(sent), len(kinds) - len(sent)
    findings.lost = sorted(sent - set(ended) - dead)
    findings.lost_links = sorted(
        i for i in sent if kinds[i] == "linked" and ended.get(i) == states.SUCCESS and i not in followed
    )
    findings.changed = sorted(set(sampler.changed))
    harmless = sorted(i for i in dead if kinds.get(i) != "poison")
    findings.unlucky = [i for i in harmless if starts[i] > settings.TASK_MAX_DELIVERIES]
    findings.innocent_dead = [i for i in harmless if i not in findings.unlucky]
    findings.still_running = QueuedMessage.objects.exclude(status=QueuedMessage.DEAD).count()
    expected = {"retried": 2}
    normal = {i: n for i, n in starts.items() if kinds.get(i, "poison") != "poison"}
    findings.extra_starts = sum(max(0, n - expected.get(kinds[i], 1)) for i, n in normal.items())
    return findings
