"""The app's set-up."""

from __future__ import annotations

from typing import Any

import django
from django.apps import AppConfig
from django.db.backends.signals import connection_created


class ImportsConfig(AppConfig):
    """The one app of the example."""

    name = "example_project.imports"
    label = "imports"
    verbose_name = "Airport register"

    def ready(self) -> None:
        """Switch SQLite to WAL where the settings cannot (Django before 5.1)."""
        if django.VERSION < (5, 1):
            connection_created.connect(use_wal, dispatch_uid="example_project.imports.use_wal")


def use_wal(connection: Any, **kwargs: Any) -> None:
    """Let readers go on while somebody writes; a receiver of ``connection_created``."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute("PRAGMA synchronous=NORMAL")
