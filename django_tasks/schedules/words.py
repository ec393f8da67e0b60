"""Schedules in words, for people who look at a list of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from functools import lru_cache

WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
#: Which of a month's Fridays, as croniter has it.
ORDINALS = {1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth", "l": "last"}
_UNITS = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))


@lru_cache(maxsize=1024)
def duration(interval: timedelta) -> str:
    """Return an interval in the largest unit that it fills, as Celery writes it (``1.50 hours``), but never rounded."""
    if interval < timedelta(seconds=0.01):
        return f"{interval.total_seconds():.6f} seconds"
    unit, seconds = next(((unit, size) for unit, size in _UNITS if interval >= timedelta(seconds=size)), _UNITS[-1])
    number = interval.total_seconds() / seconds
    if timedelta(seconds=round(number, 2) * seconds) != interval:
        return f"{interval.total_seconds():.6f} seconds"
    return f"{number:.2f} {unit}{'' if number == 1 else 's'}"


def human_duration(interval: timedelta) -> str:
    """Return an interval in whole units where possible: ``90 seconds``, ``hour``, ``1.5 seconds``."""
    for unit, seconds in _UNITS:
        count, rest = divmod(interval, timedelta(seconds=seconds))
        if count and not rest:
            return unit if count == 1 else f"{count} {unit}s"
    return f"{interval.total_seconds():.6f}".rstrip("0").rstrip(".") + " seconds"


def listed(items: Iterable[str]) -> str:
    """Return ``a, b and c``."""
    parts = list(items)
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))


def runs(numbers: Iterable[int], names: Sequence[str] | None = None, first: int = 0) -> str:
    """Return numbers, or their names, as a list in which three or more in a row are a range.

    Args:
        numbers: them.
        names: what stands for ``first``, ``first + 1`` and so on.
        first: the number of the first name.
    """
    rows: list[list[int]] = []
    for number in sorted(numbers):
        if rows and rows[-1][-1] == number - 1:
            rows[-1].append(number)
        else:
            rows.append([number])

    def name(number: int) -> str:
        return names[number - first] if names else str(number)

    return listed(
        text
        for row in rows
        for text in ([f"{name(row[0])} to {name(row[-1])}"] if len(row) > 2 else [name(number) for number in row])
    )


def step_of(numbers: Sequence[int], size: int) -> int | None:
    """Return n if sorted numbers are all those below ``size`` that n divides, where n divides ``size``."""
    step = numbers[1] - numbers[0] if len(numbers) > 1 else 0
    return step if step and size % step == 0 and list(numbers) == list(range(0, size, step)) else None


def time_words(hours: Sequence[int], minutes: Sequence[int], seconds: Sequence[int] = (0,)) -> str:
    """Return at which times of day something runs.

    Args:
        hours: sorted numbers.
        minutes: sorted numbers.
        seconds: sorted numbers.
    """
    tail = "" if list(seconds) == [0] else f", at second {runs(seconds)}"
    if len(hours) * len(minutes) <= 6:
        return f"at {listed(f'{hour:02}:{minute:02}' for hour in hours for minute in minutes)}" + tail
    if len(minutes) == 60:
        text = "every minute"
    elif step := step_of(minutes, 60):
        text = f"every {step} minutes"
    elif list(minutes) == [0] and (step := step_of(hours, 24)):
        return ("every hour" if step == 1 else f"every {step} hours") + tail
    else:
        text = f"at minute {runs(minutes)}"
    if len(hours) == 24:
        return text + ("" if text.startswith("every") else " of every hour") + tail
    return f"{text} of hour {runs(hours)}{tail}"


def day_words(days: Collection[int], months: Collection[int], weekdays: Collection[int]) -> str:
    """Return on which days, as something to put after the times; empty for every day.

    Args:
        days: numbers of days in the month.
        months: numbers of months.
        weekdays: numbers of days in the week; Sunday is 0.
    """
    text = f" on {runs(weekdays, WEEKDAYS)}" if len(weekdays) < 7 else ""
    if len(days) < 31:
        text += f"{', if that is' if text else ' on'} day {runs(days)} of the month"
    if len(months) < 12:
        text += f" in {runs(months, MONTHS, 1)}"
    return text
