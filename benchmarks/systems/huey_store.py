"""Huey on the database that all systems get. Apart from ``huey`` because the settings need it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from huey import Huey, PostgresHuey, RedisHuey
from huey.storage import SqliteStorage


class NormalStorage(SqliteStorage):
    """Between Huey's own full synchronisation and none."""

    def _create_connection(self) -> Any:
        connection = super()._create_connection()
        connection.execute("pragma synchronous=normal")
        return connection


def make_huey(url: str, synchronous: str) -> Huey:
    """Return the instance for the database at ``url``; on SQLite, it has WAL by itself."""
    if url.startswith("postgresql:"):
        return PostgresHuey("benchmarks", dsn=url)
    if url.startswith("redis:"):
        return RedisHuey("benchmarks", url=url)
    path = urlsplit(url).path.removeprefix("/")
    storage = SqliteStorage if synchronous == "FULL" else NormalStorage
    return Huey("benchmarks", storage_class=storage, filename=path, fsync=True, timeout=20)
