"""Remote control on Redis: orders, and taking messages back by task id.

{_django_tasks}.orders    zset: JSON of number, kind, node, arguments -> number. Numbers grow, with the time of day
                          among them, so that they do so even when somebody has emptied the database.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from django_tasks.brokers.base import Delivery
from django_tasks.brokers.browse import RUNNING, Wanted
from django_tasks.brokers.control import Control, Order
from django_tasks.brokers.redis_envelopes import task_and_id, with_flags
from django_tasks.brokers.redis_ledger import MARK, TAKE, Held
from django_tasks.brokers.redis_lists import group_of
from django_tasks.chunks import chunked
from django_tasks.redis_connections import Script

if TYPE_CHECKING:
    from django_tasks.brokers.redis import RedisBroker

#: Envelopes read from a list at a time.
PAGE = 500
#: Seconds for which orders to workers are kept.
ORDER_AGE = 3600
_GIVE = Script(Path(__file__).with_name("lua"), "order")


class RedisControl(Control):
    """Orders in a sorted set; messages are looked for from one end of their lists to the other."""

    def __init__(self, broker: RedisBroker) -> None:
        self.broker = broker
        self._key = f"{broker.lists.common}orders"

    def give_order(self, kind: str, node: str, arguments: dict[str, Any]) -> None:
        """Add an order, and forget those of long ago."""
        self.broker.server_clock.keep_set(self.broker.clock)
        now, rest = int(self.broker.now() * 1000), orjson.dumps([kind, node, arguments]).decode()
        self.broker.connections.execute(_GIVE, [self._key], [now, now - ORDER_AGE * 1000, rest])

    def orders(self, after: int) -> list[Order]:
        """Return orders by number; for a negative ``after`` just the newest."""
        found = self.broker.connections.run(
            lambda client: (
                client.zrange(self._key, -1, -1) if after < 0 else client.zrangebyscore(self._key, f"({after}", "+inf")
            )
        )
        return [_order(row) for row in found]

    def take(self, task_ids: Sequence[str], lease: int) -> list[Delivery]:
        """Reserve waiting and delayed messages by task id, under a name that only this lease has."""
        broker, wanted, taken = self.broker, frozenset(task_ids), []
        if not wanted:
            return []
        broker.server_clock.keep_set(broker.clock)
        holder, number = f"control-{lease:x}", 0
        for name in broker.lists.group(broker.register.queues()).lists:
            found = [each for each in envelopes(broker, name) if task_and_id(each)[1] in wanted]
            for chunk in chunked(found, PAGE):
                now = repr(broker.now())
                rows = broker.ledger.run(TAKE, group_of([name]), now, holder, f"{lease:x}", number, *chunk)
                for position, (envelope, facts) in enumerate(zip(chunk, rows, strict=True), number):
                    if facts is not None:
                        handle = Held(name, holder, f"{lease:x}-{position}-{now}")
                        taken.append(broker.ledger.delivery(handle, lease, facts, envelope))
                number += len(chunk)
        return taken

    def mark_redelivered(self, task_ids: Sequence[str]) -> None:
        """Write the flags into the envelopes that workers hold."""
        held = self.broker.browser.all(Wanted(states=(RUNNING,), ids=task_ids))
        for place in (each.handle for each in held):
            group = group_of([place.list])
            self.broker.ledger.run(MARK, group, place.worker, place.field, with_flags(place.envelope))


def _order(row: bytes) -> Order:
    number, rest = row.split(b" ", 1)
    return Order(int(number), *orjson.loads(rest)[:3])  # a later version may add to it


def envelopes(broker: RedisBroker, name: str, delayed: bool = True) -> Iterator[bytes]:
    """Yield what waits on a list, the newest first, and then what is delayed.

    What comes meanwhile pushes the rest away from us: some are met twice then, none is missed.
    """
    run = broker.connections.run
    yield from _pages(lambda start, end: run(lambda client: client.lrange(name, start, end)))
    if delayed:
        key = f"{group_of([name]).own[0]}delayed"
        yield from _pages(lambda start, end: run(lambda client: client.zrevrange(key, start, end)))


def _pages(read: Any) -> Iterator[bytes]:
    start = 0
    while page := read(start, start + PAGE - 1):
        yield from page
        start += PAGE
