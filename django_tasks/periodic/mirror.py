"""The settings' entries as rows: to be looked at, paused, and replaced by rows that can be changed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import django.db
from django.db import router, transaction

from django_tasks.beat.entry import Entry, EntryError
from django_tasks.beat.sources import SettingsSource, definitions
from django_tasks.chunks import chunked
from django_tasks.databases import Database
from django_tasks.models import PeriodicTask, PeriodicVersion
from django_tasks.periodic.rows import CONTENT, row_of

if TYPE_CHECKING:
    from django_tasks.app import App

logger = logging.getLogger("django_tasks.beat")

#: Values, or new rows, in one statement: MariaDB takes 16 MB.
_PAGE = 500
#: Rows that a beat adds, or changes, before it sees to what is due: 100,000 take up to a minute.
MOST = 10_000


def settings_entries(app: App, on_error: Callable[[EntryError], object] = bool) -> dict[str, Entry]:
    """Return the entries of the settings by name.

    Args:
        on_error: is given what is wrong with those that cannot be used; by default they are the beat's to report.
    """
    return {entry.name: entry for entry in SettingsSource(app, on_error).entries()}


def synchronise(app: App, on_error: Callable[[EntryError], object] = bool) -> dict[str, Entry]:
    """Let there be a row for each entry of the settings; return these entries by name.

    Rows of the origin ``database`` stay as they are. So do those of entries that these settings do not have: another
    process may have other settings. Where nothing has changed this is one query.

    Args:
        on_error: as for ``settings_entries``.

    Raises:
        OperationalError: the database is away.
        ImproperlyConfigured: it has no table for them.
    """
    entries = settings_entries(app, on_error)
    database = Database(router.db_for_write(PeriodicTask))
    database.run(lambda: _write(database.alias, app, entries, ()))
    return entries


def synchronise_for_beat(app: App) -> bool:
    """As ``synchronise``, for a beat that has started: rows of entries that have gone from the settings go, too.

    Not those that are paused: the entry may come back, and is not to run then; nor those of entries that are still
    there and cannot be used.

    Returns:
        Whether it is done; not if that would have to wait for a transaction in which somebody changes rows, or if it is
        more than is done at a time.
    """
    entries = settings_entries(app)
    database = Database(router.db_for_write(PeriodicTask))

    def write() -> bool:
        rows = PeriodicTask.objects.using(database.alias).filter(origin=PeriodicTask.SETTINGS, enabled=True)
        known = definitions(app)
        gone = [key for key, name in rows.order_by().values_list("pk", "name") if name not in known]
        with database.atomic():
            return PeriodicVersion.is_free(database.alias) and _write(database.alias, app, entries, gone, MOST)

    return database.run(write)


def _write(using: str, app: App, entries: Mapping[str, Entry], gone: Sequence[int], most: int | None = None) -> bool:
    """Write what is to be written, of new and changed rows only so many; return whether that is all."""
    rows: Any = PeriodicTask.objects.using(using)
    there = {row.name: row for row in rows.filter(origin=PeriodicTask.SETTINGS).order_by()}
    shown = mirrors(app, entries)
    missing = [name for name in shown if name not in there]
    taken = _in_database(rows, missing)
    changed = [row for name, row in shown.items() if name in there and _differ(row, there[name])]
    # Two beats may start at once, with the same settings.
    new = [shown[name] for name in missing if name not in taken]
    _store(new[:most], using, partial(rows.bulk_create, ignore_conflicts=True, batch_size=_PAGE))
    for row in changed[:most]:
        _store([row], using, partial(_overwrite, rows))
    for some in chunked(gone, _PAGE):
        rows.filter(pk__in=some, origin=PeriodicTask.SETTINGS, enabled=True).delete()
    return most is None or max(len(new), len(changed)) <= most


def mirrors(app: App, entries: Mapping[str, Entry]) -> dict[str, PeriodicTask]:
    """Return new rows that show entries, those left out that cannot be shown."""
    shown = {}
    for name, entry in entries.items():
        try:
            shown[name] = mirror_of(entry, app)
        except Exception as exc:  # a schedule or an argument of the project's own
            _report(name, exc)
    return shown


def _store(shown: Sequence[PeriodicTask], using: str, write: Callable[[Sequence[PeriodicTask]], Any]) -> None:
    """Write rows together or, if the database does not take one of them, each by itself."""
    if not shown:
        return
    try:
        with transaction.atomic(using=using):
            write(shown)
    except django.db.OperationalError:
        raise
    except Exception as exc:  # a name that is too long, a character that it does not know
        if len(shown) == 1:
            _report(shown[0].name, exc)
            return
        for row in shown:
            _store([row], using, write)


def _overwrite(rows: Any, shown: Sequence[PeriodicTask]) -> None:
    for row in shown:
        same = rows.filter(name=row.name, origin=PeriodicTask.SETTINGS)
        same.update(origin=PeriodicTask.SETTINGS, **{key: getattr(row, key) for key in CONTENT})


def _report(name: str, exc: Exception) -> None:
    logger.warning("Entry %r of the settings cannot be shown in the database, and so not be paused there: %s", name,
                   str(exc) or repr(exc))  # fmt: skip


def _in_database(rows: Any, names: Sequence[str]) -> set[str]:
    """Return those of the names that rows of the database's own have."""
    found: set[str] = set()
    for some in chunked(names, _PAGE):
        page = rows.filter(name__in=some, origin=PeriodicTask.DATABASE)
        found.update(page.order_by().values_list("name", flat=True))
    return found


def mirror_of(entry: Entry, app: App) -> PeriodicTask:
    """Return a new row that shows an entry of the settings."""
    row = row_of(entry, app, to_look_at=True)
    row.origin, row.enabled = PeriodicTask.SETTINGS, True
    return row


def _differ(one: PeriodicTask, other: PeriodicTask) -> bool:
    return any(getattr(one, key) != getattr(other, key) for key in CONTENT)
