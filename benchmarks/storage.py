"""Fresh databases: a file of SQLite, or a database on a server of our own."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests import servers

#: What tells databases on SQLite apart: FULL waits for the disk at each commit, NORMAL leaves some to a power cut.
SYNCHRONOUS = {"sqlite": "NORMAL", "sqlite-full": "FULL"}


class DurablePostgreSQL(servers.PostgreSQL):
    """The tests' private server, but one that waits for the disk, as real ones do."""

    def command(self) -> list[str]:
        return [part for part in super().command() if part != "-F"]


@dataclass(frozen=True)
class Database:
    """One empty database.

    Args:
        url: where it is.
        server: the server's process, if it is a single one.
    """

    url: str
    server: psutil.Process | None = None


class Storage:
    """Gives out empty databases.

    Args:
        directory: where SQLite files go.
        postgresql, redis: the servers that were started.
    """

    def __init__(self, directory: Path, postgresql: DurablePostgreSQL | None, redis: servers.Redis | None) -> None:
        self.directory = directory
        self.postgresql = postgresql
        self.redis = redis
        self._numbers = itertools.count(1)

    def new(self, database: str, count: int) -> list[Database]:
        """Return some empty databases of one of the ``DATABASES``; those given out before are no longer in use."""
        if database == "redis":
            assert self.redis is not None, "no server was started"
            assert self.redis.process is not None
            self.redis.connect().flushall()
            process = psutil.Process(self.redis.process.pid)
            return [Database(self.redis.url(str(number)), process) for number in range(count)]
        return [Database(self._new(database, f"bench{next(self._numbers)}")) for _ in range(count)]

    def _new(self, database: str, name: str) -> str:
        if database in SYNCHRONOUS:
            return f"sqlite:///{self.directory / name}.sqlite3?synchronous={SYNCHRONOUS[database]}"
        self._ask(f"CREATE DATABASE {name}")
        assert self.postgresql is not None
        return self.postgresql.url(name)

    def facts(self, database: str) -> str:
        """Return the version of a database, and what its durability depends on."""
        if database in SYNCHRONOUS:
            return f"SQLite {sqlite3.sqlite_version}, journal_mode=WAL, synchronous={SYNCHRONOUS[database]}"
        if database == "redis":
            assert self.redis is not None, "no server was started"
            return f"Redis {self.redis.connect().info('server')['redis_version']}, without persistence"
        names = ("server_version", "fsync", "synchronous_commit", "shared_buffers")
        version, *settings = (self._ask(f"SHOW {name}") for name in names)
        pairs = zip(names[1:], settings, strict=True)
        return ", ".join([f"PostgreSQL {version.split()[0]}", *(f"{name}={value}" for name, value in pairs)])

    def _ask(self, statement: str) -> str:
        import psycopg

        assert self.postgresql is not None, "no server was started"
        with psycopg.connect(self.postgresql.url("postgres"), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return str(cursor.fetchone()[0]) if cursor.description else ""  # type: ignore[index]


@contextlib.contextmanager
def open_storage(directory: Path, databases: Sequence[str]) -> Iterator[Storage]:
    """Start what these databases need, and stop it at the end."""
    with contextlib.ExitStack() as stack:
        postgresql = stack.enter_context(DurablePostgreSQL()) if "postgresql" in databases else None
        redis = stack.enter_context(servers.Redis("--appendonly", "no")) if "redis" in databases else None
        yield Storage(directory, postgresql, redis)
