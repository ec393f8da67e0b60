"""The statements of the ORM result backend. Layout version 1: table ``django_tasks_result`` (``models.TaskResult``)."""

from __future__ import annotations

TABLE = "django_tasks_result"
COLUMNS = ("task_id", "status", "task_name", "args", "kwargs", "queue", "worker", "retries", "content_type",
           "content_encoding", "result", "traceback", "meta", "date_started", "date_done")  # fmt: skip
_ENDED = f"{TABLE}.status IN ('SUCCESS', 'FAILURE', 'REVOKED')"
# MariaDB assigns from left to right: status, which the condition reads, has to come last.
_CHANGED = (*COLUMNS[2:], "status")


def store(vendor: str, rows: int) -> str:
    """Insert or overwrite that many results; one whose task has ended stays as it is."""
    row = "(" + ",".join(["%s"] * len(COLUMNS)) + ")"
    insert = f"INSERT INTO {TABLE} ({', '.join(COLUMNS)}) VALUES {','.join([row] * rows)}"
    if vendor == "mysql":
        changes = ", ".join(f"{c} = IF({_ENDED}, {TABLE}.{c}, VALUES({c}))" for c in _CHANGED)
        return f"{insert} ON DUPLICATE KEY UPDATE {changes}"
    changes = ", ".join(f"{c} = EXCLUDED.{c}" for c in _CHANGED)
    return f"{insert} ON CONFLICT (task_id) DO UPDATE SET {changes} WHERE NOT ({_ENDED}) RETURNING task_id"
