"""Values through every serializer and back; JSON changes none silently."""

from __future__ import annotations

import base64
import collections
import enum
import math
import pickle
import sys
import uuid
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import orjson
import pytest
from django.utils.functional import lazystr
from hypothesis import given
from hypothesis import strategies as st

from django_tasks import serialization
from django_tasks.exceptions import ContentDisallowed, DecodeError, EncodeError, ImproperlyConfigured
from django_tasks.serialization import content_types, dumps, json_dumps, json_loads, loads, parse_iso, register_type

JSON = content_types(["json"])
ALL = content_types(["json", "pickle", "yaml", "msgpack"])

# Everything that JSON with typed values can hold. Text has no lone surrogates here; they have a test of their own.
texts = st.text()
keys = texts.filter(lambda key: key not in ("__type__", "__value__"))
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(2**70), max_value=2**70),
    st.floats(allow_nan=False),
    texts,
    st.binary(),
    st.datetimes(timezones=st.none() | st.just(timezone.utc)),
    st.dates(),
    st.times(),
    st.decimals(allow_nan=False),
    st.uuids(),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
)


class Colour(enum.Enum):
    RED = "red"


class Size(str, enum.Enum):
    SMALL = "s"


class Level(enum.IntEnum):
    HIGH = 3


@dataclass
class Point:
    x: int


Pair = collections.namedtuple("Pair", "left right")


def through(value: Any, serializer: str = "json") -> Any:
    return loads(dumps(value, serializer).data, dumps(value, serializer).content_type, None, ALL)


def same(left: Any, right: Any) -> bool:
    """Tell whether both are equal and of the same types all through (1, 1.0 and True are equal to Python)."""
    if type(left) is not type(right):
        return False
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return bool(left == right)


@given(values)
def test_json_brings_back_what_it_was_given(value: Any) -> None:
    assert same(through(value), value)


@given(values)
def test_both_ways_of_writing_json_mean_the_same(value: Any) -> None:
    """A value that needs the slow way makes its neighbours take it too; that must not change them."""
    assert same(through([value, math.inf])[0], value)


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        (datetime(2024, 1, 2, 3, 4, 5, tzinfo=timezone.utc), ("datetime", "2024-01-02T03:04:05+00:00")),
        (date(2024, 1, 2), ("date", "2024-01-02")),
        (time(3, 4), ("time", "03:04:00")),
        (Decimal("1.50"), ("decimal", "1.50")),
        (uuid.UUID("12345678-1234-5678-1234-567812345678"), ("uuid", {"hex": "12345678123456781234567812345678"})),
        (b"abc", ("bytes", "abc")),
        (b"\xff\x00", ("base64", "/wA=")),
    ],
)
def test_typed_values_stand_on_the_wire_as_celery_writes_them(value: Any, wire: tuple[str, Any]) -> None:
    data = json_dumps([value])

    assert orjson.loads(data) == [{"__type__": wire[0], "__value__": wire[1]}]
    assert same(json_loads(data), [value])


@pytest.mark.parametrize("number", [2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**40, -0.0, 5e-324, 1e308])
def test_numbers_of_any_size_are_exact(number: float) -> None:
    assert repr(through([number])[0]) == repr(number)


def test_infinity_and_nan_are_written_as_literals_as_celery_does() -> None:
    assert json_dumps([math.inf, -math.inf, math.nan]) == b"[Infinity,-Infinity,NaN]"
    read = through({"x": [math.inf, -math.inf, math.nan]})["x"]
    assert read[:2] == [math.inf, -math.inf]
    assert math.isnan(read[2])


def test_text_with_half_a_surrogate_pair_survives() -> None:
    assert through(["\ud800", "ok"]) == ["\ud800", "ok"]


def test_deep_values_are_written_whether_orjson_manages_or_not() -> None:
    value: list[Any] = []
    for _ in range(400):
        value = [value]
    assert through(value) == value


def test_tuples_and_subclasses_come_back_as_the_plain_kind() -> None:
    value = {"t": (1, (2,)), "p": Pair(1, b"x"), "s": Size.SMALL, "l": Level.HIGH, "o": collections.OrderedDict(a=1)}
    assert through(value) == {"t": [1, [2]], "p": [1, b"x"], "s": "s", "l": 3, "o": {"a": 1}}
    assert type(through(value)["s"]) is str


def test_keys_that_are_no_text_become_text_as_in_celery() -> None:
    assert through({1: "a", 1.5: "b", None: "c", False: "d"}) == {"1": "a", "1.5": "b", "null": "c", "false": "d"}
    assert through({2: "a", Size.SMALL: "b", Level.HIGH: "c"}) == {"2": "a", "s": "b", "3": "c"}


def test_keys_that_would_become_the_same_are_refused() -> None:
    with pytest.raises(EncodeError, match=r"^args\[0\] has keys that are the same"):
        json_dumps([{1: "a", "1": "b"}], "args")


@pytest.mark.parametrize("value", [{"__type__": "uuid", "__value__": 1}, {"__value__": None, "__type__": None}])
def test_a_dict_that_looks_like_a_typed_value_is_refused(value: dict[str, Any]) -> None:
    with pytest.raises(EncodeError, match=r"^value\['x'\] has just the keys __type__ and __value__"):
        json_dumps({"x": value})
    assert through({**value, "more": 1}) == {**value, "more": 1}


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({1, 2}, "builtins.set"),
        (Colour.RED, "Colour"),
        (Point(1), "Point"),
        (1j, "complex"),
        (object, "builtins.type"),
        (bytearray(b"x"), "bytearray"),
        (timedelta(1), "timedelta"),
    ],
)
def test_what_json_cannot_hold_is_named_with_its_place(value: Any, kind: str) -> None:
    with pytest.raises(EncodeError, match=rf"^args\[0\]\['x'\]\[2\] is a .*{kind}, which JSON cannot hold. Pass"):
        json_dumps([{"x": (1, 2, value)}], "args")


def test_a_key_that_json_cannot_hold_is_named() -> None:
    with pytest.raises(EncodeError, match=r"^value\[\(1, 2\)\] stands under a key that is a tuple"):
        json_dumps({(1, 2): 3})


def test_a_value_that_contains_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(EncodeError, match="contains itself or is nested too deeply"):
        json_dumps(value)


@pytest.mark.skipif(not hasattr(sys, "set_int_max_str_digits"), reason="this Python writes integers of any length")
def test_an_integer_longer_than_python_writes_is_refused() -> None:
    with pytest.raises(EncodeError, match="value cannot be written as JSON: Exceeds the limit"):
        json_dumps(10**5000)


def test_classes_say_themselves_how_they_are_written() -> None:
    class Money:
        def __json__(self) -> Any:
            return {"amount": Decimal("1.5")}

    class Signed(dict):  # type: ignore[type-arg]
        def __json__(self) -> Any:
            return {"signed": 1}

    assert through([Money(), Signed(x=1)]) == [{"amount": Decimal("1.5")}, {"signed": 1}]


def test_a_class_that_fails_to_say_it_is_named() -> None:
    class Broken:
        def __json__(self) -> Any:
            raise LookupError("no such thing")

    with pytest.raises(
        EncodeError, match=r"^value\[0\] is a .*Broken that could not be encoded: LookupError"
    ) as caught:
        json_dumps([Broken()])
    assert isinstance(caught.value.__cause__, LookupError)


def test_lazy_text_of_django_becomes_text() -> None:
    assert through([lazystr("hello")]) == ["hello"]


def test_registered_types_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    from django_tasks import typed_json

    monkeypatch.setattr(typed_json, "_encoders", typed_json._encoders.copy())
    monkeypatch.setattr(typed_json, "_decoders", typed_json._decoders.copy())
    register_type(Point, "point", lambda point: [point.x], lambda value: Point(*value))

    class Dot(Point):
        pass

    assert through({"p": Point(3), "d": Dot(4)}) == {"p": Point(3), "d": Point(4)}


def test_a_subclass_of_a_registered_type_is_written_like_it() -> None:
    class Stamp(datetime):
        pass

    assert through([Stamp(2024, 1, 2), datetime(2024, 1, 2)]) == [datetime(2024, 1, 2)] * 2


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b'[{"__type__":"shape","__value__":1}]', "Unknown __type__ 'shape'"),
        (b'[{"__type__":[],"__value__":1}]', r"Unknown __type__ \[\]"),
        (b'[{"__type__":"datetime","__value__":17}]', "'datetime' cannot be read"),
        (b'[{"__type__":"decimal","__value__":"x"}]', "'decimal' cannot be read"),
        (b'[{"__type__":"uuid","__value__":{}}]', "'uuid' cannot be read"),
        (b"[1,2", "not valid JSON"),
        (b"", "not valid JSON"),
        (b"\xff\xfe\xfa", "not valid JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
    ],
)
def test_damaged_json_is_a_decode_error(text: bytes, problem: str) -> None:
    with pytest.raises(DecodeError, match=problem):
        json_loads(text)


@given(st.binary() | texts)
def test_no_bytes_raise_anything_but_a_decode_error(data: bytes | str) -> None:
    for content_type in sorted(ALL):
        if content_type == "application/x-python-serialize":
            continue  # unpickling random bytes may import and call anything
        try:
            loads(data, content_type, None, ALL)
        except DecodeError:
            continue


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-01-02T03:04:05Z", datetime(2024, 1, 2, 3, 4, 5, tzinfo=timezone.utc)),
        ("2024-01-02 03:04:05.1z", datetime(2024, 1, 2, 3, 4, 5, 100_000, tzinfo=timezone.utc)),
        ("2024-01-02T03:04:05.123456789+05:30", "2024-01-02T03:04:05.123456+05:30"),
        ("2024-01-02T03:04:05,5-0800", "2024-01-02T03:04:05.500000-08:00"),
        ("2024-01-02T03:04+01", "2024-01-02T03:04:00+01:00"),
        ("2024-01-02", datetime(2024, 1, 2)),
    ],
)
def test_iso_times_are_read_alike_on_all_pythons(text: str, expected: Any) -> None:
    wanted = datetime.fromisoformat(expected) if isinstance(expected, str) else expected
    assert parse_iso(text) == wanted
    assert parse_iso(text).utcoffset() == wanted.utcoffset()


@pytest.mark.parametrize("text", ["", "zork", "12:00", "2024-13-01T00:00:00Z", "00:00." * 10_000])
def test_other_text_is_no_iso_time(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - its text is not always ours
        parse_iso(text)


def test_typed_times_of_foreign_senders_are_read() -> None:
    assert json_loads('{"__type__": "datetime", "__value__": "2024-01-02T03:04:05.1Z"}').microsecond == 100_000
    assert json_loads('{"__type__": "time", "__value__": "03:04:05Z"}') == time(3, 4, 5, tzinfo=timezone.utc)
    assert json_loads('{"__type__": "date", "__value__": "2024-01-02T00:00:00"}') == date(2024, 1, 2)


# The other serializers


@pytest.mark.parametrize(
    ("name", "content_type", "content_encoding"),
    [
        ("json", "application/json", "utf-8"),
        ("pickle", "application/x-python-serialize", "binary"),
        ("yaml", "application/x-yaml", "utf-8"),
        ("msgpack", "application/x-msgpack", "binary"),
    ],
)
def test_serializers_are_known_as_in_celery(name: str, content_type: str, content_encoding: str) -> None:
    value = [["ä", 1.5, None, True], {"k": {"n": [1]}}, {"chord": None}]

    encoded = dumps(value, name)

    assert encoded[:2] == (content_type, content_encoding)
    assert loads(encoded.data, content_type, content_encoding, content_types([name])) == value
    assert serialization.serializer_name(content_type) == name
    assert content_types([name]) == content_types([content_type]) == {content_type}


@pytest.mark.parametrize("name", ["json", "pickle", "yaml", "msgpack"])
def test_content_that_is_not_accepted_is_refused(name: str) -> None:
    encoded = dumps(1, name)
    accept = ALL - {encoded.content_type}
    with pytest.raises(ContentDisallowed, match=f"{encoded.content_type}' is refused.* Add '{name}' to ACCEPT_CONTENT"):
        loads(encoded.data, encoded.content_type, encoded.content_encoding, accept)


def test_a_pickle_that_is_not_accepted_is_not_touched() -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (exec, ("raise SystemExit",))

    data = pickle.dumps(Bomb())
    with pytest.raises(ContentDisallowed):
        loads(data, "application/x-python-serialize", "binary", JSON)
    with pytest.raises(DecodeError, match="not valid JSON"):
        loads(data, "application/json", "binary", JSON)


def test_yaml_makes_no_objects() -> None:
    with pytest.raises(DecodeError, match="not valid application/x-yaml: ConstructorError"):
        loads(b"!!python/object/apply:os.getpid []", "application/x-yaml", "utf-8", ALL)


def test_pickle_is_of_protocol_4_and_keeps_types() -> None:
    assert dumps({1}, "pickle").data[:2] == b"\x80\x04"
    assert through((1, {2}, Colour.RED), "pickle") == (1, {2}, Colour.RED)


def test_msgpack_keeps_bytes_and_numeric_keys() -> None:
    assert through({1: b"x", "y": (1,)}, "msgpack") == {1: b"x", "y": [1]}


@pytest.mark.parametrize("name", ["pickle", "yaml", "msgpack"])
def test_what_another_serializer_cannot_hold_is_an_encode_error(name: str) -> None:
    with pytest.raises(EncodeError, match=f"args cannot be written as {name}"):
        dumps([lambda: None], name, "args")


@pytest.mark.parametrize("content_type", [None, "", "application/json; charset=utf-8", "Application/JSON"])
def test_content_types_are_read_tolerantly(content_type: str | None) -> None:
    assert loads(b'{"a": 1}', content_type, None, JSON) == {"a": 1}
    assert loads('{"a": 1}', content_type, "utf-8", JSON) == {"a": 1}


def test_other_character_sets_are_read() -> None:
    assert loads('["ä"]'.encode("latin-1"), "application/json", "iso-8859-1", JSON) == ["ä"]
    assert loads('["ä"]'.encode(), "application/json", "binary", JSON) == ["ä"]
    with pytest.raises(DecodeError):
        loads(b"[]", "application/json", "no-such-charset", JSON)
    with pytest.raises(DecodeError):
        loads(b"[]", "application/json", ["utf-8"], JSON)  # type: ignore[arg-type]


def test_a_content_type_that_is_accepted_but_unknown_is_a_decode_error() -> None:
    with pytest.raises(DecodeError, match="Nothing here reads the content type 'application/x-foo'"):
        loads(b"", "application/x-foo", None, content_types(["application/x-foo"]))
    with pytest.raises(DecodeError, match="not a list"):
        loads(b"", ["application/json"], None, JSON)  # type: ignore[arg-type]


def test_unknown_serializers_are_named_with_the_known_ones() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"no serializer 'xml'\. Known are: json, msgpack, pickle, yaml"):
        dumps(1, "xml")
    with pytest.raises(ImproperlyConfigured, match="no serializer 'auth'"):
        content_types(["json", "auth"])
    with pytest.raises(ImproperlyConfigured, match=r"Write \['json'\]"):
        content_types("json")


@pytest.mark.parametrize(("name", "module"), [("yaml", "yaml"), ("msgpack", "msgpack")])
def test_a_missing_library_is_named_with_its_extra(name: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = dumps([1], name).data
    monkeypatch.setitem(sys.modules, module, None)
    message = rf"serializer '{name}' needs the library {module}, .*pip install 'django-celeriac\[{name}\]'"
    with pytest.raises(ImproperlyConfigured, match=message):
        dumps([1], name)
    with pytest.raises(DecodeError, match=message):
        loads(data, dumps_type(name), None, ALL)


def dumps_type(name: str) -> str:
    (content_type,) = content_types([name])
    return content_type


def test_captured_celery_json_is_read() -> None:
    """Section 1.7 of the wire reference, as kombu wrote it."""
    text = (
        '[{"__type__": "datetime", "__value__": "2024-01-02T03:04:05+00:00"},'
        ' {"__type__": "date", "__value__": "2024-01-02"}, {"__type__": "time", "__value__": "03:04:00"},'
        ' {"__type__": "decimal", "__value__": "1.50"},'
        ' {"__type__": "uuid", "__value__": {"hex": "12345678123456781234567812345678"}},'
        ' {"__type__": "bytes", "__value__": "abc"}, {"__type__": "base64", "__value__": "/wA="}, "\\u00e4"]'
    )
    assert json_loads(text) == [
        datetime(2024, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
        date(2024, 1, 2),
        time(3, 4),
        Decimal("1.50"),
        uuid.UUID("12345678123456781234567812345678"),
        b"abc",
        base64.b64decode("/wA="),
        "ä",
    ]
