"""Rows made of entries: to show the settings' ones, to change them, to keep them in the database."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django_tasks.beat.entry import ALL, NONE, NONE_GRACE, Entry, EntryError
from django_tasks.exceptions import EncodeError
from django_tasks.models import PeriodicTask
from django_tasks.models.periodic_version import stored
from django_tasks.periodic import texts
from django_tasks.schedules import zone_of
from django_tasks.serialization import json_dumps

if TYPE_CHECKING:
    from django_tasks.app import App

#: Columns that say what an entry says.
CONTENT = ("task", "kind", "schedule", "timezone", "args", "kwargs", "options", "relative", "catch_up", "catch_up_max",
           "grace", "overlap", "jitter", "start_time", "end_time", "one_off", "expires")  # fmt: skip


def row_of(entry: Entry, app: App, *, to_look_at: bool = False) -> PeriodicTask:
    """Return a new row that says what an entry says.

    Args:
        to_look_at: what cannot be written as a text is shown as its repr.

    Raises:
        EntryError: the schedule or the arguments cannot be written down, and are not only to be looked at.
    """
    row = PeriodicTask(name=entry.name, task=entry.task, enabled=entry.enabled)
    try:
        row.kind, row.schedule, row.relative = texts.of_schedule(entry.schedule)
    except ValueError as exc:
        if not to_look_at:
            raise EntryError(entry.name, "schedule", str(exc)) from exc
        row.kind, row.schedule = PeriodicTask.CUSTOM, texts.shown(entry.schedule)
    for key, value in (("args", list(entry.args)), ("kwargs", dict(entry.kwargs)), ("options", dict(entry.options))):
        setattr(row, key, _plain(entry.name, key, value, to_look_at))
    if entry.zone != zone_of(app):
        row.timezone = str(entry.zone)
    row.catch_up = entry.catch_up
    if entry.catch_up == ALL:
        row.catch_up_max = entry.most
    if entry.grace != (NONE_GRACE if entry.catch_up == NONE else None):
        row.grace = entry.grace
    for key in ("overlap", "jitter", "one_off", "expires"):
        setattr(row, key, getattr(entry, key))
    for key in ("start_time", "end_time"):
        instant = getattr(entry, key)
        setattr(row, key, instant and stored(instant))
    return row


def _plain(name: str, key: str, value: Any, to_look_at: bool) -> Any:
    """Return a value as a JSON column has it: dates and the like as messages write them."""
    try:
        return json.loads(json_dumps(value, key))
    except EncodeError as exc:
        if not to_look_at:
            raise EntryError(name, key, str(exc)) from exc
        if isinstance(value, list):
            return [texts.shown(each) for each in value]
        return {name: texts.shown(each) for name, each in value.items()}
