"""Runs of tasks by the record, and which fault it was that made one of them necessary."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

from chaos.monkey import NODES, Fault
from chaos.record import Event

#: Seconds before its end of which a process may lose what it had finished: not yet stored.
UNSTORED = 0.020
#: The same where the machine has more to do than it can: such runs are counted by themselves.
UNSTORED_UNDER_LOAD = 0.100
#: Faults that hit who sends: the outbox sends what its producer may have sent.
SENDERS = ("kill_producer",)
#: Runs that a message may share its process with others in, from when a worker died with it until it has it to itself.
SHARED = 2
#: Seconds that storing may take, waiting for locks included; a process that has done nothing for longer has stored.
STORING = 1.0


@dataclass
class Run:
    """One run of a task; ``end`` is infinite where it was cut short."""

    task_id: str
    pid: int
    retries: int
    node: str
    start: float
    end: float = inf


class Runs:
    """All runs of all tasks, in the order in which they began.

    Args:
        faults: all that was broken.
    """

    def __init__(self, faults: list[Fault]) -> None:
        self.by_id: dict[str, list[Run]] = defaultdict(list)
        #: Those that hit a process come first: they explain more than an outage that hits them all.
        self._faults = sorted(faults, key=lambda fault: not fault.pids)
        self._by_pid: dict[int, list[Run]] = defaultdict(list)
        #: When each was sent: begin and end, infinite where the producer has not heard that it was.
        self._sends: dict[str, tuple[float, float]] = {}
        #: Ids of what followed a task, with the id of that.
        self._parents: dict[str, str] = {}
        #: Extra runs by the killed process that made them necessary, when ``extra`` is through.
        self.by_killed: Counter[tuple[float, int]] = Counter()

    def add(self, event: Event) -> None:
        """Take note of a start or an end, of a send, or of what followed."""
        if event.kind == "linked":
            self._parents[event.detail] = event.subject
            return
        if event.kind in ("sending", "sent"):
            begin = self._sends.get(event.subject, (event.time, inf))[0]
            self._sends[event.subject] = (begin, event.time if event.kind == "sent" else inf)
            return
        pid, retries, node = event.detail.split("/", 2)
        if event.kind == "start":
            run = Run(event.subject, int(pid), int(retries), node, event.time)
            self.by_id[event.subject].append(run)
            self._by_pid[run.pid].append(run)
            return
        mine = [run for run in self.by_id[event.subject] if (run.pid, run.retries) == (int(pid), int(retries))]
        mine[-1].end = event.time

    def starts(self) -> dict[str, list[float]]:
        """Return when tasks began, by the worker that ran them."""
        starts: dict[str, list[float]] = {node: [] for node in NODES}
        for runs in self.by_id.values():
            for run in runs:
                starts[run.node.partition("@")[0]].append(run.start)
        return starts

    def add_suicides(self, poison: set[str]) -> None:
        """Count the runs of tasks that kill their process as faults."""
        for task_id in poison:
            for run in self.by_id.get(task_id, []):
                fault = Fault("poison", frozenset({run.pid}), begin=run.start, end=run.start + UNSTORED)
                self._faults.insert(0, fault)

    def extra(self) -> Iterator[tuple[Run, str]]:
        """Yield the runs that another run of the same message followed, with the name of the fault that explains it.

        The name is empty where none does, and "load" where one does if storing may have taken longer.
        """
        for runs in self.by_id.values():
            last: dict[int, Run] = {}
            for run in runs:
                if before := last.get(run.retries):
                    cause = self._cause(before)
                    if cause is None or cause.hits_all:
                        cause = self.twice_sent(run.task_id) or cause
                    late = None if cause else self._cause(before, UNSTORED_UNDER_LOAD)
                    if cause and cause.name.startswith("kill"):
                        self.by_killed[cause.begin, before.pid] += 1
                    yield before, cause.name if cause else "load" if late else ""
                last[run.retries] = run

    def is_unlucky(self, task_id: str) -> bool:
        """Whether every run of a task, and more than one, was hit by a fault; by a neighbour only two."""
        causes = [self._cause(run) for run in self.by_id.get(task_id, [])]
        names = [cause.name for cause in causes if cause is not None]
        return 1 < len(causes) == len(names) and names.count("poison") <= SHARED

    def _cause(self, run: Run, unstored: float = UNSTORED) -> Fault | None:
        """Return the fault that hit a run, or its process before it could store what the run came to.

        So a fault explains as many runs as its process has slots, and what that finished in its last 20 ms.
        """
        hits = (fault for fault in self._faults if self._hits(fault, run.pid) and self._cut(fault, run, unstored))
        return next(hits, None)

    def twice_sent(self, task_id: str) -> Fault | None:
        """Return a fault that may have made somebody send it, or what it follows, again: was it there already?"""
        begin, end = self._sends.get(self._parents.get(task_id, task_id), (inf, inf))
        for fault in self._faults:
            if fault.begin <= end and fault.end >= begin and (fault.hits_all or (fault.name in SENDERS and end == inf)):
                return Fault("sent twice")
        return None

    def _hits(self, fault: Fault, pid: int) -> bool:
        if fault.name == "kill_producer":
            return False
        # Without its janitor a worker loses its leases; a stopped supervisor cannot replace one that dies meanwhile.
        for_all = fault.name == "freeze_supervisor" or (
            fault.name in ("freeze_janitor", "freeze_child") and not any(each in self._by_pid for each in fault.pids)
        )
        return not fault.pids or pid in fault.pids or (for_all and pid in fault.siblings)

    def _cut(self, fault: Fault, run: Run, unstored: float) -> bool:
        if run.start <= fault.end and run.end >= fault.begin:
            return True
        if run.end > fault.begin:
            return False
        before = [min(each.end, fault.begin) for each in self._by_pid[run.pid] if each.start <= fault.begin]
        last = max(before)
        return run.end >= last - unstored and last >= fault.begin - STORING
