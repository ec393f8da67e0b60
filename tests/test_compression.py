"""Compression under Celery's names; nothing that comes in can fill the memory."""

from __future__ import annotations

import bz2
import gzip
import lzma
import sys
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_tasks.compression import compress, decompress
from django_tasks.exceptions import DecodeError, ImproperlyConfigured

# Section 1.8 of the wire reference.
CELERY = {
    "gzip": "application/x-gzip",
    "zlib": "application/x-gzip",
    "bzip2": "application/x-bz2",
    "bzip": "application/x-bz2",
    "lzma": "application/x-lzma",
    "xz": "application/x-lzma",
    "brotli": "application/x-brotli",
    "zstd": "application/zstd",
    "zstandard": "application/zstd",
}
ZSTD = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
LIBRARIES = {"application/x-brotli": ("brotli", "brotli"), "application/zstd": (ZSTD, "zstd")}
MIMES = sorted(set(CELERY.values()))


def compressed(data: bytes, name: str) -> bytes:
    mime = CELERY.get(name, name)
    if mime in LIBRARIES:
        pytest.importorskip(LIBRARIES[mime][0])
    return compress(data, name)[0]


@pytest.mark.parametrize("name", [*CELERY, *MIMES])
def test_what_is_compressed_comes_back(name: str) -> None:
    for data in (b"", b"x", b"0123456789" * 1000):
        mime = CELERY.get(name, name)
        squeezed = compressed(data, name)
        assert compress(data, name)[1] == mime
        assert decompress(squeezed, mime) == data
        assert decompress(squeezed, mime, max_size=len(data)) == data


@pytest.mark.parametrize("mime", MIMES)
def test_a_bomb_is_refused_before_it_goes_off(mime: str) -> None:
    size = 64 * 1024 * 1024
    bomb = compressed(bytes(size), mime)
    assert len(bomb) < size / 500
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError, match="larger than the 100000 bytes"):
            decompress(bomb, mime, max_size=100_000)
        assert tracemalloc.get_traced_memory()[1] < size / 4
    finally:
        tracemalloc.stop()


def test_an_xz_file_that_wants_much_memory_is_refused() -> None:
    greedy = lzma.compress(b"x", filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1024**3}])
    with pytest.raises(DecodeError, match="Memory usage limit"):
        decompress(greedy, "application/x-lzma")


@pytest.mark.parametrize("mime", MIMES)
def test_what_is_cut_short_or_damaged_is_refused(mime: str) -> None:
    whole = compressed(b"0123456789abcdef" * 50, mime)
    for data in (whole[:-3], b"", b"\x00garbage", whole[5:]):
        with pytest.raises(DecodeError, match=f"not valid {mime}"):
            decompress(data, mime)


@given(st.binary(), st.sampled_from(MIMES))
def test_no_bytes_raise_anything_but_a_decode_error(data: bytes, mime: str) -> None:
    try:
        decompress(data, mime, max_size=1000)
    except DecodeError:
        return


def test_the_formats_are_those_of_celery() -> None:
    assert compress(b"abc", "gzip")[0][:2] == b"\x78\x9c"
    assert decompress(zlib.compress(b"abc"), "application/x-gzip") == b"abc"
    assert decompress(gzip.compress(b"abc"), "application/x-gzip") == b"abc"
    assert decompress(bz2.compress(b"abc"), "application/x-bz2") == b"abc"
    assert decompress(lzma.compress(b"abc"), "application/x-lzma") == b"abc"


def test_unknown_compressions_are_named_with_the_known_ones() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"no compression 'rar'\. Known are: gzip, zlib"):
        compress(b"", "rar")
    with pytest.raises(DecodeError, match="compression 'application/rar'"):
        decompress(b"", "application/rar")
    with pytest.raises(DecodeError, match="not by a list"):
        decompress(b"", ["gzip"])  # type: ignore[arg-type]


@pytest.mark.parametrize("mime", sorted(LIBRARIES))
def test_a_missing_library_is_named_with_its_extra(mime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, extra = LIBRARIES[mime]
    monkeypatch.setitem(sys.modules, module, None)
    message = rf"needs the library {module}, .*pip install 'django-celeriac\[{extra}\]'"
    with pytest.raises(ImproperlyConfigured, match=message):
        compress(b"abc", mime)
    with pytest.raises(DecodeError, match=message):
        decompress(b"abc", mime)
