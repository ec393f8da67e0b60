"""Values to bytes and back: JSON (see ``typed_json``), pickle, YAML and msgpack, each known by its MIME type."""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from django_tasks.exceptions import ContentDisallowed, DecodeError, EncodeError, ImproperlyConfigured
from django_tasks.typed_json import json_dumps, json_loads, parse_iso, register_type

__all__ = [
    "Encoded",
    "content_types",
    "dumps",
    "json_dumps",
    "json_loads",
    "loads",
    "parse_iso",
    "register_type",
    "require_library",
    "serializer_name",
]

JSON = "application/json"


class Encoded(NamedTuple):
    """What a serializer made of a value."""

    content_type: str
    content_encoding: str
    data: bytes


#: None in JSON.
NULL = Encoded(JSON, "utf-8", b"null")


def dumps(value: Any, serializer: str = "json", where: str = "value") -> Encoded:
    """Serialise ``value``.

    Args:
        value: what to write.
        serializer: ``json``, ``pickle``, ``yaml`` or ``msgpack``.
        where: what to call ``value`` in an error message.

    Raises:
        EncodeError: ``value`` holds something that the serializer cannot write.
        ImproperlyConfigured: there is no such serializer, or its library is not installed.
    """
    if value is None and serializer == "json":
        return NULL  # what most tasks return
    kind = _SERIALIZERS.get(serializer) or _by_name(serializer)
    try:
        return Encoded(kind.content_type, kind.content_encoding, kind.encode(value, where))
    except (EncodeError, ImproperlyConfigured):
        raise
    except Exception as exc:  # pickle runs code of what it writes, which may raise anything
        raise EncodeError(f"{where} cannot be written as {serializer}: {exc}. Pass something simpler.") from exc


def loads(data: bytes | str, content_type: str | None, content_encoding: str | None, accept: frozenset[str]) -> Any:
    """Read what a serializer wrote.

    Args:
        data: the bytes, or the text where the carrier is text.
        content_type: MIME type of ``data``; without one it is read as JSON, which can do no harm.
        content_encoding: character set of ``data``; UTF-8 without one.
        accept: the MIME types that may be read, from :func:`content_types`; as with Celery, JSON is no exception.

    Raises:
        ContentDisallowed: ``content_type`` is not in ``accept``.
        DecodeError: ``data`` is not what ``content_type`` says, whatever is wrong with it.
    """
    mime = content_type if content_type == JSON else _bare(content_type)
    if mime not in accept:
        raise _disallowed(mime, accept)
    kind = _BY_TYPE.get(mime)
    if kind is None:
        known = ", ".join(sorted(_BY_TYPE))
        raise DecodeError(f"Nothing here reads the content type {mime!r:.100}. Known are: {known}.")
    try:
        if isinstance(data, str):
            data = data.encode("utf-8", "surrogatepass")
        elif kind.content_encoding == "utf-8" and content_encoding and content_encoding not in _KINDS_OF_UTF_8:
            data = data.decode(content_encoding).encode()
        return kind.decode(data)
    except DecodeError:
        raise
    except ImproperlyConfigured as exc:
        raise DecodeError(str(exc)) from exc
    except Exception as exc:
        raise DecodeError(f"This is not valid {mime}: {type(exc).__name__}: {exc!s:.300}") from exc


def content_types(names: Iterable[str]) -> frozenset[str]:
    """Return the MIME types for ``names``, which are of serializers, or MIME types already.

    Raises:
        ImproperlyConfigured: a name is neither.
    """
    if isinstance(names, str):
        raise ImproperlyConfigured(f"Accepted content is a list of names, not the text {names!r}. Write [{names!r}].")
    return frozenset(name if "/" in name else _by_name(name).content_type for name in names)


def serializer_name(content_type: str | None) -> str:
    """Return the name of the serializer for ``content_type``; ``"json"`` if there is none."""
    kind = _BY_TYPE.get(_bare(content_type))
    return kind.name if kind else "json"


def require_library(module: str, purpose: str, extra: str) -> Any:
    """Import an optional library.

    Args:
        module: name of the module.
        purpose: what it is needed for.
        extra: the extra of django-celeriac that installs it.

    Raises:
        ImproperlyConfigured: it is not installed; says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as exc:
        raise ImproperlyConfigured(
            f"{purpose} needs the library {module}, which is not installed: pip install 'django-celeriac[{extra}]'."
        ) from exc


class _Serializer(NamedTuple):
    name: str
    content_type: str
    content_encoding: str
    encode: Callable[[Any, str], bytes]
    decode: Callable[[bytes], Any]


def _yaml() -> Any:
    return require_library("yaml", "The serializer 'yaml'", "yaml")


def _msgpack() -> Any:
    return require_library("msgpack", "The serializer 'msgpack'", "msgpack")


def _unpack(data: bytes) -> Any:
    # Keys that are numbers may be packed, so they must be read as well.
    return _msgpack().unpackb(data, raw=False, strict_map_key=False)


_SERIALIZERS = {
    kind.name: kind
    for kind in (
        _Serializer("json", JSON, "utf-8", json_dumps, json_loads),
        _Serializer(
            "pickle", "application/x-python-serialize", "binary", lambda value, _: pickle.dumps(value, 4), pickle.loads
        ),
        _Serializer(
            "yaml",
            "application/x-yaml",
            "utf-8",
            lambda value, _: _yaml().safe_dump(value).encode(),
            lambda data: _yaml().safe_load(data),
        ),
        _Serializer("msgpack", "application/x-msgpack", "binary", lambda value, _: _msgpack().packb(value), _unpack),
    )
}
_BY_TYPE = {kind.content_type: kind for kind in _SERIALIZERS.values()}
_KINDS_OF_UTF_8 = frozenset({"utf-8", "UTF-8", "utf8", "us-ascii", "ascii", "binary"})


def _by_name(name: str) -> _Serializer:
    kind = _SERIALIZERS.get(name)
    if kind is None:
        raise ImproperlyConfigured(f"There is no serializer {name!r}. Known are: {', '.join(sorted(_SERIALIZERS))}.")
    return kind


def _bare(content_type: str | None) -> str:
    if not content_type:
        return JSON
    if not isinstance(content_type, str):
        raise DecodeError(f"A content type is text such as {JSON!r}, not a {type(content_type).__name__}.")
    return content_type if content_type in _BY_TYPE else content_type.partition(";")[0].strip().lower()


def _disallowed(mime: str, accept: frozenset[str]) -> ContentDisallowed:
    name = _BY_TYPE[mime].name if mime in _BY_TYPE else mime
    return ContentDisallowed(
        f"The content type {mime!r:.100} is refused, as only {', '.join(sorted(accept)) or 'none'} may be read. Add "
        f"{name!r:.100} to ACCEPT_CONTENT if it is known and you trust everyone who can write to the broker."
    )
