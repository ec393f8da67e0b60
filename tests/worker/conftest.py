"""Fixtures of the tests with real workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, connections

from tests import databases
from tests.servers import SERVERS, Server


@pytest.fixture
def private_database(transactional_db: None) -> Iterator[Server]:
    """A database server for this test alone, which it may stop; meanwhile it is the one that all use."""
    name = databases.name_from_environment()
    before = dict(connection.settings_dict)
    with SERVERS[name]() as server:
        _use(databases.settings_of(_make_database(server, name)))
        try:
            call_command("migrate", verbosity=0)
            yield server
        finally:
            _use(before)


def _make_database(server: Server, name: str) -> str:
    if name == "postgresql":
        return server.url("postgres")
    import MySQLdb

    address = databases.settings_of(server.url("private"))
    with MySQLdb.connect(host=address["HOST"], port=address["PORT"], user=address["USER"]) as client:
        client.cursor().execute("CREATE DATABASE private CHARACTER SET utf8mb4")
    return server.url("private")


def _use(settings: dict[str, Any]) -> None:
    connection.close()
    connection.settings_dict.update({key: settings[key] for key in ("NAME", "HOST", "PORT", "USER", "PASSWORD")})


@pytest.fixture(autouse=True)
def no_connection_of_others() -> None:
    """Close what an earlier test left open: cleaning up after a task looks at every open connection."""
    for each in connections.all(initialized_only=True):
        if not each.in_atomic_block:
            each.close()
