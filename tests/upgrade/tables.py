"""Our tables as another version has them: with further columns, or without one of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

from django_tasks.models import (
    PeriodicTask,
    PeriodicVersion,
    QueuedMessage,
    ScheduleState,
    TaskResult,
    WorkerOrder,
    WorkerProcess,
)

#: Those that a worker needs, and all.
OF_WORKERS = {model._meta.db_table: model for model in (QueuedMessage, TaskResult, WorkerProcess, WorkerOrder)}
MODELS = {
    **OF_WORKERS,
    **{model._meta.db_table: model for model in (ScheduleState, PeriodicTask, PeriodicVersion)},
}
#: What a later version may add.
LATER = {"later_fact": "INTEGER NULL", "later_flag": "INTEGER NOT NULL DEFAULT 7"}


def alter(table: str, change: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} {change}")


@contextmanager
def wider_tables() -> Iterator[None]:
    """Give every table the columns of a later version."""
    added: list[tuple[str, str]] = []
    try:
        for table in MODELS:
            for name, kind in LATER.items():
                alter(table, f"ADD COLUMN {name} {kind}")
                added.append((table, name))
        yield
    finally:
        for table, name in added:
            alter(table, f"DROP COLUMN {name}")


@contextmanager
def without_column(table: str, column: str) -> Iterator[None]:
    """Take a column away, as if the migration that adds it had not been run."""
    alter(table, f"RENAME COLUMN {column} TO {column}_away")
    try:
        yield
    finally:
        alter(table, f"RENAME COLUMN {column}_away TO {column}")
