"""Reads the rows of a CSV file of airports and says what is wrong with the bad ones. Knows nothing of Django."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

COLUMNS = ("iata", "name", "city", "state", "country", "latitude", "longitude")

#: Longest text of a cell, in characters.
MAX_TEXT = 100

CODE = re.compile(r"[A-Z0-9]{3,4}")
#: What the sample's source writes where it knows nothing.
MISSING = frozenset({"", "NA", "N/A"})


class UnreadableFile(ValueError):
    """The file as a whole cannot be imported; the message says why and what is expected."""


@dataclass(frozen=True)
class Row:
    """A good row: ``line`` counts the file's lines from 1, the header included; degrees as decimal numbers."""

    line: int
    code: str
    name: str
    city: str
    state: str
    country: str
    latitude: float
    longitude: float


@dataclass(frozen=True)
class Refusal:
    """A bad row: where it is, what is wrong with it, and what it says."""

    line: int
    reason: str
    content: str


def read_rows(lines: Iterable[str]) -> Iterator[Row | Refusal]:
    """Yield every row of a CSV file, good or bad, in the file's order.

    Args:
        lines: the file, opened as UTF-8 text with ``newline=""``.

    Raises:
        UnreadableFile: the text is not UTF-8, not CSV, or lacks the header.
    """
    reader = csv.reader(lines, strict=True)
    first_seen: dict[str, int] = {}
    try:
        check_header(next(reader, []))
        start = reader.line_num + 1
        for cells in reader:
            if cells:
                yield check_row(start, cells, first_seen)
            start = reader.line_num + 1
    except UnicodeDecodeError as error:
        raise UnreadableFile(f"The file is not UTF-8 text ({error}). Save it as CSV in UTF-8.") from error
    except csv.Error as error:
        raise UnreadableFile(f"Line {reader.line_num} is not CSV: {error}.") from error


def check_header(cells: list[str]) -> None:
    """Raise ``UnreadableFile`` unless the first line names exactly our columns, in our order."""
    if tuple(cell.strip().lower() for cell in cells) != COLUMNS:
        found = ", ".join(cells)[:MAX_TEXT] or "nothing"
        raise UnreadableFile(f"The first line must be: {', '.join(COLUMNS)}. Found: {found}.")


def check_row(line: int, cells: list[str], first_seen: dict[str, int]) -> Row | Refusal:
    """Return the row, or every reason why it is refused.

    Args:
        line: the line in the file where the row starts.
        cells: its cells.
        first_seen: the line of each good code so far; a good row adds its own.
    """
    if len(cells) != len(COLUMNS):
        return Refusal(line, f"has {len(cells)} cells, expected {len(COLUMNS)}", show(cells))
    code, name, city, state, country, latitude, longitude = (cell.strip() for cell in cells)
    reasons = list(problems_of_code(code, first_seen))
    for column, text in (("name", name), ("city", city), ("state", state), ("country", country)):
        reasons += problems_of_text(column, text)
    reasons += problems_of_degrees("latitude", latitude, 90)
    reasons += problems_of_degrees("longitude", longitude, 180)
    if reasons:
        return Refusal(line, "; ".join(reasons), show(cells))
    first_seen[code] = line
    return Row(line, code, name, city, state, country, float(latitude), float(longitude))


def problems_of_code(code: str, first_seen: dict[str, int]) -> Iterator[str]:
    """Yield what is wrong with an airport's code."""
    if not CODE.fullmatch(code):
        yield f"code {code!r} is not 3 or 4 capital letters or digits"
    elif code in first_seen:
        yield f"code {code!r} is already on line {first_seen[code]}"


def problems_of_text(column: str, text: str) -> Iterator[str]:
    """Yield what is wrong with a cell that needs some text."""
    if text.upper() in MISSING:
        yield f"{column} is missing" + (f" ({text!r})" if text else "")
    elif len(text) > MAX_TEXT:
        yield f"{column} has {len(text)} characters, more than {MAX_TEXT}"


def problems_of_degrees(column: str, text: str, limit: int) -> Iterator[str]:
    """Yield what is wrong with a latitude or longitude; ``limit`` in degrees."""
    try:
        degrees = float(text)
    except ValueError:
        yield f"{column} {text!r} is not a number"
        return
    if not math.isfinite(degrees) or abs(degrees) > limit:
        yield f"{column} {text} is not between -{limit} and {limit}"


def show(cells: list[str]) -> str:
    """Return a row as one short line for the report."""
    text = ",".join(cells)
    return text if len(text) <= 2 * MAX_TEXT else text[: 2 * MAX_TEXT] + "…"
