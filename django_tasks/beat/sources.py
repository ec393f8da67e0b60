"""Where entries come from: the settings and the app's own code; and, from elsewhere, the database."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from django.utils.module_loading import import_string

from django_tasks.beat.entry import Entry, EntryError

if TYPE_CHECKING:
    from django_tasks.app import App

logger = logging.getLogger("django_tasks.beat")

#: Functions, by dotted path, that make further sources of an app; None for one that this app does not have.
SOURCES: list[str] = ["django_tasks.periodic.database_source"]


@dataclass(slots=True)
class Changes:
    """What has changed in a source: entries that are new or other than before, and names that are gone."""

    changed: list[Entry] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)


class Source(Protocol):
    """Something that has entries. Of entries with one name, that of the later source counts."""

    def entries(self) -> Iterable[Entry]:
        """Return all entries, also those that are not enabled."""

    def changes(self) -> Changes:
        """Return what has changed since this or ``entries`` was last called; it is called every second."""

    def still_valid(self, names: Sequence[str]) -> Mapping[str, Entry | None]:
        """Return entries, just before they are sent, as they are now; None for one that is gone."""

    def paused(self) -> Collection[str]:
        """Return the names of entries of earlier sources that are not to run."""

    def fired(self, names: Sequence[str]) -> None:
        """Take note that messages of these entries have been sent."""


def definitions(app: App) -> dict[str, Any]:
    """Return what the settings and the code of an app say: name -> entry, as in ``BEAT_SCHEDULE``."""
    return {**app.conf.beat_schedule, **app.periodic_tasks}


class SettingsSource:
    """``BEAT_SCHEDULE``, ``app.conf.beat_schedule`` and ``app.add_periodic_task``.

    Args:
        app: whose they are.
        on_error: is given what is wrong with an entry, which is then left out.
    """

    def __init__(self, app: App, on_error: Callable[[EntryError], object] | None = None) -> None:
        self.app = app
        self._on_error = on_error or _log
        self._seen: dict[str, Any] = {}

    def entries(self) -> list[Entry]:
        """Return all entries that can be."""
        self._seen = definitions(self.app)
        return list(self._read(self._seen))

    def changes(self) -> Changes:
        """Return what this process's own code has added to the schedule meanwhile, or taken from it."""
        now = definitions(self.app)
        # Most likely all are the very same objects: comparing them would take a hundred times as long.
        new = {name: each for name, each in now.items() if self._seen.get(name) is not each}
        removed = [name for name in self._seen if name not in now] if len(now) - len(new) < len(self._seen) else []
        if new or removed:
            self._seen = now
        changed = list(self._read(new))
        removed.extend(new.keys() - {entry.name for entry in changed})  # what cannot be any more
        return Changes(changed, removed)

    def _read(self, definitions: Mapping[str, Any]) -> Iterable[Entry]:
        for name, definition in definitions.items():
            try:
                yield Entry.from_definition(name, definition, self.app)
            except EntryError as error:
                self._on_error(error)

    def still_valid(self, names: Sequence[str]) -> Mapping[str, Entry | None]:
        """Return nothing: what is in the memory of this process is as it was given out."""
        return {}

    def paused(self) -> Collection[str]:
        """Return nothing, as there is no earlier source."""
        return ()

    def fired(self, names: Sequence[str]) -> None:
        """Do nothing about it."""


def _log(error: EntryError) -> None:
    logger.error("%s It is left out.", error)


def sources_of(app: App) -> list[Source]:
    """Return the sources of an app, those that win over others last."""
    found: list[Source] = [SettingsSource(app)]
    for path in SOURCES:
        source = import_string(path)(app)
        if source is not None:
            found.append(source)
    return found
