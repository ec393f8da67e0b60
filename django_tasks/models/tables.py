"""Whether the tables are there, and their rows free."""

from __future__ import annotations

from typing import Any

from django.db import connections, models

from django_tasks.databases import Database


def check_tables(database: Database, *tables: type[models.Model]) -> None:
    """Make sure that tables have all the columns that we name; further ones, of a later version, do no harm.

    Raises:
        ImproperlyConfigured: they have not, since the database is not migrated.
        OperationalError: the database is away.
    """
    for table in tables:
        database.run(table.objects.using(database.alias).filter(pk=0).first)


def free(rows: Any) -> Any:
    """Return a query that locks its rows until the transaction ends, those passed over that others have locked.

    SQLite, where only one writes at a time, and MariaDB before 10.6 do neither.
    """
    can = connections[rows.db].features.has_select_for_update_skip_locked
    return rows.select_for_update(skip_locked=True) if can else rows
