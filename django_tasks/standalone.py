"""A Django that sets itself up, for scripts without a project: one SQLite file beside them."""

from __future__ import annotations

import os
from pathlib import Path

import django
from django.conf import settings
from django.core.management import call_command
from django.db import connection

#: The database of a script without settings, in the working directory.
DATABASE_FILE = "django_tasks.sqlite3"


def is_needed() -> bool:
    """Whether no Django settings are there, nor named in the environment."""
    return not settings.configured and not os.environ.get("DJANGO_SETTINGS_MODULE")


def configure() -> None:
    """Make minimal settings and set Django up."""
    database: dict[str, object] = {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(Path(DATABASE_FILE).resolve()),
        "OPTIONS": {"timeout": 20},
    }
    if django.VERSION >= (5, 1):
        database["OPTIONS"] = {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        }
    settings.configure(
        INSTALLED_APPS=["django_tasks"],
        DATABASES={"default": database},
        USE_TZ=True,
        TIME_ZONE="UTC",
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    )
    django.setup()


def made_here() -> bool:
    """Whether the settings are the ones made by ``configure``."""
    name = settings.DATABASES.get("default", {}).get("NAME", "") if settings.configured else ""
    return Path(str(name)).name == DATABASE_FILE and settings.INSTALLED_APPS == ["django_tasks"]


def migrate() -> None:
    """Create the tables of a script's own database, if they are not there."""
    if "django_tasks_message" not in connection.introspection.table_names():
        call_command("migrate", verbosity=0, interactive=False)
