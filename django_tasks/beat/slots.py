"""When an entry is due: its slots, between its start and its end. All of these are pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import islice
from typing import TYPE_CHECKING

from django_tasks.brokers.beat import EntryState

if TYPE_CHECKING:
    from django_tasks.beat.entry import Entry

_INSTANT = timedelta(microseconds=1)


def to_datetime(seconds: float) -> datetime:
    """Return an instant of the server's clock as a datetime in UTC."""
    return datetime.fromtimestamp(seconds, timezone.utc)


def next_slot(entry: Entry, anchor: float, after: float) -> float | None:
    """Return the first slot after an instant; None if there is none any more.

    Args:
        anchor: when the entry began (``EntryState.anchor``).
        after: seconds since the epoch.

    Raises:
        ValueError: a schedule of the user's own goes back.
    """
    try:
        origin, since = to_datetime(anchor), to_datetime(after)
        if entry.start_time is not None:
            origin = entry.start_time
            if since < origin:
                since = origin - _INSTANT
        slot: datetime | None = entry.schedule.next_slot(since, anchor=origin, zone=entry.zone)
        if slot is None or (entry.end_time is not None and slot > entry.end_time):
            return None
        found = slot.timestamp()
    except OverflowError:  # beyond the years that there are
        return None
    if found <= after:  # else it would be due for ever
        raise ValueError(f"next_slot({since}) of the schedule returned {slot}, which is not after that")
    return found


def following(entry: Entry, anchor: float, after: float) -> Iterator[float]:
    """Yield the slots after an instant, the earliest first."""
    slot = next_slot(entry, anchor, after)
    while slot is not None:
        yield slot
        slot = next_slot(entry, anchor, slot)


def newest(entry: Entry, anchor: float, after: float, now: float, most: int) -> list[float]:
    """Return the slots after an instant and up to now, the earliest first; of more than ``most`` the newest.

    It looks back from now, further each time, so that years of an entry of every second cost no more than an hour.
    """
    window = 1.0
    while True:
        since = max(after, now - window)
        found = list(_until(entry, anchor, since, now))
        if len(found) >= most or since == after:
            return found[-most:]
        window *= 2


def _until(entry: Entry, anchor: float, after: float, now: float) -> Iterator[float]:
    for slot in following(entry, anchor, after):
        if slot > now:
            return
        yield slot


def next_runs(entry: Entry, state: EntryState | None, now: datetime, count: int) -> list[datetime]:
    """Return the next instants at which an entry is due (``Entry.next_runs``)."""
    at = now.timestamp()
    state = begin(entry, at) if state is None else adapt(entry, state, at)
    if is_over(entry, state):
        return []
    if not knows_slots(entry):
        due, wait = due_in(entry, state.done)
        return [] if not due and wait == math.inf else [to_datetime(at if due else at + wait)]
    slots = following(entry, state.anchor, max(at, state.done))
    return [to_datetime(slot) for slot in islice(slots, 1 if entry.one_off else count)]


def begin(entry: Entry, now: float) -> EntryState:
    """Return the first state of an entry."""
    since = min(now, entry.since.timestamp()) if entry.since else now
    since = round(since, 3)
    return EntryState(entry.name, since, since, definition=entry.definition, claimed_at=now)


def adapt(entry: Entry, state: EntryState, since: float) -> EntryState:
    """Return the state of an entry whose schedule may be another one than it was: only slots from then on count.

    The origin of intervals stays, so that all beats count alike, also two that were started with different settings.

    Args:
        since: since when the schedule is what it is, where the entry does not say it.
    """
    definition = entry.definition
    if state.definition == definition:
        return state
    return state._replace(begun=begin(entry, since).begun, definition=definition)


def is_over(entry: Entry, state: EntryState) -> bool:
    """Whether an entry has no slots (any more), as it is paused, or was to run once and has."""
    return not entry.enabled or (entry.one_off and state.has_fired)


def knows_slots(entry: Entry) -> bool:
    """Whether its schedule says when its slots are; one of the user's own may only say whether it is due."""
    return bool(entry.schedule.knows_slots)


def due_in(entry: Entry, last: float) -> tuple[bool, float]:
    """Ask a schedule that does not know its slots whether it is due, and in how many seconds to ask again.

    Args:
        last: its last run, or when the entry began.
    """
    due, wait = entry.schedule.is_due(to_datetime(last).astimezone(entry.zone))
    return bool(due), math.inf if wait is None else max(0.0, float(wait))
