"""Compression of message bodies, under the names and with the formats that Celery uses."""

from __future__ import annotations

import bz2
import lzma
import sys
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

from django_tasks.exceptions import DecodeError, ImproperlyConfigured
from django_tasks.serialization import require_library

#: What :func:`decompress` returns at most, in bytes, unless told otherwise.
MAX_SIZE = 128 * 1024 * 1024
# An xz file says itself how much memory reading it takes. The highest preset, 9, takes 65 MiB.
_LZMA_MEMORY = 80 * 1024 * 1024


def compress(data: bytes, name: str) -> tuple[bytes, str]:
    """Compress ``data``.

    Args:
        data: what to compress.
        name: ``gzip``, ``bzip2``, ``lzma``, ``brotli`` or ``zstd``, one of their other names in Celery (``zlib``,
            ``bzip``, ``xz``, ``zstandard``), or a MIME type as a message carries it.

    Returns:
        The compressed bytes and the MIME type for the header ``compression``.

    Raises:
        ImproperlyConfigured: there is no such compression, or its library is not installed.
    """
    method = _METHODS.get(name)
    if method is None:
        raise ImproperlyConfigured(f"There is no compression {name!r}. Known are: {_KNOWN}.")
    return method.compress(data), method.mime


def decompress(data: bytes, mime: str, max_size: int = MAX_SIZE) -> bytes:
    """Undo :func:`compress`.

    Args:
        data: what to decompress.
        mime: the MIME type from the header ``compression``, or a name of it.
        max_size: how many bytes may come out. What would give more is refused before it takes more memory than that.

    Raises:
        DecodeError: more would come out, ``data`` is damaged or cut short, the compression is unknown, or the library
            for it is not installed.
    """
    if not isinstance(mime, str):
        raise DecodeError(f"A compression is named by text, not by a {type(mime).__name__}.")
    method = _METHODS.get(mime)
    if method is None:
        raise DecodeError(f"Nothing here reads the compression {mime!r:.100}. Known are: {_KNOWN}.")
    try:
        return method.decompress(data, max_size)
    except DecodeError:
        raise
    except ImproperlyConfigured as exc:
        raise DecodeError(str(exc)) from exc
    except Exception as exc:  # each library has errors of its own
        raise DecodeError(f"This is not valid {method.mime}: {exc}.") from exc


class _Method(NamedTuple):
    mime: str
    compress: Callable[[bytes], bytes]
    decompress: Callable[[bytes, int], bytes]


def _too_large(max_size: int) -> DecodeError:
    return DecodeError(f"Decompressed it is larger than the {max_size} bytes that are allowed, so it is not read.")


def _checked(plain: bytes, complete: bool, max_size: int) -> bytes:
    if len(plain) > max_size:
        raise _too_large(max_size)
    if not complete:
        raise ValueError("it is cut short")
    return plain


def _read_gzip(data: bytes, max_size: int) -> bytes:
    # Celery's "gzip" is a zlib stream. 32 has zlib read real gzip files as well, which others may send.
    reader = zlib.decompressobj(wbits=32 + zlib.MAX_WBITS)
    return _checked(reader.decompress(data, max_size + 1), reader.eof, max_size)


def _read_bzip2(data: bytes, max_size: int) -> bytes:
    reader = bz2.BZ2Decompressor()
    return _checked(reader.decompress(data, max_size + 1), reader.eof, max_size)


def _read_lzma(data: bytes, max_size: int) -> bytes:
    reader = lzma.LZMADecompressor(memlimit=_LZMA_MEMORY)
    return _checked(reader.decompress(data, max_size + 1), reader.eof, max_size)


def _brotli() -> Any:
    return require_library("brotli", "The compression 'brotli'", "brotli")


def _read_brotli(data: bytes, max_size: int) -> bytes:
    reader = _brotli().Decompressor()
    return _checked(reader.process(data, output_buffer_limit=max_size + 1), reader.is_finished(), max_size)


def _zstd() -> Any:
    name = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    return require_library(name, "The compression 'zstd'", "zstd")


def _read_zstd(data: bytes, max_size: int) -> bytes:
    reader = _zstd().ZstdDecompressor()
    return _checked(reader.decompress(data, max_size + 1), reader.eof, max_size)


_GZIP = _Method("application/x-gzip", zlib.compress, _read_gzip)
_BZIP2 = _Method("application/x-bz2", bz2.compress, _read_bzip2)
_LZMA = _Method("application/x-lzma", lzma.compress, _read_lzma)
_BROTLI = _Method("application/x-brotli", lambda data: _brotli().compress(data), _read_brotli)
_ZSTD = _Method("application/zstd", lambda data: _zstd().compress(data), _read_zstd)
_METHODS = {
    "gzip": _GZIP,
    "zlib": _GZIP,
    "bzip2": _BZIP2,
    "bzip": _BZIP2,
    "lzma": _LZMA,
    "xz": _LZMA,
    "brotli": _BROTLI,
    "zstd": _ZSTD,
    "zstandard": _ZSTD,
}
_KNOWN = ", ".join(_METHODS)
_METHODS.update({method.mime: method for method in (_GZIP, _BZIP2, _LZMA, _BROTLI, _ZSTD)})
