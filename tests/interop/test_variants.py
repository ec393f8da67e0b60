"""What is on Celery's lists, whoever put it there: it runs, or it becomes a dead letter with a reason."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from django_tasks import AsyncResult
from django_tasks.brokers.browse import DEAD, Wanted
from django_tasks.exceptions import DecodeError
from django_tasks.message import decode_envelope
from django_tasks.serialization import content_types
from tests.brokers.test_redis import damaged
from tests.interop.conftest import Sides
from tests.waiting import wait_for

JSON = content_types(["json"])
SEP = "\x06\x16"
EMBED = dict.fromkeys(("callbacks", "errbacks", "chain", "chord"))


EVERYTHING = ([2, 3], {}, EMBED)


def text_of(body: Any) -> str:
    return base64.b64encode(json.dumps(body).encode()).decode()


def envelope(id: str, body: Any = EVERYTHING, headers: Any = (), properties: Any = (), **changes: Any) -> str:
    """Return the smallest message that works (celery-wire, section 1.10), with changes.

    Args:
        body: None for the usual one as plain text; ``body_text`` for any other text.
        headers, properties: changes; what is None is left out.
        changes: of the envelope, in the same way.
    """
    parts = {
        "body": text_of(body) if body is not None else json.dumps(EVERYTHING),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": _changed({"task": "add", "id": id}, headers),
        "properties": _changed({"delivery_info": {"exchange": "", "routing_key": "ours"}, "body_encoding": "base64",
                                "delivery_tag": f"tag of {id}"}, properties),
    }  # fmt: skip
    if (text := changes.pop("body_text", None)) is not None:
        parts["body"] = text
    return json.dumps(_changed(parts, {name.replace("_", "-"): value for name, value in changes.items()}))


def _changed(table: dict[str, Any], changes: Any) -> dict[str, Any]:
    return {key: value for key, value in {**table, **dict(changes)}.items() if value is not None}


def protocol_1(id: str, properties: Any = (), **fields: Any) -> str:
    """Return a message of protocol 1; gocelery sends no headers at all."""
    body = {"task": "add", "id": id, "args": [2, 3], "kwargs": None, "retries": 0, "eta": None, **fields}
    return envelope("", body, properties=properties, headers={"task": None, "id": None})


GOCELERY = {"delivery_info": {"exchange": "celery", "routing_key": "celery", "priority": 0}, "correlation_id": "c"}
COMPRESSED = base64.b64encode(zlib.compress(b"[[2, 3], {}, {}]")).decode()
ALL_FIELDS = {"utc": True, "timelimit": [None, None], "callbacks": None, "errbacks": None, "chord": None,
              "taskset": None, "group": None, "expires": None}  # fmt: skip
RUSTY = {"lang": "rust", "origin": "gen@host", "retries": 0, "timelimit": [None, None], "root_id": "r"}

#: Messages that run, and come to 5.
GOOD: dict[str, Callable[[str], str]] = {
    "smallest": envelope,
    "two items": lambda id: envelope(id, [[2, 3], {}]),
    "embed null": lambda id: envelope(id, [[2, 3], {}, None]),
    "embed empty": lambda id: envelope(id, [[2, 3], {}, {}]),
    "kwargs null": lambda id: envelope(id, [[2, 3], None, {}]),
    "protocol 1": protocol_1,
    "protocol 1, headers null": lambda id: protocol_1(id).replace('"headers": {}', '"headers": null'),
    "protocol 1, headers left out": lambda id: protocol_1(id).replace('"headers": {}, ', ""),
    "protocol 1 of gocelery": lambda id: protocol_1(id, GOCELERY).replace('"headers": {}, ', ""),
    "protocol 1, all fields": lambda id: protocol_1(id, **ALL_FIELDS),
    "hybrid": lambda id: envelope(id, {"task": "old", "id": "old", "args": [2, 3], "kwargs": {}, "retries": 0}),
    "plain text": lambda id: envelope(id, None, properties={"body_encoding": None}),
    "plain text, utf-8": lambda id: envelope(id, None, properties={"body_encoding": "utf-8"}),
    "no content type": lambda id: envelope(id, content_type=None),
    "no content encoding": lambda id: envelope(id, content_encoding=None),
    "no delivery tag": lambda id: envelope(id, properties={"delivery_tag": None}),
    "no delivery info": lambda id: envelope(id, properties={"delivery_info": None}),
    "id in the properties": lambda id: envelope(id, headers={"id": None}, properties={"correlation_id": id}),
    "headers that nobody knows": lambda id: envelope(id, headers={"x-trace": {"a": [1]}, "periodic_task_name": "n"}),
    "celery.node": lambda id: envelope(id, headers={"lang": "js"}, properties={"correlationId": id, "replyTo": ""}),
    "celery.node of old": lambda id: envelope(
        id, properties={"delivery_info": {"exchange": "ours", "routing_key": "ours"}}
    ),
    "rusty-celery": lambda id: envelope(id, headers=RUSTY, properties={"correlation_id": id, "delivery_mode": 2}),
    "compressed": lambda id: envelope(id, headers={"compression": "application/x-gzip"}, body_text=COMPRESSED),
}

DEEP = "[" * 100_000
#: Messages that do not, and a part of the reason.
BAD: dict[str, tuple[str, str]] = {
    "not JSON": ("nonsense", "not valid JSON"),
    "empty": ("", "not valid JSON"),
    "a list": ("[1]", "The envelope is a list"),
    "nothing in it": ("{}", "body is None"),
    "brackets without end": (DEEP, "nested too deeply"),
    "a body of brackets": (envelope("bad-1", body_text=base64.b64encode(DEEP.encode()).decode()), "nested too deeply"),
    "no id": (envelope("bad-2", headers={"id": None}), "has no id"),
    "no task": (envelope("bad-3", headers={"task": None}), "names no task"),
    "not base64": (envelope("bad-4", body_text="ab!"), "not the base64"),
    "a body that is text": (envelope("bad-5", "text"), "body is 'text'"),
    "one item": (envelope("bad-6", [[1]]), "a list of args, kwargs and embed"),
    "args an object": (envelope("bad-7", [{}, {}, {}]), "args is of type dict"),
    "kwargs a list": (envelope("bad-8", [[], [], {}]), "kwargs is of type list"),
    "a time that is a number": (envelope("bad-9", headers={"eta": 1795224627}), "eta is 1795224627"),
    "a time that is none": (envelope("bad-10", headers={"expires": "zork"}), "expires is 'zork'"),
    "a huge number": (envelope("bad-11", headers={"retries": 10**400}), "retries is"),
    "an unknown type": (envelope("bad-12", [[{"__type__": "shape", "__value__": 1}], {}, {}]), "Unknown __type__"),
    "a pickle": (envelope("bad-13", content_type="application/x-python-serialize"), "'pickle' to ACCEPT_CONTENT"),
    "an unknown compression": (envelope("bad-14", headers={"compression": "application/rar"}), "'application/rar'"),
}


@pytest.fixture(scope="module")
def queue(sides: Sides) -> Any:
    """The Redis with the queue of a worker of ours."""
    sides.worker("ours")
    return sides.server.connect()


@pytest.fixture
def letters(sides: Sides) -> Iterator[Any]:
    """What returns the dead letters; afterwards they are gone."""

    def found() -> list[Any]:
        return list(sides.app.broker.browser.messages(Wanted(states=(DEAD,)), 1000, payload=True))

    yield found
    sides.app.broker.browser.drop(found())


def is_done(sides: Sides) -> bool:
    size = sides.app.broker.sizes(["ours"])["ours"]
    return size.waiting == size.reserved == 0


def test_what_others_send_runs(sides: Sides, queue: Any) -> None:
    ids = {case: f"good-{number}" for number, case in enumerate(GOOD)}
    for number, (case, write) in enumerate(GOOD.items()):
        queue.lpush("ours" if number % 2 else f"ours{SEP}{(3, 6, 9)[number % 3]}", write(ids[case]))
    wait_for(lambda: is_done(sides), 30)
    results = {case: AsyncResult[Any](task_id, app=sides.app) for case, task_id in ids.items()}
    assert {case: (result.state, result.result) for case, result in results.items()} == dict.fromkeys(
        GOOD, ("SUCCESS", 5)
    )


def test_what_cannot_run_becomes_a_dead_letter_with_its_reason(sides: Sides, queue: Any, letters: Any) -> None:
    queue.lpush("ours", *(text for text, _ in BAD.values()))
    wait_for(lambda: is_done(sides), 30)
    reasons = {bytes(letter.payload).decode(): letter.reason for letter in letters()}
    for case, (text, reason) in BAD.items():
        assert reason in reasons[text], case
    assert len(reasons) == len(BAD)
    with pytest.raises(Exception, match="retries is"):
        AsyncResult[Any]("bad-11", app=sides.app).get(timeout=10)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(envelopes=st.lists(damaged(), min_size=1, max_size=20))
def test_nothing_on_the_list_stops_a_worker(sides: Sides, queue: Any, letters: Any, envelopes: list[bytes]) -> None:
    """Whatever it cannot read is kept, byte by byte, and what comes after it runs."""
    before = len(letters())
    queue.lpush("ours", *envelopes)
    assert sides.app.send_task("add", (2, 3), queue="ours").get(timeout=30) == 5
    wait_for(lambda: is_done(sides), 30)
    assert len(letters()) == before + sum(not is_readable(each) for each in envelopes)


def is_readable(text: bytes) -> bool:
    try:
        decode_envelope(text, JSON)
    except DecodeError:
        return False
    return True
