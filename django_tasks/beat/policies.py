"""What is to be done about an entry at an instant: pure functions of the entry, its state and the time."""

from __future__ import annotations

from typing import NamedTuple

from django_tasks.beat import slots
from django_tasks.beat.entry import ALL, ALLOW, QUEUE, SKIP, Entry
from django_tasks.brokers.beat import EntryState

#: Seconds between looks whether a run has ended that a slot waits for.
LOOK = 1.0
#: Seconds between two runs of a schedule that only says whether it is due, and always says so.
_LEAST = 0.001


class Plan(NamedTuple):
    """What is to be done. Instants are seconds since the epoch on the server's clock.

    Attributes:
        fire: the slots that get a message, the oldest first.
        upto: all slots up to here are done with then; None where nothing is to be claimed.
        next: when to look at the entry again; None: never.
        first: the first slot that is not done with then, where that is known.
        late: how many slots are too old to get a message, as far as they were counted.
        passed: how many get none because another run of the entry has not ended.
    """

    fire: tuple[float, ...] = ()
    upto: float | None = None
    next: float | None = None
    first: float | None = None
    late: int = 0
    passed: int = 0


def plan(entry: Entry, state: EntryState, now: float, *, running: bool = False, first: float | None = None) -> Plan:
    """Decide about an entry.

    Args:
        running: whether its last run has not ended; only asked for where ``overlap`` is not ``"allow"``.
        first: its first slot that is not done with, where that is known.
    """
    if slots.is_over(entry, state):
        return Plan()
    if not slots.knows_slots(entry):
        return _plan_by_asking(entry, state, now, running)
    if first is None:
        first = slots.next_slot(entry, state.anchor, state.done)
    if first is None or first > now:
        return Plan(next=first, first=first)
    if running and entry.overlap == QUEUE:
        return Plan(next=now + LOOK, first=first)
    second = slots.next_slot(entry, state.anchor, first)
    if second is None or second > now:
        return _decide(entry, [first], now, running, second)
    due = slots.newest(entry, state.anchor, state.done, now, entry.most if entry.catch_up == ALL else 1)
    return _decide(entry, due, now, running, slots.next_slot(entry, state.anchor, due[-1]))


def next_look(entry: Entry, state: EntryState, now: float) -> Plan:
    """Return when an entry is to be decided about, without deciding anything."""
    if slots.is_over(entry, state):
        return Plan()
    if not slots.knows_slots(entry):
        return Plan(next=now)
    first = slots.next_slot(entry, state.anchor, state.done)
    return Plan(next=first, first=first)


def _decide(entry: Entry, due: list[float], now: float, running: bool, following: float | None) -> Plan:
    """Decide about the slots that are due; ``following`` is the one after them."""
    fire = due if entry.grace is None else [slot for slot in due if slot >= now - entry.grace]
    late = len(due) - len(fire)
    if fire and entry.one_off:
        fire = fire[-1:]
    if fire and entry.overlap == QUEUE:
        # The others are decided about when this one has ended.
        then = following if len(fire) == 1 else fire[1]
        return Plan((fire[0],), fire[0], then, then, late)
    runs = fire
    if fire and entry.overlap == SKIP:
        runs = [] if running else fire[-1:]
    return Plan(tuple(runs), due[-1], following, following, late, len(fire) - len(runs))


def _plan_by_asking(entry: Entry, state: EntryState, now: float, running: bool) -> Plan:
    """As ``plan``, for a schedule that only says whether it is due: its slots are the instants at which it is."""
    if entry.end_time is not None and now > entry.end_time.timestamp():
        return Plan()
    if entry.start_time is not None and now < entry.start_time.timestamp():
        return Plan(next=entry.start_time.timestamp())
    due, wait = slots.due_in(entry, state.done)
    if not due:
        return Plan(next=now + max(wait, _LEAST))
    if running and entry.overlap == QUEUE:
        return Plan(next=now + LOOK)
    slot = max(round(now, 3), state.done + _LEAST)
    fire = () if running and entry.overlap == SKIP else (slot,)
    return Plan(fire, slot, now + max(wait, _LEAST), passed=1 - len(fire))


def asks_whether_running(entry: Entry) -> bool:
    """Whether it matters to an entry that its last run has not ended."""
    return entry.overlap != ALLOW
