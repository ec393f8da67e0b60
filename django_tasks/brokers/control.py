"""What remote control needs of a broker: to leave orders, and to find messages by task id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django_tasks.brokers.base import Delivery


@dataclass(slots=True)
class Order:
    """Something workers are told to do (``django_tasks.control``)."""

    number: int
    kind: str
    node: str
    arguments: dict[str, Any] = field(default_factory=dict)


class Control:
    """What a broker needs for remote control."""

    def give_order(self, kind: str, node: str, arguments: dict[str, Any]) -> None:
        """Leave an order for the worker ``node`` (``name@host``), or for all when it is empty."""
        raise NotImplementedError

    def orders(self, after: int) -> list[Order]:
        """Return the orders given since number ``after``; for a negative number only the newest.

        One that commits late may come with a number below ``after``: the caller goes on from the highest it has seen.
        """
        raise NotImplementedError

    def take(self, task_ids: Sequence[str], lease: int) -> list[Delivery]:
        """Reserve waiting and delayed messages by task id, to end them."""
        raise NotImplementedError

    def mark_redelivered(self, task_ids: Sequence[str]) -> None:
        """Have it looked up whether these tasks have ended before their messages, reserved now, begin another time."""
        raise NotImplementedError
