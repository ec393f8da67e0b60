"""Claims of periodic tasks on Redis. Layout version 1:

{_django_tasks}.beat          hash: name of an entry -> version, JSON of the rest of its state (``STATE``, to the end of
                              which a later version may add)
{_django_tasks}.beat.unsent   hash: name -> version and time of the claim LF its messages, one a line, each as JSON of
                              slot, list, due time or "", envelope
{<list>}.beat                 hash: name -> the last slot that was sent to this list

A claim writes down its messages with the state, then sends them, then forgets them. What a beat that died, or was
frozen, has left there, any beat sends: the one that claims the next slot of the entry, or whoever looks next. It may be
sent again, since the list knows which slots have come: so it is a single one, also in a cluster, where no script sees
both keys.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from django_tasks.brokers.beat import UNSENT_AGE, Claim, ClaimStore, EntryState
from django_tasks.brokers.browse import DELAYED, RUNNING, WAITING, Wanted
from django_tasks.brokers.redis_ledger import DIRECTORY
from django_tasks.brokers.redis_lists import group_of
from django_tasks.chunks import chunked
from django_tasks.exceptions import OperationalError, ReplicationError
from django_tasks.redis_connections import Script

if TYPE_CHECKING:
    from django_tasks.brokers.redis import RedisBroker

logger = logging.getLogger("django_tasks.beat")

CLAIM, SENT = Script(DIRECTORY, "beat_claim"), Script(DIRECTORY, "beat_sent")
SEND = Script(DIRECTORY, "ledger", "beat_send")
#: Waiting messages that are gone through to see whether one is among them.
BACKLOG = 2000
#: States of one command.
PAGE = 1000


class Unsent(NamedTuple):
    """Messages of an entry that have been claimed: each slot, list, due time or "", and envelope."""

    version: str
    messages: list[tuple[float, str, str, str]]


class RedisClaims(ClaimStore):
    """Hashes on the broker's Redis."""

    def __init__(self, broker: RedisBroker) -> None:
        self.broker = broker
        self._states_key = f"{broker.lists.common}beat"
        self._unsent_key = f"{broker.lists.common}beat.unsent"

    def now(self) -> float:
        """Return the server's time."""
        self.broker.server_clock.keep_set(self.broker.clock)
        return self.broker.now()

    def states(self, names: Sequence[str] | None = None) -> dict[str, EntryState]:
        """Read states, some at a time."""
        if names is None:
            found = self.broker.connections.run(lambda client: client.hgetall(self._states_key))
            return {key.decode(): _state(key.decode(), value) for key, value in found.items()}
        states = {}
        for page in chunked(names, PAGE):
            (values,) = self.broker.connections.run_each([("HMGET", self._states_key, *page)])
            states.update({name: _state(name, value) for name, value in zip(page, values, strict=True) if value})
        return states

    def add(self, states: Sequence[EntryState]) -> None:
        """Write states of entries that have none."""
        for page in chunked(states, PAGE):
            self.broker.connections.run_each([("HSETNX", self._states_key, each.name, _value(each)) for each in page])

    def prepare(self, claim: Claim) -> None:
        """Write the envelopes of the messages."""
        claim.written = [self.broker.ledger.outgoing(message, self.broker.max_size) for message in claim.messages]
        self.broker.register.note(message.queue for message in claim.messages)

    def claim(self, claims: Sequence[Claim]) -> set[str]:
        """Change states; then send what belongs to them, as far as that is possible now."""
        given = [(claim.before.name, claim.before.version, _value(claim.after), _lines(claim)) for claim in claims]
        keys = [self._states_key, self._unsent_key]
        answers = self.broker.connections.execute(CLAIM, keys, [repr(self.broker.now()), *chain.from_iterable(given)])
        won: dict[str, Unsent] = {
            claim.before.name: Unsent(str(claim.after.version), _messages(answer))
            for claim, answer in zip(claims, answers, strict=True)
            if answer != 0
        }
        try:
            self._send({name: unsent for name, unsent in won.items() if unsent.messages})
        except OperationalError as exc:
            logger.error("Entries are claimed, and their messages will be sent when that is possible: %s", exc)
        self.call(claim for claim in claims if claim.before.name in won)
        return set(won)

    def send_left(self) -> int:
        """Send what was claimed some time ago and is not sent."""
        found = self.broker.connections.run(lambda client: client.hgetall(self._unsent_key))
        before = self.broker.now() - UNSENT_AGE
        left = {}
        for name, value in found.items():
            head, _, lines = value.partition(b"\n")
            version, claimed_at, *_ = head.split()
            if float(claimed_at) < before:
                left[name.decode()] = Unsent(version.decode(), _messages(lines))
        if left:
            self._send(left)
        return len(left)

    def _send(self, unsent: Mapping[str, Unsent]) -> None:
        """Send messages list by list, and forget those of entries of which all are sent.

        Raises:
            OperationalError: not all of them could be sent.
        """
        by_list: dict[str, list[tuple[str, float, str, str]]] = {}
        for name, (_, messages) in unsent.items():
            for slot, place, due, envelope in messages:
                by_list.setdefault(place, []).append((name, slot, due, envelope))
        failure, sent = None, dict(unsent)
        for place, some in by_list.items():
            values = ((name, repr(slot), 1, due, "", envelope) for name, slot, due, envelope in some)
            try:
                self._send_to(place, _flat(values))
            except OperationalError as exc:
                failure = exc
                for name, *_ in some:
                    sent.pop(name, None)
        if sent:
            versions = _flat((name, each.version) for name, each in sent.items())
            self.broker.connections.execute(SENT, [self._unsent_key], versions)
        if failure is not None:
            raise failure

    def _send_to(self, place: str, values: Sequence[Any]) -> None:
        """Send messages to one list; they are kept until as many replicas have them as are asked for."""
        ledger, replicas = self.broker.ledger, self.broker.options.get("wait_replicas", 0)
        confirmed = ledger.run_replicated(SEND, group_of([place]), (*ledger.times(), *values), replicas)
        if confirmed < replicas:
            raise ReplicationError(
                f"Only {confirmed} replicas have confirmed messages, not {replicas} (wait_replicas)."
            )

    def running(self, task_ids: Collection[str]) -> set[str]:
        """Look for calls in all lists, in what workers hold, and in what is not sent yet.

        With a long backlog all count as running: to go through it each time would hold up everybody else.
        """
        if sum(size.waiting + size.delayed for size in self.broker.sizes().values()) > BACKLOG:
            return set(task_ids)
        wanted = Wanted(states=(WAITING, DELAYED, RUNNING), ids=list(task_ids))
        found = {each.id for each in self.broker.browser.all(wanted)}
        unsent = self.broker.connections.run(lambda client: client.hvals(self._unsent_key))
        return found | {each for each in task_ids if any(each.encode() in value for value in unsent)}

    def forget(self, names: Sequence[str]) -> None:
        """Delete states, and what lists know of the entries."""
        if not names:
            return
        own = self.broker.lists.group(self.broker.register.queues()).own
        keys = [self._states_key, *(f"{prefix}beat" for prefix in own)]
        self.broker.connections.run_each([("HDEL", key, *names) for key in keys])


#: What is written of a state beside its name and its version.
STATE = ("anchor", "begun", "slot", "fired", "runs", "last_id", "definition", "claimed_at")


def _value(state: EntryState) -> str:
    return f"{state.version} {orjson.dumps([getattr(state, each) for each in STATE]).decode()}"


def _state(name: str, value: bytes) -> EntryState:
    version, _, rest = value.partition(b" ")
    return EntryState(name, **dict(zip(STATE, orjson.loads(rest), strict=False)), version=int(version))


def _lines(claim: Claim) -> str:
    written: Any = claim.written
    rows = zip(claim.slots, written, strict=True)
    return "\n".join(orjson.dumps([slot, each.list, each.due, each.envelope]).decode() for slot, each in rows)


def _messages(lines: bytes) -> list[tuple[float, str, str, str]]:
    return [(slot, place, due, envelope) for slot, place, due, envelope, *_ in map(orjson.loads, lines.splitlines())]


def _flat(rows: Iterable[Iterable[Any]]) -> list[Any]:
    return list(chain.from_iterable(rows))
