"""The usual message, read at once: nearly all are calls without special wishes, as we and Celery write them.

``protocol`` reads anything, header by header. Here the headers are compared with those that say nothing, all together,
which takes a third of the time. What is not just so is left to ``protocol``, damaged messages included, and what is
must come to the same fields; a test lets both read the same messages.
"""

from __future__ import annotations

from base64 import b64decode
from typing import Any

import orjson

from django_tasks.exceptions import DecodeError
from django_tasks.protocol import NAME_SIZE, NO_EMBED
from django_tasks.serialization import JSON, json_loads
from django_tasks.wire import DEFAULTS

_NO_LIMITS = (None, None)
#: Headers that say no more than if they were missing, as they come in.
_SAY_NOTHING: dict[str, Any] = {**DEFAULTS, "timelimit": [None, None], "compression": None, "redelivered": False}
_NO_SIGNATURES = [NO_EMBED]


def usual_fields(text: str | bytes, accept: frozenset[str]) -> tuple[Any, ...] | None:
    """Return the first fields of the ``Message`` in an envelope, in their order; None if it is not a usual one.

    Args:
        text: the envelope.
        accept: the MIME types that its body may have.
    """
    try:
        # Typed values and large numbers, for which json_loads would look, stand nowhere in a usual envelope.
        envelope = orjson.loads(text)
        if envelope["content-type"] != JSON or envelope["content-encoding"] != "utf-8" or JSON not in accept:
            return None
        properties = envelope["properties"]
        payload = _payload(envelope["body"], properties.get("body_encoding"))
        return None if payload is None else _fields(payload, envelope["headers"], properties)
    except (AttributeError, DecodeError, LookupError, TypeError, ValueError):
        return None  # protocol says what is wrong, if anything is


def _payload(body: Any, encoding: Any) -> list[Any] | None:
    """Return args, kwargs and, if they are given but empty, signatures."""
    if encoding == "base64":
        body = b64decode(body)
    elif encoding or type(body) is not str:
        return None
    payload = json_loads(body)
    if type(payload) is not list or type(payload[0]) is not list or type(payload[1]) is not dict:
        return None
    return payload if len(payload) == 2 or payload[2:] == _NO_SIGNATURES else None


def _fields(payload: list[Any], headers: dict[str, Any], properties: dict[str, Any]) -> tuple[Any, ...] | None:
    take, of, delivery = headers.pop, properties.get, properties["delivery_info"]
    task, task_id, root_id, parent_id = take("task"), take("id"), take("root_id", None), take("parent_id", None)
    argsrepr, kwargsrepr, origin = take("argsrepr"), take("kwargsrepr"), take("origin")
    group, ignore_result = take("group", None), take("ignore_result", None)
    queue, reply_to, correlation_id = delivery["routing_key"], of("reply_to") or None, of("correlation_id") or None
    priority = of("priority")
    if (
        not headers.items() <= _SAY_NOTHING.items()
        or not (ignore_result is None or type(ignore_result) is bool)
        or not (priority is None or (type(priority) is int and 0 <= priority < 256))
        or not (task and task_id and queue)
        or delivery.get("redelivered")
        or "priority" in delivery
        or "replyTo" in properties
        or "correlationId" in properties
    ):
        return None
    names = {task, task_id, queue, root_id, parent_id, group, reply_to, correlation_id}
    names.discard(None)
    joined = "".join(names)
    fit = len(joined) <= NAME_SIZE or max(map(len, names)) <= NAME_SIZE
    if not (fit and joined.isprintable() and "".join((argsrepr, kwargsrepr, origin)).isprintable()):
        return None
    return (task, task_id, payload[0], payload[1], None, queue, priority, None, None, 0, _NO_LIMITS, root_id, parent_id,
            group, None, None, argsrepr, kwargsrepr, origin, reply_to, correlation_id, ignore_result)  # fmt: skip
