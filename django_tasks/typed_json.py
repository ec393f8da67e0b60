"""JSON with kombu's typed values, which never changes a value silently.

Two exceptions, which Celery's users know: tuples come back as lists, and dict keys that are numbers, booleans or None
come back as strings. What is a kind of ``str``, ``int``, ``float``, ``list``, ``tuple`` or ``dict``, such as a member
of ``TextChoices``, comes back as the plain kind and compares equal; a time zone comes back as its offset.

What JSON does not know travels as ``{"__type__": name, "__value__": ...}``: ``datetime``, ``date``, ``time``,
``Decimal``, ``UUID``, ``bytes`` and what :func:`register_type` adds. A class with a method ``__json__`` is written as
what that returns, and Django's lazy strings as text.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson
from django.utils.functional import Promise

from django_tasks.exceptions import DecodeError, EncodeError

_REMEDY = (
    "Pass something simpler (for a model instance its pk), give the class a __json__() method, or make the type known "
    "to sender and worker with django_tasks.serialization.register_type()."
)
_TYPED_KEYS = frozenset({"__type__", "__value__"})
_INFINITY = float("inf")
_DIGITS_TO_0 = bytes(0x30 if 0x30 <= byte <= 0x39 else 0 for byte in range(256))
_LONG_NUMBER = b"0" * 19
_SHORT = 19


class _Refused(Exception):
    """Carries the path to what cannot be written up to :func:`json_dumps`, innermost step first."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.path: list[str] = []


def json_dumps(value: Any, where: str = "value") -> bytes:
    """Write ``value`` as JSON.

    Args:
        value: what to write.
        where: what to call ``value`` in an error message.

    Raises:
        EncodeError: it holds something that JSON cannot; says what, where in it, and what to do.
    """
    try:
        if _is_plain((value,)):
            try:
                return orjson.dumps(value)
            except TypeError:
                pass  # a key that is no str, an integer beyond 64 bits, half a surrogate pair, more than 254 levels
        return _plainly(_simplify(value))
    except _Refused as refused:
        raise EncodeError(f"{where}{''.join(reversed(refused.path))} {refused}") from refused.__cause__
    except RecursionError:
        raise EncodeError(f"{where} contains itself or is nested too deeply for JSON. Send a flatter value.") from None
    except ValueError as exc:  # an integer of more digits than Python writes
        raise EncodeError(f"{where} cannot be written as JSON: {exc}.") from exc


def json_loads(data: bytes | str) -> Any:
    """Read JSON, typed values included.

    Raises:
        DecodeError: ``data`` is not JSON, or holds a typed value that cannot be read.
    """
    raw = data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass")
    # orjson reads integers beyond 64 bits, which have 19 digits or more, as floats. (find() is twice as fast as "in".)
    # Few arguments are shorter than either.
    if len(raw) < _SHORT or (raw.find(b"__type__") < 0 and raw.translate(_DIGITS_TO_0).find(_LONG_NUMBER) < 0):
        try:
            return orjson.loads(raw)
        except ValueError:
            pass  # NaN, Infinity, half a surrogate pair, a byte order mark; or no JSON at all
    try:
        return json.loads(raw, object_hook=_from_typed)
    except RecursionError:
        raise DecodeError("This JSON is nested too deeply to be read.") from None
    except ValueError as exc:
        raise DecodeError(f"This is not valid JSON: {exc}.") from exc


def loads_as_is(data: bytes) -> Any:
    """Read JSON and leave typed values as they are written.

    Raises:
        DecodeError: ``data`` is not JSON.
    """
    if data.translate(_DIGITS_TO_0).find(_LONG_NUMBER) < 0:
        try:
            return orjson.loads(data)
        except ValueError:
            pass  # as in json_loads
    try:
        return json.loads(data)
    except RecursionError:
        raise DecodeError("This JSON is nested too deeply to be read.") from None
    except ValueError as exc:
        raise DecodeError(f"This is not valid JSON: {exc}.") from exc


def dumps_as_is(value: Any) -> bytes:
    """Write what ``loads_as_is`` has read."""
    try:
        return orjson.dumps(value) if _is_plain((value,)) else _plainly(value)
    except TypeError:
        return _plainly(value)


def _plainly(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def register_type(cls: type, name: str, encode: Callable[[Any], Any], decode: Callable[[Any], Any]) -> None:
    """Teach JSON one more type, as kombu's function of this name does. Sender and worker must both call it.

    Args:
        cls: the class; its subclasses are written the same way unless they are registered themselves.
        name: what stands for it in ``__type__``.
        encode: makes of an instance something that JSON can hold.
        decode: makes an instance of that again.
    """
    _encoders[cls] = (name, encode)
    _decoders[name] = decode


def parse_iso(text: str) -> datetime:
    """Read an ISO 8601 time, with ``Z``, any number of decimals, or neither, on every Python alike.

    Raises:
        ValueError: it is not one.
    """
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return datetime.fromisoformat(_as_python_310_reads_it(text))


def _is_plain(items: Iterable[Any]) -> bool:
    """Tell whether orjson writes each of ``items`` exactly or refuses it; the rest it would change silently."""
    for item in items:
        kind = type(item)
        if kind is str or kind is int or item is None or kind is bool:
            continue
        if kind is dict:
            if item and ((len(item) == 2 and item.keys() == _TYPED_KEYS) or not _is_plain(item.values())):
                return False
        elif kind is list or kind is tuple:
            if item and not _is_plain(item):
                return False
        elif kind is not float or not -_INFINITY < item < _INFINITY:
            return False
    return True


def _simplify(value: Any) -> Any:
    """Return ``value`` made of what the standard library's encoder writes exactly."""
    kind = type(value)
    if value is None or kind in (str, int, float, bool):
        return value
    if kind is dict:
        return _simplify_dict(value)
    if kind is list or kind is tuple:
        return _simplify_list(value)
    return _simplify_other(value, kind)


def _simplify_other(value: Any, kind: type) -> Any:
    if (method := getattr(kind, "__json__", None)) is not None:
        return _simplify(_call(method, value))
    if isinstance(value, Promise):
        return str(value)
    if isinstance(value, bytes):
        return _typed_bytes(value)
    for parent in kind.__mro__:
        if parent in _encoders:
            name, encode = _encoders[parent]
            return {"__type__": name, "__value__": _simplify(_call(encode, value))}
    if isinstance(value, (str, int, float)):
        return value
    if isinstance(value, dict):
        return _simplify_dict(value)
    if isinstance(value, (list, tuple)):
        return _simplify_list(value)
    raise _Refused(f"is a {kind.__module__}.{kind.__qualname__}, which JSON cannot hold. {_REMEDY}")


def _simplify_list(items: Iterable[Any]) -> list[Any]:
    simple: list[Any] = []
    try:
        for item in items:
            simple.append(_simplify(item))
    except _Refused as refused:
        refused.path.append(f"[{len(simple)}]")
        raise
    return simple


def _simplify_dict(items: dict[Any, Any]) -> dict[str, Any]:
    simple = {}
    for key, item in items.items():
        try:
            simple[_key(key)] = _simplify(item)
        except _Refused as refused:
            refused.path.append(f"[{key!r:.100}]")
            raise
    if len(simple) != len(items):
        raise _Refused("has keys that are the same as strings, which all keys are in JSON. Use strings for keys.")
    if simple.keys() == _TYPED_KEYS:
        raise _Refused("has just the keys __type__ and __value__, which mark a typed value. Rename one or add another.")
    return simple


def _key(key: Any) -> str:
    if isinstance(key, str):
        return str.__str__(key)
    if key is None or isinstance(key, (int, float)):
        return json.dumps(key)
    raise _Refused(f"stands under a key that is a {type(key).__qualname__}. Use strings for keys.")


def _call(function: Callable[[Any], Any], value: Any) -> Any:
    try:
        return function(value)
    except Exception as exc:
        raise _Refused(f"is a {type(value).__qualname__} that could not be encoded: {exc!r:.300}.") from exc


def _typed_bytes(value: bytes) -> dict[str, str]:
    try:
        return {"__type__": "bytes", "__value__": value.decode()}
    except UnicodeDecodeError:
        return {"__type__": "base64", "__value__": b64encode(value).decode()}


def _from_typed(value: dict[str, Any]) -> Any:
    if value.keys() != _TYPED_KEYS:
        return value
    name = value["__type__"]
    decode = _decoders.get(name) if isinstance(name, str) else None
    if decode is None:
        raise DecodeError(f"Unknown __type__ {name!r:.100}. Make it known with serialization.register_type().")
    try:
        return decode(value["__value__"])
    except Exception as exc:
        raise DecodeError(f"The value of a __type__ {name!r} cannot be read: {exc!r:.300}.") from exc


_ISO = re.compile(r"(.*?\d\d:\d\d(?::\d\d)?)(?:[.,](\d+))?(?:([Zz])|([+-]\d\d):?(\d\d)?)?", re.ASCII)


def _as_python_310_reads_it(text: str) -> str:
    match = _ISO.fullmatch(text) if len(text) <= 50 else None
    if match is None:
        raise ValueError(f"{text!r:.60} is not an ISO 8601 time")
    base, decimals, utc, hours, minutes = match.groups()
    fraction = f".{decimals[:6]:0<6}" if decimals else ""
    return base + fraction + ("+00:00" if utc else f"{hours}:{minutes or '00'}" if hours else "")


def _parse_time(text: str) -> time:
    try:
        return time.fromisoformat(text)
    except ValueError:
        return time.fromisoformat(_as_python_310_reads_it(text))


_encoders: dict[type, tuple[str, Callable[[Any], Any]]] = {}
_decoders: dict[str, Callable[[Any], Any]] = {"bytes": str.encode, "base64": b64decode}
register_type(datetime, "datetime", datetime.isoformat, parse_iso)
register_type(date, "date", date.isoformat, lambda text: parse_iso(text).date())
register_type(time, "time", time.isoformat, _parse_time)
register_type(Decimal, "decimal", str, Decimal)
register_type(UUID, "uuid", lambda value: {"hex": value.hex}, lambda value: UUID(hex=value["hex"]))
