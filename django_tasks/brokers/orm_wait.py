"""How an idle worker on a database waits: PostgreSQL tells it, the others are asked with growing pauses."""

from __future__ import annotations

import select
import threading
from typing import Any

from django_tasks.brokers import orm_sql as sql
from django_tasks.brokers.base import drain
from django_tasks.databases import Database

#: Seconds between questions, from the first after a message to the last of a long silence.
SHORTEST_PAUSE, LONGEST_PAUSE = 0.05, 1.0


class Listener(threading.local):
    """A thread's way of waiting for a message; like Django's connections, each thread has its own."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.notified = False
        self._listening_on: Any = None
        self._pause = SHORTEST_PAUSE

    def found_something(self) -> None:
        """Start again with short pauses."""
        self._pause = SHORTEST_PAUSE

    def wait(self, timeout: float, wakeup: int) -> None:
        """Wait for a notification, for ``wakeup`` to become readable, or until it is time to ask again (seconds)."""
        descriptors = [wakeup]
        connection = self._listen()
        if connection is not None:
            if self._take_notifications(connection):
                return
            descriptors.append(connection.fileno())
        else:
            timeout = min(timeout, self._pause)
            self._pause = min(self._pause * 1.5, LONGEST_PAUSE)
        if wakeup in select.select(descriptors, [], [], timeout)[0]:
            drain(wakeup)

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
