"""Which database the tests run on: ``TEST_DATABASE=sqlite`` (default), ``postgresql`` or ``mariadb``.

The address travels in ``TEST_DATABASE_URL``, so that processes started by the tests find the same database. Set it
yourself to use a server of your own.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import django

ENGINES = {
    "sqlite": "django.db.backends.sqlite3",
    "postgresql": "django.db.backends.postgresql",
    "mysql": "django.db.backends.mysql",
}
#: What the values of ``TEST_DATABASE`` are called in a URL.
SCHEMES = {"sqlite": "sqlite", "postgresql": "postgresql", "mariadb": "mysql"}

SQLITE_OPTIONS: dict[str, Any] = {"timeout": 20}
if django.VERSION >= (5, 1):
    # Before that, tests.testapp sets the same pragmas.
    SQLITE_OPTIONS["transaction_mode"] = "IMMEDIATE"
    SQLITE_OPTIONS["init_command"] = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL"

OPTIONS: dict[str, dict[str, Any]] = {
    "sqlite": SQLITE_OPTIONS,
    "postgresql": {"connect_timeout": 10},
    "mysql": {"charset": "utf8mb4", "connect_timeout": 10},
}


def name_from_environment() -> str:
    """Return the value of ``TEST_DATABASE``, which must be one of ours."""
    name = os.environ.get("TEST_DATABASE", "sqlite")
    if name not in SCHEMES:
        raise ValueError(f"TEST_DATABASE={name!r} is unknown; give one of {', '.join(SCHEMES)}")
    return name


def url_from_environment() -> str:
    """Return the database's URL; without host and port as long as its server has not been started."""
    if given := os.environ.get("TEST_DATABASE_URL"):
        return given
    name = name_from_environment()
    # What connects before there is a database of our own, such as makemigrations, leaves no file in the checkout.
    return f"sqlite:///{tempfile.gettempdir()}/celeriac.sqlite3" if name == "sqlite" else f"{SCHEMES[name]}:///main"


def settings_of(url: str) -> dict[str, Any]:
    """Return Django's settings for the database at ``url``."""
    parts = urlsplit(url)
    settings: dict[str, Any] = {"ENGINE": ENGINES[parts.scheme], "OPTIONS": OPTIONS[parts.scheme]}
    name = parts.path.removeprefix("/")
    if parts.scheme == "sqlite":
        # A test database in memory could not be shared with worker processes.
        return settings | {"NAME": name, "TEST": {"NAME": str(Path(name).with_name("test.sqlite3"))}}
    address = {"HOST": parts.hostname, "PORT": parts.port, "USER": parts.username, "PASSWORD": parts.password}
    return settings | {"NAME": name, "TEST": {}} | {key: value or "" for key, value in address.items()}


def url_of(settings: Mapping[str, Any]) -> str:
    """Return the URL of the database with these settings of Django's."""
    scheme = next(scheme for scheme, engine in ENGINES.items() if engine == settings["ENGINE"])
    if scheme == "sqlite":
        return f"sqlite:///{settings['NAME']}"
    user = settings["USER"] + (f":{settings['PASSWORD']}" if settings["PASSWORD"] else "")
    return f"{scheme}://{user}@{settings['HOST']}:{settings['PORT']}/{settings['NAME']}"
