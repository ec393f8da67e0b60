"""Putting what was recorded back where it was, as it was or as a later version would have written it."""

from __future__ import annotations

import base64
import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

from django.core.cache import caches
from django.db import connection
from django.utils.dateparse import parse_datetime

from django_tasks.databases import to_db_time
from tests.upgrade.record import SAMPLES, client_of

#: What a later version adds, wherever it may.
LATER = {"later": {"fact": 1}}


def versions() -> list[str]:
    """Return the versions that there are samples of, the newest last."""
    return sorted((path.stem for path in Path(SAMPLES).glob("*.json")), key=lambda name: [*map(int, name.split("."))])


def sample(version: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((SAMPLES / f"{version}.json").read_text())
    return found


def fill_tables(content: dict[str, list[dict[str, Any]]], later: bool) -> None:
    """Insert rows, naming only the columns that there were."""
    for table, rows in content.items():
        for row in rows:
            if later:
                row = {**row, **{name: change(row[name]) for name, change in _COLUMNS.items() if name in row}}
            values = [_value(name, value) for name, value in row.items()]
            with connection.cursor() as cursor:
                cursor.execute(
                    f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))})", values
                )


def _value(name: str, value: Any) -> Any:
    """Return a value as the database takes it."""
    if name in ("date_created", "date_done", "date_started", "changed_at", "start_time", "end_time"):
        return to_db_time(connection, parse_datetime(value) if value else None)
    return json.dumps(value) if isinstance(value, (dict, list)) else value


def fill_redis(url: str, content: dict[str, Any], later: bool) -> None:
    client, put = client_of(url), _PUT
    for key, (kind, value) in (later_keys(content) if later else content).items():
        put[kind](client, key, value)


_PUT: dict[str, Any] = {
    "string": lambda client, key, value: client.set(key, value),
    "list": lambda client, key, value: client.rpush(key, *value),
    "set": lambda client, key, value: client.sadd(key, *value),
    "zset": lambda client, key, value: client.zadd(key, dict(value)),
    "hash": lambda client, key, value: client.hset(key, mapping=value),
}


def fill_cache(content: dict[str, str], later: bool) -> None:
    for key, value in content.items():
        meta = pickle.loads(base64.b64decode(value))
        caches["default"].set(key, {**meta, **LATER} if later else meta)


# -- what a later version would have written


def later_envelope(text: str) -> str:
    """Add to everything in an envelope that is an object."""
    envelope = json.loads(text)
    properties = envelope["properties"]
    for table in (envelope, envelope["headers"], properties, properties["delivery_info"]):
        table.update(LATER)
    if envelope["content-type"] == "application/json" and "compression" not in envelope["headers"]:
        coded = properties.get("body_encoding") == "base64"
        body = json.loads(base64.b64decode(envelope["body"]) if coded else envelope["body"])
        embed = body[2] if len(body) > 2 else {}
        for signature in embed.get("callbacks") or ():
            signature.update(LATER)
            signature["options"].update(LATER)
        body[2:] = [{**embed, **LATER}]
        data = json.dumps(body)
        envelope["body"] = base64.b64encode(data.encode()).decode() if coded else data
    return json.dumps(envelope)


def later_object(text: str) -> str:
    return json.dumps({**json.loads(text), **LATER})


def later_list(text: str) -> str:
    return json.dumps([*json.loads(text), LATER])


_COLUMNS = {"payload": later_envelope, "meta": later_object, "arguments": later_object}


def later_keys(content: dict[str, Any]) -> dict[str, Any]:
    """Add to every value on Redis; ``lua/ledger.lua`` says what they are."""
    digests: dict[str, str] = {}

    def envelope(text: str) -> str:
        changed = later_envelope(text)
        digests[_digest(text)] = _digest(changed)
        return changed

    def behind(first: Any, text: str) -> str:
        line, _, rest = text.partition("\n")
        return f"{first(line)}\n{envelope(rest)}"

    changed: dict[str, Any] = {"{celery}.later": ("string", "1")}
    for key, (kind, value) in content.items():
        what = key.rpartition("}.")[2].partition(".")[0]
        if key.startswith("celery-task-meta-"):
            value = later_object(value)
        elif kind == "list":
            value = [envelope(each) for each in value]
        elif what == "delayed":
            value = [(envelope(each), due) for each, due in value]
        elif what == "held":
            value = {handle: behind(_more_facts, each) for handle, each in value.items()}
        elif what == "dead":
            value = {handle: behind(later_object, each) for handle, each in value.items()}
        elif what == "orders":
            value = [
                (f"{number} {later_list(rest)}", at) for each, at in value for number, rest in [each.split(" ", 1)]
            ]
        elif key.endswith("}.beat.unsent"):
            value = {name: _more_unsent(each, envelope) for name, each in value.items()}
        elif key == "{_django_tasks}.beat":
            value = {
                name: f"{n} {later_list(rest)}" for name, each in value.items() for n, rest in [each.split(" ", 1)]
            }
        elif what == "workers" and kind == "hash":
            value = {identity: later_list(each) for identity, each in value.items()}
        changed[key] = (kind, value)
    for key, (kind, value) in changed.items():
        if key.endswith("}.facts"):
            changed[key] = (kind, {digests[each]: _more_facts(facts) for each, facts in value.items()})
    return changed


def _more_unsent(text: str, envelope: Any) -> str:
    head, *lines = text.split("\n")
    rows = [json.loads(line) for line in lines]
    return "\n".join([f"{head} 7", *(json.dumps([*row[:3], envelope(row[3]), LATER]) for row in rows)])


def _digest(envelope: str) -> str:
    return hashlib.sha1(envelope.encode()).hexdigest()


def _more_facts(facts: str) -> str:
    return f"{facts} 7" if facts else ""
