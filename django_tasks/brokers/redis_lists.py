"""What lists a queue has on Redis, and what the keys are called: kombu's rules, and ours beside them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.redis_urls import CONNECTION_OPTIONS

#: Celery's defaults (celery-wire 2.3).
SEPARATOR, STEPS = "\x06\x16", (0, 3, 6, 9)
#: What of ``BROKER_TRANSPORT_OPTIONS`` is heeded, beside ``CONNECTION_OPTIONS``.
OPTIONS = frozenset({"global_keyprefix", "priority_steps", "sep", "wait_replicas"})
#: What is read by kombu alone: its way of acknowledging, its fanout, and its own time-outs and retries.
_KOMBUS = frozenset({
    "ack_emulation", "body_encoding", "confirm_publish", "errback", "fanout_patterns", "fanout_prefix",
    "health_check_interval", "interval_max", "interval_start", "interval_step", "max_retries", "polling_interval",
    "queue_order_strategy", "retry_on_timeout", "retry_policy", "socket_connect_timeout", "socket_timeout",
    "unacked_index_key", "unacked_key", "unacked_mutex_expire", "unacked_mutex_key", "unacked_restore_interval",
    "unacked_restore_limit", "unacked_restore_throttle", "visibility_timeout",
})  # fmt: skip


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse options that mean nothing, neither here nor to kombu.

    Raises:
        ImproperlyConfigured: there is one.
    """
    known = OPTIONS | CONNECTION_OPTIONS
    for name in options:
        if name not in known | _KOMBUS:
            close = difflib.get_close_matches(name, known, 1)
            meant = f" Did you mean {close[0]}?" if close else ""
            raise ImproperlyConfigured(
                f"BROKER_TRANSPORT_OPTIONS: there is no option {name!r}.{meant} It takes {', '.join(sorted(known))}."
            )
    steps = options.get("priority_steps", STEPS)
    if not steps or not all(isinstance(step, int) for step in steps) or min(steps) != 0:
        raise ImproperlyConfigured(
            f"BROKER_TRANSPORT_OPTIONS: priority_steps = {steps!r} must be a list of whole numbers with 0 among them, "
            "the same as for all others that use these queues."
        )
    replicas = options.get("wait_replicas", 0)
    if not isinstance(replicas, int) or replicas < 0:
        raise ImproperlyConfigured(
            f"BROKER_TRANSPORT_OPTIONS: wait_replicas = {replicas!r} must be a whole number, of replicas that have a "
            "message before it counts as sent."
        )


class Group(NamedTuple):
    """Lists that one script works on, with the prefixes of their own keys."""

    lists: list[str]
    own: list[str]


class Lists:
    """Names of keys.

    Args:
        options: ``BROKER_TRANSPORT_OPTIONS``.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.prefix: str = options.get("global_keyprefix", "")
        self.steps = tuple(sorted(options.get("priority_steps", STEPS)))
        self.separator: str = options.get("sep", SEPARATOR)
        #: Prefix of the keys that belong to no list.
        self.common = own_prefix(f"{self.prefix}_django_tasks")
        self._groups: dict[tuple[str, ...], Group] = {}
        self._queues: dict[str, str] = {}

    def list_for(self, queue: str, priority: int | None) -> str:
        """Return the list that a message of this priority goes to: that of the largest step below it."""
        if not priority:  # 0 is among the steps
            return self._name(queue, 0)
        wanted = min(max(priority, 0), 9)
        return self._name(queue, max(step for step in self.steps if step <= wanted))

    def _name(self, queue: str, step: int) -> str:
        name = f"{self.prefix}{queue}{self.separator}{step}" if step else f"{self.prefix}{queue}"
        self._queues[name] = queue
        return name

    def queue_of(self, name: str) -> str:
        """Return the queue of a list that was named here."""
        return self._queues[name]

    def group(self, queues: Sequence[str]) -> Group:
        """Return all lists of queues, the most urgent first, and those of one step in the order of their queues."""
        key = tuple(queues)
        group = self._groups.get(key)
        if group is None:
            names = [self._name(queue, step) for step in self.steps for queue in dict.fromkeys(queues)]
            group = self._groups[key] = group_of(names)
        return group


def group_of(names: Sequence[str]) -> Group:
    """Return lists with the prefixes of their own keys."""
    return Group(list(names), [own_prefix(name) for name in names])


def own_prefix(name: str) -> str:
    """Return the prefix of the keys that belong to one: ``{name}.``, which a cluster keeps in the same slot.

    A name that has braces of its own already has the part between them as its place in the cluster.
    """
    inside = name.partition("{")[2].partition("}")
    return f"{name}." if inside[0] and inside[1] else f"{{{name}}}."
