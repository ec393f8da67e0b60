"""What a row of ``PeriodicTask`` means: its entry, what is wrong with it, when it fires.

The model calls these by name.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, Any

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import router
from django.utils.timezone import get_default_timezone, make_aware

from django_tasks.beat.calls import misfit
from django_tasks.beat.doubts import doubts
from django_tasks.beat.entry import Entry, EntryError
from django_tasks.beat.messages import unsendable
from django_tasks.beat.mistakes import HARMLESS, mistakes
from django_tasks.beat.sources import definitions
from django_tasks.current import get_current_app
from django_tasks.exceptions import CeleriacError, EncodeError, ImproperlyConfigured, OperationalError
from django_tasks.models import PeriodicTask
from django_tasks.models.periodic import TypedEncoder
from django_tasks.periodic import texts
from django_tasks.periodic.calling import call_now
from django_tasks.periodic.rows import CONTENT, row_of
from django_tasks.schedules import zone_of
from django_tasks.serialization import json_dumps, json_loads

if TYPE_CHECKING:
    from django_tasks.app import App
    from django_tasks.async_result import AsyncResult

__all__ = ["entry_of", "forget", "in_words", "next_runs", "override_by", "problems", "run_now"]

logger = logging.getLogger("django_tasks.beat")

#: Columns that are keys of a definition as they are, and the values with which they can be left out there.
_PLAIN = {"timezone": "", "relative": False, "grace": None, "overlap": PeriodicTask.ALLOW, "jitter": 0.0,
          "one_off": False, "enabled": True, "expires": None}  # fmt: skip
_JSON: dict[str, Any] = {"args": [], "kwargs": {}, "options": {}}
_SECONDS = ("grace", "jitter", "expires")


def entry_of(row: PeriodicTask, app: App, settings: Mapping[str, Any] | None = None) -> Entry:
    """Return the beat's entry for a row; for one that shows an entry of the settings, that one.

    Args:
        row: it, or a named tuple of its columns.
        settings: the settings' ``definitions``, where they have been asked for before.

    Raises:
        EntryError: the row cannot be used.
    """
    if row.origin == PeriodicTask.SETTINGS:
        known = definitions(app) if settings is None else settings
        if row.name not in known:
            raise EntryError(row.name, "", "it is shown for the settings, and they have no such entry any more.")
        entry = Entry.from_definition(row.name, known[row.name], app)
        return replace(entry, enabled=entry.enabled and row.enabled)
    return Entry.from_definition(row.name, definition_of(row), app, row.changed_at and _aware(row.changed_at))


def definition_of(row: PeriodicTask, problem: Callable[[EntryError], None] | None = None) -> dict[str, Any]:
    """Return what ``BEAT_SCHEDULE`` would have for a row.

    Args:
        problem: is told of values that cannot be read, which are then left out.

    Raises:
        EntryError: a value cannot be read, and nobody is to be told.
    """
    definition: dict[str, Any] = {"task": row.task}
    readers: list[tuple[str, Callable[[], Any]]] = [("schedule", lambda: _schedule_of(row))]
    for key, usual in _JSON.items():
        if (value := getattr(row, key)) != usual:
            readers.append((key, partial(typed, row.name, key, value)))
    for key, read in readers:
        try:
            definition[key] = read()
        except EntryError as exc:
            if problem is None:
                raise
            problem(exc)
    for key, usual in _PLAIN.items():
        if (value := getattr(row, key)) != usual:
            definition[key] = value
    if row.catch_up != PeriodicTask.ONCE:
        definition["catch_up"] = {"all": row.catch_up_max} if row.catch_up == PeriodicTask.ALL else row.catch_up
    for key, instant in (("start_time", row.start_time), ("end_time", row.end_time)):
        if instant is not None:
            definition[key] = _aware(instant)
    return definition


def _schedule_of(row: PeriodicTask) -> Any:
    if not isinstance(row.schedule, str):
        raise EntryError(row.name, "schedule", f"{row.schedule!r:.100} is no text. Write the schedule as a text.")
    try:
        return texts.parse(row.kind, row.schedule, row.relative)
    except (ValueError, TypeError, ImproperlyConfigured) as exc:
        raise EntryError(row.name, "schedule", str(exc)) from exc


def typed(name: str, key: str, value: Any) -> Any:
    """Return a JSON column's value as a message has it: with dates and the like as such.

    Raises:
        EntryError: it holds what JSON cannot.
    """
    try:
        json_dumps(value)
        return value  # it can be sent as it is, so it has no typed values, which are refused
    except EncodeError:
        pass
    try:
        return json_loads(json.dumps(value, cls=TypedEncoder))
    except (CeleriacError, TypeError, ValueError) as exc:
        raise EntryError(name, key, str(exc)) from exc


def _aware(instant: Any) -> Any:
    # Naive with USE_TZ = False, where Django means its own zone. What is no instant is the entry's to refuse.
    naive = isinstance(instant, datetime) and instant.tzinfo is None
    return make_aware(instant, get_default_timezone()) if naive else instant


# -- what the model asks for


def problems(row: PeriodicTask) -> dict[str, list[str]]:
    """Return what is wrong with a row: column -> messages, each with the value and what to write instead."""
    found: dict[str, list[str]] = {}
    if row.origin == PeriodicTask.SETTINGS and not _changed_mirror(
        row, router.db_for_write(PeriodicTask, instance=row)
    ):
        return found  # the settings' to correct; the row only shows them

    def note(exc: EntryError) -> None:
        found.setdefault(exc.key or "name", []).append(_seconds_problem(row, exc.key) or exc.problem)

    app = get_current_app()
    definition = HARMLESS | definition_of(row, note)
    entry, wrong = mistakes(row.name, definition, app)
    if entry is None:  # because of its name
        entry, more = mistakes("unnamed", definition, app)
        wrong += more
    for error in wrong:
        note(error)
    try:
        if entry is not None:
            replace(entry, enabled=True).next_runs(None, datetime.now(timezone.utc), 1)
    except Exception as exc:  # dates beyond all calendars, for one
        note(EntryError(row.name, "schedule", f"{row.schedule!r:.100} leads to no next run: {exc!r}. Change it."))
    if entry is not None and not found and (why := unsendable(app, entry)):
        found["options"] = [f"It cannot be sent: {why}"]
    if not found and row._state.adding:  # a row that has had its time can still be changed
        found.update({key: [problem] for key, problem in doubts_of(row)})
    for key in _JSON:
        if key not in found and (why := _unstorable(getattr(row, key))):
            found[key] = [why]
    if entry is not None and found.keys().isdisjoint(("task", "args", "kwargs")) and (why := misfit(app, entry)):
        found["args"] = [why]
    return found


def doubts_of(row: PeriodicTask) -> list[tuple[str, str]]:
    """Return what nobody can mean about a row that can be used: column and problem of each."""
    app = get_current_app()
    definition = definition_of(row)
    entry = Entry.from_definition(row.name, definition, app)
    return list(doubts(entry, definition, datetime.now(timezone.utc), zone_of(app)))


def _seconds_problem(row: PeriodicTask, key: str) -> str:
    """Return what is wrong with a number of seconds, in words for a row; empty if nothing is."""
    value = getattr(row, key) if key in _SECONDS else None
    if value is None or (isinstance(value, (int, float)) and 0 <= value < math.inf):
        return ""
    return f"{value!r} is no number of seconds from 0 on.{'' if key == 'jitter' else ' Leave it empty for none.'}"


def _unstorable(value: Any) -> str:
    """Return why a database could not store a value as JSON; empty if it can."""
    try:
        text = json.dumps(value, cls=TypedEncoder, allow_nan=False)
    except (CeleriacError, TypeError, ValueError) as exc:
        return f"{value!r:.100} cannot be written as JSON: {exc}. Give something simpler."
    return "It holds the character NUL, which databases cannot store. Take it out." if "\\u0000" in text else ""


def in_words(row: PeriodicTask) -> str:
    """Return the schedule of a row in words, with the row's own time zone where that matters."""
    heeds_zone = True
    try:
        schedule = _schedule_of(row)
        text, heeds_zone = str(schedule.human_readable), schedule.heeds_zone
    except Exception:  # a class of the project's own, or nothing that can be read
        text = row.schedule
    return f"{text} ({row.timezone})" if row.timezone and heeds_zone else text


def checked_entry(row: PeriodicTask) -> Entry:
    """Return the entry of a row.

    Raises:
        ValidationError: the row cannot be used.
    """
    try:
        return entry_of(row, get_current_app())
    except EntryError as exc:
        raise ValidationError({exc.key or NON_FIELD_ERRORS: exc.problem}) from exc


def run_now(row: PeriodicTask) -> AsyncResult[Any]:
    """Call the task of a row (``PeriodicTask.run_now``)."""
    entry = checked_entry(row)
    if why := misfit(get_current_app(), entry):
        raise ValidationError({"args": why})
    return call_now([entry])[0]


def next_runs(row: PeriodicTask, n: int, now: datetime | None) -> list[datetime]:
    """Return when a row fires next (``PeriodicTask.next_runs``)."""
    entry = checked_entry(row)
    store = get_current_app().broker.claim_store
    state = store.states([row.name]).get(row.name) if store is not None and row.pk else None
    try:
        return entry.next_runs(state, now or datetime.now(timezone.utc), n)
    except Exception as exc:  # a schedule of the project's own
        raise ValidationError({"schedule": f"Its next runs cannot be told: {exc!r}."}) from exc


def override_by(row: PeriodicTask, using: str, columns: Collection[str] | None) -> set[str]:
    """Let a row that shows an entry of the settings take its place if more of it is changed than its being enabled.

    Args:
        columns: those that are to be written; None for all.

    Returns:
        The columns that are to be written, too; none if it only shows the entry, as before.

    Raises:
        ValidationError: the entry cannot be kept in a row.
    """
    if not (name := _changed_mirror(row, using, columns)):
        return set()
    app, more = get_current_app(), {"origin"}
    if (definition := definitions(app).get(name)) is not None:
        try:
            entry = Entry.from_definition(name, definition, app)
            row_of(entry, app)  # what of it the row only shows would count
        except EntryError as exc:
            raise ValidationError(
                f"{exc} So the row that shows it cannot be changed. Make a new PeriodicTask of this name, with all "
                "that it is to have: it takes the place of the settings' entry."
            ) from exc
        if not entry.enabled and "enabled" not in (columns or ()):
            row.enabled = False
            more.add("enabled")
    row.origin = PeriodicTask.DATABASE
    return more


def _changed_mirror(row: PeriodicTask, using: str, columns: Collection[str] | None = None) -> str:
    """Return the name of the settings' entry that a row shows, if it was changed to say something else."""
    looked_at = {"name", *CONTENT}.intersection({"name", *CONTENT} if columns is None else columns)
    rows: Any = PeriodicTask.objects.using(using).filter(pk=row.pk, origin=PeriodicTask.SETTINGS)
    there = rows.values("name", *looked_at).first() if looked_at else None
    differs = there is not None and any(getattr(row, key) != there[key] for key in looked_at)
    return str(there["name"]) if there is not None and differs else ""


def forget(names: Sequence[str]) -> None:
    """Forget what became of entries that are deleted, so that new ones of these names begin afresh.

    Not of those that the settings have too: they go on.
    """
    app = get_current_app()
    store, kept = app.broker.claim_store, definitions(app)
    names = [name for name in names if name not in kept]
    if store is None or not names:
        return
    try:
        store.forget(names)
    except OperationalError as exc:  # the rows are gone, which is what counts
        logger.warning("What became of %s could not be deleted: %s", ", ".join(names[:3]), exc)
