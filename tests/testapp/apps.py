"""The app whose tasks and model the tests use."""

from __future__ import annotations

from typing import Any

import django
from django.apps import AppConfig
from django.db.backends.signals import connection_created


class TestAppConfig(AppConfig):
    name = "tests.testapp"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        if django.VERSION < (5, 1):
            connection_created.connect(use_wal)


def use_wal(connection: Any, **_: Any) -> None:
    """Set on SQLite what newer Djangos set by themselves, given ``init_command``."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute("PRAGMA synchronous=NORMAL")
