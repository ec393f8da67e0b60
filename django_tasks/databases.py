"""What the ORM broker and the ORM backend share: connections, their errors, and when to try again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import datetime, timezone
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeVar

import django.db
import orjson
from django.conf import settings
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.timezone import get_default_timezone, make_aware, make_naive

from django_tasks.exceptions import ImproperlyConfigured, MessageTooLarge, OperationalError

T = TypeVar("T")

#: The vendors whose SQL we speak; MariaDB calls itself "mysql".
VENDORS = ("sqlite", "postgresql", "mysql")
#: The first SQLite with RETURNING.
OLDEST_SQLITE = (3, 35)
#: How servers say that a statement lost a race for a lock and can simply be run again. PostgreSQL and MariaDB say it by
#: a code, since their texts may be translated; SQLite says it in words.
_LOST_RACE = {"40001", "40P01", "55P03", 1020, 1205, 1213}
_LOCKED = ("database is locked", "database table is locked", "database schema is locked")
#: How they say that there is no such table or column.
_MISSING = {"42P01", "42703", 1054, 1146}
_NO_TABLE = ("no such table", "no such column", "has no column")
#: Seconds for which lost races are met by trying again.
PATIENCE = 30.0
#: Bytes of a statement that every server takes.
SMALL_STATEMENT = 1024 * 1024


def in_user_transaction(alias: str) -> bool:
    """Whether an ``atomic()`` block is open here; the blocks that ``TestCase`` wraps around a test do not count."""
    connection = connections[alias]
    if not connection.atomic_blocks:
        return bool(connection.in_atomic_block)
    return any(not getattr(block, "_from_testcase", False) for block in connection.atomic_blocks)


class LostRace(OperationalError):
    """A statement lost a race for a lock; nothing of its transaction was done."""


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

    @cached_property
    def vendor(self) -> str:
        """``sqlite``, ``postgresql`` or ``mysql``; kept, since finding this thread's connection takes a microsecond."""
        return str(self.connection.vendor)

    @property
    def locking_clause(self) -> str:
        """What makes a SELECT lock its rows until the transaction ends, where that exists."""
        connection = self.connection
        return " FOR UPDATE" if connection.features.has_select_for_update and connection.in_atomic_block else ""

    @property
    def skip_locked(self) -> bool:
        """Whether a SELECT can lock what nobody has locked and pass over the rest (not on MariaDB before 10.6)."""
        return bool(self.connection.features.has_select_for_update_skip_locked)

    def check(self) -> None:
        """Make sure that our statements can run here; no connection is made for that.

        Raises:
            ImproperlyConfigured: there is no such database, it is of another kind, or too old.
        """
        if self.alias not in connections:
            raise ImproperlyConfigured(
                f"There is no database {self.alias!r} for django-db://{self.alias}. DATABASES has "
                f"{', '.join(connections)}."
            )
        connection: Any = self.connection
        if connection.vendor not in VENDORS:
            raise ImproperlyConfigured(
                f"django-db://{self.alias} cannot use {connection.display_name}: it needs SQLite, PostgreSQL, MariaDB "
                "or MySQL. Name another database of DATABASES, as in django-db://other."
            )
        if connection.vendor == "sqlite" and (version := connection.Database.sqlite_version_info) < OLDEST_SQLITE:
            raise ImproperlyConfigured(
                f"SQLite {'.'.join(map(str, version))} is too old for django-db://{self.alias}: it needs "
                f"{'.'.join(map(str, OLDEST_SQLITE))}. Use a newer Python build, or another database."
            )

    def run(self, work: Callable[[], T]) -> T:
        """Run ``work``, again when it lost a race for a lock; inside the caller's transaction only once.

        SQLite itself waits for a lock for its ``timeout``; where that is most of our patience, once is all.
        """
        began = time.monotonic()
        deadline = began + PATIENCE
        pause = 0.005
        while True:
            try:
                try:
                    return work()
                except django.db.Error:
                    with self.translated_errors():  # not around the work: what goes well should not pay for it
                        raise
            except LostRace:
                now = time.monotonic()
                if self.connection.in_atomic_block or now + (now - began) > deadline:
                    raise
            time.sleep(pause)
            began = time.monotonic()
            pause = min(pause * 2, 0.2)

    @contextmanager
    def translated_errors(self) -> Iterator[None]:
        """Turn database errors into ours, and drop a connection that broke."""
        try:
            yield
        except (django.db.OperationalError, django.db.InterfaceError) as exc:
            raise self._translated(exc) from exc
        except (django.db.ProgrammingError, django.db.InternalError) as exc:
            # Mistakes, ours or (a transaction that has failed before) the caller's; but for these:
            standby = isinstance(exc, django.db.InternalError) and not self.connection.in_atomic_block
            if standby or _code(exc) in _MISSING:
                raise self._translated(exc) from exc
            raise

    def _translated(self, exc: django.db.Error) -> Exception:
        code, text = _code(exc), str(exc).strip()
        if code in _MISSING or any(words in text for words in _NO_TABLE):
            return ImproperlyConfigured(
                f"The tables of django_tasks are missing or old in database {self.alias!r}: "
                f"run `python manage.py migrate`. ({text.splitlines()[0]})"
            )
        if code in _LOST_RACE or any(words in text for words in _LOCKED):
            return LostRace(f"Database {self.alias!r}: {text}")
        if not self.connection.in_atomic_block:
            with suppress(django.db.Error):  # as MariaDB's driver raises when it was closed before
                self.connection.close()  # the next statement makes a new one
        return OperationalError(f"Database {self.alias!r}: {text}")

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

    def write(self, statement: str, columns: Mapping[str, str], rows: Sequence[Sequence[Any]]) -> int:
        """Run a statement made with ``rows_of``, for all rows or none; return how many rows it changed."""
        with self.connection.cursor() as cursor:
            if len(rows) == 1 or self.vendor == "mysql":
                cursor.execute(statement, [value for row in rows for value in row])
            elif self.vendor == "postgresql":
                text = orjson.dumps([dict(zip(columns, row, strict=True)) for row in rows]).decode()
                cursor.execute(statement, [text])
            else:
                with self.atomic():
                    cursor.executemany(statement, rows)
            return int(cursor.rowcount)

    def check_size(self, texts: Iterable[str]) -> None:
        """Make sure that the server takes a statement with these texts.

        MariaDB answers one that is too large by closing the connection, which could not be told from an outage.

        Raises:
            MessageTooLarge: it does not.
        """
        if self.vendor != "mysql" or (size := sum(map(statement_size, texts))) <= SMALL_STATEMENT:
            return
        limit = int(self.query("SELECT @@max_allowed_packet")[0][0])
        if size > limit - SMALL_STATEMENT // 16:
            raise MessageTooLarge(
                f"A row of {size:,} bytes is more than database {self.alias!r} takes (max_allowed_packet = {limit:,}). "
                "Store the data elsewhere and pass its key, or raise max_allowed_packet on the server."
            )


def rows_of(
    vendor: str, columns: Mapping[str, str], rows: int, literals: Mapping[str, str] = MappingProxyType({})
) -> str:
    """Return the rows of an INSERT as ``Database.write`` passes them, in the form that the database takes fastest.

    PostgreSQL gets several as one JSON text, since its drivers spend more time on placeholders than the server on rows
    (of a single one it would spend half its time on JSON); SQLite one row, again and again; MariaDB a list.

    Args:
        columns: names and, for PostgreSQL, types.
        rows: how many.
        literals: columns with the same value in all rows, and how it is written.
    """
    if vendor == "postgresql" and rows > 1:
        types = ", ".join(f"{name} {kind}" for name, kind in columns.items())
        return f"SELECT {', '.join((*columns, *literals.values()))} FROM json_to_recordset(%s) AS given({types})"
    row = ",".join(["%s"] * len(columns) + list(literals.values()))
    return f"VALUES ({row})" + f",({row})" * (rows - 1 if vendor == "mysql" else 0)


def _code(exc: BaseException) -> Any:
    """Return the server's code of an error: PostgreSQL's SQLSTATE, MariaDB's number."""
    cause = exc.__cause__
    code = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    return code or (exc.args[0] if exc.args and isinstance(exc.args[0], int) else None)


def statement_size(text: str) -> int:
    """Return the bytes that a text takes in a statement of MariaDB, which writes some characters as two."""
    return len(text.encode("utf-8", "replace")) + sum(map(text.count, "\\\"'\n\r\0\x1a"))


def storable(text: str) -> str:
    """Return a text as every database can hold it: NUL (which PostgreSQL refuses) and lone surrogates as escapes."""
    if "\0" in text:
        text = text.replace("\0", "\\x00")
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def unsent_ids(database: Database) -> set[str]:
    """Return the task ids that the open transaction has sent; they are kept for that transaction only."""
    connection: Any = database.connection
    now_open = _open_transaction(connection)
    kept = getattr(connection, "_django_tasks_unsent", None)
    if kept is None or any(old is not new for old, new in zip(kept[0], now_open, strict=True)):
        kept = connection._django_tasks_unsent = (now_open, set())
    ids: set[str] = kept[1]
    return ids


def _open_transaction(connection: Any) -> tuple[Any, ...]:
    """Return things that are together the same only within one transaction (or a test's savepoint that stands for it).

    A decorated function enters the same block each time; but the list of hooks is a new one after each commit, and so
    is the savepoint.
    """
    blocks, savepoints = connection.atomic_blocks, connection.savepoint_ids
    for height, block in zip(range(len(blocks), 0, -1), blocks, strict=True):
        if not getattr(block, "_from_testcase", False):
            return block, connection.run_on_commit, savepoints[-height] if height <= len(savepoints) else None
    return None, connection.run_on_commit, None


def to_db_time(connection: BaseDatabaseWrapper, instant: datetime | None) -> Any:
    """Return an aware instant as this database wants it as a parameter, whatever ``USE_TZ`` says."""
    if instant is None:
        return None
    if instant.tzinfo is timezone.utc is connection.timezone and connection.vendor != "postgresql":
        return instant.isoformat(" ")[: -len("+00:00")]  # the text that Django makes of it, in a third of the time
    value = instant if settings.USE_TZ else make_naive(instant, get_default_timezone())
    return connection.ops.adapt_datetimefield_value(value)


def from_db_time(instant: datetime | None) -> datetime | None:
    """Return what a ``DateTimeField`` gives as an aware instant in UTC."""
    if instant is None:
        return None
    aware = instant if instant.tzinfo else make_aware(instant, get_default_timezone())
    return aware.astimezone(timezone.utc)


def keep_connections_open() -> None:
    """Let this worker keep its database connections, and do without pools, whatever the settings say for web requests.

    A pool is sockets and threads: a forked process would have the former in common with its parent, and none of the
    latter. A slot needs one connection, and has it all the time.
    """
    for connection in connections.all():
        options = connection.settings_dict["OPTIONS"]
        if options.get("pool"):
            connection.close()
            connection.close_pool()
        connection.settings_dict["OPTIONS"] = {name: value for name, value in options.items() if name != "pool"}
        connection.settings_dict["CONN_MAX_AGE"] = None
        connection.close_at = None
