"""A broker inside one process, for tests and for trying things out: the same rules, no server."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from django_tasks.brokers.base import (
    UNKNOWN_RESERVATION_AGE,
    Beat,
    Broker,
    Delivery,
    Settlement,
    Size,
    Verb,
    deliver,
)
from django_tasks.brokers.beat import EntryState
from django_tasks.brokers.control import Control, Order
from django_tasks.brokers.memory_beat import MemoryClaims
from django_tasks.brokers.memory_browse import MemoryBrowser
from django_tasks.brokers.rules import Vigil, stored_envelope
from django_tasks.message import Message
from django_tasks.pipes import drain, readable

#: Seconds after which a wait looks for messages that came from other threads.
LOOK = 0.05


@dataclass
class Entry:
    """One stored message: what a row is to the ORM broker."""

    number: int
    id: str
    task: str
    queue: str
    priority: int
    payload: str
    sent_at: float
    due_at: float = 0.0
    worker: str | None = None
    lease: int | None = None
    reserved_at: float = 0.0
    deaths: int = 0
    refusals: int = 0
    alone: bool = False
    redelivered: bool = False
    admitted: bool = False
    reason: str | None = None
    cause: str | None = None


class MemoryBroker(Broker):
    """Messages in this process (``memory://``); threads share them, other processes do not."""

    shared: ClassVar[bool] = False
    kept_here: ClassVar[tuple[str, ...]] = ("entries", "seen", "orders", "claims", "lock", "clock", "_numbers")

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self.entries: dict[int, Entry] = {}
        self.seen: dict[str, float] = {}
        self.orders: list[Order] = []
        #: Of periodic tasks, by the entry's name.
        self.claims: dict[str, EntryState] = {}
        self.vigil = Vigil(self.lease)
        self.lock = threading.RLock()
        self.control = MemoryControl(self)
        self.browser = MemoryBrowser(self)
        self.claim_store = MemoryClaims(self)
        self._numbers = itertools.count(1)

    def send(self, messages: Sequence[Message]) -> None:
        """Store the messages, encoded as on every other broker."""
        now = self.now()
        payloads = [stored_envelope(message, self.max_size) for message in messages]
        with self.lock:
            for message, payload in zip(messages, payloads, strict=True):
                if message.cause is not None and self._follows_already(message):
                    continue
                number = next(self._numbers)
                due = message.eta.timestamp() if message.eta else 0.0
                self.entries[number] = Entry(number, message.id, message.task, message.queue, message.priority or 0,
                                             payload, now, due_at=due, cause=message.cause)  # fmt: skip

    def _follows_already(self, message: Message) -> bool:
        return any(e.id == message.id and e.cause == message.cause for e in self.entries.values())

    def reserve(self, worker: str, queues: Sequence[str], limit: int, lease: int) -> list[Delivery]:
        """Take ready entries, those to be reserved alone first and singly."""
        with self.lock:
            ready = self._ready(queues)
            ready.sort(key=lambda e: (not e.alone, -e.priority, e.number))
            if ready and ready[0].alone:
                limit = 1
            else:
                ready = [e for e in ready if not e.alone]
            return [self.hand_out(entry, worker, lease) for entry in ready[:limit]]

    def _ready(self, queues: Sequence[str]) -> list[Entry]:
        now = self.now()
        return [e for e in self.free() if e.due_at <= now and e.queue in queues]

    def wait(self, queues: Sequence[str], timeout: float, wakeup: int) -> None:
        """Look again and again until there is something to reserve or ``wakeup`` is readable."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            with self.lock:
                if self._ready(queues):
                    return
            if readable([wakeup], min(left, LOOK)):
                drain(wakeup)
                return

    def free(self) -> list[Entry]:
        """Return the entries that nobody holds."""
        return [e for e in self.entries.values() if e.worker is None and e.reason is None]

    def hand_out(self, entry: Entry, worker: str, lease: int) -> Delivery:
        """Reserve one entry."""
        entry.worker, entry.lease, entry.reserved_at = worker, lease, self.now()
        delivery = deliver(entry.payload, self.accept, entry.queue, entry.number, lease, deaths=entry.deaths,
                           refusals=entry.refusals, alone=entry.alone, redelivered=entry.redelivered,
                           admitted=entry.admitted)  # fmt: skip
        if delivery.error is not None and not delivery.message.id:
            delivery.message.task, delivery.message.id = entry.task, entry.id
        return delivery

    def settle(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        """End deliveries whose lease holds."""
        with self.lock:
            held = {id(s) for s in self.confirm(settlements)}
            for settlement in {s.delivery.handle: s for s in settlements if id(s) in held}.values():
                self._settle(settlement)
            return [s for s in settlements if id(s) not in held]

    def _settle(self, settlement: Settlement) -> None:
        entry = self.entries[settlement.delivery.handle]
        if settlement.verb is Verb.ACK:
            del self.entries[entry.number]
            return
        if settlement.verb is Verb.DEAD:
            self.entries[entry.number] = replace(entry, reason=settlement.reason, worker=None, lease=None, cause=None)
            return
        entry.deaths += settlement.died and entry.alone
        entry.refusals += settlement.refused
        entry.alone = entry.alone or settlement.died
        entry.redelivered = entry.redelivered or settlement.delivery.redelivered or settlement.died
        entry.admitted = entry.admitted or settlement.admitted
        entry.due_at = self.now() + settlement.delay if settlement.delay > 0 else 0.0
        entry.worker = entry.lease = None

    def confirm(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        """Return those whose lease holds."""
        with self.lock:
            entries = [(s, self.entries.get(s.delivery.handle)) for s in settlements]
            return [s for s, entry in entries if entry and entry.worker and entry.lease == s.delivery.lease]

    def heartbeat(self, beats: Sequence[Beat]) -> None:
        """Remember who lives; take back what they do not know they hold."""
        now = self.now()
        with self.lock:
            leases = {beat.identity: beat.leases for beat in beats}
            self.seen.update(dict.fromkeys(leases, now))
            for entry in self.entries.values():
                known = leases.get(entry.worker or "")
                if known is not None and entry.lease not in known and entry.reserved_at < now - UNKNOWN_RESERVATION_AGE:
                    entry.worker = entry.lease = None
        self.vigil.beat(now)

    def goodbye(self, identities: Sequence[str]) -> None:
        """Forget workers that stopped in good order."""
        with self.lock:
            for identity in identities:
                self.seen.pop(identity, None)

    def rescue(self, now: float, janitor: str, lease: int, dead: Iterable[str] = ()) -> list[Delivery]:
        """Take over what dead workers held (due messages need no help here)."""
        dead = set(dead)
        silent_since = now - self.lease if self.vigil.may_judge(now) else float("-inf")
        with self.lock:
            for identity in [i for i, seen in self.seen.items() if i in dead or seen < silent_since]:
                del self.seen[identity]
            orphans = [
                e for e in self.entries.values()
                if e.worker and e.worker not in self.seen and (e.worker in dead or e.reserved_at < silent_since)
            ]  # fmt: skip
            holders = [entry.worker or "" for entry in orphans]
            deliveries = [self.hand_out(entry, janitor, lease) for entry in orphans]
            for delivery, holder in zip(deliveries, holders, strict=True):
                delivery.holder = holder
            return deliveries

    def sizes(self, queues: Sequence[str] | None = None) -> dict[str, Size]:
        """Count entries."""
        now = self.now()
        sizes = {queue: Size() for queue in queues or ()}
        with self.lock:
            for e in self.entries.values():
                if queues is not None and e.queue not in sizes:
                    continue
                size = sizes.setdefault(e.queue, Size())
                if e.reason is not None:
                    size.dead += 1
                elif e.worker:
                    size.reserved += 1
                elif e.due_at > now:
                    size.delayed += 1
                else:
                    size.waiting += 1
                    size.oldest = max(size.oldest, now - e.sent_at)
        return sizes


class MemoryControl(Control):
    """Orders in a list of the broker's."""

    def __init__(self, broker: MemoryBroker) -> None:
        self.broker = broker

    def give_order(self, kind: str, node: str, arguments: dict[str, Any]) -> None:
        """Append an order."""
        given = self.broker.orders
        given.append(Order(len(given) + 1, kind, node, arguments))

    def orders(self, after: int) -> list[Order]:
        """Return orders by number."""
        return self.broker.orders[after:] if after >= 0 else self.broker.orders[-1:]

    def take(self, task_ids: Sequence[str], lease: int) -> list[Delivery]:
        """Reserve free entries by task id."""
        with self.broker.lock:
            found = [entry for entry in self.broker.free() if entry.id in task_ids]
            return [self.broker.hand_out(entry, "control", lease) for entry in found]

    def mark_redelivered(self, task_ids: Sequence[str]) -> None:
        """Mark entries by task id."""
        with self.broker.lock:
            for entry in self.broker.entries.values():
                entry.redelivered = entry.redelivered or entry.id in task_ids
