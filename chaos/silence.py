"""How long a worker begins nothing though nothing is broken that hits it: whether it recovers by itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from chaos.monkey import NODES, Fault
from chaos.runs import Run


def longest_silences(runs: Iterable[Run], faults: Iterable[Fault], end: float) -> dict[str, float]:
    """Return the longest silence of each worker, in seconds.

    What is killed, or loses its connections, has to come back while the time runs. It stands still for as long as the
    worker or its server is stopped.

    Args:
        runs: of all tasks.
        faults: all that was broken.
        end: when the producers stopped sending (seconds since the epoch).
    """
    starts: dict[str, list[float]] = defaultdict(list)
    for run in runs:
        starts[run.node.partition("@")[0]].append(run.start)
    lasting = [fault for fault in faults if fault.lasts]
    begin = min(min(times) for times in starts.values())
    return {
        node: max(_gaps(begin, sorted(starts[node]), [f for f in lasting if f.hits_all or node in f.nodes], end))
        for node in NODES
    }


def _gaps(begin: float, starts: list[float], excuses: list[Fault], end: float) -> Iterator[float]:
    last = begin
    for at in [*(start for start in starts if start < end), end]:
        # The time between two starts, less what was spent under a fault at the beginning or in the middle of it.
        since = max([last, *(min(fault.end, at) for fault in excuses if fault.begin < at and fault.end > last)])
        before = min([at, *(max(fault.begin, last) for fault in excuses if fault.begin < at and fault.end > last)])
        yield max(at - since, before - last)
        last = at
