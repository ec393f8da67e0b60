"""What Redis keeps of a message beside its envelope, and what an envelope says without being decoded as a message."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import orjson

from django_tasks.brokers.base import Settlement
from django_tasks.exceptions import DecodeError
from django_tasks.message import decode_envelope


def facts_after(settlement: Settlement) -> str:
    """Return the facts of a message that goes back; empty where there is nothing to tell."""
    delivery = settlement.delivery
    alone = delivery.alone or settlement.died
    deaths = delivery.deaths + (1 if settlement.died and delivery.alone else 0)
    refusals = delivery.refusals + (1 if settlement.refused else 0)
    facts = (deaths, refusals, int(alone), int(delivery.admitted or settlement.admitted))
    return "{} {} {} {}".format(*facts) if any(facts) else ""


def dead_letter(settlement: Settlement, now: float) -> bytes:
    """Return what is kept with a dead letter."""
    delivery = settlement.delivery
    reserved_at = float(delivery.handle.field.split("-", 2)[2])
    return orjson.dumps({
        "reason": settlement.reason.encode("utf-8", "backslashreplace").decode(), "deaths": delivery.deaths,
        "refusals": delivery.refusals, "alone": delivery.alone, "redelivered": delivery.redelivered,
        "worker": delivery.handle.worker, "reserved_at": reserved_at, "died_at": now,
    })  # fmt: skip


def with_flags(envelope: bytes) -> bytes:
    """Return an envelope that says, as Celery's do, that it has been in a worker's hands; unchanged if it is none."""
    try:
        known = orjson.loads(envelope)
        dumps: Callable[[Any], bytes] = orjson.dumps
    except ValueError:  # Python writes NaN and larger numbers
        try:
            known = json.loads(envelope)
        except ValueError:
            return envelope
        dumps = _plain_dumps
    try:
        properties = _table(known, "properties")
        for table in (_table(known, "headers"), _table(properties, "delivery_info")):
            table["redelivered"] = True
    except TypeError:
        return envelope
    return dumps(known)


def _plain_dumps(value: Any) -> bytes:
    return json.dumps(value).encode()


def _table(parent: Any, name: str) -> dict[str, Any]:
    """Return a table of an envelope; a missing one is made."""
    if not isinstance(parent, dict):
        raise TypeError(parent)
    table = parent.get(name)
    if table is None:
        table = parent[name] = {}
    if not isinstance(table, dict):
        raise TypeError(name)
    return table


def task_and_id(envelope: bytes) -> tuple[str, str]:
    """Return what an envelope says of its task's name and id; empty where it says nothing."""
    try:
        headers = orjson.loads(envelope)["headers"]
        if isinstance(headers["task"], str) and isinstance(headers["id"], str):
            return headers["task"], headers["id"]
    except (ValueError, TypeError, LookupError):
        pass
    try:
        message = decode_envelope(envelope, _ANY)
    except DecodeError as exc:
        return exc.task or "", exc.id or ""
    return message.task, message.id


#: Only JSON is decoded, for whatever it is that cannot be read without its body.
_ANY = frozenset({"application/json"})


def digest_of(envelope: bytes) -> str:
    return hashlib.sha1(envelope, usedforsecurity=False).hexdigest()


def properties_of(envelope: bytes) -> tuple[str, int, bool]:
    """Return delivery tag, priority and whether it was redelivered, as far as the envelope can be read."""
    try:
        properties = orjson.loads(envelope)["properties"]
        delivery = properties.get("delivery_info") or {}
        priority = properties.get("priority", delivery.get("priority")) or 0
        return str(properties.get("delivery_tag", "")), int(priority), bool(delivery.get("redelivered"))
    except (ValueError, TypeError, LookupError, AttributeError):
        return "", 0, False


def time_of(tag: str) -> float | None:
    """Return when a message was sent, in seconds since the epoch: our delivery tags begin with the time."""
    if len(tag) != 36 or tag[14] != "7":
        return None
    try:
        return int(tag[:8] + tag[9:13], 16) / 1000
    except ValueError:
        return None
