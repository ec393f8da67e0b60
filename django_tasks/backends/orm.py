"""Results in the project's own database."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from functools import lru_cache, partial
from operator import itemgetter
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from django_tasks import serialization, states
from django_tasks.backends import orm_sql as sql
from django_tasks.backends.base import ResultBackend
from django_tasks.chunks import chunked
from django_tasks.conf import parse_url
from django_tasks.databases import (
    Database,
    from_db_time,
    in_user_transaction,
    storable,
    to_db_time,
)
from django_tasks.exceptions import DecodeError, EncodeError
from django_tasks.models import TaskResult, check_tables
from django_tasks.outcome import TaskMeta
from django_tasks.serialization import JSON, NULL, Encoded
from django_tasks.utils.saferepr import saferepr

#: Rows of one statement, and characters of its texts.
CHUNK_ROWS, CHUNK_SIZE = 200, 1024 * 1024
#: Characters that the columns take.
ID_LENGTH, STATUS_LENGTH, NAME_LENGTH = 255, 50, 255
#: A meta, and its values in the order of ``orm_sql.COLUMNS``.
Row = tuple[TaskMeta, list[Any]]
_JSON = serialization.content_types(["json"])
#: Takes from the values of a row the texts that may be long.
_long_texts = itemgetter(*(list(sql.COLUMNS).index(name) for name in ("args", "kwargs", "result", "traceback", "meta")))


class ORMBackend(ResultBackend):
    """Results in the database ``django-db://alias`` (``default`` when no alias is given)."""

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self.database = Database(parse_url(url)[1] or "default")
        self.database.check()

    def check(self) -> None:
        """Make sure that the database is migrated."""
        check_tables(self.database, TaskResult)

    def in_transaction_of(self, alias: str) -> bool:
        """Whether the broker's database is the one of the results."""
        return alias == self.database.alias

    def store(self, metas: Sequence[TaskMeta]) -> list[TaskMeta]:
        """Upsert in one statement a chunk; rows whose task has ended are left alone and returned."""
        # In the order of ids, so that those who store the same ones at the same time wait for each other in turn.
        connection = self.database.connection
        rows = [(meta, _values(connection, meta)) for meta in sorted(_one_per_id(metas), key=lambda meta: meta.task_id)]
        winners = {meta.task_id: meta for meta, _ in rows}
        for chunk in _chunks(rows):
            winners |= self.database.run(partial(self._store, chunk))
        return [winners[meta.task_id] for meta in metas]

    def _store(self, rows: list[Row]) -> dict[str, TaskMeta]:
        """Store rows of different ids; return the earlier ends that stayed."""
        vendor = self.database.vendor
        if len(rows) == 1:
            self.database.check_size(value for value in rows[0][1] if isinstance(value, str))
        written = self.database.write(sql.store(vendor, len(rows)), sql.COLUMNS, [row for _, row in rows])
        return {} if written == len(rows) and vendor != "mysql" else self._earlier_ends(rows)

    def _earlier_ends(self, rows: list[Row]) -> dict[str, TaskMeta]:
        """Return the stored ends that are not the ones just written."""
        given = {row[0]: dict(zip(sql.COLUMNS, row, strict=True)) for _, row in rows}
        found = TaskResult.objects.using(self.database.alias).filter(task_id__in=list(given))
        ends = found.filter(status__in=states.READY_STATES).values("task_id", "status", "worker", "result")
        earlier = [end["task_id"] for end in ends if not end.items() <= given[end["task_id"]].items()]
        return self.get(earlier)

    def get(self, task_ids: Sequence[str]) -> dict[str, TaskMeta]:
        """Read rows by id."""
        found: dict[str, TaskMeta] = {}
        for rows in self._rows(task_ids):
            found |= self.database.run(partial(_read, rows))
        return found

    def _rows(self, task_ids: Sequence[str]) -> Iterator[Any]:
        """Yield querysets of the rows with these ids, as many as one statement may name."""
        rows = TaskResult.objects.using(self.database.alias)
        for some in chunked(task_ids, CHUNK_ROWS):
            yield rows.filter(task_id__in=list(some))

    def forget(self, task_ids: Sequence[str]) -> None:
        """Delete rows by id."""
        for rows in self._rows(task_ids):
            self.database.run(rows.delete)

    def prune(self, limit: int) -> int:
        """Delete a small batch of the rows that were last written too long ago."""
        return sum(
            self.database.run(partial(self._prune, ended, lifetime, limit))
            for ended, lifetime in ((True, self.expires), (False, self.expires_unfinished))
            if lifetime is not None
        )

    def _prune(self, ended: bool, lifetime: float, limit: int) -> int:
        rows = TaskResult.objects.using(self.database.alias)
        rows = rows.filter(status__in=states.READY_STATES) if ended else rows.exclude(status__in=states.READY_STATES)
        oldest = to_db_time(self.database.connection, datetime.now(timezone.utc) - timedelta(seconds=lifetime))
        expired = rows.extra(where=["date_done < %s"], params=[oldest])
        ids = list(expired.order_by("date_done").values_list("pk", flat=True)[:limit])
        return int(expired.filter(pk__in=ids).delete()[0]) if ids else 0

    def latest(self, *, state: str = "", queue: str = "", task: str = "", limit: int) -> list[TaskMeta]:
        """Read the rows written last."""
        wanted = {key: value for key, value in (("status", state), ("queue", queue), ("task_name", task)) if value}
        rows = TaskResult.objects.using(self.database.alias).filter(**wanted).order_by("-date_done", "-pk")
        return self.database.run(lambda: [meta_of(row) for row in rows[:limit]])

    def check_wait(self) -> None:
        """Refuse to wait where the open transaction would hide the result, or keep the worker from writing it."""
        vendor = self.database.vendor
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


def _chunks(rows: Sequence[Row]) -> Iterator[list[Row]]:
    chunk: list[Row] = []
    size = 0
    for row in rows:
        length = sum(map(len, filter(None, _long_texts(row[1]))))
        if chunk and (len(chunk) == CHUNK_ROWS or size + length > CHUNK_SIZE):
            yield chunk
            chunk, size = [], 0
        chunk.append(row)
        size += length
    if chunk:
        yield chunk


def _values(connection: BaseDatabaseWrapper, meta: TaskMeta) -> list[Any]:
    """Return the values of ``orm_sql.COLUMNS``."""
    _check_length(meta, "task id", meta.task_id, ID_LENGTH)
    _check_length(meta, "state", meta.status, STATUS_LENGTH)
    result = meta.result or NULL
    done = meta.date_done or datetime.now(timezone.utc)
    return [
        meta.task_id, meta.status, _as_name(meta.name), _as_text(meta.args), _as_text(meta.kwargs),
        _as_name(meta.queue), _as_name(meta.worker), meta.retries, result.content_type, result.content_encoding,
        _to_text(result), None if meta.traceback is None else storable(meta.traceback),
        _as_extra(meta) if meta.children or meta.group_id or meta.parent_id else "{}",
        to_db_time(connection, meta.date_started), to_db_time(connection, done),
    ]  # fmt: skip


def _check_length(meta: TaskMeta, what: str, value: str, length: int) -> None:
    if len(value) > length or "\0" in value:
        raise EncodeError(
            f"The {what} {value[:60]!r} of task {meta.name[:100]!r} cannot be stored: it may have at most {length} "
            "characters, none of them NUL. Use another one."
        )


def _read(rows: Any) -> dict[str, TaskMeta]:
    return {row.task_id: meta_of(row) for row in rows.all()}


def meta_of(row: TaskResult) -> TaskMeta:
    """Make a meta of a row; what is there for people and cannot be read is left out."""
    extra = _extra(row.meta)
    return TaskMeta(
        row.task_id, row.status, _from_text(row), row.traceback, extra.get("children") or [],
        from_db_time(row.date_done) if row.status in states.READY_STATES else None,
        from_db_time(row.date_started), extra.get("group_id"), extra.get("parent_id"),
        row.task_name, _from_json(row.args), _from_json(row.kwargs), row.worker, row.retries, row.queue,
    )  # fmt: skip


@lru_cache(maxsize=1024)
def _as_name(name: str) -> str:
    """Cut what is stored for people to read, such as the name of a task that came from another broker."""
    return storable(name)[:NAME_LENGTH]


_EMPTY = {type(None): "", tuple: "[]", list: "[]", dict: "{}"}


def _as_text(value: Any) -> str:
    """Write arguments so that they can be read back; as their repr where JSON cannot hold them."""
    if not value and type(value) in _EMPTY:
        return _EMPTY[type(value)]
    try:
        return serialization.dumps(value).data.decode()
    except EncodeError:
        return serialization.dumps(saferepr(value)).data.decode()


def _as_extra(meta: TaskMeta) -> str:
    return json.dumps({"children": meta.children, "group_id": meta.group_id, "parent_id": meta.parent_id})


def _extra(text: str) -> dict[str, Any]:
    try:
        extra = json.loads(text or "{}")
    except ValueError:
        return {}
    return extra if isinstance(extra, dict) else {}


def _from_json(text: str) -> Any:
    try:
        return serialization.loads(text, JSON, "utf-8", _JSON) if text else None
    except DecodeError:
        return None


def _to_text(encoded: Encoded) -> str:
    if encoded.content_encoding == "binary":
        return base64.b64encode(encoded.data).decode("ascii")
    return encoded.data.decode(encoded.content_encoding)


def _from_text(row: TaskResult) -> Encoded:
    text = row.result or "null"
    try:
        binary = row.content_encoding == "binary"
        data = base64.b64decode(text) if binary else text.encode(row.content_encoding)
    except (LookupError, ValueError):
        data = b""  # no serializer reads that, and says so to whoever wants the value
    return Encoded(row.content_type, row.content_encoding, data)
