"""How an idle worker on a database waits: PostgreSQL tells it, SQLite shows it cheaply, the others have to be asked."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any

from django_tasks.brokers import orm_sql as sql
from django_tasks.databases import Database
from django_tasks.pipes import drain, readable

#: Seconds between questions, from the first after a message to the last of a long silence.
SHORTEST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
#: Likewise between looks at SQLite's version counter, which cost a few microseconds and take no lock; how much longer
#: each pause is than the one before. Where there was a message, another one comes soon, more often than not.
SHORTEST_LOOK, LONGEST_LOOK, LOOK_GROWTH = 0.01, 0.1, 1.2


class Listener(threading.local):
    """A thread's way of waiting for a message; like Django's connections, each thread has its own."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.notified = False
        self._version = 0
        self._listening_on: Any = None
        self._pause = SHORTEST_PAUSE
        self._look = SHORTEST_LOOK

    def before_reserve(self) -> None:
        """Note where things stand, so that what comes during the reserve ends the next wait at once."""
        self.notified = False
        if self.database.vendor == "sqlite":
            self._version = self._data_version()

    def found_something(self) -> None:
        """Start again with short pauses."""
        self._pause, self._look = SHORTEST_PAUSE, SHORTEST_LOOK

    def wait(self, timeout: float, wakeup: int) -> None:
        """Wait for a message, for ``wakeup`` to become readable, or until it is time to ask again (seconds)."""
        if self.database.vendor == "sqlite":
            self._wait_for_change(timeout, wakeup)
            return
        connection = self._listen()
        if connection is None:
            _sleep([wakeup], min(timeout, self._pause))
            self._pause = min(self._pause * 1.5, LONGEST_PAUSE)
        elif not self._take_notifications(connection):
            with self.database.connection.wrap_database_errors:  # it may have been closed by whoever shares it
                descriptor = connection.fileno()
            _sleep([wakeup, descriptor], timeout)

    # -- SQLite: another connection's commit changes a counter

    def _wait_for_change(self, timeout: float, wakeup: int) -> None:
        deadline = time.monotonic() + timeout
        while self._data_version() == self._version and (left := deadline - time.monotonic()) > 0:
            if _sleep([wakeup], min(self._look, left)):
                return
            self._look = min(self._look * LOOK_GROWTH, LONGEST_LOOK)

    def _data_version(self) -> int:
        wrapper = self.database.connection
        wrapper.ensure_connection()
        # Past Django's cursor, whose bookkeeping costs ten times the statement.
        with wrapper.wrap_database_errors:
            return int(wrapper.connection.execute("PRAGMA data_version").fetchone()[0])

    # -- PostgreSQL: LISTEN

    def _listen(self) -> Any:
        """Return the driver's connection if it listens; None where only asking helps.

        A pooler in transaction mode (Django's ``DISABLE_SERVER_SIDE_CURSORS`` goes with it) drops notifications.
        """
        wrapper = self.database.connection
        if wrapper.vendor != "postgresql" or wrapper.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS"):
            return None
        wrapper.ensure_connection()
        connection = wrapper.connection
        if connection is not self._listening_on:
            self.database.query(sql.LISTEN)
            if hasattr(connection, "add_notify_handler"):
                with suppress(ValueError):  # a pool may give us a connection that we have had before
                    connection.remove_notify_handler(self._on_notify)
                connection.add_notify_handler(self._on_notify)
            self._listening_on = connection
            self.notified = True  # whatever came before LISTEN has to be looked for
        return connection

    def _on_notify(self, notification: Any) -> None:
        self.notified = True

    def _take_notifications(self, connection: Any) -> bool:
        """Whether a notification came with the answer to an earlier statement."""
        came = self.notified
        if isinstance(backlog := getattr(connection, "notifies", None), list):  # psycopg2
            came = came or bool(backlog)
            backlog.clear()
        self.notified = False
        return came


def _sleep(descriptors: list[int], seconds: float) -> bool:
    """Wait for one of the descriptors; the first is a wake-up pipe: return whether it was used."""
    if descriptors[0] in readable(descriptors, seconds):
        drain(descriptors[0])
        return True
    return False
