"""Fresh databases: a file of SQLite, or a database on a PostgreSQL server of our own."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests import servers

#: What tells databases on SQLite apart: FULL waits for the disk at each commit, NORMAL leaves some to a power cut.
SYNCHRONOUS = {"sqlite": "NORMAL", "sqlite-full": "FULL"}


class DurablePostgreSQL(servers.PostgreSQL):
    """The tests' private server, but one that waits for the disk, as real ones do."""

    def command(self) -> list[str]:
        return [part for part in super().command() if part != "-F"]


class Storage:
    """Gives out empty databases.

    Args:
        directory: where SQLite files go.
        server: the server for PostgreSQL.
    """

    def __init__(self, directory: Path, server: DurablePostgreSQL | None) -> None:
        self.directory = directory
        self.server = server
        self._numbers = itertools.count(1)

    def new(self, database: str) -> str:
        """Return the URL of an empty database of one of the ``DATABASES``."""
        name = f"bench{next(self._numbers)}"
        if database in SYNCHRONOUS:
            return f"sqlite:///{self.directory / name}.sqlite3?synchronous={SYNCHRONOUS[database]}"
        self._ask(f"CREATE DATABASE {name}")
        assert self.server is not None
        return self.server.url(name)

    def facts(self, database: str) -> str:
        """Return the version of a database, and what its durability depends on."""
        if database in SYNCHRONOUS:
            return f"SQLite {sqlite3.sqlite_version}, journal_mode=WAL, synchronous={SYNCHRONOUS[database]}"
        names = ("server_version", "fsync", "synchronous_commit", "shared_buffers")
        version, *settings = (self._ask(f"SHOW {name}") for name in names)
        pairs = zip(names[1:], settings, strict=True)
        return ", ".join([f"PostgreSQL {version.split()[0]}", *(f"{name}={value}" for name, value in pairs)])

    def _ask(self, statement: str) -> str:
        import psycopg

        assert self.server is not None, "no server was started"
        with psycopg.connect(self.server.url("postgres"), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return str(cursor.fetchone()[0]) if cursor.description else ""  # type: ignore[index]


@contextlib.contextmanager
def open_storage(directory: Path, databases: Sequence[str]) -> Iterator[Storage]:
    """Start what these databases need, and stop it at the end."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(DurablePostgreSQL()) if "postgresql" in databases else None
        yield Storage(directory, server)
