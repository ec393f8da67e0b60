"""The statements of the ORM result backend. Layout version 1: table ``django_tasks_result`` (``models.TaskResult``)."""

from __future__ import annotations

from functools import lru_cache

from django_tasks.databases import rows_of

TABLE = "django_tasks_result"
#: With the types that PostgreSQL calls them.
COLUMNS = {"task_id": "text", "status": "text", "task_name": "text", "args": "text", "kwargs": "text", "queue": "text",
           "worker": "text", "retries": "int", "content_type": "text", "content_encoding": "text", "result": "text",
           "traceback": "text", "meta": "text", "date_started": "timestamptz", "date_done": "timestamptz"}  # fmt: skip
_ENDED = f"{TABLE}.status IN ('SUCCESS', 'FAILURE', 'REVOKED')"
# MariaDB assigns from left to right: status, which the condition reads, has to come last.
_CHANGED = (*list(COLUMNS)[2:], "status")


@lru_cache(maxsize=16)
def store(vendor: str, rows: int) -> str:
    """Insert or overwrite that many results (``Database.write``); one whose task has ended stays as it is.

    The number of changed rows tells how many were written, except on MariaDB.
    """
    insert = f"INSERT INTO {TABLE} ({', '.join(COLUMNS)}) {rows_of(vendor, COLUMNS, rows)}"
    if vendor == "mysql":
        changes = ", ".join(f"{c} = IF({_ENDED}, {TABLE}.{c}, VALUES({c}))" for c in _CHANGED)
        return f"{insert} ON DUPLICATE KEY UPDATE {changes}"
    changes = ", ".join(f"{c} = EXCLUDED.{c}" for c in _CHANGED)
    return f"{insert} ON CONFLICT (task_id) DO UPDATE SET {changes} WHERE NOT ({_ENDED})"
