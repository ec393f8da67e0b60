"""Results in the project's own database."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any, ClassVar

from django_tasks import serialization, states
from django_tasks.backends import orm_sql as sql
from django_tasks.backends.base import ResultBackend
from django_tasks.conf import parse_url
from django_tasks.databases import Database, from_db_time, in_user_transaction, to_db_time
from django_tasks.errors import safe_repr
from django_tasks.exceptions import EncodeError
from django_tasks.models import TaskResult
from django_tasks.outcome import TaskMeta
from django_tasks.serialization import Encoded

#: Rows of one statement.
CHUNK = 200
NO_RESULT = Encoded("application/json", "utf-8", b"null")


class ORMBackend(ResultBackend):
    """Results in the database ``django-db://alias`` (``default`` when no alias is given)."""

    supports_fencing: ClassVar[bool] = True

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self.database = Database(parse_url(url)[1] or "default")

    def in_transaction_of(self, alias: str) -> bool:
        """Whether the broker's database is the one of the results."""
        return alias == self.database.alias

    def store(self, metas: Sequence[TaskMeta]) -> list[TaskMeta]:
        """Upsert in one statement a chunk; rows whose task has ended are left alone and returned."""
        winners: dict[str, TaskMeta] = {}
        for start in range(0, len(metas), CHUNK):
            chunk = _one_per_id(metas[start : start + CHUNK])
            winners |= {meta.task_id: meta for meta in chunk}
            winners |= self.database.run(partial(self._store, chunk))
        return [winners[meta.task_id] for meta in metas]

    def _store(self, metas: list[TaskMeta]) -> dict[str, TaskMeta]:
        """Store metas of different ids; return the earlier ends that stayed."""
        vendor = self.database.connection.vendor
        values = [value for meta in metas for value in self._values(meta)]
        if vendor == "mysql":
            with self.database.atomic():
                self.database.query(sql.store(vendor, len(metas)), values)
                return self._earlier_ends(metas)
        written = {row[0] for row in self.database.query(sql.store(vendor, len(metas)), values)}
        return self.get([m.task_id for m in metas if m.task_id not in written]) if len(written) < len(metas) else {}

    def _earlier_ends(self, metas: list[TaskMeta]) -> dict[str, TaskMeta]:
        """Return the stored metas that are not the ones just written."""
        stored = self.get([meta.task_id for meta in metas])
        return {m.task_id: stored[m.task_id] for m in metas if not _same(stored[m.task_id], m)}

    def _values(self, meta: TaskMeta) -> list[Any]:
        """Return the values of ``orm_sql.COLUMNS``."""
        result = meta.result or NO_RESULT
        done = meta.date_done or datetime.now(timezone.utc)
        extra = json.dumps({"children": meta.children, "group_id": meta.group_id, "parent_id": meta.parent_id})
        connection = self.database.connection
        return [
            meta.task_id, meta.status, meta.name, _as_text(meta.args), _as_text(meta.kwargs), meta.queue, meta.worker,
            meta.retries, result.content_type, result.content_encoding, _to_text(result), meta.traceback, extra,
            to_db_time(connection, meta.date_started), to_db_time(connection, done),
        ]  # fmt: skip

    def get(self, task_ids: Sequence[str]) -> dict[str, TaskMeta]:
        """Read rows by id."""
        rows = TaskResult.objects.using(self.database.alias).filter(task_id__in=list(task_ids))
        return self.database.run(lambda: {row.task_id: meta_of(row) for row in rows.all()})

    def forget(self, task_ids: Sequence[str]) -> None:
        """Delete rows by id."""
        rows = TaskResult.objects.using(self.database.alias).filter(task_id__in=list(task_ids))
        self.database.run(rows.delete)

    def prune(self, limit: int) -> int:
        """Delete a small batch of the rows that were last written longer ago than ``expires``."""
        if self.expires is None:
            return 0
        oldest = datetime.now(timezone.utc) - timedelta(seconds=self.expires)
        rows = TaskResult.objects.using(self.database.alias)
        expired = rows.extra(where=["date_done < %s"], params=[to_db_time(self.database.connection, oldest)])

        def delete() -> int:
            ids = list(expired.order_by("date_done").values_list("pk", flat=True)[:limit])
            return rows.filter(pk__in=ids).delete()[0] if ids else 0

        return self.database.run(delete)

    def check_wait(self) -> None:
        """Refuse to wait where the open transaction would hide the result, or keep the worker from writing it."""
        vendor = self.database.connection.vendor
        if vendor in ("sqlite", "mysql") and in_user_transaction(self.database.alias):
            raise RuntimeError(
                "AsyncResult.get() inside transaction.atomic() would wait for ever: this transaction "
                + ("locks the database that the worker writes to" if vendor == "sqlite" else "cannot see new rows")
                + ". Call get() after the block has ended."
            )

    def close(self) -> None:
        """Drop the connection of this thread."""
        self.database.connection.close()


def _one_per_id(metas: Sequence[TaskMeta]) -> list[TaskMeta]:
    """Keep the first end of each task, or else its latest state: a statement may write an id only once."""
    kept: dict[str, TaskMeta] = {}
    for meta in metas:
        if meta.task_id not in kept or not kept[meta.task_id].ready:
            kept[meta.task_id] = meta
    return list(kept.values())


def meta_of(row: TaskResult) -> TaskMeta:
    """Make a meta of a row."""
    extra = json.loads(row.meta or "{}")
    return TaskMeta(
        row.task_id, row.status, _from_text(row), row.traceback, extra.get("children") or [],
        from_db_time(row.date_done) if row.status in states.READY_STATES else None,
        from_db_time(row.date_started), extra.get("group_id"), extra.get("parent_id"),
        row.task_name, _from_json(row.args), _from_json(row.kwargs), row.worker, row.retries, row.queue,
    )  # fmt: skip


def _same(stored: TaskMeta, written: TaskMeta) -> bool:
    result = written.result or NO_RESULT
    return (stored.status, stored.result, stored.worker) == (written.status, result, written.worker)


def _as_text(value: Any) -> str:
    """Write arguments so that they can be read back; as their repr where JSON cannot hold them."""
    if value is None:
        return ""
    try:
        return serialization.dumps(value).data.decode()
    except EncodeError:
        return serialization.dumps(safe_repr(value)).data.decode()


def _from_json(text: str) -> Any:
    return (
        serialization.loads(text, "application/json", "utf-8", serialization.content_types(["json"])) if text else None
    )


def _to_text(encoded: Encoded) -> str:
    if encoded.content_encoding == "binary":
        return base64.b64encode(encoded.data).decode("ascii")
    return encoded.data.decode(encoded.content_encoding)


def _from_text(row: TaskResult) -> Encoded:
    text = row.result or "null"
    binary = row.content_encoding == "binary"
    data = base64.b64decode(text) if binary else text.encode(row.content_encoding)
    return Encoded(row.content_type, row.content_encoding, data)
