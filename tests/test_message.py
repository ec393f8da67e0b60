"""Messages through the wire format and back, and what other senders put on the wire."""

from __future__ import annotations

import base64
import dataclasses
import json
import multiprocessing
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_tasks.exceptions import ContentDisallowed, DecodeError, EncodeError, MessageTooLarge
from django_tasks.message import (
    Message,
    Parts,
    decode_envelope,
    decode_parts,
    encode_compact,
    encode_envelope,
    encode_parts,
    origin,
)
from django_tasks.serialization import content_types

JSON = content_types(["json"])
ALL = content_types(["json", "pickle", "yaml", "msgpack"])
ID = "5e12d35c-d9ee-4606-a2db-7c6bdabb1233"
NOW = datetime(2026, 11, 21, 1, 30, 27, 102523, tzinfo=timezone.utc)
SIGNATURE = {"task": "tasks.add", "args": [1], "kwargs": {}, "options": {}, "subtask_type": None, "immutable": False}


def encoded(body: Any) -> str:
    return base64.b64encode(json.dumps(body).encode()).decode()


def celery_message(content: Any = None, headers: Any = None, properties: Any = None, **envelope: Any) -> str:
    """The envelope of section 1.1, as captured from a Celery 5.7 client, with changes."""
    if content is None:
        content = [[1], {"y": 2}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
    captured = {
        "body": encoded(content),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": "tasks.add",
            "id": ID,
            "shadow": "sh",
            "eta": "2026-11-21T01:30:27.102523+00:00",
            "expires": "2026-11-21T01:31:27.102523+00:00",
            "group": None,
            "group_index": None,
            "retries": 0,
            "timelimit": [30, 20],
            "root_id": ID,
            "parent_id": None,
            "argsrepr": "(1,)",
            "kwargsrepr": "{'y': 2}",
            "origin": "gen9202@vm",
            "ignore_result": True,
            "replaced_task_nesting": 0,
            "stamped_headers": None,
            "stamps": {},
            **(headers or {}),
        },
        "properties": {
            "correlation_id": ID,
            "reply_to": "9c65fdc9-61d8-3fbb-ba41-587ec0c0d692",
            "delivery_mode": 2,
            "expiration": "120000",
            "delivery_info": {"exchange": "", "routing_key": "other"},
            "priority": 5,
            "body_encoding": "base64",
            "delivery_tag": "183184cf-3a53-4d07-83e9-3a75f0ed0057",
            **(properties or {}),
        },
    }
    return json.dumps({**captured, **envelope})


def gocelery_message(content: Any, **envelope: Any) -> str:
    """Protocol 1 as gocelery sends it: no headers at all, and an exchange of its own."""
    message = {
        "body": encoded(content),
        "content-type": "application/json",
        "properties": {
            "body_encoding": "base64",
            "correlation_id": "7a1d2c3e-0001-4000-8000-000000000001",
            "reply_to": "7a1d2c3e-0002-4000-8000-000000000002",
            "delivery_info": {"priority": 0, "routing_key": "celery", "exchange": "celery"},
            "delivery_mode": 2,
            "delivery_tag": "7a1d2c3e-0003-4000-8000-000000000003",
        },
        "content-encoding": "utf-8",
    }
    return json.dumps({**message, **envelope})


# There and back

names = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=40)
numbers = st.integers(min_value=0, max_value=2**31 - 1)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary() | st.uuids(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
tables = st.dictionaries(names, plain, max_size=3)
signatures = st.fixed_dictionaries({"task": names, "args": st.lists(plain, max_size=2), "kwargs": tables})
times = st.datetimes(
    min_value=datetime(2000, 1, 1), timezones=st.sampled_from([timezone.utc, timezone(timedelta(hours=-9.5))])
)
limits = st.none() | st.integers(0, 10**6) | st.floats(0, 10**6)
messages = st.builds(
    Message,
    task=names,
    id=names,
    args=st.lists(plain, max_size=3),
    kwargs=tables,
    embed=st.none()
    | st.fixed_dictionaries(
        {
            "callbacks": st.none() | st.lists(signatures, max_size=2),
            "errbacks": st.none(),
            "chain": st.lists(signatures, max_size=2),
            "chord": st.none() | signatures,
        }
    ),
    queue=names,
    priority=st.integers(0, 9),
    eta=st.none() | times,
    expires=st.none() | times,
    retries=numbers,
    timelimit=st.tuples(limits, limits),
    root_id=names,
    parent_id=st.none() | names,
    group=st.none() | names,
    group_index=st.none() | numbers,
    shadow=st.none() | names,
    argsrepr=st.just("") | names,
    kwargsrepr=st.just("") | names,
    origin=names,
    reply_to=st.none() | names,
    correlation_id=names,
    ignore_result=st.none() | st.booleans(),
    replaced_task_nesting=numbers,
    stamped_headers=st.none() | st.lists(names, max_size=2),
    stamps=tables,
    headers=tables.map(lambda table: {f"x-{key}": value for key, value in table.items()}),
    compression=st.sampled_from([None, "application/x-gzip", "application/x-bz2"]),
    redelivered=st.booleans(),
)


@given(messages, st.sampled_from([encode_envelope, encode_compact]))
def test_a_message_comes_back_from_its_envelope(message: Message, encode: Callable[[Message], str]) -> None:
    assert decode_envelope(encode(message), JSON) == message


@given(messages, st.sampled_from(["json", "pickle"]))
def test_a_message_comes_back_from_its_parts(message: Message, serializer: str) -> None:
    message.serializer = serializer
    parts = encode_parts(message)
    read = decode_parts(parts, ALL)
    # The name of the queue is no part of what AMQP carries.
    assert read == dataclasses.replace(message, queue="celery", content_type=str(parts.content_type))


@pytest.mark.parametrize("serializer", ["pickle", "yaml", "msgpack"])
def test_other_serializers_travel_in_the_envelope(serializer: str) -> None:
    message = Message("tasks.add", ID, ["ä", 1.5], {"k": [None]}, serializer=serializer)
    (content_type,) = content_types([serializer])
    text = encode_compact(message)

    read = decode_envelope(text, ALL)

    assert (read.args, read.kwargs, read.serializer) == (["ä", 1.5], {"k": [None]}, serializer)
    assert read.content_type == json.loads(text)["content-type"] == content_type
    with pytest.raises(ContentDisallowed) as caught:
        decode_envelope(text, JSON)
    assert (caught.value.task, caught.value.id) == ("tasks.add", ID)


@pytest.mark.parametrize("data", [b"\x00" * 100_000, "ä" * 100_000])
@pytest.mark.parametrize("compression", ["gzip", "xz"])
def test_a_compressed_message_stays_compressed_when_it_is_sent_again(compression: str, data: Any) -> None:
    text = encode_envelope(Message("tasks.add", ID, [data], compression=compression))
    assert len(text) < 5_000
    read = decode_envelope(text, JSON)
    assert read.args == [data]
    assert read.headers == {}
    again = encode_envelope(dataclasses.replace(read, retries=1))
    assert len(again) < 5_000
    assert decode_envelope(again, JSON).args == [data]


def test_a_compressed_message_that_is_too_large_is_refused() -> None:
    text = encode_envelope(Message("tasks.add", ID, ["x" * 100_000], compression="gzip"))
    with pytest.raises(DecodeError, match="larger than the 50000 bytes") as caught:
        decode_envelope(text, JSON, max_size=50_000)
    assert (caught.value.task, caught.value.id) == ("tasks.add", ID)


# What is written


def test_the_envelope_is_the_one_that_celery_writes() -> None:
    """The very call of section 1.1; what is random or depends on the process is filled in from the capture."""
    captured = json.loads(celery_message())
    message = Message(
        task="tasks.add",
        id=ID,
        args=(1,),
        kwargs={"y": 2},
        queue="other",
        priority=5,
        eta=NOW,
        expires=NOW + timedelta(seconds=60),
        timelimit=(30, 20),
        shadow="sh",
        ignore_result=True,
        reply_to=captured["properties"]["reply_to"],
    )

    written = json.loads(encode_envelope(message))

    assert json.loads(base64.b64decode(written["body"])) == json.loads(base64.b64decode(captured["body"]))
    assert list(written["headers"]) == list(captured["headers"])
    assert written["headers"].pop("origin") == f"gen{os.getpid()}@{socket.gethostname()}"
    assert uuid.UUID(written["properties"].pop("delivery_tag")).version == 7
    assert written["properties"].pop("expiration").isdigit()
    for name in ("delivery_tag", "expiration"):
        del captured["properties"][name]
    del captured["headers"]["origin"], captured["body"], written["body"]
    assert written == captured


NAMES = st.one_of(st.sampled_from(['"%b"', "100 %", "ü\\", "a{}b"]), st.text(min_size=1))
PLAIN = st.builds(
    Message,
    task=NAMES,
    id=NAMES,
    args=st.tuples(st.text()),
    kwargs=st.dictionaries(st.text(), st.integers(0, 9)),
    queue=NAMES,
    priority=st.none() | st.integers(0, 9),
    root_id=st.none() | st.just("") | NAMES,
    parent_id=st.none() | NAMES,
    argsrepr=st.none() | st.text(),
    origin=st.none() | NAMES,
)


@given(message=PLAIN)
def test_a_call_without_special_wishes_is_written_as_any_other(message: Message) -> None:
    """The stamps of no name say nothing, but keep it from the short way."""
    written, wanted = encode_envelope(message), encode_envelope(dataclasses.replace(message, stamps={"": 1}))
    tag = json.loads(written)["properties"]["delivery_tag"]
    wanted = wanted.replace(json.loads(wanted)["properties"]["delivery_tag"], tag)
    assert written == wanted.replace('"stamps":{"":1}', '"stamps":{}')


def test_a_simple_call_has_all_headers_and_properties() -> None:
    envelope = json.loads(encode_envelope(Message("tasks.add", ID)))
    assert set(envelope) == {"body", "content-encoding", "content-type", "headers", "properties"}
    assert set(envelope["headers"]) == set(json.loads(celery_message())["headers"])
    assert envelope["headers"]["root_id"] == ID
    assert envelope["headers"]["timelimit"] == [None, None]
    tag = envelope["properties"].pop("delivery_tag")
    assert tag != json.loads(encode_envelope(Message("tasks.add", ID)))["properties"]["delivery_tag"]
    assert envelope["properties"] == {
        "correlation_id": ID,
        "reply_to": "",
        "delivery_mode": 2,
        "priority": 0,
        "body_encoding": "base64",
        "delivery_info": {"exchange": "", "routing_key": "celery"},
    }


def test_the_compact_envelope_can_be_read_by_people_and_holds_what_differs() -> None:
    assert json.loads(encode_compact(Message("tasks.add", ID, ["ä"], headers={"x": None}))) == {
        "body": '[["ä"],{}]',
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            **{"task": "tasks.add", "id": ID, "root_id": ID, "origin": origin(), "x": None},
            **{"argsrepr": "('ä',)", "kwargsrepr": "{}"},
        },
        "properties": {"delivery_info": {"routing_key": "celery"}},
    }


def test_a_message_that_expires_tells_the_broker_in_how_many_milliseconds() -> None:
    soon = Message("tasks.add", ID, expires=datetime.now(timezone.utc) + timedelta(minutes=10))
    past = Message("tasks.add", ID, expires=datetime.now(timezone.utc) - timedelta(minutes=10))
    assert 0 < int(encode_parts(soon).properties["expiration"]) <= 600_000
    assert encode_parts(past).properties["expiration"] == "0"


def test_redelivery_is_flagged_where_celery_looks() -> None:
    envelope = json.loads(encode_envelope(Message("tasks.add", ID, redelivered=True)))
    assert envelope["headers"]["redelivered"] is True
    assert envelope["properties"]["delivery_info"]["redelivered"] is True


def test_custom_headers_cannot_replace_the_own_ones() -> None:
    message = Message(
        "tasks.add", ID, headers={"task": "evil", "retries": 7, "compression": "gzip", "redelivered": 1, "x": [1]}
    )
    read = decode_envelope(encode_envelope(message), JSON)
    assert (read.task, read.retries, read.headers) == ("tasks.add", 0, {"x": [1]})
    assert (read.compression, read.redelivered) == (None, False)


def test_what_users_put_into_headers_and_stamps_does_not_change_either() -> None:
    odd = {"when": NOW, "big": 2**70, "inf": float("inf"), "id": uuid.UUID(ID)}
    read = decode_envelope(encode_envelope(Message("tasks.add", ID, headers=odd.copy(), stamps=odd.copy())), JSON)
    assert read.headers == {name: value for name, value in odd.items() if name != "id"}
    assert read.stamps == odd


def test_arguments_are_shown_to_monitors() -> None:
    headers = encode_parts(Message("tasks.add", ID, [1, "x"], {"y": 2})).headers
    assert (headers["argsrepr"], headers["kwargsrepr"]) == ("(1, 'x')", "{'y': 2}")
    hidden = encode_parts(Message("tasks.add", ID, ["secret"], argsrepr="(***)", kwargsrepr="")).headers
    assert (hidden["argsrepr"], hidden["kwargsrepr"]) == ("(***)", "")


@pytest.mark.parametrize("value", ["x" * 10**6, list(range(10**5)), {str(n): n for n in range(10**5)}, ["y" * 99] * 30])
def test_large_arguments_are_shown_in_part(value: Any) -> None:
    headers = encode_parts(Message("tasks.add", ID, [value], {"key": value})).headers
    for shown in (headers["argsrepr"], headers["kwargsrepr"]):
        assert 20 < len(shown) <= 1024
        assert "..." in shown


def test_an_argument_whose_repr_fails_can_be_sent() -> None:
    class Silent(str):
        def __repr__(self) -> str:
            raise RuntimeError("no")

    text = encode_envelope(Message("tasks.add", ID, [Silent("x")]))
    assert json.loads(text)["headers"]["argsrepr"] == "<tuple that cannot be shown>"
    assert decode_envelope(text, JSON).args == ["x"]


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (
            Message("tasks.add", ID, [{"x": {1}}]),
            r"^Task 'tasks.add' cannot be sent: args\[0\]\['x'\] is a builtins.set",
        ),
        (Message("tasks.add", ID, kwargs={"k": [1, 1j]}), r"cannot be sent: kwargs\['k'\]\[1\] is a builtins.complex"),
        (Message("tasks.add", ID, embed={"chain": [{"args": {2}}]}), r"embed\['chain'\]\[0\]\['args'\] is a .*set"),
        (Message("tasks.add", ID, headers={"x": {1}}), r"'tasks.add' cannot be sent: message\['headers'\]\['x'\]"),
        (Message("tasks.add", ID, stamps={"x": {1}}), r"message\['headers'\]\['stamps'\]\['x'\] is a"),
        (Message("tasks.add", ID, "abc"), r"args must be a list or a tuple, not a str"),
        (Message("tasks.add", ID, [lambda: 1], serializer="pickle"), r"'tasks.add' cannot be sent: args cannot be"),
        (Message("tasks.add", ID, eta=datetime(2024, 1, 1)), r"eta 2024-01-01 00:00:00 has no time zone"),
        (Message("tasks.add", ID, expires=datetime(2024, 1, 1)), r"expires 2024-01-01 00:00:00 has no time zone"),
        (Message("tasks.add", ID, eta=datetime.max.replace(tzinfo=timezone(-timedelta(hours=1)))), r"out of range"),
    ],
)
def test_what_cannot_be_sent_is_named_with_task_and_place(message: Message, problem: str) -> None:
    with pytest.raises(EncodeError, match=problem):
        encode_envelope(message)


def test_a_message_that_is_too_large_says_what_to_do() -> None:
    message = Message("tasks.add", ID, ["x" * 3000])
    size = len(encode_envelope(message).encode())
    assert encode_envelope(message, max_size=size)
    with pytest.raises(MessageTooLarge) as caught:
        encode_envelope(message, max_size=3000)
    for part in ("'tasks.add'", f"{size:,} bytes", "TASK_MAX_MESSAGE_SIZE = 3,000", "pass its key"):
        assert part in str(caught.value)
    with pytest.raises(MessageTooLarge):
        encode_parts(message, max_size=3000)


def test_ids_are_random_uuids_that_begin_with_the_time() -> None:
    before = time.time()
    ids = [Message.new_id() for _ in range(1000)]
    assert len({text[15:] for text in ids}) == 1000
    for text in ids:
        assert int(before * 1000) <= uuid.UUID(text).int >> 80 <= time.time() * 1000
    for text in ids:
        assert str(uuid.UUID(text)) == text
        assert uuid.UUID(text).version == 7
        assert uuid.UUID(text).variant == uuid.RFC_4122


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_the_origin_is_that_of_the_process_after_a_fork() -> None:
    assert origin() == f"gen{os.getpid()}@{socket.gethostname()}"
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=lambda: queue.put(origin()))
    child.start()
    said = queue.get()
    child.join()
    assert said == f"gen{child.pid}@{socket.gethostname()}"


# What others write


def test_a_captured_celery_message_is_read() -> None:
    assert decode_envelope(celery_message(), JSON) == Message(
        task="tasks.add",
        id=ID,
        args=[1],
        kwargs={"y": 2},
        queue="other",
        priority=5,
        eta=NOW,
        expires=NOW + timedelta(seconds=60),
        timelimit=(30, 20),
        root_id=ID,
        shadow="sh",
        argsrepr="(1,)",
        kwargsrepr="{'y': 2}",
        origin="gen9202@vm",
        ignore_result=True,
        reply_to="9c65fdc9-61d8-3fbb-ba41-587ec0c0d692",
        correlation_id=ID,
    )


def test_bytes_are_read_like_text() -> None:
    assert decode_envelope(celery_message().encode(), JSON) == decode_envelope(celery_message(), JSON)


def test_the_smallest_message_is_read() -> None:
    """Section 1.10, word for word."""
    text = (
        '{"body":"W1tdLHt9LHt9XQ==","content-encoding":"utf-8","content-type":"application/json",'
        '"headers":{"task":"tasks.noop","id":"%s"},"properties":{"delivery_info":{"exchange":"",'
        '"routing_key":"celery"},"body_encoding":"base64","delivery_tag":"t"}}'
    )
    assert decode_envelope(text % ID, JSON) == Message("tasks.noop", ID, [], {})


def test_a_chain_step_is_read() -> None:
    """Section 5.2: the rest of the chain, next step last."""
    steps = [{**SIGNATURE, "args": [4], "options": {"task_id": "0c03d91b"}}, {**SIGNATURE, "args": [3]}]
    body = [[1, 2], {}, {"callbacks": None, "errbacks": None, "chain": steps, "chord": None}]
    assert decode_envelope(celery_message(body), JSON).embed == body[2]
    last = [[1, 2], {}, {"callbacks": None, "errbacks": None, "chain": [], "chord": None}]
    assert decode_envelope(celery_message(last), JSON).embed == last[2]


@pytest.mark.parametrize("body", [[[1], {"y": 2}], [[1], {"y": 2}, None], [[1], {"y": 2}, {}], [[1], {"y": 2}, []]])
def test_a_body_may_embed_nothing(body: list[Any]) -> None:
    read = decode_envelope(celery_message(body), JSON)
    assert (read.args, read.kwargs, read.embed) == ([1], {"y": 2}, None)


def test_null_arguments_are_none_given() -> None:
    read = decode_envelope(celery_message([None, None, {}]), JSON)
    assert (read.args, read.kwargs) == ([], {})


def test_extra_headers_are_kept_and_sent_again() -> None:
    text = celery_message(headers={"x-extra": "hi", "periodic_task_name": "nightly", "nothing": None})
    read = decode_envelope(text, JSON)
    assert read.headers == {"x-extra": "hi", "periodic_task_name": "nightly", "nothing": None}
    assert decode_envelope(encode_envelope(read), JSON).headers == read.headers


def test_stamps_are_read() -> None:
    text = celery_message(headers={"stamped_headers": ["mon", "batch"], "stamps": {"mon": "abc", "batch": ["b1"]}})
    read = decode_envelope(text, JSON)
    assert (read.stamped_headers, read.stamps) == (["mon", "batch"], {"mon": "abc", "batch": ["b1"]})


@pytest.mark.parametrize("encoding", [None, "", "utf-8"])
def test_a_body_may_be_plain_text(encoding: str | None) -> None:
    text = celery_message(properties={"body_encoding": encoding}, body='[["ä"], {}, {}]')
    assert decode_envelope(text, JSON).args == ["ä"]


def test_a_message_without_content_type_is_read_as_json_if_that_is_accepted() -> None:
    text = celery_message(**{"content-type": None, "content-encoding": None})
    assert decode_envelope(text, JSON).args == [1]
    assert decode_envelope(text, JSON).content_type == "application/json"
    with pytest.raises(ContentDisallowed):
        decode_envelope(text, content_types(["msgpack"]))


def test_a_message_of_celery_node_is_read() -> None:
    """Protocol 2 with just three headers, and properties in the spelling of JavaScript."""
    text = json.dumps(
        {
            "body": encoded([[1, 2], {}, {}]),
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": {"lang": "js", "task": "tasks.add", "id": ID},
            "properties": {
                "correlationId": ID,
                "replyTo": "9c65fdc9-61d8-3fbb-ba41-587ec0c0d692",
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": "jobs"},
                "body_encoding": "base64",
                "delivery_tag": "183184cf-3a53-4d07-83e9-3a75f0ed0057",
            },
        }
    )
    wanted = Message("tasks.add", ID, [1, 2], {}, queue="jobs", correlation_id=ID)
    wanted.reply_to = "9c65fdc9-61d8-3fbb-ba41-587ec0c0d692"
    assert decode_envelope(text, JSON) == wanted


@pytest.mark.parametrize("headers", [{}, {"headers": None}, {"headers": {}}])
def test_a_message_of_gocelery_is_read(headers: dict[str, Any]) -> None:
    body = {"id": ID, "task": "worker.add", "args": [5456, 2878], "kwargs": None, "retries": 0, "eta": None}
    read = decode_envelope(gocelery_message(body, **headers), JSON)
    assert read == Message(
        "worker.add",
        ID,
        [5456, 2878],
        {},
        priority=0,
        reply_to="7a1d2c3e-0002-4000-8000-000000000002",
        correlation_id="7a1d2c3e-0001-4000-8000-000000000001",
    )


def test_all_fields_of_protocol_1_are_read() -> None:
    body = {
        "task": "tasks.add",
        "id": ID,
        "args": [1],
        "kwargs": {"y": 2},
        "retries": 2,
        "eta": "2026-11-21T01:30:27.102523",
        "expires": "2026-11-21T01:31:27.102523Z",
        "utc": True,
        "timelimit": [30, None],
        "callbacks": [SIGNATURE],
        "errbacks": None,
        "chord": SIGNATURE,
        "group": "old",
        "taskset": "g1",
    }
    read = decode_envelope(gocelery_message(body, headers={"x": 1}), JSON)
    assert (read.task, read.id, read.args, read.kwargs, read.retries) == ("tasks.add", ID, [1], {"y": 2}, 2)
    assert (read.eta, read.expires) == (NOW, NOW + timedelta(seconds=60))
    assert (read.timelimit, read.group, read.headers) == ((30, None), "g1", {"x": 1})
    assert read.embed == {"callbacks": [SIGNATURE], "errbacks": None, "chain": None, "chord": SIGNATURE}
    assert json.loads(encode_envelope(read))["headers"]["task"] == "tasks.add"


def test_old_senders_without_utc_mean_the_time_zone_of_the_project() -> None:
    body = {"task": "t", "id": ID, "args": [], "kwargs": {}, "eta": "2026-11-21T10:30:00", "utc": False}
    code = (
        "import sys; from django.conf import settings; settings.configure(TIME_ZONE='Asia/Tokyo', USE_TZ=True)\n"
        "from django_tasks.message import decode_envelope\n"
        "print(decode_envelope(sys.argv[1], frozenset({'application/json'})).eta)"
    )
    done = subprocess.run([sys.executable, "-c", code, gocelery_message(body)], capture_output=True, text=True)
    assert done.stdout.strip() == "2026-11-21 01:30:00+00:00", done.stderr


def test_in_the_hybrid_headers_override_the_body() -> None:
    body = {"task": "old", "id": "old", "args": [1], "kwargs": {"y": 2}, "retries": 3, "group": "g", "chord": SIGNATURE}
    text = gocelery_message(body, headers={"task": "tasks.add", "id": ID, "retries": 1, "x": "y"})
    read = decode_envelope(text, JSON)
    assert (read.task, read.id, read.retries, read.group) == ("tasks.add", ID, 1, "g")
    assert (read.args, read.kwargs, read.headers) == ([1], {"y": 2}, {"x": "y"})
    assert read.embed is not None
    assert read.embed["chord"] == SIGNATURE


@pytest.mark.parametrize(
    ("header", "value", "wanted"),
    [
        ("retries", "3", 3),
        ("retries", 3.0, 3),
        ("retries", None, 0),
        ("group_index", "0", 0),
        ("timelimit", ["30", 1.5], (30, 1.5)),
        ("timelimit", None, (None, None)),
        ("timelimit", [], (None, None)),
        ("id", 17, "17"),
        ("group", None, None),
        ("ignore_result", 0, False),
        ("ignore_result", False, False),
        ("stamps", None, {}),
        ("argsrepr", ["odd"], None),
        ("kwargsrepr", "two\nlines", "two\\nlines"),
        ("replaced_task_nesting", None, 0),
        ("redelivered", True, True),
        ("eta", "2026-11-21T10:30:27.102523+09:00", NOW),
        ("eta", "2026-11-21T01:30:27.102523Z", NOW),
        ("eta", "2026-11-21 01:30:27.102523", NOW),
        ("eta", {"__type__": "datetime", "__value__": "2026-11-21T01:30:27.102523"}, NOW),
        ("eta", "", None),
        ("eta", None, None),
    ],
)
def test_headers_are_read_tolerantly(header: str, value: Any, wanted: Any) -> None:
    read = decode_envelope(celery_message(headers={header: value}), JSON)
    assert getattr(read, header) == wanted
    assert read.eta is None or read.eta.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("properties", "field", "wanted"),
    [
        ({"priority": None}, "priority", None),
        ({"priority": "7"}, "priority", 7),
        ({"reply_to": ""}, "reply_to", None),
        ({"delivery_info": None}, "queue", "celery"),
        ({"delivery_info": {"exchange": "x", "routing_key": ""}}, "queue", "celery"),
        ({"delivery_info": {"routing_key": "q", "redelivered": True}}, "redelivered", True),
    ],
)
def test_properties_are_read_tolerantly(properties: dict[str, Any], field: str, wanted: Any) -> None:
    assert getattr(decode_envelope(celery_message(properties=properties), JSON), field) == wanted


@pytest.mark.parametrize("id", [None, ""])
def test_an_id_that_stands_only_in_the_properties_is_found(id: str | None) -> None:
    assert decode_envelope(celery_message(headers={"id": id}), JSON).id == ID


# What is damaged


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (celery_message(headers={"eta": 1795224627}), "eta is 1795224627 and should be an ISO 8601 time"),
        (celery_message(headers={"eta": "1795224627"}), "eta is '1795224627' and"),
        (celery_message(headers={"eta": "1701121710637"}), "eta is '1701121710637' and"),
        (celery_message(headers={"eta": "zork"}), "eta is 'zork' and"),
        (celery_message(headers={"expires": []}), "expires is of type list and"),
        (celery_message(headers={"expires": "9999-12-31T23:59:59-10:00"}), "expires is '9999"),
        (celery_message(headers={"retries": "many"}), "retries is 'many' and should be a whole number"),
        (celery_message(headers={"retries": 2**40}), "retries is 1099511627776 and"),
        (celery_message(headers={"retries": float("nan")}), "retries is nan and"),
        (celery_message(headers={"timelimit": 5}), "timelimit is 5 and should be a list"),
        (celery_message(headers={"timelimit": [1, "x"]}), "timelimit is 'x' and should be made of seconds"),
        (celery_message(headers={"timelimit": [float("nan"), None]}), "timelimit is nan and"),
        (celery_message(headers={"timelimit": [-1, None]}), "timelimit is -1 and"),
        (celery_message(headers={"group": ["g"]}), "group is of type list and should be printable text"),
        (celery_message(headers={"parent_id": "a\x00b"}), "parent_id is 'a.x00b' and"),
        (celery_message(headers={"ignore_result": "yes"}), "ignore_result is 'yes' and"),
        (celery_message(headers={"stamps": [1]}), "stamps is of type list and should be an object"),
        (celery_message(headers={"stamped_headers": [1]}), "stamped_headers is of type list and"),
        (celery_message(headers={"compression": "application/rar"}), "compression 'application/rar'"),
        (celery_message(headers={"compression": ["gzip"]}), "not by a list"),
        (celery_message(headers={"compression": "application/x-gzip"}), "not valid application/x-gzip"),
        (celery_message(properties={"priority": "high"}), "priority is 'high' and"),
        (celery_message(properties={"delivery_info": "x"}), "delivery_info is 'x' and"),
        (celery_message(properties={"body_encoding": "hex"}), "body_encoding is 'hex' and"),
        (celery_message(properties=None, body="ab!"), "not the base64"),
        (celery_message(properties=None, body="bm90IGpzb24="), "not valid JSON"),
        (celery_message(body=None), "body is None and should be text"),
        (celery_message(body=[[], {}, {}]), "body is of type list and should be text"),
        (celery_message(body=""), "not valid JSON"),
        (celery_message([[1]]), "body is of type list and should be a list of args, kwargs and embed"),
        (celery_message("text"), "body is 'text' and"),
        (celery_message([{"a": 1}, {}, {}]), "args is of type dict and should be a list"),
        (celery_message([[], [], {}]), "kwargs is of type list and should be an object"),
        (celery_message([[], {}, "x"]), "embed is 'x' and"),
        (celery_message([[], {}, {"chain": 5}]), "chain is 5 and should be a list of signatures"),
        (celery_message([[], {}, {"callbacks": [1]}]), "callbacks is of type list and"),
        (celery_message([[], {}, {"chord": [1]}]), "chord is of type list and should be a signature"),
        (celery_message([[{"__type__": "shape", "__value__": 1}], {}, {}]), "Unknown __type__ 'shape'"),
        (celery_message({"x": 1}), "neither args nor kwargs"),
        (celery_message(**{"content-type": ["x"]}), "not a list"),
    ],
)
def test_a_damaged_message_names_itself(text: str, problem: str) -> None:
    with pytest.raises(DecodeError, match=problem) as caught:
        decode_envelope(text, JSON)
    assert (caught.value.task, caught.value.id) == ("tasks.add", ID)


@pytest.mark.parametrize(
    ("text", "problem", "task", "id"),
    [
        ("", "not valid JSON", None, None),
        (b"\xff", "not valid JSON", None, None),
        ("[1]", "The envelope is a list", None, None),
        ("{}", "body is None", None, None),
        (celery_message(headers={"task": None}), "names no task", None, ID),
        (celery_message(headers={"task": "t" * 256}), "task is 't+' and should be printable text", None, ID),
        (celery_message(headers={"id": None}, properties={"correlation_id": ""}), "has no id", "tasks.add", None),
        (gocelery_message({"args": [], "kwargs": {}, "id": ID}), "names no task", None, ID),
        (gocelery_message({"task": "t", "id": ID, "eta": 5}), "eta is 5 and", "t", ID),
        (gocelery_message([[], {}, {}]), "names no task", None, None),
        (gocelery_message([[], {}, {}], headers=[]), "headers is of type list", None, None),
        (gocelery_message({"task": "t"}, properties={"body_encoding": "base64"}), "has no id", "t", None),
        (gocelery_message({"task": "t"}, properties="x"), "properties is 'x' and", None, None),
    ],
)
def test_a_message_names_itself_as_far_as_it_can(text: str, problem: str, task: str | None, id: str | None) -> None:
    with pytest.raises(DecodeError, match=problem) as caught:
        decode_envelope(text, JSON)
    assert (caught.value.task, caught.value.id) == (task, id)


def test_a_pickle_is_not_opened_unless_accepted() -> None:
    evil = b"cbuiltins\nexec\n(S'raise SystemExit'\ntR."
    text = celery_message(**{"body": base64.b64encode(evil).decode(), "content-type": "application/x-python-serialize"})
    with pytest.raises(ContentDisallowed, match="'pickle' to ACCEPT_CONTENT") as caught:
        decode_envelope(text, JSON)
    assert (caught.value.task, caught.value.id) == ("tasks.add", ID)


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()))
    | st.sampled_from(["1", "base64", "utf-8", ID]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
SAFE = ["application/json", "application/x-yaml", "application/x-msgpack", "text/plain", ""]


def some_of(names: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=dict.fromkeys(names, anything))


V1_FIELDS = ["task", "id", "args", "kwargs", "retries", "eta", "expires", "utc", "timelimit", "callbacks", "taskset"]
damaged_headers = st.none() | some_of(list(json.loads(celery_message())["headers"])) | anything
damaged_properties = st.none() | some_of(list(json.loads(celery_message())["properties"])) | anything
damaged_bodies = st.lists(anything, min_size=2, max_size=3) | some_of(V1_FIELDS) | anything


@given(damaged_bodies, damaged_headers, damaged_properties, st.sampled_from(SAFE) | anything, anything)
def test_no_envelope_raises_anything_but_a_decode_error(
    body: Any, headers: Any, properties: Any, content_type: Any, encoding: Any
) -> None:
    whole = json.loads(celery_message(body))
    for name, table in (("headers", headers), ("properties", properties)):
        whole[name] = {**whole[name], **table} if isinstance(table, dict) else table
    for change in ({}, {"content-type": content_type}, {"content-encoding": encoding}, {"body": body}):
        try:
            read = decode_envelope(json.dumps({**whole, **change}), ALL)
        except DecodeError:
            continue
        assert decode_envelope(encode_envelope(read), ALL).id == read.id


@given(st.binary() | st.text(st.characters(exclude_categories=())))
def test_no_bytes_raise_anything_but_a_decode_error(data: bytes | str) -> None:
    with pytest.raises(DecodeError):
        decode_envelope(data, JSON)


@given(st.integers(0, 900), st.integers(0, 255))
def test_no_changed_byte_raises_anything_but_a_decode_error(place: int, byte: int) -> None:
    data = bytearray(celery_message().encode())
    data[place % len(data)] = byte
    try:
        read = decode_envelope(bytes(data), JSON)
    except DecodeError:
        return
    assert isinstance(read, Message)


@given(st.binary(), some_of(list(json.loads(celery_message())["headers"])))
def test_no_parts_raise_anything_but_a_decode_error(body: bytes, headers: dict[str, Any]) -> None:
    headers = {"task": "t", "id": ID, **headers}
    for compression in (None, "application/x-gzip", "application/x-bz2", "application/zstd"):
        for content_type in ("application/json", "application/x-msgpack", "application/x-yaml"):
            parts = Parts(body, content_type, "utf-8", {**headers, "compression": compression}, {})
            try:
                decode_parts(parts, ALL)
            except DecodeError:
                continue


def test_captured_amqp_parts_are_read() -> None:
    """Section 3.2: a body without base64, and no delivery_info."""
    properties = {
        "priority": 5,
        "correlation_id": ID,
        "reply_to": "be01863e",
        "delivery_mode": 2,
        "expiration": "60000",
    }
    headers = json.loads(celery_message())["headers"]
    body = b'[[2, 3], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
    read = decode_parts(Parts(body, "application/json", "utf-8", headers, properties), JSON)
    assert (read.args, read.priority, read.reply_to, read.queue) == ([2, 3], 5, "be01863e", "celery")
    assert headers == json.loads(celery_message())["headers"]
