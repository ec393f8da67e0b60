"""The message: one call of a task as it travels, in Celery's format (protocol 2).

It is written as Celery 5 writes it, and read from whatever Celery 3 to 5, gocelery, celery.node and others send (see
``protocol``). What cannot be read raises :class:`DecodeError` and nothing else, so that a damaged message becomes a
dead letter and never stops a worker.
"""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import lru_cache
from operator import attrgetter
from time import time_ns
from typing import Any

import orjson

from django_tasks.compression import MAX_SIZE, compress
from django_tasks.exceptions import DecodeError, EncodeError, MessageTooLarge
from django_tasks.protocol import Parts, read_parts
from django_tasks.serialization import JSON, json_dumps, json_loads
from django_tasks.usual import usual_fields
from django_tasks.wire import OPTIONAL, compact_headers_of, encode_body, headers_of, origin, shown

__all__ = ["Message", "Parts", "decode_envelope", "decode_parts", "encode_compact", "encode_envelope", "encode_parts",
           "origin"]  # fmt: skip

#: Attributes that are properties as they stand.
_PROPERTIES = ("correlation_id", "reply_to", "priority")
_properties = attrgetter(*_PROPERTIES)
#: What stands in no header, or another one, when it has another value than here; and what is written in another way.
_SPECIAL: dict[str, Any] = {
    **{name: value for name, value in OPTIONAL.items() if name != "parent_id"},
    **dict.fromkeys(("embed", "compression", "reply_to", "correlation_id")),
    **{"serializer": "json", "headers": {}, "redelivered": False},
}
_special = attrgetter(*_SPECIAL)
_NOTHING_SPECIAL = tuple(_SPECIAL.values())
_VARIANT = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))


@dataclass(slots=True)
class Message:
    """One call of a task.

    Args:
        task: name of the task.
        id: id of the call, the same for all its retries.
        args, kwargs: what the task is called with.
        embed: signatures to follow, under ``callbacks``, ``errbacks``, ``chain`` (next step last) and ``chord``.
        queue: name of the queue.
        priority: as the broker understands it.
        eta: not to be run before; a time with a zone.
        expires: not to be run after; a time with a zone.
        retries: how many times it has been retried.
        timelimit: hard and soft limit in seconds.
        root_id: id of the call at the start of the workflow; its own if None.
        parent_id: id of the call that sent this one.
        group, group_index: id of the group that it belongs to, and its place there.
        shadow: name to show instead of ``task``.
        argsrepr, kwargsrepr: ``args`` and ``kwargs`` as monitors show them; made from them if None.
        origin: who sent it; this process if None.
        reply_to: where an ``rpc://`` client waits for the result.
        correlation_id: id of the call, for such a client.
        ignore_result: whether to store no result; None leaves it to the task.
        replaced_task_nesting: how many times ``Task.replace`` led here.
        stamped_headers, stamps: names of stamps, and their values.
        headers: custom headers.
        serializer: serializer of the body.
        compression: compression of the body, by name or MIME type.
        redelivered: it has been in a worker's hands before.
        content_type: MIME type that its body came in.
        cause: what it follows from, which can happen only once; it does not travel, but keeps a broker that stores
            messages from storing a second one of the same id and cause.
    """

    task: str
    id: str
    args: Sequence[Any] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    embed: dict[str, Any] | None = None
    queue: str = "celery"
    priority: int | None = None
    eta: datetime | None = None
    expires: datetime | None = None
    retries: int = 0
    timelimit: tuple[float | None, float | None] = (None, None)
    root_id: str | None = None
    parent_id: str | None = None
    group: str | None = None
    group_index: int | None = None
    shadow: str | None = None
    argsrepr: str | None = None
    kwargsrepr: str | None = None
    origin: str | None = None
    reply_to: str | None = None
    correlation_id: str | None = None
    ignore_result: bool | None = None
    replaced_task_nesting: int = 0
    stamped_headers: list[str] | None = None
    stamps: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, Any] = field(default_factory=dict)
    serializer: str = "json"
    compression: str | None = None
    redelivered: bool = False
    content_type: str = JSON
    cause: str | None = None

    @staticmethod
    def new_id() -> str:
        """Return a new id: a UUID of version 7, which begins with the time and has 74 random bits.

        So ids that are made together stand together in the indexes of databases, and a batch writes few pages.
        """
        # The random bytes are not fetched in advance, since a server that forks without telling Python (uWSGI does)
        # would then have its processes give out the same ids.
        time, digits = f"{time_ns() // 1_000_000:012x}", os.urandom(10).hex()
        return f"{time[:8]}-{time[8:]}-7{digits[:3]}-{_VARIANT[digits[3]]}{digits[4:7]}-{digits[7:19]}"


def encode_envelope(message: Message, *, max_size: int | None = None) -> str:
    """Write ``message`` as one JSON text, Celery's format for Redis.

    Args:
        message: what to write.
        max_size: how many bytes the envelope may have; None for no limit.

    Raises:
        EncodeError: something in the message cannot be serialised; says what and where.
        MessageTooLarge: the envelope is larger than ``max_size``.
        ImproperlyConfigured: there is no such serializer or compression, or its library is not installed.
    """
    if _special(message) == _NOTHING_SPECIAL:
        try:
            return _framed(message, max_size)
        except TypeError:
            pass  # what orjson does not write
    parts = encode_parts(message)
    assert isinstance(parts.body, bytes)
    return _dump_envelope(message, b64encode(parts.body).decode(), _for_redis(message, parts), max_size)


def _for_redis(message: Message, parts: Parts) -> Parts:
    """Add what kombu adds to the properties."""
    delivery_info: dict[str, Any] = {"exchange": "", "routing_key": message.queue}
    if message.redelivered:
        delivery_info["redelivered"] = True
    parts.properties["delivery_info"] = delivery_info
    parts.properties["body_encoding"] = "base64"
    parts.properties["delivery_tag"] = Message.new_id()
    return parts


def _framed(message: Message, max_size: int | None) -> str:
    """Write a message that says nothing special: in a third of the time, as most of it is the same for each call."""
    body = encode_body(message).data
    argsrepr, kwargsrepr = shown(message, len(body))
    task_id = orjson.dumps(message.id)
    root_id = task_id if (message.root_id or message.id) == message.id else orjson.dumps(message.root_id)
    values = (b'"%b"' % b64encode(body), task_id, root_id, orjson.dumps(message.parent_id), orjson.dumps(argsrepr),
              orjson.dumps(kwargsrepr), task_id, b'"%b"' % Message.new_id().encode())  # fmt: skip
    data = _frame(message.task, message.queue, message.priority, message.origin or origin()) % values
    _check_size(message, len(data), max_size)
    return data.decode()


@lru_cache(maxsize=1000)
def _frame(task: str, queue: str, priority: int | None, sender: str) -> bytes:
    """Return what stands around the values that differ from call to call, as it is for any other message."""
    mark = Message.new_id()
    sample = Message(task, mark, queue=queue, priority=priority, parent_id=mark, argsrepr=mark, kwargsrepr=mark,
                     origin=sender)  # fmt: skip
    parts = _for_redis(sample, encode_parts(sample))
    parts.properties["delivery_tag"] = mark
    text = _dump_envelope(sample, mark, parts, None)
    return text.encode().replace(b"%", b"%%").replace(f'"{mark}"'.encode(), b"%b")


def encode_compact(message: Message, *, max_size: int | None = None) -> str:
    """Write ``message`` as :func:`encode_envelope` does, for brokers that nobody else reads.

    Text stays readable, and what :func:`decode_envelope` does not miss is left out, which is most of a short message.

    Args, raises: as :func:`encode_envelope`.
    """
    content_type, content_encoding, data = encode_body(message, compact=True)
    headers = compact_headers_of(message, len(data))
    properties: dict[str, Any] = {"delivery_info": {"routing_key": message.queue}}
    if (rare := _properties(message)) != (None, None, None):
        properties.update((name, value) for name, value in zip(_PROPERTIES, rare, strict=True) if value is not None)
    if message.compression:
        data, headers["compression"] = compress(data, message.compression)
    if message.compression or content_encoding != "utf-8":
        properties["body_encoding"] = "base64"
        data = b64encode(data)
    parts = Parts(data, content_type, content_encoding, headers, properties)
    return _dump_envelope(message, data.decode(), parts, max_size)


def encode_parts(message: Message, *, max_size: int | None = None) -> Parts:
    """Write ``message`` in the parts that AMQP carries.

    Args, raises: as :func:`encode_envelope`, with ``max_size`` for the body alone.
    """
    content_type, content_encoding, body = encode_body(message)
    headers = headers_of(message, len(body))
    if message.compression:
        body, headers["compression"] = compress(body, message.compression)
    _check_size(message, len(body), max_size)
    properties = {
        "correlation_id": message.correlation_id or message.id,
        "reply_to": message.reply_to or "",
        "delivery_mode": 2,
        "priority": message.priority or 0,
    }
    if message.expires is not None:
        left = message.expires - datetime.now(timezone.utc)
        properties["expiration"] = str(max(0, int(left.total_seconds() * 1000)))
    return Parts(body, content_type, content_encoding, headers, properties)


def decode_envelope(text: str | bytes, accept: frozenset[str], *, max_size: int = MAX_SIZE) -> Message:
    """Read what :func:`encode_envelope`, or any other sender of Celery messages on Redis, has written.

    Args:
        text: the envelope.
        accept: the MIME types that the body may have, from ``serialization.content_types``.
        max_size: how many bytes a compressed body may come to.

    Raises:
        DecodeError: it is damaged; the error has the ``task`` and ``id`` where they could be read.
        ContentDisallowed: the content type of the body is not in ``accept``.
    """
    fields = usual_fields(text, accept)
    return _decode_envelope(text, accept, max_size) if fields is None else Message(*fields)


def _decode_envelope(text: str | bytes, accept: frozenset[str], max_size: int) -> Message:
    envelope = json_loads(text)
    if not isinstance(envelope, dict):
        raise DecodeError(f"The envelope is a {type(envelope).__name__} and should be an object.")
    get = envelope.get
    parts = (get("body"), get("content-type"), get("content-encoding"), get("headers"), get("properties"))
    return _decode(parts, accept, max_size)


def decode_parts(parts: Parts, accept: frozenset[str], *, max_size: int = MAX_SIZE) -> Message:
    """Read a message from the parts that AMQP carries. Args, raises: as :func:`decode_envelope`."""
    return _decode(parts, accept, max_size)


def _decode(parts: tuple[Any, ...], accept: frozenset[str], max_size: int) -> Message:
    fields = read_parts(parts, accept, max_size)
    take = fields.pop
    message = Message(take("task"), take("id"), take("args"), take("kwargs"), take("embed"))
    # A call with this many keywords would take three times as long.
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def _dump_envelope(message: Message, body: str, parts: Parts, max_size: int | None) -> str:
    envelope = {
        "body": body,
        "content-encoding": parts.content_encoding,
        "content-type": parts.content_type,
        "headers": parts.headers,
        "properties": parts.properties,
    }
    data = _dump(message, envelope)
    _check_size(message, len(data), max_size)
    return data.decode()


def _dump(message: Message, envelope: dict[str, Any]) -> bytes:
    # What only we write holds nothing that orjson would change silently; what users add may.
    if not (message.headers or message.stamps):
        try:
            return orjson.dumps(envelope)
        except TypeError:
            pass  # json_dumps either manages it or says what is wrong
    try:
        return json_dumps(envelope, "message")
    except EncodeError as exc:
        raise EncodeError(f"Task {message.task!r} cannot be sent: {exc}") from exc


def _check_size(message: Message, size: int, max_size: int | None) -> None:
    if max_size is not None and size > max_size:
        raise MessageTooLarge(
            f"The message for task {message.task!r} has {size:,} bytes, more than TASK_MAX_MESSAGE_SIZE = {max_size:,} "
            "allows. Store the data (in the database, a file, the cache) and pass its key, or raise the setting."
        )
