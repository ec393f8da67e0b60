"""Some at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def chunked(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield parts of a sequence, of so many items at most; none of one that is empty."""
    return (items[start : start + size] for start in range(0, len(items), size))
