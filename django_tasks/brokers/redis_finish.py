"""How deliveries end on Redis: in one script, which also stores the results that are on the same server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from django_tasks import states
from django_tasks.backends.redis import META, Entry, RedisBackend
from django_tasks.brokers.base import Follow, Settlement, Verb
from django_tasks.brokers.redis_envelopes import dead_letter, facts_after, with_flags
from django_tasks.brokers.redis_ledger import DIRECTORY, Held, Outgoing, numbered
from django_tasks.brokers.redis_lists import group_of, own_prefix
from django_tasks.brokers.rules import still_held
from django_tasks.redis_connections import Script

if TYPE_CHECKING:
    from django_tasks.backends.base import ResultBackend
    from django_tasks.brokers.redis import RedisBroker
    from django_tasks.outcome import Outcome, TaskMeta

#: Bytes of results that one script stores.
MOST_BYTES = 4 * 1024 * 1024
HELD = Script(DIRECTORY, "ledger", "held")
ACK, FINISH = Script(DIRECTORY, "ledger", META, "ack"), Script(DIRECTORY, "ledger", META, "finish")
NOTHING = Entry(b"", "", b"")
#: Milliseconds for which it is known that a delivery has ended: longer than it takes until its worker tries again.
ENDED_AGE = 60_000
#: Makes of a meta what is stored.
MakeEntry = Callable[["TaskMeta"], Entry]


class Ending(NamedTuple):
    """How one delivery ends, what follows, and what is stored of it; there is none where the settlement is None."""

    settlement: Settlement | None
    follow: Sequence[Outgoing] = ()
    entry: Entry = NOTHING


class Finisher:
    """Ends the deliveries of a broker."""

    def __init__(self, broker: RedisBroker) -> None:
        self.broker = broker
        self.ledger = broker.ledger

    def confirm(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        """Return those whose lease holds, or that have ended by an earlier try, whose answer got lost."""
        if not settlements:
            return []
        self.broker.waiter.read_answer()
        group, numbers = numbered(s.delivery.handle.list for s in settlements)
        handles = [s.delivery.handle for s in settlements]
        values = chain.from_iterable((numbers[each.list], each.worker, each.field) for each in handles)
        lost = set(self.ledger.run(HELD, group, *values))
        return [s for place, s in enumerate(settlements, 1) if place not in lost]

    def settle(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        """End deliveries; return those whose lease was lost."""
        if not settlements:
            return []
        self.broker.waiter.read_answer()
        once = list({s.delivery.handle: s for s in settlements}.values())
        lost, _ = self._run([Ending(settlement) for settlement in once])
        handles = {once[place - 1].delivery.handle for place in lost}
        return [s for s in settlements if s.delivery.handle in handles] if handles else []

    def finish(self, backend: ResultBackend, outcomes: Sequence[Outcome], follow: Follow) -> list[Outcome]:
        """Store, send what follows, and settle; return the outcomes that count."""
        self.broker.waiter.read_answer()
        if not (isinstance(backend, RedisBackend) and self.broker.connections.found.is_same(backend.connections.found)):
            return self._finish_stored(backend, outcomes, follow)
        counted, ended = self._finish(outcomes, follow, backend.entry)
        if not ended:
            return counted
        # What follows from these depends on what stays.
        kept = {id(outcome) for outcome in (*counted, *self._finish_stored(backend, ended, follow))}
        return [outcome for outcome in outcomes if id(outcome) in kept]

    def _finish_stored(self, backend: ResultBackend, outcomes: Sequence[Outcome], follow: Follow) -> list[Outcome]:
        """Store; then send what follows and settle together, so that it is sent once."""
        held = still_held(self.broker, outcomes) if backend.stores else list(outcomes)
        backend.settle_winners(held)
        return self._finish(held, follow, lambda _: NOTHING)[0]

    def _finish(
        self, outcomes: Sequence[Outcome], follow: Follow, make_entry: MakeEntry
    ) -> tuple[list[Outcome], list[Outcome]]:
        """Return the outcomes that count, and those whose task had ended, maybe, left alone."""
        endings = []
        for outcome in outcomes:
            entry = NOTHING if outcome.meta is None else make_entry(outcome.meta)
            if entry is NOTHING and outcome.settlement is not None and _matters_later(outcome):
                entry = _mark(outcome.settlement)
            messages = follow(outcome)
            endings.append(Ending(outcome.settlement, self._outgoing(messages) if messages else (), entry))
        lost: set[int] = set()
        ended: set[int] = set()
        for start, some in _chunks(endings):
            for places, found in zip((lost, ended), self._run(some), strict=True):
                places.update(start + place - 1 for place in found)
        if not lost and not ended:
            return list(outcomes), []
        counted = [each for place, each in enumerate(outcomes) if place not in lost and place not in ended]
        return counted, [outcomes[place] for place in sorted(ended)]

    def _outgoing(self, messages: Sequence[Any]) -> list[Outgoing]:
        outgoing = [self.ledger.outgoing(message, self.broker.max_size) for message in messages]
        self.broker.register.note(message.queue for message in messages)
        return outgoing

    def _run(self, endings: Sequence[Ending]) -> tuple[list[int], list[int]]:
        """Run a script; return the places, from 1 on, of those whose lease was lost, and of those that had ended."""
        script, call = (ACK, short) if (short := _in_short(endings)) else (FINISH, self._in_full(endings))
        lost, ended = self.ledger.run(script, *call)
        return lost, ended

    def _in_full(self, endings: Sequence[Ending]) -> tuple[Any, ...]:
        settlements = [each.settlement for each in endings if each.settlement]
        for delivery in [each.delivery for each in settlements if each.verb is not Verb.ACK]:
            delivery.complete()  # what is known of a message goes on with it
        names = [each.delivery.handle.list for each in settlements]
        group, numbers = numbered([*names, *(each.list for ending in endings for each in ending.follow)])
        flagged = self._flagged(settlements)
        arguments: list[Any] = list(self.ledger.times())
        for settlement, follow, entry in endings:
            if settlement is None:
                arguments += (0, "", "", *entry, len(follow))
            else:
                name, worker, field = settlement.delivery.handle
                arguments += (numbers[name], worker, field, *entry, len(follow))
            for each in follow:
                arguments += (numbers[each.list], *each[1:])
            if settlement is None or settlement.verb is Verb.ACK:
                arguments.append("ack")
            else:
                arguments += _verb(settlement, self.ledger.now(), flagged.get(settlement.delivery.handle, b""))
        return group, *arguments

    def _flagged(self, settlements: Sequence[Settlement]) -> dict[Held, bytes]:
        """Return the envelopes that go back with word that they have been in a worker's hands."""
        handles = [s.delivery.handle for s in settlements if s.verb is Verb.RETURN and _is_redelivered(s)]
        if not handles:
            return {}
        values = self.ledger.connections.run_each(
            [("HGET", f"{own_prefix(each.list)}held.{each.worker}", each.field) for each in handles]
        )
        return {
            handle: with_flags(value.partition(b"\n")[2])
            for handle, value in zip(handles, values, strict=True)
            if value is not None
        }


def _in_short(endings: Sequence[Ending]) -> tuple[Any, ...] | None:
    """Return what ``ack.lua`` takes, where all are of one list and worker, and nothing follows."""
    first = endings[0]
    if first.settlement is None:
        return None
    name, worker, _ = first.settlement.delivery.handle
    milliseconds = first.entry.milliseconds
    arguments: list[Any] = [worker, milliseconds]
    for settlement, follow, entry in endings:
        if settlement is None or settlement.verb is not Verb.ACK or follow or entry.milliseconds != milliseconds:
            return None
        handle = settlement.delivery.handle
        if handle.list != name or handle.worker != worker:
            return None
        arguments += (handle.field, entry.key, entry.data)
    return group_of([name]), *arguments


def _chunks(endings: Sequence[Ending]) -> Iterator[tuple[int, Sequence[Ending]]]:
    """Yield parts that are not too large for one script, with the place of their first."""
    start = size = 0
    for place, ending in enumerate(endings):
        size += len(ending.entry.data)
        if size > MOST_BYTES and place > start:
            yield start, endings[start:place]
            start, size = place, len(ending.entry.data)
    if endings:
        yield start, endings[start:]


def _matters_later(outcome: Outcome) -> bool:
    """Whether something is done once it is known that an outcome counts."""
    return outcome.tell is not None or outcome.state in states.EXCEPTION_STATES


def _mark(settlement: Settlement) -> Entry:
    """Return what stands for a result where the script stores none: it tells who tries again, since an answer got lost,
    that this very delivery has ended."""
    name, _, field = settlement.delivery.handle
    return Entry(f"{own_prefix(name)}ended.{field}".encode(), ENDED_AGE, b"1")


def _is_redelivered(settlement: Settlement) -> bool:
    return settlement.died or settlement.delivery.redelivered


def _verb(settlement: Settlement, now: float, envelope: bytes) -> tuple[Any, ...]:
    """Return RETURN or DEAD and its arguments, as ``finish.lua`` reads them."""
    if settlement.verb is Verb.DEAD:
        return ("dead", dead_letter(settlement, now))
    due = repr(round(now + settlement.delay, 3)) if settlement.delay > 0 else ""
    return ("return", due, facts_after(settlement), envelope)
