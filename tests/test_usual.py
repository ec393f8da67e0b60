"""The usual message is read at once, and to the same fields as by the reader of any message."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_tasks.exceptions import DecodeError
from django_tasks.message import Message, Parts, decode_envelope, decode_parts, encode_compact, encode_envelope
from django_tasks.serialization import content_types, json_loads
from django_tasks.usual import usual_fields

JSON = content_types(["json"])
SAFE = content_types(["json", "yaml"])
NO_EMBED = dict.fromkeys(("callbacks", "errbacks", "chain", "chord"))
ID = "5e12d35c-d9ee-4606-a2db-7c6bdabb1233"
#: What senders other than ours may put anywhere: near to what is usual, and far from it.
ODD = st.sampled_from([
    *(None, "", 0, 1, 1.0, -1, True, False, [], {}, [None, None], [0, 0], ["a"], {"a": 1}, 2**31, 2**70, "5"),
    *("x" * 256, "\x00", "\n", "a b", "ä", "\x7f", "\ud800", ID, "2026-11-21T01:30:27+00:00", float("nan"), 0.0),
    *({"routing_key": "q"}, "base64", "utf-8"),
    *({"__type__": "uuid", "__value__": {"hex": ID}}, {"__type__": "?", "__value__": 1}),
]) | st.text(max_size=3)  # fmt: skip
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.uuids() | st.binary(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=9), inner, max_size=2),
    max_leaves=4,
)
arguments = st.fixed_dictionaries({
    "args": st.lists(values, max_size=2), "kwargs": st.dictionaries(st.text(max_size=9), values, max_size=2),
})  # fmt: skip
wishes = st.fixed_dictionaries({}, optional={
    "priority": st.integers(0, 9), "parent_id": st.text("abc", min_size=1), "group": st.just(ID), "queue": st.just("q"),
    "ignore_result": st.booleans(), "reply_to": st.just("me"), "correlation_id": st.just(ID), "retries": st.just(2),
    "timelimit": st.just((3, None)), "headers": st.just({"mine": 1}), "redelivered": st.just(True),
})  # fmt: skip
encoders = st.sampled_from([encode_compact, encode_envelope])
names = [*json.loads(encode_envelope(Message("t", ID)))["headers"], "compression", "redelivered", "mine"]
odd_headers = st.dictionaries(st.sampled_from(names), ODD, max_size=2)
odd_properties = st.dictionaries(
    st.sampled_from(["delivery_info", "body_encoding", "correlation_id", "correlationId", "reply_to", "replyTo",
                     "priority", "delivery_mode"]), ODD, max_size=2,
)  # fmt: skip
odd_bodies = st.sampled_from(
    [None, [[], {}], [[1], {}, {}], [[1], {}, None], [[], {}, NO_EMBED], [[], {}, NO_EMBED, 1]]
)


def read_by(reader: Callable[[], Message]) -> str:
    """Return what a reader makes of a message, with the types of all that is in it."""
    try:
        return repr(reader())
    except DecodeError as exc:
        return f"{exc!r} {exc.task!r} {exc.id!r}"


def read_as_any(text: str | bytes) -> Message:
    """Read an envelope with the reader of any message."""
    whole = json_loads(text)
    names = ("body", "content-type", "content-encoding", "headers", "properties")
    return decode_parts(Parts(*(whole.get(name) for name in names)), SAFE)


@given(arguments, wishes, encoders)
def test_both_readers_make_the_same_of_what_we_send(
    call: dict[str, Any], options: dict[str, Any], encode: Callable[[Message], str]
) -> None:
    text = encode(Message("tasks.add", ID, **call, **options))
    assert read_by(lambda: decode_envelope(text, SAFE)) == read_by(lambda: read_as_any(text))


odd_parts = st.dictionaries(
    st.sampled_from(["content-type", "content-encoding", "headers", "properties", "body"]), ODD, max_size=1
)


@given(encoders, odd_bodies | ODD, odd_headers, odd_properties, odd_parts)
def test_both_readers_make_the_same_of_what_anybody_sends(
    encode: Callable[[Message], str], body: Any, headers: Any, properties: Any, others: Any
) -> None:
    whole = json.loads(encode(Message("tasks.add", ID, [1], {"a": "b"})))
    whole["headers"] |= headers
    whole["properties"] |= properties
    if body is not None:
        text = json.dumps(body)
        in_base64 = whole["properties"].get("body_encoding") == "base64"
        whole["body"] = b64encode(text.encode()).decode() if in_base64 else text
    whole |= others
    for text in (json.dumps(whole), json.dumps(whole).encode()):
        assert read_by(lambda text=text: decode_envelope(text, SAFE)) == read_by(lambda text=text: read_as_any(text))  # type: ignore[misc]


@pytest.mark.parametrize("encode", [encode_compact, encode_envelope])
@pytest.mark.parametrize("options", [
    {}, {"args": [1, "a"], "kwargs": {"b": [None]}}, {"parent_id": "p", "root_id": "r", "group": "g"}, {"priority": 3},
    {"reply_to": "me", "correlation_id": ID}, {"ignore_result": False}, {"queue": "ä"},
])  # fmt: skip
def test_a_usual_message_is_read_at_once(encode: Callable[[Message], str], options: dict[str, Any]) -> None:
    fields = usual_fields(encode(Message("tasks.add", ID, **options)), JSON)
    assert fields is not None
    assert fields[:2] == ("tasks.add", ID)


@pytest.mark.parametrize("options", [
    {"retries": 1}, {"embed": {"callbacks": [{"task": "t"}]}}, {"headers": {"mine": 1}}, {"redelivered": True},
    {"serializer": "pickle"}, {"compression": "gzip"}, {"timelimit": (1, None)}, {"stamps": {"a": "b"}},
])  # fmt: skip
def test_a_message_with_wishes_is_left_to_the_other_reader(options: dict[str, Any]) -> None:
    message = Message("tasks.add", ID, **options)
    for encode in (encode_compact, encode_envelope):
        assert usual_fields(encode(message), content_types(["json", "pickle"])) is None


def test_a_usual_message_is_not_read_where_json_is_not_accepted() -> None:
    assert usual_fields(encode_compact(Message("tasks.add", ID)), content_types(["yaml"])) is None
