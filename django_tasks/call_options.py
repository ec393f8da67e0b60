"""The options of a call, what ``apply_async`` takes: names, so that a misspelt one is an error where it is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django_tasks.conf import suggestion

# What makes the message and decides about its way. Those of the second half are for workflows.
_HEEDED = """
    add_to_parent compression countdown eta exchange expires headers ignore_result link link_error on_commit priority
    queue retry retry_policy routing_key serializer shadow soft_time_limit task_id throw time_limit using

    argsrepr chain chord group group_id group_index kwargsrepr parent_id replaced_task_nesting reply_to retries root_id
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
    """Make sure that these are options of a call.

    Args:
        name: of the task that is called.

    Raises:
        TypeError: one of them is not.
    """
    if CALL_OPTIONS.issuperset(options):
        return
    stamps = options.get("stamped_headers") or ()  # stamps, too, are given as options, and these are their names
    for option in options:
        if option not in CALL_OPTIONS and option not in stamps:
            raise TypeError(
                f"A call of {name} has no option {option!r}.{suggestion(option, _MEANT, cutoff=0.6)} "
                "Data of your own goes into headers={...}."
            )


def misspelt(names: Iterable[str], known: Iterable[str]) -> str | None:
    """Return what is wrong with the first name that is not known but looks like one that is; None if there is none."""
    known = set(known)
    for name in names:
        if name not in known and (meant := suggestion(name, known, cutoff=0.85)):
            return f"{name!r}.{meant}"
    return None
