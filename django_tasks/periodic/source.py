"""Where a beat gets the schedules of the database from, and how it hears of changes."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from django.db import router

from django_tasks.beat.entry import Entry, EntryError
from django_tasks.beat.sources import Changes, definitions
from django_tasks.chunks import chunked
from django_tasks.databases import Database
from django_tasks.exceptions import OperationalError
from django_tasks.models import PeriodicTask, PeriodicVersion
from django_tasks.models.tables import free
from django_tasks.periodic.meaning import entry_of
from django_tasks.periodic.mirror import synchronise_for_beat

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from django_tasks.app import App

logger = logging.getLogger("django_tasks.beat")

#: Names in one statement: SQLite may take no more than 999 values.
PAGE = 500
#: Rows that are fetched at a time.
CHUNK = 2000
_COLUMNS = [field.attname for field in PeriodicTask._meta.concrete_fields]


class DatabaseSource:
    """The rows of ``PeriodicTask`` as entries (``beat.sources.Source``).

    A look for changes is one query for one number; only after a change there are more, one for what has changed and
    one for the rows that pause or replace entries of the settings (for each 500 of these). What was changed past
    Django, or deleted, is noticed when it comes to fire.

    Nothing is written before the first look for changes, and nothing that would have to wait for somebody's
    transaction.

    Args:
        app: whose entries these are.
    """

    def __init__(self, app: App) -> None:
        self.app = app
        self.database = Database(router.db_for_write(PeriodicTask))
        self._seen = -1
        #: Rows as they were last read, so that a row that is the same need not be read for its meaning again.
        self._known: dict[str, tuple[int, Entry | None]] = {}
        self._off: set[str] = set()
        self._replaced: set[str] = set()
        #: Whether the settings' entries are shown by rows.
        self._shown = False
        #: What has fired for the one time that it was to, and is to be disabled.
        self._fired: set[str] = set()

    def entries(self) -> list[Entry]:
        """Return all that there are now.

        Raises:
            OperationalError: the database is away.
            ImproperlyConfigured: it has no table for them.
        """
        self._shown = False
        self._seen = self._version()  # before the rows, so that what changes meanwhile is looked at again
        self._known.clear()
        self._look_at_settings()
        found = self.database.run(lambda: list(_told(self._rows()).iterator(CHUNK)))
        return [entry for _, entry in self._read(found) if entry is not None]

    def changes(self) -> Changes:
        """Return what has changed since the last look. Errors as for ``entries``."""
        if not self._shown:
            self._show_settings()
        if self._fired:
            self._disable_fired()
        version = self._version()
        if version == self._seen:
            return Changes([], [])
        if version < self._seen:
            return self._all_anew()
        after, replaced = self._seen, self._replaced
        self._look_at_settings()
        found = self.database.run(lambda: list(_told(self._rows().filter(version__gt=after))))
        self._seen = version
        changed, removed = [], replaced - self._replaced
        for name, entry in self._read(found):
            if entry is None:
                removed.add(name)
            else:
                changed.append(entry)
        return Changes(changed, sorted(removed))

    def _all_anew(self) -> Changes:
        """Read everything: the tables were emptied, or another database stands in the place of this one."""
        before = set(self._known)
        entries = self.entries()
        return Changes(entries, sorted(before - {entry.name for entry in entries}))

    def still_valid(self, names: Iterable[str]) -> dict[str, Entry | None]:
        """Return entries as their rows are now; None for what is gone or can be used no more."""
        wanted = list(names)
        valid: dict[str, Entry | None] = dict.fromkeys(wanted)
        for some in chunked(wanted, PAGE):
            rows = _told(self._rows().filter(name__in=some))
            valid.update(self._read(self.database.run(partial(list, rows))))
        for name, entry in valid.items():
            if entry is None:
                self._known.pop(name, None)
        return valid

    def paused(self) -> set[str]:
        """Return the names of the settings' entries that are not to fire, as of the last look for changes."""
        return self._off

    def fired(self, names: Sequence[str]) -> None:
        """Disable the rows among these that are for one time only, as django-celery-beat does, now or soon."""
        entries = {name: known[1] for name in names if (known := self._known.get(name))}
        self._fired.update(name for name, entry in entries.items() if entry is not None and entry.one_off)
        if self._fired:
            try:
                self._disable_fired()
            except OperationalError as exc:  # they do not fire again in any case
                logger.warning("What was to fire once is disabled later: %s", exc)

    def _disable_fired(self) -> None:
        names = sorted(self._fired)[:PAGE]
        if self.database.run(partial(self._disable, names)):
            self._fired.difference_update(names)

    def _disable(self, names: Sequence[str]) -> bool:
        """Disable rows unless that would have to wait for somebody's transaction; return whether it is done."""
        with self.database.atomic():
            if not PeriodicVersion.is_free(self.database.alias):
                return False
            rows = self._rows().filter(name__in=names, one_off=True, enabled=True)
            if keys := list(free(rows.values_list("pk", flat=True))):
                rows.filter(pk__in=keys).update(enabled=False)
            return not rows.exists()

    def _show_settings(self) -> None:
        """Let rows show the settings' entries; where that fails they can only not be paused."""
        try:
            self._shown = synchronise_for_beat(self.app)
        except Exception as exc:
            self._shown = True
            logger.error("The entries of the settings cannot be shown in the database: %s", exc)

    # -- rows

    def _rows(self) -> QuerySet[PeriodicTask]:
        rows: QuerySet[PeriodicTask] = PeriodicTask.objects.using(self.database.alias).order_by()
        return rows.filter(origin=PeriodicTask.DATABASE)

    def _version(self) -> int:
        rows = PeriodicVersion.objects.using(self.database.alias).filter(pk=1).values_list("value", flat=True)
        return self.database.run(rows.first) or 0

    def _read(self, found: Iterable[Any]) -> Iterator[tuple[str, Entry | None]]:
        """Yield the entry of each row (a named tuple), or None if it cannot be used, which is logged once."""
        for row in found:
            digest = hash(tuple.__repr__(row))
            known = self._known.get(row.name)
            if known is None or known[0] != digest:
                known = self._known[row.name] = (digest, self._entry(row))
            yield row.name, known[1]

    def _entry(self, row: Any) -> Entry | None:
        try:
            return entry_of(row, self.app)
        except EntryError as exc:
            logger.error("%s It is left out until its row is corrected.", exc)
        except Exception:  # whatever else a row may say: the others are to go on
            logger.exception("Entry %r is left out until its row is corrected.", row.name)
        return _disabled(self.app, row.name)

    def _look_at_settings(self) -> None:
        """Find out which entries of the settings are paused by their rows, and which have one in their place."""
        off, replaced = set(), set()
        names = list(definitions(self.app))
        for some in chunked(names, PAGE):
            rows: Any = PeriodicTask.objects.using(self.database.alias).filter(name__in=some)
            query = rows.order_by().values_list("name", "origin", "enabled")
            told: list[tuple[str, str, bool]] = self.database.run(partial(list, query))
            for name, origin, enabled in told:
                if origin == PeriodicTask.DATABASE:
                    replaced.add(name)
                elif not enabled:
                    off.add(name)
        self._off, self._replaced = off, replaced


def _told(rows: QuerySet[PeriodicTask]) -> Any:
    """Return rows as named tuples, which take a fraction of the time of model instances."""
    return rows.values_list(*_COLUMNS, named=True)


def _disabled(app: App, name: str) -> Entry | None:
    """Return the settings' entry that a row which cannot be used stands in place of, so that it does not run either."""
    definition = definitions(app).get(name)
    try:
        return replace(Entry.from_definition(name, definition, app), enabled=False) if definition else None
    except EntryError:
        return None
