"""Which periodic tasks an operator means: rows of the table or, in a project without it, rows made of the settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from django.db.models.functions import Lower

from django_tasks.beat.entry import EntryError
from django_tasks.chunks import chunked
from django_tasks.models import PeriodicTask
from django_tasks.operations.look import OperationFailed, suggestion
from django_tasks.periodic import has_tables
from django_tasks.periodic.mirror import mirrors, settings_entries, synchronise

if TYPE_CHECKING:
    from django_tasks.app import App

OnError = Callable[[EntryError], object]
#: Rows that are looked at or changed at a time: SQLite may take no more than 999 values in a statement.
PAGE = 500


def rows(
    app: App, name: str = "", task: str = "", limit: int | None = None, on_error: OnError = bool
) -> list[PeriodicTask]:
    """Return rows by name.

    Args:
        name: only those with this in their name.
        task: only those of this task.
        limit: how many at most.
        on_error: is given what is wrong with entries of the settings that cannot be used.
    """
    if not has_tables(app):
        shown = [
            row for row in _of_settings(app, on_error) if name.lower() in row.name.lower() and task in ("", row.task)
        ]
        return shown[:limit]
    synchronise(app, on_error)
    found = PeriodicTask.objects.all()
    if name:
        # Not "icontains", which tells cases apart on MariaDB, where names are compared exactly.
        found = found.annotate(lower_name=Lower("name")).filter(lower_name__contains=name.lower())
    if task:
        found = found.filter(task=task)
    return list(found[:limit])


def _of_settings(app: App, on_error: OnError) -> list[PeriodicTask]:
    """Return rows, which are stored nowhere, for the entries of the settings, by name."""
    return sorted(mirrors(app, settings_entries(app, on_error)).values(), key=lambda row: row.name)


def find_all(app: App, names: Sequence[str]) -> list[PeriodicTask]:
    """Return rows in the order of their names.

    Raises:
        OperationFailed: there is none of one of the names; then nothing is to be changed.
    """
    found: dict[str, PeriodicTask] = {}
    wrong: dict[str, EntryError] = {}

    def note(error: EntryError) -> None:
        wrong[error.entry] = error

    if has_tables(app):
        synchronise(app, note)
        for some in chunked(names, PAGE):
            found.update({row.name: row for row in PeriodicTask.objects.filter(name__in=some)})
    else:
        found.update({row.name: row for row in _of_settings(app, note)})
    for name in names:
        if name not in found:
            undone = " Nothing was changed." if len(names) > 1 else ""
            if name in wrong:
                raise OperationFailed(f"{wrong[name]}{undone}")
            there = [row.name for row in rows(app, limit=PAGE)]
            raise OperationFailed(
                f"There is no periodic task {name!r}.{suggestion(name, there)} `tasks schedule` lists them.{undone}"
            )
    return [found[name] for name in names]


def all_for(app: App, verb: str) -> list[PeriodicTask]:
    """Return all rows that ``override`` or ``restore`` can be for; for every other verb all rows."""
    origins = {"override": PeriodicTask.SETTINGS, "restore": PeriodicTask.DATABASE}
    if verb not in origins:
        return rows(app)
    entries = synchronise(app)
    return [row for row in PeriodicTask.objects.filter(origin=origins[verb]) if row.name in entries]


def need_tables(app: App, verb: str) -> None:
    """Make sure that what is to be noted of periodic tasks can be.

    Raises:
        OperationFailed: this project is not to have the tables for it.
    """
    if has_tables(app):
        return
    why = "its database router keeps them out" if app.uses_database else "DATABASES has none for them"
    raise OperationFailed(
        f"`{verb}` is not possible: this project keeps no tables of periodic tasks ({why}), and all are those of the "
        'settings. Change BEAT_SCHEDULE; "enabled": False in an entry switches it off.'
    )
