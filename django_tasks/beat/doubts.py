"""What can be in an entry and yet nobody means: that it never runs, or that none of its calls is ever begun."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo
from typing import Any

from django_tasks.beat.entry import Entry
from django_tasks.beat.slots import knows_slots
from django_tasks.schedules import clocked
from django_tasks.serialization import parse_iso


def doubts(entry: Entry, definition: Mapping[str, Any], now: datetime, zone: tzinfo) -> Iterator[tuple[str, str]]:
    """Yield what is doubtful about an entry: the key, and what is wrong with its value and what to do.

    Args:
        definition: what it was made of.
        now: an instant with a zone; slots before it are not counted.
        zone: that of instants among the options that have none.
    """
    if definition.get("relative") and not getattr(entry.schedule, "relative", False):
        own = hasattr(entry.schedule, "relative")  # as an object of schedule has, which is made before the entry is
        remedy = "Give it to schedule(...) itself" if own else "It is for intervals. Take it away"
        yield "relative", f"it means nothing beside {entry.words!r}. {remedy}."
    if not entry.enabled or not knows_slots(entry):
        return
    runs = entry.next_runs(None, now, 1)
    if runs:
        with suppress(OverflowError):  # an instant beyond the years that there are
            yield from _calls_that_come_too_late(entry, runs[0], zone)
    else:
        yield _why_never(entry, now)


def _why_never(entry: Entry, now: datetime) -> tuple[str, str]:
    end = entry.end_time
    if end is not None and end <= now:
        return "end_time", f"it never runs any more: {end} has passed. Give a later end, or take the entry away."
    if end is not None and (later := replace(entry, end_time=None).next_runs(None, now, 1)):
        return "end_time", f"it never runs: {end} is before its next run at {later[0]}. Give a later end."
    what = "its only run has passed" if isinstance(entry.schedule, clocked) else "all its runs have passed"
    return "schedule", f"it never runs any more: {entry.words!r}, {what}. Give a later one, or take the entry away."


def _calls_that_come_too_late(entry: Entry, slot: datetime, zone: tzinfo) -> Iterator[tuple[str, str]]:
    """Look at calls that expire before a worker may begin them."""
    options = entry.options
    if options.get("eta"):
        return
    least = timedelta(seconds=options.get("countdown") or 0)
    wait = least + timedelta(seconds=entry.jitter)
    waited = f" and the {wait.total_seconds():g} s that they may wait" if wait else ""
    for key, expires in (("expires", entry.expires), ("options", options.get("expires"))):
        last = _instant(expires, slot, zone)
        if last is not None and (last <= slot + least or last < slot + wait):  # no call waits for all of the jitter
            whose = "its calls" if last <= slot + least else "some of its calls"
            name = key if key == "expires" else 'options["expires"]'
            yield (
                key,
                f"{whose} expire before they begin: {name} = {_shown(expires)} is not after the run at "
                f"{slot:%Y-%m-%d %H:%M:%S %Z}{waited}. Give a later one.",
            )


def _instant(expires: Any, slot: datetime, zone: tzinfo) -> datetime | None:
    """Return when a call expires that is sent at a slot; None for never, or for what is reported elsewhere."""
    if isinstance(expires, (int, float)):
        expires = timedelta(seconds=expires)
    if isinstance(expires, timedelta):
        return slot + expires
    if isinstance(expires, str):
        try:
            expires = parse_iso(expires)
        except ValueError:
            return None
    if not isinstance(expires, datetime):
        return None
    return expires if expires.utcoffset() is not None else expires.replace(tzinfo=zone)


def _shown(expires: Any) -> str:
    return f"{expires:g} s" if isinstance(expires, (int, float)) else str(expires)
