"""Findings of ``manage.py check`` about the schedule: entries that cannot be, and those of tasks that there are not."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from django.core.checks import CheckMessage, Error, Warning
from django.db import DatabaseError

from django_tasks.beat.calls import misfit
from django_tasks.beat.doubts import doubts
from django_tasks.beat.entry import ALLOW, Entry, EntryError
from django_tasks.beat.messages import unsendable
from django_tasks.beat.mistakes import mistakes
from django_tasks.conf import Settings, suggestion
from django_tasks.current import get_current_app
from django_tasks.exceptions import ImproperlyConfigured, OperationalError
from django_tasks.registry import tasks
from django_tasks.schedules import zone_of
from django_tasks.signals import title

if TYPE_CHECKING:
    from django_tasks.app import App


def unfit_entries(conf: Settings) -> Iterator[CheckMessage]:
    """Find entries that cannot be (E006), those of tasks that this project does not have (W007), and more."""
    app = get_current_app()
    added: Mapping[str, Any] = {}
    if app.conf is conf:
        added = app.periodic_tasks
        yield from _failed_receivers(app)
    try:
        entries: Mapping[Any, Any] = {**conf.beat_schedule, **added}
    except ImproperlyConfigured:
        return  # E001 has reported it
    for name, definition in entries.items():
        try:
            entry, wrong = mistakes(name, definition, app)
        except ImproperlyConfigured:
            return  # another setting, which E001 has reported
        for error in wrong:
            yield Error(str(error), hint=_HINT, id="django_tasks.E006")
        if entry is not None and not wrong:
            yield from _of_unknown_task(entry)
            yield from _misfit(entry, app)
            yield from _unsendable(entry, app)
            yield from _untellable(entry, app)
            yield from _doubtful(entry, definition, app)


_HINT = "See docs/beat.md, section 'What an entry can have', and docs/schedules.md."


def _failed_receivers(app: App) -> Iterator[CheckMessage]:
    """Find receivers that have raised and so have not added all their entries (E006)."""
    for signal in (app.on_after_configure, app.on_after_finalize):
        for receiver, error in signal.failures:
            if isinstance(error, (DatabaseError, OperationalError)) or isinstance(error.__cause__, DatabaseError):
                continue  # a server that is away, or a table before `migrate`: it has been logged, and may be well soon
            text = (
                f"The receiver {title(receiver)} of {signal.name} failed, so that entries of the schedule may be "
                f"missing: {type(error).__name__}: {error}{_place(receiver, error)}"
            )
            yield Error(text, hint=_HINT, id="django_tasks.E006")


def _place(receiver: Any, error: Exception) -> str:
    """Return where in the receiver an error was raised; empty if that cannot be told."""
    path = getattr(getattr(receiver, "__code__", None), "co_filename", None)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    return f" ({path}, line {lines[-1]})" if lines else ""


def _of_unknown_task(entry: Entry) -> Iterator[CheckMessage]:
    if entry.task not in tasks:
        text = f"Entry {entry.name!r} of the schedule is for the task {entry.task!r}, which there is not here."
        hint = "If workers of another project have it, put django_tasks.W007 into SILENCED_SYSTEM_CHECKS."
        meant = suggestion(entry.task, tasks)
        yield Warning(f"{text}{meant}", hint=f"Correct the name. {hint}", id="django_tasks.W007")


def _misfit(entry: Entry, app: App) -> Iterator[CheckMessage]:
    if why := misfit(app, entry):
        yield Error(str(EntryError(entry.name, "args", why)), hint=_HINT, id="django_tasks.E006")


def _unsendable(entry: Entry, app: App) -> Iterator[CheckMessage]:
    if why := unsendable(app, entry):
        yield Error(f"Entry {entry.name!r} of the schedule cannot be sent: {why}", hint=_HINT, id="django_tasks.E006")


def _doubtful(entry: Entry, definition: Mapping[str, Any], app: App) -> Iterator[CheckMessage]:
    """Find entries that never run, or whose calls nobody ever begins (W010)."""
    try:
        found = list(doubts(entry, definition, datetime.now(timezone.utc), zone_of(app)))
    except Exception:  # a schedule of the project's own, which beat will report
        return
    for key, problem in found:
        text = f"Entry {entry.name!r} of the schedule, {key}: {problem}"
        yield Warning(text, hint="If that is meant, put django_tasks.W010 into SILENCED_SYSTEM_CHECKS.",
                      id="django_tasks.W010")  # fmt: skip


def _untellable(entry: Entry, app: App) -> Iterator[CheckMessage]:
    """Find entries whose runs are not to overlap, of tasks that leave no trace while they run (E007)."""
    task = tasks.get(entry.task)
    if entry.overlap == ALLOW or task is None or _option(app, task, "acks_late"):
        return
    ignored = entry.options.get("ignore_result")
    stored = app.backend.stores and not (_option(app, task, "ignore_result") if ignored is None else ignored)
    if not (stored and _option(app, task, "track_started")):
        text = (
            f"Entry {entry.name!r} of the schedule has overlap = {entry.overlap!r}, but nobody can tell whether "
            f"{entry.task} still runs: its message goes when it begins (acks_late=False), and its result does not say "
            "that it has begun."
        )
        hint = "Let the task have acks_late=True, or track_started=True and a result."
        yield Error(text, hint=hint, id="django_tasks.E007")


def _option(app: App, task: Any, name: str) -> Any:
    value = getattr(task, name)
    return app.conf[f"task_{name}"] if value is None else value
