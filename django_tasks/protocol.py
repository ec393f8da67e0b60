"""What the different senders of Celery messages write, read into the fields of a ``Message``.

- Headers that name a task and a body that is a list: protocol 2.
- Headers that name a task and a body that is an object: the hybrid, where headers override the fields in the body.
- No such headers and a body that is an object: protocol 1, where all fields are in the body.

What is missing or null gets its default, numbers may be written as text, and unknown headers are kept. Anything else
that is not as it should be raises :class:`DecodeError`, and nothing but that is ever raised.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from datetime import datetime, timezone, tzinfo
from math import inf
from typing import Any, NamedTuple
from uuid import UUID

from django_tasks.compression import decompress
from django_tasks.exceptions import DecodeError
from django_tasks.serialization import JSON, loads, parse_iso, serializer_name

NO_EMBED = dict.fromkeys(("callbacks", "errbacks", "chain", "chord"))
# What bodies of protocol 1 and the hybrid have besides args, kwargs, the signatures and "taskset", which is the group.
_IN_BODY = (
    *("task", "id", "root_id", "parent_id", "group", "shadow", "eta", "expires", "retries", "timelimit"),
    *("argsrepr", "kwargsrepr", "origin"),
)
# Ids and names end up in columns of databases, and so do the whole numbers.
NAME_SIZE = 255
_INT_SIZE = 2**31


class Parts(NamedTuple):
    """A message as AMQP carries it; in Redis the same stands in one envelope."""

    body: bytes | str
    content_type: str | None
    content_encoding: str | None
    headers: dict[str, Any]
    properties: dict[str, Any]


def read_parts(parts: tuple[Any, ...], accept: frozenset[str], max_size: int) -> dict[str, Any]:
    """Return the fields of the ``Message`` in ``parts``, less those that have their default.

    Args:
        parts: what should be :class:`Parts`.
        accept: the MIME types that its body may have.
        max_size: how many bytes a compressed body may come to.

    Raises:
        DecodeError: it is damaged; the error has the ``task`` and ``id`` where they could be read.
        ContentDisallowed: its content type is not in ``accept``.
    """
    fields: dict[str, Any] = {}
    body, content_type, content_encoding, headers, properties = parts
    try:
        fields = _table("headers", headers)
        properties = _table("properties", properties)
        body = _unwrap(body, fields.get("compression"), properties.get("body_encoding"), max_size)
        body = loads(body, content_type, content_encoding, accept)
        if isinstance(body, dict):
            fields = _merge(fields, body)
            known = _read_payload(body.get("args"), body.get("kwargs"), body)
        elif isinstance(body, (list, tuple)) and 2 <= len(body) <= 3:
            known = _read_payload(*body)
        else:
            raise _bad("body", body, "a list of args, kwargs and embed")
        _read_headers(fields, known)
        _read_properties(properties, known)
        if content_type and content_type != JSON:
            known["content_type"] = content_type
            known["serializer"] = serializer_name(content_type)
    except DecodeError as exc:
        exc.task = _readable(fields.get("task"))
        exc.id = _readable(fields.get("id"))
        raise
    return known


def _unwrap(content: Any, compression: Any, encoding: Any, max_size: int) -> bytes | str:
    if not isinstance(content, (str, bytes)):
        raise _bad("body", content, "text")
    body = content
    if encoding == "base64":
        try:
            body = b64decode(body)
        except ValueError as exc:
            raise DecodeError(f"The body is not the base64 that it says it is: {exc}.") from exc
    elif encoding and encoding != "utf-8":
        raise _bad("body_encoding", encoding, "base64 or utf-8")
    if compression:
        return decompress(body if isinstance(body, bytes) else body.encode("utf-8", "replace"), compression, max_size)
    return body


def _merge(headers: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a message whose body is an object."""
    in_body = {name: body[name] for name in _IN_BODY if name in body}
    if body.get("taskset"):
        in_body["group"] = body["taskset"]
    if body.get("utc") is False:
        in_body.update({name: _local_time(name, in_body[name]) for name in ("eta", "expires") if in_body.get(name)})
    if "task" not in headers:
        return {**headers, **in_body}
    if "args" not in body and "kwargs" not in body:
        raise DecodeError("The body is an object, but has neither args nor kwargs as a body of protocol 1 has.")
    return {**in_body, **headers}


def _read_payload(args: Any, kwargs: Any, embed: Any = None) -> dict[str, Any]:
    args = [] if args is None else args
    kwargs = {} if kwargs is None else kwargs
    if not isinstance(args, (list, tuple)):
        raise _bad("args", args, "a list")
    if not isinstance(kwargs, dict):
        raise _bad("kwargs", kwargs, "an object")
    return {"args": args, "kwargs": kwargs, "embed": _read_embed(embed) if embed else None}


def _read_embed(embed: Any) -> dict[str, Any] | None:
    """Return the signatures in ``embed``, or None if there are none, so that whoever follows them need not look."""
    if embed == NO_EMBED:
        return None
    if not isinstance(embed, dict):
        raise _bad("embed", embed, "an object")
    signatures = {name: embed.get(name) for name in NO_EMBED}
    if signatures == NO_EMBED:
        return None
    for name in ("callbacks", "errbacks", "chain"):
        items = signatures[name]
        if items is not None and not (isinstance(items, list) and all(isinstance(item, dict) for item in items)):
            raise _bad(name, items, "a list of signatures")
    if signatures["chord"] is not None and not isinstance(signatures["chord"], dict):
        raise _bad("chord", signatures["chord"], "a signature")
    return signatures


def _read_headers(fields: dict[str, Any], known: dict[str, Any]) -> None:
    custom = {}
    for name, value in fields.items():
        read = _HEADERS.get(name)
        if read is None:
            custom[name] = value
        elif value or (value is not None and name not in _EMPTY_IS_DEFAULT):
            known[name] = read(name, value)
    if custom:
        custom.pop("lang", None)
        known["headers"] = custom
    if not known.get("task"):
        raise DecodeError("The message names no task: neither its headers nor its body do.")


def _read_properties(properties: dict[str, Any], known: dict[str, Any]) -> None:
    get = properties.get
    delivery = _table("delivery_info", get("delivery_info"))
    if delivery.get("redelivered"):
        known["redelivered"] = True
    if queue := delivery.get("routing_key"):
        known["queue"] = _name("routing_key", queue)
    if reply_to := get("reply_to") or get("replyTo"):
        known["reply_to"] = _name("reply_to", reply_to)
    if correlation_id := get("correlation_id") or get("correlationId"):
        known["correlation_id"] = _name("correlation_id", correlation_id)
    priority = get("priority", delivery.get("priority"))
    if priority is not None:
        known["priority"] = _integer("priority", priority)
    if not known.get("id"):
        # Celery sends the id here as well. One made up would be another at each delivery.
        known["id"] = known.get("correlation_id")
        if not known["id"]:
            raise DecodeError("The message has no id: neither its headers nor its body do.")


def _bad(name: str, value: Any, wanted: str) -> DecodeError:
    # Not the repr of just anything, which may be endless or fail.
    if isinstance(value, str):
        shown = repr(value[:100])
    elif value is None or isinstance(value, float) or (isinstance(value, int) and value.bit_length() < 64):
        shown = repr(value)
    else:
        shown = f"of type {type(value).__name__}"
    return DecodeError(f"{name} is {shown} and should be {wanted}.")


def _table(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    if value is None:
        return {}
    raise _bad(name, value, "an object")


def _name(name: str, value: Any) -> str:
    if isinstance(value, str):
        # No store and no log line takes half a surrogate pair or a control character.
        if len(value) <= NAME_SIZE and value.isprintable():
            return value
    elif isinstance(value, UUID) or (isinstance(value, int) and value.bit_length() < 64):
        return str(value)
    raise _bad(name, value, f"printable text of at most {NAME_SIZE} characters")


def _label(name: str, value: Any) -> str | None:
    # It is only shown to people, so not worth a dead letter if it is odd.
    if not isinstance(value, str):
        return None
    return value if value.isprintable() else repr(value)[1:-1]


def _integer(name: str, value: Any) -> int:
    try:
        number = int(value) if isinstance(value, (int, float, str)) else _INT_SIZE
    except (ValueError, OverflowError):
        number = _INT_SIZE
    if not -_INT_SIZE < number < _INT_SIZE:
        raise _bad(name, value, "a whole number of at most 31 bits")
    return number


def _limits(name: str, value: Any) -> tuple[float | None, float | None]:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise _bad(name, value, "a list of the hard and the soft limit")
    hard, soft = value
    return (None if hard is None else _seconds(name, hard), None if soft is None else _seconds(name, soft))


def _seconds(name: str, value: Any) -> float:
    try:
        seconds = value if isinstance(value, (int, float)) else float(value) if isinstance(value, str) else inf
    except ValueError:
        seconds = inf
    if not 0 <= seconds < _INT_SIZE:
        raise _bad(name, value, "made of seconds")
    return seconds


def _flag(name: str, value: Any) -> bool:
    if value not in (True, False):
        raise _bad(name, value, "true, false or null")
    return bool(value)


def _names(name: str, value: Any) -> list[str]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
        raise _bad(name, value, "a list of names")
    return list(value)


def _as_is(_: str, value: Any) -> Any:
    return value


def _time(name: str, value: Any, zone: tzinfo = timezone.utc) -> datetime | None:
    """Read an ISO 8601 time; one without an offset is in ``zone``. Numbers are refused, as by Celery."""
    if value == "":
        return None
    try:
        when = value if isinstance(value, datetime) else _parse_time(value)
        aware = when.replace(tzinfo=zone) if when.utcoffset() is None else when
        return aware.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        raise _bad(name, value, "an ISO 8601 time such as 2024-01-31T12:00:00+00:00") from None


def _parse_time(text: Any) -> datetime:
    # From Python 3.11 on, 13 digits, which are milliseconds of a Unix time, may pass as a date and a time.
    if not isinstance(text, str) or text.isdigit():
        raise ValueError
    return parse_iso(text)


def _local_time(name: str, value: Any) -> datetime | None:
    from django.conf import settings
    from django.utils.timezone import get_default_timezone

    return _time(name, value, get_default_timezone() if settings.configured else timezone.utc)


def _readable(value: Any) -> str | None:
    try:
        return None if value is None else _name("", value)
    except DecodeError:
        return None


_HEADERS: dict[str, Callable[[str, Any], Any]] = {
    **dict.fromkeys(("task", "id", "root_id", "parent_id", "group"), _name),
    **dict.fromkeys(("shadow", "argsrepr", "kwargsrepr", "origin"), _label),
    **dict.fromkeys(("retries", "group_index", "replaced_task_nesting"), _integer),
    **dict.fromkeys(("eta", "expires"), _time),
    **dict.fromkeys(("ignore_result", "redelivered"), _flag),
    "timelimit": _limits,
    "stamped_headers": _names,
    "stamps": _table,
    "compression": _as_is,  # decompress() has looked at it
}
_EMPTY_IS_DEFAULT = frozenset({"retries", "replaced_task_nesting", "stamps", "timelimit", "redelivered", "compression"})
