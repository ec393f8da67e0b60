"""What an entry of ``BEAT_SCHEDULE`` may have, and what each of these may be."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, tzinfo
from typing import Any, NamedTuple

from django_tasks.brokers.beat import NAME_LENGTH
from django_tasks.call_options import CALL_OPTIONS, check_call_options
from django_tasks.conf import suggestion
from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.schedules import as_zone
from django_tasks.serialization import parse_iso

#: ``catch_up``: what becomes of slots that were missed.
NONE, ONCE, ALL = "none", "once", "all"
#: ``overlap``: what becomes of a slot while the last run has not ended.
ALLOW, SKIP, QUEUE = "allow", "skip", "queue"
#: How many missed slots ``catch_up="all"`` runs at most.
MOST = 100


class EntryError(ImproperlyConfigured, ValueError):
    """An entry that cannot be.

    Args:
        entry: its name.
        key: which of its keys is wrong; empty where it is the whole.
        problem: the value, what is wrong with it, and what to write.
        cause: an error that says more.
    """

    def __init__(self, entry: str, key: str, problem: str, cause: BaseException | None = None) -> None:
        more = f" ({cause})" if cause is not None and str(cause) else ""
        super().__init__(f"Entry {entry!r} of the schedule{f', {key}' if key else ''}: {problem}{more}")
        self.entry = entry
        self.key = key
        self.problem = f"{problem}{more}"


class Raw:
    """A value as it stands in an error: not longer than a line."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __str__(self) -> str:
        text = repr(self.value)
        return text if len(text) <= 100 else f"{text[:97]}..."


class Field(NamedTuple):
    """One key of an entry: what it takes, in words and as an example, and how it is read."""

    expected: str
    example: str
    read: Callable[[Any], Any]


def check_names(name: str, definition: Any) -> None:
    """Make sure that an entry has a name, the keys that it needs, and no others.

    Raises:
        EntryError: it has not.
    """
    if not isinstance(name, str) or not name or len(name) > NAME_LENGTH or "\0" in name:
        raise EntryError(str(name)[:50], "", f"its name {Raw(name)} must be a text of 1 to {NAME_LENGTH} characters.")
    if not isinstance(definition, Mapping):
        raise EntryError(name, "", f"{Raw(definition)} must be a dict with 'task' and 'schedule'.")
    for key in definition:
        if key not in FIELDS:
            raise EntryError(name, str(key), f"there is no such key.{_meant(str(key))}")
    for key in ("task", "schedule"):
        if key not in definition:
            raise EntryError(name, key, f"it is missing. Add {key!r}, for example {key!r}: {FIELDS[key].example}.")


def _meant(key: str) -> str:
    if key in CALL_OPTIONS:
        return f" It is an option of the call: write 'options': {{{key!r}: ...}}."
    return suggestion(key, FIELDS, cutoff=0.6) or f" An entry takes {', '.join(FIELDS)}."


def _seconds(value: Any) -> float:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < math.inf:
        raise ValueError
    return float(seconds)


def _seconds_or_none(value: Any) -> float | None:
    return None if value is None else _seconds(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _task(value: Any) -> str:
    name = getattr(value, "name", value)
    if not isinstance(name, str) or not name:
        raise TypeError
    return name


def _args(value: Any) -> tuple[Any, ...]:
    if value is not None and not isinstance(value, (list, tuple)):
        raise TypeError
    return tuple(value or ())


def _kwargs(value: Any) -> dict[str, Any]:
    if value is not None and not isinstance(value, Mapping):
        raise TypeError
    kwargs = dict(value or {})
    if not all(isinstance(key, str) for key in kwargs):
        raise TypeError("names of arguments are texts")
    return kwargs


_REFUSED = {
    "task_id": "each run has an id of its own",
    **dict.fromkeys(("on_commit", "using"), "beat sends in a transaction of its own, or in none"),
}


def _options(value: Any) -> dict[str, Any]:
    options = _kwargs(value)
    check_call_options(options, "an entry")
    for name, why in _REFUSED.items():
        if options.get(name) is not None:
            raise ValueError(f"{name} cannot be given here: {why}")
    return options


def _zone(value: Any) -> tzinfo | None:
    return None if value is None else as_zone(value)


def _instant(value: Any) -> datetime | None:
    if value is None:
        return None
    value = parse_iso(value) if isinstance(value, str) else value
    if not isinstance(value, datetime):
        raise TypeError
    return value


def _overlap(value: Any) -> str:
    if value not in (ALLOW, SKIP, QUEUE):
        raise ValueError
    return str(value)


def _catch_up(value: Any) -> tuple[str, int]:
    if isinstance(value, Mapping) and set(value) == {ALL}:
        value = value[ALL]
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return ALL, value
    if value not in (NONE, ONCE, ALL):
        raise ValueError
    return value, MOST if value == ALL else 1


_INSTANT = Field("a datetime, or an ISO 8601 text", '"2027-01-31 08:00"', _instant)
_FLAG = Field("True or False", "True", _flag)
#: All keys of an entry.
FIELDS: dict[str, Field] = {
    "task": Field("the name of a task", '"shop.tasks.clean"', _task),
    "schedule": Field(
        "a number of seconds, a timedelta, a cron string or a schedule", "crontab(minute=0)", lambda value: value
    ),
    "args": Field("a list or tuple", "(16, 16)", _args),
    "kwargs": Field("a dict with texts as keys", '{"days": 30}', _kwargs),
    "options": Field("a dict of options of apply_async", '{"queue": "slow"}', _options),
    "relative": _FLAG,
    "timezone": Field("the name of a time zone", '"Europe/Berlin"', _zone),
    "catch_up": Field('"none", "once", "all", or how many missed slots are run at most', '"once"', _catch_up),
    "grace": Field("a number of seconds not below 0, a timedelta, or None", "600", _seconds_or_none),
    "overlap": Field('"allow", "skip" or "queue"', '"skip"', _overlap),
    "jitter": Field("a number of seconds not below 0, or a timedelta", "30", _seconds),
    "start_time": _INSTANT,
    "end_time": _INSTANT,
    "one_off": _FLAG,
    "enabled": _FLAG,
    "expires": Field(
        "a number of seconds from the slot on, not below 0, a timedelta, or None", "300", _seconds_or_none
    ),
}
