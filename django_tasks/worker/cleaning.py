"""What is done between two tasks, so that nothing of the one is left to the next."""

from __future__ import annotations

import threading
from typing import Any

from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

_opened = threading.local()


def _connections() -> list[BaseDatabaseWrapper]:
    """Return the connections of this thread that are open.

    Django tells each time one is opened. To ask for them after every task would take as long as to decode its message.
    """
    try:
        return _opened.connections  # type: ignore[no-any-return]
    except AttributeError:
        # Here, not when this module is imported: there may be no settings yet.
        _opened.connections = connections.all(initialized_only=True)
        return _connections()


def _note(connection: BaseDatabaseWrapper, **facts: Any) -> None:
    if connection not in (opened := _connections()):
        opened.append(connection)


connection_created.connect(_note, dispatch_uid="django_tasks.worker.cleaning")


def clean_up() -> None:
    """Leave nothing of one task to the next: broken connections, open transactions, logs of queries.

    Language, time zone and the task's other context variables end with its context.
    """
    opened = _connections()
    for connection in tuple(opened):
        connection.queries_log.clear()
        # A connection in an unknown state is not mended but closed, and that may fail as it pleases.
        try:
            if connection.in_atomic_block or connection.needs_rollback:
                connection.in_atomic_block = False  # or Django would keep the closed connection until the block ends
                connection.close()
            elif connection.connection is not None:
                connection.close_if_unusable_or_obsolete()
        except Error:
            pass
        if connection.connection is None:
            opened.remove(connection)
