"""The schedule for people to read: what a beat prints when it starts, and what it would send next."""

from __future__ import annotations

import heapq
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import chain, islice
from typing import TYPE_CHECKING

from django_tasks.beat import policies, slots
from django_tasks.beat.entry import Entry
from django_tasks.beat.scheduler import Scheduler
from django_tasks.beat.slots import to_datetime
from django_tasks.brokers.beat import EntryState
from django_tasks.conf import mask_url
from django_tasks.schedules import zone_of
from django_tasks.version import __version__

if TYPE_CHECKING:
    from django_tasks.app import App

logger = logging.getLogger("django_tasks.beat")

#: Entries that are shown at the start.
SHOWN = 20


def banner(app: App, scheduler: Scheduler) -> str:
    """Return what a beat prints when it starts: where it sends to, and which entries are due next.

    Args:
        scheduler: one that has loaded.
    """
    names, now = scheduler.catalogue.names(), scheduler.store.now()
    first = scheduler.agenda.upcoming(names)
    off = len(names) - len(first)
    lines = [
        "",
        f"beat  django-celeriac {__version__}",
        f"  app:          {app.main or 'default'}",
        f"  broker:       {mask_url(app.conf.broker_url)}",
        f"  entries:      {len(names)}" + (f", {off} of them off or over" if off else ""),
        "",
        "[next runs]",
    ]
    rows = []
    for at, name in first[:SHOWN]:
        entry = scheduler.catalogue.get(name)
        if entry is not None:
            rows.append((_time(max(at, now), app), name, entry.task, _words(entry, app)))
    more = [f"  and {len(first) - SHOWN} more"] if len(first) > SHOWN else []
    return "\n".join([*lines, *(_columns(rows) or ["  (none)"]), *more, ""])


def _words(entry: Entry, app: App) -> str:
    """Return the schedule in words, with the entry's own time zone where that matters."""
    told = entry.schedule.heeds_zone and entry.zone != zone_of(app)
    return f"{entry.words} ({entry.zone})" if told else entry.words


def dry_run(app: App, scheduler: Scheduler, count: int, as_json: bool = False) -> str:
    """Return the next runs of all entries; nothing is sent or written.

    Args:
        count: how many.
        as_json: as one JSON object a line, with ``at`` (ISO 8601), ``name`` and ``task``, else as a table.

    Raises:
        OperationalError: a server is away.
    """
    store, catalogue = scheduler.store, scheduler.catalogue
    now = store.now()
    catalogue.load()
    states = store.states(catalogue.names())
    runs = heapq.merge(*(_runs(entry, states.get(entry.name), now) for entry in catalogue))
    if as_json:
        found = ({"at": to_datetime(at).isoformat(), "name": name, "task": task} for at, name, task in runs)
        return "\n".join(map(json.dumps, islice(found, count)))
    rows = [(_time(at, app), name, task) for at, name, task in islice(runs, count)]
    return "\n".join(_columns(rows)) or "Nothing is due, ever."


def _runs(entry: Entry, state: EntryState | None, now: float) -> Iterator[tuple[float, str, str]]:
    """Yield the next runs of an entry, those first that would be caught up; none of one whose schedule fails."""
    try:
        yield from _slots_of(entry, state, now)
    except Exception as exc:  # a class of the project's own
        logger.error("Entry %r: its schedule (%s) fails: %r", entry.name, type(entry.schedule).__name__, exc)


def _slots_of(entry: Entry, state: EntryState | None, now: float) -> Iterator[tuple[float, str, str]]:
    state = slots.begin(entry, now) if state is None else slots.adapt(entry, state, now)
    if slots.is_over(entry, state):
        return
    if not slots.knows_slots(entry):
        for each in entry.next_runs(state, to_datetime(now), 1):
            yield each.timestamp(), entry.name, entry.task
        return
    late = policies.plan(entry, state, now).fire
    for slot in chain(late, slots.following(entry, state.anchor, max(state.done, now))):
        yield slot, entry.name, entry.task
        if entry.one_off:
            return


def _time(at: float, app: App) -> str:
    local: datetime = to_datetime(at).astimezone(zone_of(app))
    return local.strftime("%Y-%m-%d %H:%M:%S %z")


def _columns(rows: Sequence[Iterable[str]]) -> list[str]:
    table = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)) for row in table)
    return [f"  {line.rstrip()}" for line in lines]
