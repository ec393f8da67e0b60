"""All that is wrong with an entry at once: the error for one of its keys hides those of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django_tasks.beat.entry import Entry, EntryError

if TYPE_CHECKING:
    from django_tasks.app import App

#: What stands for a key that has to be there, and is wrong, while the others are looked at.
HARMLESS = {"task": "harmless", "schedule": 1.0}


def mistakes(name: Any, definition: Any, app: App) -> tuple[Entry | None, list[EntryError]]:
    """Try to make an entry.

    Args:
        name: its name.
        definition: what ``BEAT_SCHEDULE`` has under it, or whatever else stands there.

    Returns:
        The entry, with what is wrong left out or replaced, and what is wrong. None for the entry if it has no name that
        can be, or is no dict.
    """
    found: list[EntryError] = []
    while True:
        try:
            return Entry.from_definition(name, definition, app), found
        except EntryError as exc:
            found.append(exc)
            if not exc.key:
                return None, found
            # A key that is named is in the definition, or has to be: so this comes to an end.
            definition = {key: value for key, value in definition.items() if str(key) != exc.key}
            if exc.key in HARMLESS:
                definition[exc.key] = HARMLESS[exc.key]
