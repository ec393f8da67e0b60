"""Body and headers of a message, as Celery 5 writes them."""

from __future__ import annotations

import os
import socket
from datetime import datetime, timezone
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from django_tasks.exceptions import EncodeError
from django_tasks.protocol import NO_EMBED
from django_tasks.serialization import Encoded, dumps
from django_tasks.utils.saferepr import saferepr

if TYPE_CHECKING:
    from django_tasks.message import Message

# A body of more bytes than that has arguments whose whole repr would take long.
_LARGE = 2048
#: Headers that are attributes as they stand, and what says no more than if they were missing.
OPTIONAL: dict[str, Any] = {
    **dict.fromkeys(
        ("shadow", "eta", "expires", "group", "group_index", "parent_id", "ignore_result", "stamped_headers")
    ),
    **dict.fromkeys(("retries", "replaced_task_nesting"), 0),
    **{"timelimit": (None, None), "stamps": {}},
}
_optional_values = attrgetter(*OPTIONAL)
_NOTHING_SAID = tuple(OPTIONAL.values())
#: Headers that say no more than if they were missing.
DEFAULTS = {**OPTIONAL, "lang": "py"}
_NOTHING = object()

_origin = (0, "")


def origin() -> str:
    """Return who sends from this process, as Celery writes it: ``gen<pid>@<host>``."""
    global _origin
    pid = os.getpid()
    if _origin[0] != pid:
        _origin = (pid, f"gen{pid}@{socket.gethostname()}")
    return _origin[1]


def encode_body(message: Message, *, compact: bool = False) -> Encoded:
    """Serialise arguments and signatures; with ``compact``, no signatures where there are none.

    Raises:
        EncodeError: something in them cannot be serialised; says what and where.
    """
    args, kwargs, embed = message.args, message.kwargs, message.embed
    if not isinstance(args, (list, tuple)):
        raise EncodeError(f"Task {message.task!r}: args must be a list or a tuple, not a {type(args).__name__}.")
    body = [args, kwargs]
    if embed is not None or not compact:
        body.append({**NO_EMBED, **(embed or {})})
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


def headers_of(message: Message, size: int) -> dict[str, Any]:
    """Return the headers; ``size`` is that of the body in bytes.

    Raises:
        EncodeError: one of the times cannot be written.
    """
    argsrepr, kwargsrepr = shown(message, size)
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
        "argsrepr": argsrepr,
        "kwargsrepr": kwargsrepr,
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


def compact_headers_of(message: Message, size: int) -> dict[str, Any]:
    """Return the headers that say more than if they were missing. Args, raises: as ``headers_of``."""
    if _optional_values(message) != _NOTHING_SAID or message.headers or message.redelivered:
        headers = headers_of(message, size)
        return {name: value for name, value in headers.items() if DEFAULTS.get(name, _NOTHING) != value}
    argsrepr, kwargsrepr = shown(message, size)
    return {
        "task": message.task,
        "id": message.id,
        "root_id": message.root_id or message.id,
        "argsrepr": argsrepr,
        "kwargsrepr": kwargsrepr,
        "origin": message.origin or origin(),
    }


def shown(message: Message, size: int) -> tuple[str, str]:
    """Return the arguments as monitors show them."""
    args, kwargs, large = message.argsrepr, message.kwargsrepr, size > _LARGE
    return (
        saferepr(tuple(message.args), large=large) if args is None else args,
        saferepr(message.kwargs, large=large) if kwargs is None else kwargs,
    )


def _iso(message: Message, name: str, when: datetime) -> str:
    if when.utcoffset() is None:
        raise EncodeError(f"Task {message.task!r}: {name} {when} has no time zone. Use django.utils.timezone.now().")
    try:
        return when.astimezone(timezone.utc).isoformat()
    except OverflowError:
        raise EncodeError(f"Task {message.task!r}: {name} {when} is out of range in UTC. Leave it out.") from None
