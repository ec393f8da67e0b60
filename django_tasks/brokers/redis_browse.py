"""Browsing Redis: lists are read from their newest end, page by page, since nothing there is indexed."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from django_tasks.brokers.base import Settlement, Size, Verb, new_lease
from django_tasks.brokers.browse import DEAD, DELAYED, RUNNING, WAITING, Browser, SeenWorker, StoredMessage, Wanted
from django_tasks.brokers.redis_envelopes import digest_of, properties_of, task_and_id, time_of
from django_tasks.brokers.redis_ledger import SIZES, UNBURY, Held
from django_tasks.brokers.redis_lists import group_of, own_prefix
from django_tasks.chunks import chunked

if TYPE_CHECKING:
    from django_tasks.backends.base import ResultBackend
    from django_tasks.brokers.redis import RedisBroker

#: Envelopes read at a time.
PAGE = 500


#: What is shown of what is kept with a dead letter.
_LETTER = frozenset({"reason", "deaths", "refusals", "alone", "redelivered", "worker", "reserved_at"})


class Place(NamedTuple):
    """Where a stored message is: the handle of a ``StoredMessage``. The middle is its place in the ledger."""

    list: str
    worker: str
    field: str
    envelope: bytes


class RedisBrowser(Browser):
    """Reads lists and the ledger.

    A page that follows the last one is read on from there, so that to go through all of them reads each list once.
    """

    def __init__(self, broker: RedisBroker) -> None:
        self.broker = broker
        self._reading: tuple[Any, Iterator[StoredMessage]] | None = None

    def messages(
        self, wanted: Wanted, limit: int, after: StoredMessage | None = None, *, payload: bool = False
    ) -> list[StoredMessage]:
        """Read envelopes, newest first as far as their senders are ours; one that moves meanwhile may come twice."""
        if after is not None and self._reading is not None and self._reading[0] is after:
            found = self._reading[1]
        else:
            found = self.all(wanted)
            if after is not None:
                found = _beyond(found, after.handle)
        page = list(islice(found, limit))
        self._reading = (page[-1], found) if page else None
        for each in page:
            each.payload = each.handle.envelope if payload else None
        return page

    def all(self, wanted: Wanted) -> Iterator[StoredMessage]:
        """Yield all messages that are wanted, newest first as far as that is known."""
        queues = [wanted.queue] if wanted.queue else self.broker.register.queues()
        sources = [
            source
            for name in self.broker.lists.group(queues).lists
            for state, read in ((WAITING, self._waiting), (DELAYED, self._delayed), (RUNNING, self._running),
                                (DEAD, self._dead))
            if state in wanted.states
            for source in (read(name),)
        ]  # fmt: skip
        for each in heapq.merge(*sources, key=lambda each: each.sent_at or 0.0, reverse=True):
            if (
                wanted.task in ("", each.task)
                and (wanted.ids is None or each.id in wanted.ids)
                and (each.refusals or not wanted.refused)
            ):
                yield each

    def _stored(self, name: str, state: str, envelope: bytes, field: str = "", **facts: Any) -> StoredMessage:
        task, task_id = task_and_id(envelope)
        tag, priority, redelivered = properties_of(envelope)
        facts.setdefault("redelivered", redelivered)
        place, queue = Place(name, facts.get("worker", ""), field, envelope), self.broker.lists.queue_of(name)
        sent_at = time_of(tag)
        return StoredMessage(place, task_id, task, queue, state, priority=priority, sent_at=sent_at, **facts)

    def _run(self, *command: Any) -> Any:
        return self.broker.connections.run(lambda client: client.execute_command(*command))

    def _waiting(self, name: str) -> Iterator[StoredMessage]:
        own = own_prefix(name)
        has_facts = False
        for number, envelope in enumerate(self._listed(name)):
            if number % PAGE == 0:
                has_facts = self._has_facts(own)
            facts = self._run("HGET", f"{own}facts", digest_of(envelope)) if has_facts else None
            yield self._stored(name, WAITING, envelope, **_facts(facts))

    def _has_facts(self, own: str) -> bool:
        return bool(self._run("EXISTS", f"{own}facts"))

    def _listed(self, name: str) -> Iterator[bytes]:
        """Yield a list from the left, and find the way again where somebody has taken out what we have read."""
        start, last = 0, None
        for _ in range(int(self._run("LLEN", name)) // PAGE + 20):
            if last is not None and self._run("LINDEX", name, start - 1) != last:
                place = self._run("LPOS", name, last)
                start, last = (0, None) if place is None else (place + 1, last)
            page = self._run("LRANGE", name, start, start + PAGE - 1)
            if not page:
                return
            yield from page
            start, last = start + len(page), page[-1]

    def _delayed(self, name: str) -> Iterator[StoredMessage]:
        own, below = own_prefix(name), "+inf"
        while rows := self._run("ZREVRANGEBYSCORE", f"{own}delayed", below, "-inf", "WITHSCORES", "LIMIT", 0, PAGE):
            for envelope, due in zip(rows[::2], rows[1::2], strict=True):
                facts = self._run("HGET", f"{own}facts", digest_of(envelope))
                yield self._stored(name, DELAYED, envelope, due_at=float(due), **_facts(facts))
            if len(rows) < 2 * PAGE:
                return
            below = f"({rows[-1].decode()}"

    def _running(self, name: str) -> Iterator[StoredMessage]:
        own = own_prefix(name)
        for worker in self._run("ZRANGE", f"{own}workers", 0, -1):
            key = f"{own}held.{worker.decode()}"
            for field, facts, envelope in self._held(key):
                reserved_at = float(field.split("-", 2)[2])
                yield self._stored(name, RUNNING, envelope, field, worker=worker.decode(), reserved_at=reserved_at,
                                   **_facts(facts))  # fmt: skip

    def _dead(self, name: str) -> Iterator[StoredMessage]:
        for field, known, envelope in self._held(f"{own_prefix(name)}dead"):
            facts = {fact: value for fact, value in orjson.loads(known).items() if fact in _LETTER}
            yield self._stored(name, DEAD, envelope, field, **facts)

    def _held(self, key: str) -> Iterator[tuple[str, bytes, bytes]]:
        """Yield handle, first line and envelope of what a hash of the ledger has, what was reserved last first."""
        fields = sorted((field.decode() for field in self._run("HKEYS", key)), key=_newest_last, reverse=True)
        for chunk in chunked(fields, PAGE):
            for field, value in zip(chunk, self._run("HMGET", key, *chunk), strict=True):
                if value is not None:
                    first, _, envelope = value.partition(b"\n")
                    yield field, first, envelope

    def workers(self) -> list[SeenWorker]:
        """Read the register."""
        self.broker.server_clock.keep_set(self.broker.clock)
        return self.broker.register.workers(self.broker.now(), self.broker.lease)

    def resend(self, letters: Sequence[StoredMessage], backend: ResultBackend) -> list[str]:
        """Take the letters into our hands, forget the results, and let them go."""
        broker, lease = self.broker, new_lease()
        holder, taken = f"control-{lease:x}", []
        for number, letter in enumerate(letters):
            name, now = letter.handle.list, repr(broker.now())
            facts = "0 0 1 0" if letter.alone else ""
            found = broker.ledger.run(UNBURY, group_of([name]), now, holder, f"{lease:x}", number, letter.handle.field,
                                      facts)  # fmt: skip
            if found[0] is not None:
                handle = Held(name, holder, f"{lease:x}-{number}-{now}")
                delivery = broker.ledger.delivery(handle, lease, facts.encode(), found[0])
                delivery.redelivered = True
                taken.append((letter.id, delivery))
        backend.forget([task_id for task_id, _ in taken])
        broker.settle([Settlement(delivery, Verb.RETURN) for _, delivery in taken])
        return [task_id for task_id, _ in taken]

    def drop(self, letters: Sequence[StoredMessage]) -> int:
        """Delete the letters."""
        return sum(self._run("HDEL", f"{own_prefix(each.handle.list)}dead", each.handle.field) for each in letters)


def _beyond(found: Iterator[StoredMessage], handle: Place) -> Iterator[StoredMessage]:
    """Skip what comes up to a message."""
    for each in found:
        if each.handle == handle:
            break
    return found


def _newest_last(field: str) -> tuple[float, int]:
    _, number, reserved_at = field.split("-", 2)
    return float(reserved_at), int(number)


def _facts(known: bytes | None) -> dict[str, Any]:
    if not known:
        return {}
    deaths, refusals, alone = map(int, known.split()[:3])
    return {"deaths": deaths, "refusals": refusals, "alone": bool(alone)}


def sizes_of(broker: RedisBroker, queues: Sequence[str] | None) -> dict[str, Size]:
    """Count messages by queue; without names, of those that have any."""
    names = broker.register.queues() if queues is None else list(queues)
    group = broker.lists.group(names)
    sizes = {name: Size() for name in names}
    if not group.lists:
        return sizes
    broker.server_clock.keep_set(broker.clock)
    now = broker.now()
    for name, (waiting, delayed, reserved, dead, tag) in zip(group.lists, broker.ledger.run(SIZES, group), strict=True):
        size = sizes[broker.lists.queue_of(name)]
        size.waiting += waiting
        size.delayed += delayed
        size.reserved += reserved
        size.dead += dead
        sent_at = time_of(tag.decode())
        size.oldest = max(size.oldest, now - sent_at) if waiting and sent_at else size.oldest
    return {name: size for name, size in sizes.items() if queues is not None or size != Size()}
