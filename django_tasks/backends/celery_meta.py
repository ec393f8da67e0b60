"""What Celery's key-value backends write and read as the meta of a task (celery-wire, sections 4.1 to 4.3)."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import orjson

from django_tasks import serialization, states
from django_tasks.compression import decompress
from django_tasks.exceptions import DecodeError, EncodeError
from django_tasks.outcome import TaskMeta
from django_tasks.serialization import JSON, Encoded, parse_iso
from django_tasks.typed_json import dumps_as_is, loads_as_is
from django_tasks.utils.saferepr import saferepr

#: How values begin that Celery 5.7 has compressed (``result_compression``); the MIME type and another NUL follow.
COMPRESSED = b"\0celery-compressed\0"
_PICKLE = "application/x-python-serialize"
#: How pickles, packed maps and compressed values begin, and what somebody wrote by hand does not.
_BINARY = frozenset(bytes([first]) for first in (0, *range(0x80, 0x100)))
_ANYTHING = frozenset(serialization.content_types(["json", "pickle", "yaml", "msgpack"]))


def encode_meta(meta: TaskMeta, extended: bool) -> bytes:
    """Write a meta in the format that its result is in.

    Args:
        extended: write also what ``RESULT_EXTENDED`` is about.

    Raises:
        EncodeError: the id or the name of the state is not valid Unicode.
    """
    fields: dict[str, Any] = {
        "status": meta.status,
        "result": None,
        "traceback": meta.traceback,
        "children": meta.children,
        "date_done": meta.date_done,  # orjson writes instants as isoformat() does
        "task_id": meta.task_id,
    }
    if meta.group_id is not None:
        fields["group_id"] = meta.group_id
    if meta.parent_id is not None:
        fields["parent_id"] = meta.parent_id
    if extended:
        fields |= {name: getattr(meta, name) for name in ("name", "args", "kwargs", "worker", "retries", "queue")}
        if meta.date_started is not None:  # Celery's have none
            fields["date_started"] = meta.date_started
    elif meta.retries:
        fields["retries"] = meta.retries  # a redelivered message needs it to know its own end
    result = meta.result
    if result is None or result.content_type == JSON:
        return _as_json(fields, result)
    fields["result"] = serialization.loads(result.data, result.content_type, result.content_encoding, _ANYTHING)
    return _as_other(fields, serialization.serializer_name(result.content_type))


def _as_json(fields: dict[str, Any], result: Encoded | None) -> bytes:
    """Put the result, which is JSON already, into its place."""
    if result is not None:
        fields["result"] = orjson.Fragment(result.data)
    for name in ("args", "kwargs") if "args" in fields else ():
        if fields[name]:
            fields[name] = orjson.Fragment(_shown(fields[name]))
    try:
        return orjson.dumps(fields)
    except TypeError:  # half of a surrogate pair, which a traceback may have
        if fields["traceback"]:
            fields["traceback"] = fields["traceback"].encode("utf-8", "replace").decode()
    try:
        return orjson.dumps(fields)
    except TypeError as exc:
        raise EncodeError(f"The state of task {fields['task_id']!r:.100} cannot be written as JSON: {exc}.") from exc


def _shown(value: Any) -> bytes:
    """Write arguments; as their repr where JSON cannot hold them."""
    try:
        return serialization.dumps(value).data
    except EncodeError:
        return serialization.dumps(saferepr(value)).data


def _as_other(fields: dict[str, Any], serializer: str) -> bytes:
    for name in ("date_done", "date_started"):
        if fields.get(name) is not None:
            fields[name] = fields[name].isoformat()
    if fields.get("args"):
        fields["args"] = list(fields["args"])
    try:
        return serialization.dumps(fields, serializer).data
    except EncodeError:  # arguments, or a traceback, that came in another format
        shown = {name: saferepr(fields[name]) for name in ("args", "kwargs", "traceback") if fields.get(name)}
        return serialization.dumps({**fields, **shown}, serializer).data


def decode_meta(task_id: str, data: bytes, accept: frozenset[str]) -> TaskMeta | None:
    """Read a meta, whoever wrote it.

    Args:
        task_id: whose it is; some writers leave it out.
        accept: MIME types that may be read.

    Returns:
        None for what is no meta.

    Raises:
        DecodeError: it is one, in all likelihood, but in a format that cannot or may not be read.
    """
    try:
        plain = _decompressed(data)
        content_type = type_of(plain)
        if content_type == JSON and JSON in accept:
            fields = loads_as_is(plain)
            return _from_fields(task_id, fields, Encoded(JSON, "utf-8", dumps_as_is(fields.get("result"))))
        fields = serialization.loads(plain, content_type, "utf-8", accept)
        result = serialization.dumps(fields.get("result"), serialization.serializer_name(content_type))
        return _from_fields(task_id, fields, result)
    except (DecodeError, EncodeError, AttributeError, LookupError, TypeError, ValueError) as exc:
        if data[:1] in _BINARY and isinstance(exc, DecodeError):
            raise
        return None


def _decompressed(data: bytes) -> bytes:
    if not data.startswith(COMPRESSED):
        return data
    mime, _, compressed = data.removeprefix(COMPRESSED).partition(b"\0")
    return decompress(compressed, mime.decode("ascii", "replace"))


def type_of(data: bytes) -> str:
    """Return the MIME type that a meta looks like; values do not say it."""
    first = data[:1]
    if first == b"{":
        return JSON
    if first == b"\x80":
        return _PICKLE
    return "application/x-msgpack" if first > b"\x80" else "application/x-yaml"


def _from_fields(task_id: str, fields: dict[str, Any], result: Encoded) -> TaskMeta | None:
    status = fields["status"]
    if not isinstance(status, str):
        return None
    texts = {name: _text(fields.get(name)) for name in ("name", "worker", "queue")}
    return TaskMeta(
        task_id, status, result if "result" in fields else None, _text(fields.get("traceback")) or None,
        fields.get("children") or [], _time(fields.get("date_done")) if status in states.READY_STATES else None,
        _time(fields.get("date_started")), _text(fields.get("group_id")) or None,
        _text(fields.get("parent_id")) or None, args=_typed(fields.get("args")), kwargs=_typed(fields.get("kwargs")),
        retries=int(fields.get("retries") or 0), **texts,
    )  # fmt: skip


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _time(value: Any) -> datetime | None:
    """Read an instant; one without a zone, which some writers leave, is UTC."""
    if isinstance(value, str):
        value = parse_iso(value)
    if not isinstance(value, datetime):
        return None
    return value if value.tzinfo else value.replace(tzinfo=timezone.utc)


def _typed(value: Any) -> Any:
    """Return arguments with their typed values made what they stand for."""
    return serialization.json_loads(dumps_as_is(value)) if value and isinstance(value, (list, dict)) else value
