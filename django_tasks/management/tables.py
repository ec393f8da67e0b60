"""Text for people at a terminal: aligned tables, facts with their names, spans of time in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from django.utils.timezone import localtime

from django_tasks.utils.saferepr import saferepr

#: Between two columns of a table.
GAP = 2
#: Characters by which lines that belong to others are indented.
BELOW = 4
#: Characters that the names of facts take, so that they line up from block to block.
NAMES = 15
#: Characters of a value among facts.
LONGEST_VALUE = 20_000
_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        title: its head.
        right: whether it is aligned to the right, as numbers are.
        least: characters that it may be cut to where the terminal is narrow; 0 if it is never cut.
        keep_end: whether cutting leaves the end, which tells more of a dotted name, rather than the beginning.
        most: characters that it is cut to wherever it is shown; 0 for no such limit.
        optional: whether it is left out where the terminal is too narrow even so; the last such goes first.
        below: whether it is optional, and then stands on a line of its own below the others.
    """

    title: str
    right: bool = False
    least: int = 0
    keep_end: bool = False
    most: int = 0
    optional: bool = False
    below: bool = False


def table(columns: Sequence[Column], rows: Iterable[Sequence[Any]], width: int | None = None) -> str:
    """Return rows under the columns' titles.

    Args:
        rows: a value for each column; None is shown as ``-``.
        width: characters of the terminal; None to cut nothing.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    titles = [column.title for column in columns]
    sizes = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
    sizes = [min(size, column.most or size) for size, column in zip(sizes, columns, strict=True)]
    shown = list(range(len(columns)))
    if width is not None:
        shown = _that_fit(columns, sizes, width)
        _shrink(columns, sizes, shown, width)
    below = [n for n, column in enumerate(columns) if column.below and n not in shown]
    lines: list[str] = []
    for line in (titles, *cells):
        lines.append((" " * GAP).join(_fitted(line[n], sizes[n], columns[n]) for n in shown).rstrip())
        if line is not titles:
            lines += [_below(line[n], width) for n in below if line[n]]
    return "\n".join(lines)


def _below(text: str, width: int | None) -> str:
    """Return a line that belongs to the one above it."""
    return " " * BELOW + _fitted(text, (width or len(text)) - BELOW, Column("")).rstrip()


def _that_fit(columns: Sequence[Column], sizes: Sequence[int], width: int) -> list[int]:
    """Return the columns that are left when optional ones have made room, as far as they can."""
    least = [min(size, column.least or size) for column, size in zip(columns, sizes, strict=True)]
    shown = list(range(len(columns)))
    for n in reversed(range(len(columns))):
        if (columns[n].optional or columns[n].below) and sum(least[each] + GAP for each in shown) - GAP > width:
            shown.remove(n)
    return shown


def _shrink(columns: Sequence[Column], sizes: list[int], shown: Sequence[int], width: int) -> None:
    """Take characters from the widest columns that may be cut, until the table fits or none is left to take."""
    while sum(sizes[n] + GAP for n in shown) - GAP > width:
        wide = [n for n in shown if columns[n].least and sizes[n] > max(columns[n].least, len(columns[n].title))]
        if not wide:
            return
        sizes[max(wide, key=lambda n: sizes[n])] -= 1


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else printable(str(value))


def _fitted(text: str, size: int, column: Column) -> str:
    """Return a cell's text in exactly ``size`` characters."""
    if len(text) > size:
        text = "…" + text[len(text) - size + 1 :] if column.keep_end else text[: size - 1] + "…"
    return text.rjust(size) if column.right else text.ljust(size)


def printable(text: str, *, lines: bool = False) -> str:
    """Return text without what could move the cursor or change colours: arguments come from anywhere.

    Args:
        lines: keep line breaks; without, they become spaces.
    """
    if lines:
        return "\n".join(printable(line) for line in text.expandtabs().splitlines())
    text = " ".join(text.splitlines())
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def facts(data: Mapping[str, Any], now: float, *, indent: str = "") -> str:
    """Return one line a fact: its name, then its value. What says nothing (None, False, 0, empty text) is left out.

    Args:
        data: facts by name; a datetime is shown with its distance from ``now``.
        now: seconds since the epoch.
    """
    told = {key.replace("_", " ").capitalize(): _fact(value, now) for key, value in data.items() if _tells(value)}
    return "\n".join(indent + key.ljust(NAMES) + " " * GAP + text for key, text in told.items())


def _tells(value: Any) -> bool:
    return not (value is None or value == 0 or value == "" or value == {})


def _fact(value: Any, now: float) -> str:
    if isinstance(value, datetime):
        return f"{localtime(value):%Y-%m-%d %H:%M:%S %Z} ({distance(value.timestamp() - now)})"
    if value is True:
        return "yes"
    return printable(value if isinstance(value, str) else saferepr(value, LONGEST_VALUE))


def in_words(seconds: float) -> str:
    """Return a span of time in its two largest units, such as ``3 m 20 s``."""
    left = int(max(0.0, seconds))
    position = next((n for n, (_, size) in enumerate(_UNITS) if left >= size), len(_UNITS) - 1)
    words: list[str] = []
    for unit, size in _UNITS[position : position + 2]:
        count, left = divmod(left, size)
        if count or not words:
            words.append(f"{count} {unit}")
    return " ".join(words)


def distance(seconds: float) -> str:
    """Return how far a point in time is: ``in 3 m 20 s``, or ``3 m 20 s ago`` for a negative number."""
    return f"in {in_words(seconds)}" if seconds > 0 else f"{in_words(-seconds)} ago"


def instant(seconds: float | None) -> datetime | None:
    """Return seconds since the epoch as an aware instant in UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc)
