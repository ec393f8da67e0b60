"""A Django that sets itself up, for scripts without a project: one SQLite file beside them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.core.management import call_command
from django.db import DatabaseError, connection
from django.db.backends.signals import connection_created

#: The database of a script without settings, in the working directory.
DATABASE_FILE = "django_tasks.sqlite3"
#: Seconds for which to wait for another process that creates the tables.
PATIENCE = 20.0
PRAGMAS = ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL")

_made_here = False


def is_needed() -> bool:
    """Whether no Django settings are there, nor named in the environment."""
    return not settings.configured and not os.environ.get("DJANGO_SETTINGS_MODULE")


def configure() -> None:
    """Make minimal settings and set Django up."""
    global _made_here
    _made_here = True
    database: dict[str, object] = {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(Path(DATABASE_FILE).resolve()),
        "OPTIONS": {"timeout": 20},
    }
    if django.VERSION >= (5, 1):
        database["OPTIONS"] = {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": "".join(f"{pragma};" for pragma in PRAGMAS),
        }
    else:
        connection_created.connect(_run_pragmas)
    settings.configure(
        INSTALLED_APPS=["django_tasks"],
        DATABASES={"default": database},
        USE_TZ=True,
        TIME_ZONE="UTC",
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    )
    django.setup()


def _run_pragmas(connection: Any, **_: Any) -> None:
    """Do what newer Djangos do, given ``init_command``."""
    with connection.cursor() as cursor:
        for pragma in PRAGMAS:
            cursor.execute(pragma)


def made_here() -> bool:
    """Whether the settings are the ones made by ``configure``."""
    return _made_here


def prepare(url: str) -> None:
    """Create the tables that a broker or result backend at ``url`` needs, if there is no ``manage.py migrate``."""
    if made_here() and url.startswith("django-db"):
        migrate()


def migrate() -> None:
    """Create the tables of a script's own database, if they are not there."""
    deadline = time.monotonic() + PATIENCE
    while not _has_tables():
        try:
            call_command("migrate", verbosity=0, interactive=False)
        except DatabaseError:
            # The script and its worker may both be here for the first time; the other one is creating them.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _has_tables() -> bool:
    return "django_tasks_message" in connection.introspection.table_names()
