"""A ``repr`` that cannot fail and is never long, for log lines and monitors (``celery.utils.saferepr`` in Celery)."""

from __future__ import annotations

import reprlib
from itertools import islice
from typing import Any


def saferepr(value: Any, maxlen: int = 1024, *, large: bool = False) -> str:
    """Return what ``repr(value)`` begins with.

    Args:
        value: what to show; if its ``repr`` fails, the text says so.
        maxlen: how many characters to return at most.
        large: whether ``value`` is known to be large. Then only its beginning is looked at, which saves much time; for
            small values the plain ``repr`` is quicker.
    """
    try:
        text = _bounded.repr(value) if large else repr(value)
    except Exception:
        text = f"<{type(value).__qualname__} that cannot be shown>"
    return text if len(text) <= maxlen else text[: maxlen - 3] + "..."


def safestr(value: Any) -> str:
    """Return ``str(value)``, whatever its ``__str__`` does: exceptions of users may have one that fails."""
    try:
        return str(value)
    except Exception:
        return saferepr(value)


class _Bounded(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxtuple = self.maxlist = self.maxdict = self.maxset = self.maxfrozenset = 20
        self.maxstring = self.maxother = 200

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        # The standard one would sort all keys first.
        first = dict(islice(x.items(), self.maxdict))
        text = super().repr_dict(first, level)
        return text if len(first) == len(x) else f"{text[:-1]}, ...}}"


_bounded = _Bounded()
