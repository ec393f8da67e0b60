"""Schedules that are kept in the database: what their rows mean, how a beat reads them, where they come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.apps import apps
from django.db import router

if TYPE_CHECKING:
    from django_tasks.app import App
    from django_tasks.periodic.source import DatabaseSource


def database_source(app: App) -> DatabaseSource | None:
    """Return the source of the entries in the database; None where there is no database for them.

    Tables that should be there and are not are no reason to go on without them: they may have rows that pause entries
    of the settings. So the source says that they are missing, and the beat waits for them.

    A beat finds it by its name in ``beat.sources.SOURCES``.
    """
    if not (app.uses_database and apps.ready and apps.is_installed("django_tasks")):
        return None
    from django_tasks.models import PeriodicTask  # not before the apps are loaded
    from django_tasks.periodic.source import DatabaseSource

    source = DatabaseSource(app)
    return source if router.allow_migrate_model(source.database.alias, PeriodicTask) else None
