"""The options of a call, what ``apply_async`` takes: what is wrong with one is an error where it is written."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django_tasks.conf import suggestion
from django_tasks.exceptions import ImproperlyConfigured

# What makes the message and decides about its way. Those of the second half are for workflows.
_HEEDED = """
    add_to_parent compression countdown eta exchange expires headers ignore_result link link_error on_commit priority
    queue retry retry_policy routing_key serializer shadow soft_time_limit task_id throw time_limit using

    argsrepr group group_id group_index kwargsrepr parent_id replaced_task_nesting reply_to retries root_id
    stamped_headers stamps
"""
# What Celery's apply_async, apply and send_task, and kombu's Producer.publish, take besides: it chooses connections and
# exchanges of AMQP, or goes from one of their functions to another, and means nothing here.
_UNHEEDED = """
    connection declare delivery_mode exchange_type immediate mandatory producer publisher

    app_id cluster_id confirm_timeout content_encoding content_type correlation_id create_sent_event event_dispatcher
    expiration logfile loglevel message_id now origin result_cls route_name router task_type timeout timestamp timezone
    type user_id
"""
_MEANT = _HEEDED.split()
CALL_OPTIONS = frozenset([*_MEANT, *_UNHEEDED.split()])


def check_call_options(options: Mapping[str, Any], name: str) -> None:
    """Make sure that these are options of a call, with values that a worker can do something with.

    Args:
        name: of the task that is called.

    Raises:
        TypeError: there is no such option.
        ValueError: an option cannot have this value.
    """
    if not CALL_OPTIONS.issuperset(options):
        _check_names(options, name)
    if not _VALUES.keys().isdisjoint(options):
        check_values(options)


def _check_names(options: Mapping[str, Any], name: str) -> None:
    stamps = options.get("stamped_headers") or ()  # stamps, too, are given as options, and these are their names
    for option in options:
        if option in ("chain", "chord"):
            if options[option]:  # signatures of Celery's may have them, empty
                raise TypeError(f"A call of {name} cannot have the option {option!r}: it comes with a later release.")
        elif option not in CALL_OPTIONS and option not in stamps:
            raise TypeError(
                f"A call of {name} has no option {option!r}.{suggestion(option, _MEANT, cutoff=0.6)} "
                "Data of your own goes into headers={...}."
            )


def check_values(options: Mapping[str, Any]) -> None:
    """Make sure that options of calls, or attributes of tasks that stand for them, have values that can be used.

    Raises:
        ValueError: one has not; says what it should be.
    """
    for name, value in options.items():
        if value is not None and name in _VALUES:
            expected, accepts = _VALUES[name]
            if not accepts(value):
                raise ValueError(f"{name} must be {expected}, not {value!r}")
    hard, soft = options.get("time_limit"), options.get("soft_time_limit")
    if hard and soft and soft > hard:
        raise ValueError(f"soft_time_limit = {soft!r} must not be more than time_limit = {hard!r}")


def check_limits(where: str, attributes: Mapping[str, Any]) -> None:
    """Make sure that the time limits among a task's attributes can be used.

    Raises:
        ImproperlyConfigured: one cannot; begins with ``where``.
    """
    try:
        check_values({name: attributes[name] for name in ("time_limit", "soft_time_limit") if name in attributes})
    except ValueError as error:
        raise ImproperlyConfigured(f"{where}: {error}") from None


def _is_period(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_queue(value: Any) -> bool:
    name = getattr(value, "name", value)  # kombu's queues are objects
    return isinstance(name, str) and name != ""


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


def _are_signatures(value: Any) -> bool:
    return all(
        isinstance(each, Mapping) and isinstance(each.get("task"), str)
        for each in (value if isinstance(value, (list, tuple)) else [value])
    )


#: What a value must be, in words and as a function, where nothing else would say so before a worker has the message.
_VALUES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(("time_limit", "soft_time_limit"), ("a number of seconds", _is_period)),
    **dict.fromkeys(("link", "link_error"), ("a signature, such as task.s(), or a list of them", _are_signatures)),
    "headers": ("a dict", _is_mapping),
    "queue": ("the name of a queue", _is_queue),
    "ignore_result": ("True or False", _is_flag),
    "retries": ("a whole number from 0 on", _is_count),
}


def misspelt(names: Iterable[str], known: Iterable[str]) -> str | None:
    """Return what is wrong with the first name that is not known but looks like one that is; None if there is none."""
    known = set(known)
    for name in names:
        if name not in known and (meant := suggestion(name, known, cutoff=0.85)):
            return f"{name!r}.{meant}"
    return None
