"""The message: one call of a task as it travels, in Celery's format (protocol 2).

It is written as Celery 5 writes it, and read from whatever Celery 3 to 5, gocelery, celery.node and others send (see
``protocol``). What cannot be read raises :class:`DecodeError` and nothing else, so that a damaged message becomes a
dead letter and never stops a worker.
"""

from __future__ import annotations

import os
import socket
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from time import time_ns
from typing import Any

import orjson

from django_tasks.compression import MAX_SIZE, compress
from django_tasks.exceptions import DecodeError, EncodeError, MessageTooLarge
from django_tasks.protocol import Parts, read_parts
from django_tasks.serialization import JSON, Encoded, dumps, json_dumps, json_loads
from django_tasks.utils.saferepr import saferepr

__all__ = ["Message", "Parts", "decode_envelope", "decode_parts", "encode_envelope", "encode_parts", "origin"]

# A body of more bytes than that has arguments whose whole repr would take long.
_LARGE = 2048
_VARIANT = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))
_NO_EMBED: dict[str, Any] = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


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

    @staticmethod
    def new_id() -> str:
        """Return a new id: a UUID of version 7, which begins with the time and has 74 random bits.

        So ids that are made together stand together in the indexes of databases, and a batch writes few pages.
        """
        # The random bytes are not fetched in advance, since a server that forks without telling Python (uWSGI does)
        # would then have its processes give out the same ids.
        time, digits = f"{time_ns() // 1_000_000:012x}", os.urandom(10).hex()
        return f"{time[:8]}-{time[8:]}-7{digits[:3]}-{_VARIANT[digits[3]]}{digits[4:7]}-{digits[7:19]}"


_origin = (0, "")


def origin() -> str:
    """Return who sends from this process, as Celery writes it: ``gen<pid>@<host>``."""
    global _origin
    pid = os.getpid()
    if _origin[0] != pid:
        _origin = (pid, f"gen{pid}@{socket.gethostname()}")
    return _origin[1]


def encode_envelope(message: Message, *, base64: bool = True, max_size: int | None = None) -> str:
    """Write ``message`` as one JSON text, Celery's format for Redis.

    Args:
        message: what to write.
        base64: whether the body is base64, which gocelery and celery.node insist on; if not, text stays readable.
        max_size: how many bytes the envelope may have; None for no limit.

    Raises:
        EncodeError: something in the message cannot be serialised; says what and where.
        MessageTooLarge: the envelope is larger than ``max_size``.
        ImproperlyConfigured: there is no such serializer or compression, or its library is not installed.
    """
    body, content_type, content_encoding, headers, properties = encode_parts(message)
    assert isinstance(body, bytes)
    as_text = not base64 and content_encoding == "utf-8" and "compression" not in headers
    delivery_info: dict[str, Any] = {"exchange": "", "routing_key": message.queue}
    if message.redelivered:
        delivery_info["redelivered"] = True
    properties["delivery_info"] = delivery_info
    properties["body_encoding"] = "utf-8" if as_text else "base64"
    properties["delivery_tag"] = Message.new_id()
    envelope = {
        "body": (body if as_text else b64encode(body)).decode(),
        "content-encoding": content_encoding,
        "content-type": content_type,
        "headers": headers,
        "properties": properties,
    }
    data = _dump_envelope(message, envelope)
    _check_size(message, len(data), max_size)
    return data.decode()


def encode_parts(message: Message, *, max_size: int | None = None) -> Parts:
    """Write ``message`` in the parts that AMQP carries.

    Args, raises: as :func:`encode_envelope`, with ``max_size`` for the body alone.
    """
    content_type, content_encoding, body = _encode_body(message)
    headers = _headers(message, len(body))
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


def _encode_body(message: Message) -> Encoded:
    args, kwargs, embed = message.args, message.kwargs, message.embed
    if not isinstance(args, (list, tuple)):
        raise EncodeError(f"Task {message.task!r}: args must be a list or a tuple, not a {type(args).__name__}.")
    body = [args, kwargs, _NO_EMBED if embed is None else {**_NO_EMBED, **embed}]
    try:
        return dumps(body, message.serializer)
    except EncodeError as exc:
        raise EncodeError(f"Task {message.task!r} cannot be sent: {_named(message, exc)}") from exc


def _named(message: Message, exc: EncodeError) -> EncodeError:
    """Return the error with the name of the argument in it."""
    for name in ("args", "kwargs", "embed"):
        try:
            dumps(getattr(message, name), message.serializer, name)
        except EncodeError as named:
            return named
    return exc


def _headers(message: Message, size: int) -> dict[str, Any]:
    args, kwargs, large = message.argsrepr, message.kwargsrepr, size > _LARGE
    headers: dict[str, Any] = {
        **message.headers,
        "lang": "py",
        "task": message.task,
        "id": message.id,
        "shadow": message.shadow,
        "eta": None if message.eta is None else _iso(message, "eta", message.eta),
        "expires": None if message.expires is None else _iso(message, "expires", message.expires),
        "group": message.group,
        "group_index": message.group_index,
        "retries": message.retries,
        "timelimit": message.timelimit,
        "root_id": message.root_id or message.id,
        "parent_id": message.parent_id,
        "argsrepr": saferepr(tuple(message.args), large=large) if args is None else args,
        "kwargsrepr": saferepr(message.kwargs, large=large) if kwargs is None else kwargs,
        "origin": message.origin or origin(),
        "ignore_result": message.ignore_result,
        "replaced_task_nesting": message.replaced_task_nesting,
        "stamped_headers": message.stamped_headers,
        "stamps": message.stamps,
    }
    if message.headers:
        # Custom headers of these names would be taken for ours.
        headers.pop("compression", None)
        headers.pop("redelivered", None)
    if message.redelivered:
        headers["redelivered"] = True
    return headers


def _iso(message: Message, name: str, when: datetime) -> str:
    if when.utcoffset() is None:
        raise EncodeError(f"Task {message.task!r}: {name} {when} has no time zone. Use django.utils.timezone.now().")
    try:
        return when.astimezone(timezone.utc).isoformat()
    except OverflowError:
        raise EncodeError(f"Task {message.task!r}: {name} {when} is out of range in UTC. Leave it out.") from None


def _dump_envelope(message: Message, envelope: dict[str, Any]) -> bytes:
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
