"""What the ORM broker and the ORM backend share: connections, their errors, and when to try again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timezone
from typing import Any, TypeVar

import django.db
from django.conf import settings
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.timezone import make_naive

from django_tasks.exceptions import ImproperlyConfigured, OperationalError

T = TypeVar("T")

#: What servers say when a statement lost a race and can simply be run again.
_TRANSIENT = ("database is locked", "database table is locked", "deadlock", "lock wait timeout", "could not serialize")
_NO_TABLE = ("no such table", "does not exist", "doesn't exist", "no such column", "unknown column")
#: Seconds for which a transient failure is met by trying again.
PATIENCE = 30.0


def in_user_transaction(alias: str) -> bool:
    """Whether an ``atomic()`` block is open here; the blocks that ``TestCase`` wraps around a test do not count."""
    connection = connections[alias]
    if not connection.atomic_blocks:
        return bool(connection.in_atomic_block)
    return any(not getattr(block, "_from_testcase", False) for block in connection.atomic_blocks)


class Database:
    """One database alias, with errors translated and lost races run again.

    Args:
        alias: key of ``DATABASES``.
    """

    def __init__(self, alias: str) -> None:
        self.alias = alias

    @property
    def connection(self) -> BaseDatabaseWrapper:
        """This thread's connection."""
        return connections[self.alias]

    @property
    def locking_clause(self) -> str:
        """What makes a SELECT lock its rows until the transaction ends, where that exists."""
        connection = self.connection
        return " FOR UPDATE" if connection.features.has_select_for_update and connection.in_atomic_block else ""

    def run(self, work: Callable[[], T]) -> T:
        """Run ``work``, again when it lost a race for a lock; inside the caller's transaction only once."""
        deadline = time.monotonic() + PATIENCE
        pause = 0.005
        while True:
            try:
                with self.translated_errors():
                    return work()
            except OperationalError as exc:
                transient = any(words in str(exc).lower() for words in _TRANSIENT)
                if not transient or self.connection.in_atomic_block or time.monotonic() > deadline:
                    raise
            time.sleep(pause)
            pause = min(pause * 2, 0.2)

    @contextmanager
    def translated_errors(self) -> Iterator[None]:
        """Turn database errors into ours, and drop a connection that broke."""
        try:
            yield
        except (django.db.OperationalError, django.db.InterfaceError, django.db.ProgrammingError) as exc:
            text = str(exc).strip()
            if any(words in text.lower() for words in _NO_TABLE) and "django_tasks" in text:
                raise ImproperlyConfigured(
                    f"The tables of django_tasks are missing or old in database {self.alias!r}: "
                    f"run `python manage.py migrate`. ({text})"
                ) from exc
            if isinstance(exc, django.db.ProgrammingError):
                raise
            if not self.connection.in_atomic_block:
                self.connection.close()
            raise OperationalError(f"Database {self.alias!r}: {text}") from exc

    def atomic(self) -> AbstractContextManager[Any]:
        """Open a transaction, or a savepoint inside the caller's."""
        block: AbstractContextManager[Any] = transaction.atomic(using=self.alias)
        return block

    def query(self, statement: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Run a statement and return its rows."""
        with self.connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

    def change(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        """Run a statement and return how many rows it changed."""
        with self.connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            return int(cursor.rowcount)


def unsent_ids(database: Database) -> set[str]:
    """Return the task ids that the open transaction has sent; they are kept with its outermost block."""
    connection: Any = database.connection
    block = connection.atomic_blocks[0] if connection.atomic_blocks else None
    kept = getattr(connection, "_django_tasks_unsent", None)
    if kept is None or kept[0] is not block:
        kept = connection._django_tasks_unsent = (block, set())
    ids: set[str] = kept[1]
    return ids


def to_db_time(connection: BaseDatabaseWrapper, instant: datetime | None) -> Any:
    """Return an aware instant as this database wants it as a parameter, whatever ``USE_TZ`` says."""
    if instant is None:
        return None
    return connection.ops.adapt_datetimefield_value(instant if settings.USE_TZ else make_naive(instant))


def from_db_time(instant: datetime | None) -> datetime | None:
    """Return what a ``DateTimeField`` gives as an aware instant in UTC."""
    if instant is None:
        return None
    if instant.tzinfo is None and not settings.USE_TZ:
        return instant.astimezone(timezone.utc)
    return instant.astimezone(timezone.utc)


def keep_connections_open() -> None:
    """Let this worker process keep its database connections, whatever ``CONN_MAX_AGE`` says for web requests."""
    for connection in connections.all():
        connection.settings_dict["CONN_MAX_AGE"] = None
        connection.close_at = None
