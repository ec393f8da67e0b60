"""The options of a task, what ``@shared_task`` takes: what only a worker would stumble over is an error there."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from django_tasks.call_options import check_limits
from django_tasks.exceptions import ImproperlyConfigured

#: Seconds of the units in which rates are given.
RATE_UNITS = {"s": 1, "m": 60, "h": 3600}


def parse_rate_limit(value: str | float | None) -> float | None:
    """Return a rate limit (``"10/m"``, ``"100/h"``, ``"5/s"`` or a number) as tasks per second; 0 and "" are none.

    Raises:
        ImproperlyConfigured: it is not a rate, or below zero.
    """
    number, _, unit = str(value or 0).partition("/")
    try:
        rate = float(number) / RATE_UNITS[unit.strip() or "s"]
        if not 0 <= rate < float("inf"):
            raise ValueError
    except (KeyError, ValueError):
        raise ImproperlyConfigured(
            f"{value!r} is not a rate limit: use '5/s', '10/m' or '100/h' (tasks per second, minute, hour), a plain "
            "number of tasks per second, or None for no limit."
        ) from None
    return rate or None


def check_task_options(where: str, options: Mapping[str, Any]) -> None:
    """Make sure that options of a task have values that can be used.

    Raises:
        ImproperlyConfigured: one has not; begins with ``where``.
    """
    for name, value in options.items():
        expected, accepts = _VALUES.get(name, ("", None))
        if accepts is not None and not accepts(value):
            raise ImproperlyConfigured(f"{where}: {name} must be {expected}, not {value!r}")
    check_limits(where, options)
    try:
        parse_rate_limit(options.get("rate_limit"))
    except ImproperlyConfigured as error:
        raise ImproperlyConfigured(f"{where}: rate_limit = {error}") from None


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool) or value is None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf


def _is_count(value: Any) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool))


def _is_name(value: Any) -> bool:
    return value is None or isinstance(value, str) or hasattr(value, "name")


_FLAG = ("True or False", _is_flag)
#: What a value must be, in words and as a function.
_VALUES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(("bind", "acks_late", "ignore_result", "track_started", "retry_jitter", "typing", "trail"), _FLAG),
    **dict.fromkeys(("max_retries", "priority"), ("a whole number or None", _is_count)),
    **dict.fromkeys(("default_retry_delay", "retry_backoff_max"), ("a number of seconds", _is_number)),
    "retry_backoff": ("True, False or a number of seconds", lambda value: _is_flag(value) or _is_number(value)),
    **dict.fromkeys(("queue", "serializer"), ("a name", _is_name)),
}
