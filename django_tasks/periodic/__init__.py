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
    if not has_tables(app):
        return None
    from django_tasks.periodic.source import DatabaseSource  # not before the apps are loaded

    return DatabaseSource(app)


def has_tables(app: App) -> bool:
    """Return whether a project is to have the tables: it has a database, and no router keeps them out of it."""
    if not (app.uses_database and apps.ready and apps.is_installed("django_tasks")):
        return False
    from django_tasks.models import PeriodicTask  # not before the apps are loaded

    return bool(router.allow_migrate_model(router.db_for_write(PeriodicTask), PeriodicTask))
