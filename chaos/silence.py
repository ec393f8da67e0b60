"""How long a worker begins nothing though nothing is broken that hits it: whether it recovers by itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from chaos.monkey import Fault


def longest_silences(starts: Mapping[str, Sequence[float]], excuses: Iterable[Fault], end: float) -> dict[str, float]:
    """Return the longest silence of each worker, in seconds.

    What is killed, or loses its connections, has to come back while the time runs. It stands still for as long as the
    worker or its server is stopped.

    Args:
        starts: when tasks began, by the worker that ran them.
        excuses: faults that those that they hit cannot be expected to work under.
        end: when the producers stopped sending (seconds since the epoch).
    """
    excuses = list(excuses)
    begin = min((min(times) for times in starts.values() if times), default=end)
    return {
        node: max(_gaps(begin, times, [f for f in excuses if f.hits_all or node in f.nodes], end))
        for node, times in starts.items()
    }


def _gaps(begin: float, starts: Iterable[float], excuses: Iterable[Fault], end: float) -> Iterator[float]:
    """Yield how long each stretch is in which nothing began, and which no excuse covers, wherever it lies."""
    since = begin
    for first, last in sorted([*((at, at) for at in starts), *((each.begin, each.end) for each in excuses)]):
        if first >= end:
            break
        yield first - since
        since = max(since, last)
    yield max(0.0, end - since)
