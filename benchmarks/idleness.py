"""How long slots did nothing while there was something to do.

A task waits from when it was sent, which is when the call that sends it returned, until it began. A slot is idle when
it runs no task: also while it reserves and finishes. A stretch is a time without a break in which one slot is idle
and some task waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

#: From when to when, in seconds.
Span = tuple[float, float]


class Run(NamedTuple):
    """What became of one task; the instants are seconds of one clock.

    Args:
        sent: when the call that sent it had returned.
        slot: the process that ran it, one task at a time.
        began, ended: when.
        seen: when somebody saw its result.
    """

    sent: float
    slot: int
    began: float
    ended: float
    seen: float


def stretches(runs: Sequence[Run], slots: int) -> list[Span]:
    """Return each stretch of each slot, from when the first task was sent to when the last one ended.

    Args:
        slots: how many there are; one that ran nothing was idle all the time.
    """
    waits = list(_merged((run.sent, run.began) for run in runs if run.began > run.sent))
    begin, end = whole(runs)
    busy: dict[int, list[Span]] = {}
    for run in runs:
        busy.setdefault(run.slot, []).append((run.began, run.ended))
    idle = [_gaps(sorted(spans), begin, end) for spans in busy.values()] + [[(begin, end)]] * (slots - len(busy))
    return [span for gaps in idle for span in _in_both(gaps, waits)]


def share(runs: Sequence[Run], found: Sequence[Span]) -> float:
    """Return the share of the whole time in which at least one of these stretches lasted."""
    begin, end = whole(runs)
    return sum(until - since for since, until in _merged(found)) / (end - begin)


def whole(runs: Sequence[Run]) -> Span:
    """Return when the first task was sent, and when the last one ended."""
    return min(run.sent for run in runs), max(run.ended for run in runs)


def _merged(spans: Iterable[Span]) -> Iterator[Span]:
    """Return spans without overlaps that cover the same, in order."""
    current: Span | None = None
    for since, until in sorted(spans):
        if current is None or since > current[1]:
            if current is not None:
                yield current
            current = since, until
        else:
            current = current[0], max(current[1], until)
    if current is not None:
        yield current


def _gaps(spans: Iterable[Span], begin: float, end: float) -> list[Span]:
    """Return what lies between spans in order that do not overlap."""
    edges = [begin, *(edge for span in spans for edge in span), end]
    return [(since, until) for since, until in zip(edges[::2], edges[1::2], strict=True) if until > since]


def _in_both(these: Sequence[Span], others: Sequence[Span]) -> Iterator[Span]:
    """Return what two rows of spans, each in order and without overlaps, have in common."""
    here = there = 0
    while here < len(these) and there < len(others):
        since, until = max(these[here][0], others[there][0]), min(these[here][1], others[there][1])
        if until > since:
            yield since, until
        if these[here][1] < others[there][1]:
            here += 1
        else:
            there += 1
