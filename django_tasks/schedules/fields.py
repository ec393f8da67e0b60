"""The forms in which a crontab's fields are written, as Celery has them."""

from __future__ import annotations

import dataclasses
import operator
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

_WEEKDAYS = {"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}
_MONTHS = {
    "jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6, "jul": 7, "aug": 8, "sep": 9, "oct": 10, "nov": 11,
    "dec": 12,
}  # fmt: skip
_PART = re.compile(r"(?:(?P<all>\*)|(?P<first>\w+)(?:-(?P<last>\w+))?)(?P<every>/(?P<step>\w*))?", re.ASCII)

#: What a field of a crontab may be given as.
Cronspec = int | str | Iterable[int | str]


class ParseException(ValueError):
    """The text of a crontab's field is not written as one (Celery's name)."""


@dataclasses.dataclass(frozen=True, eq=False)
class Field:
    """One field of a crontab.

    Attributes:
        name: the argument it is given as.
        first: its lowest number.
        last: its highest number.
        names: names of its numbers, by their first three letters.
        hint: what to say to somebody who gives another number.
    """

    name: str
    first: int
    last: int
    names: Mapping[str, int] = dataclasses.field(default_factory=dict)
    hint: str = ""


MINUTE = Field("minute", 0, 59)
HOUR = Field("hour", 0, 23)
DAY_OF_WEEK = Field("day_of_week", 0, 6, _WEEKDAYS, " (Sunday is 0, Saturday 6)")
DAY_OF_MONTH = Field("day_of_month", 1, 31)
MONTH_OF_YEAR = Field("month_of_year", 1, 12, _MONTHS)


def expand(field: Field, spec: Cronspec | None) -> frozenset[int]:
    """Return the numbers that a field means.

    Args:
        field: which one.
        spec: a number, a text (``"*/15"``, ``"1,13,30-45,50-59/2"``, ``"mon-fri"``), or an iterable of both; None is
            ``"*"``.

    Raises:
        TypeError: it is none of these.
        ParseException: a text is not written as one.
        ValueError: a number or a name is not one of the field's, or there are none.
    """
    if spec is None:
        spec = "*"
    if isinstance(spec, str):
        return _expand_text(field, spec)
    if not isinstance(spec, Iterable):
        return frozenset((_integer(field, spec),))
    numbers: set[int] = set()
    for each in spec:
        numbers |= _expand_text(field, each) if isinstance(each, str) else {_integer(field, each)}
    if not numbers:
        raise ValueError(f"The crontab's {field.name} is empty: give at least one number, or '*' for all.")
    return frozenset(numbers)


@lru_cache(maxsize=4096)
def _expand_text(field: Field, text: str) -> frozenset[int]:
    return frozenset(number for part in text.split(",") for number in _expand_part(field, part.strip(), text))


def _expand_part(field: Field, part: str, text: str) -> list[int]:
    match = _PART.fullmatch(part)
    if match is None:
        raise ParseException(
            f"The crontab's {field.name} {text!r} cannot be read at {part!r}: write numbers, ranges (1-5), '*' or "
            "'*/5', with commas between them."
        )
    if match["all"]:
        numbers = list(range(field.first, field.last + 1))
    else:
        first = _number(field, match["first"])
        last = _number(field, match["last"]) if match["last"] else first
        # As in Celery a range may go past the end: fri-mon, 22-6.
        numbers = (
            list(range(first, last + 1))
            if first <= last
            else [*range(first, field.last + 1), *range(field.first, last + 1)]
        )
    if match["every"]:
        if match["first"] and not match["last"]:
            raise ParseException(
                f"The crontab's {field.name} {text!r} has a step after a single number: write "
                f"'{part.replace('/', f'-{field.last}/')}' for every so many from there on."
            )
        numbers = numbers[:: _step(field, match["step"], text)]
    return numbers


def _step(field: Field, step: str, text: str) -> int:
    if not (step.isdecimal() and int(step)):
        raise ParseException(f"The crontab's {field.name} {text!r} has no number above 0 after the '/'.")
    return int(step)


def _number(field: Field, text: str) -> int:
    if text.isdecimal():
        return _integer(field, int(text))
    number = field.names.get(text[:3].lower())
    if number is None:
        known = f"; its names are {', '.join(field.names)}" if field.names else ""
        raise ValueError(f"The crontab's {field.name} has no {text!r}: it takes {_range(field)}{known}.")
    return number


def _integer(field: Field, value: Any) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(
            f"The crontab's {field.name} is a number, a text such as '*/2' or an iterable of these, not {value!r}."
        ) from None
    if not field.first <= number <= field.last:
        raise ValueError(f"The crontab's {field.name} has no {number}: it takes {_range(field)}.")
    return number


def _range(field: Field) -> str:
    return f"{field.first} to {field.last}{field.hint}"


class crontab_parser:
    """Celery's parser of one field, for code that uses it by itself.

    Args:
        max_: how many numbers the field has; 7 has the names of days, 12 from 1 on those of months.
        min_: its lowest number.
    """

    ParseException = ParseException

    def __init__(self, max_: int = 60, min_: int = 0) -> None:
        self.max_, self.min_ = max_, min_
        names = {(7, 0): _WEEKDAYS, (12, 1): _MONTHS}.get((max_, min_), {})
        self._field = Field("field", min_, min_ + max_ - 1, names)

    def parse(self, spec: str) -> set[int]:
        """Return the numbers that a text means; see ``expand`` for what is raised."""
        return set(expand(self._field, str(spec)))
