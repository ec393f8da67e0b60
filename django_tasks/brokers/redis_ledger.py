"""The Redis broker's ledger: who holds which message. Each move is one script (``lua/ledger.lua`` has the layout)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from django_tasks.brokers.base import UNKNOWN_RESERVATION_AGE, Beat, Delivery, deliver
from django_tasks.brokers.redis_envelopes import digest_of
from django_tasks.brokers.redis_lists import Group, Lists, group_of
from django_tasks.brokers.rules import stored_envelope
from django_tasks.chunks import chunked
from django_tasks.exceptions import ReplicationError
from django_tasks.message import Message, encode_envelope
from django_tasks.redis_connections import RedisConnections, Script
from django_tasks.redis_pool import together, without_errors

#: Leases after which a silent worker is forgotten.
FORGOTTEN = 3
#: Messages that one script brings to each list when they are due.
DUE = 1000

DIRECTORY = Path(__file__).with_name("lua")
SEND, RESERVE, DUE_SCRIPT, HEARTBEAT, GOODBYE, RELEASE, RESCUE, SIZES, TAKE, UNBURY, MARK = (
    Script(DIRECTORY, "ledger", name)
    for name in (
        "send", "reserve", "due", "heartbeat", "goodbye", "release", "rescue", "sizes", "take", "unbury", "mark",
    )
)  # fmt: skip


class Held(NamedTuple):
    """Where a delivery stands in the ledger: the handle of a ``Delivery``."""

    list: str
    worker: str
    field: str


class Outgoing(NamedTuple):
    """A message as it is sent; ``due`` is empty for now, ``cause`` where it follows from nothing."""

    list: str
    due: str
    cause: str
    envelope: str


class Ledger:
    """Runs the scripts.

    Args:
        connections: to the server.
        lists: names of keys.
        now: the server's time.
        lease: seconds after its last heartbeat at which a worker is taken for dead.
        accept: content types that may be decoded.
    """

    def __init__(
        self,
        connections: RedisConnections,
        lists: Lists,
        now: Callable[[], float],
        lease: float,
        accept: frozenset[str],
    ) -> None:
        self.connections = connections
        self.lists = lists
        self.now = now
        self.lease = lease
        self.accept = accept

    def run(self, script: Script, group: Group, *arguments: Any) -> Any:
        """Run a script on some lists."""
        return self.connections.execute(script, *self.keys_and_arguments(group, arguments))

    def run_where_possible(self, script: Script, group: Group, *arguments: Any, needed: bool = True) -> list[Any]:
        """As ``run``, on those lists of a cluster that can be reached; return each answer.

        Args:
            needed: it is an error if none can be.
        """
        return [self.run(script, group, *arguments)]

    def keys_and_arguments(self, group: Group, arguments: Sequence[Any]) -> tuple[Sequence[str], Sequence[Any]]:
        """Return what a script is given."""
        return group.lists, (*group.own, *arguments)

    def outgoing(self, message: Message, max_size: int | None) -> Outgoing:
        """Write a message as Celery does.

        Raises:
            EncodeError, MessageTooLarge: that cannot be done.
        """
        envelope = stored_envelope(message, max_size, encode_envelope)
        due = repr(message.eta.timestamp()) if message.eta else ""
        cause = "" if message.cause is None else digest_of(f"{message.id} {message.cause}".encode())
        return Outgoing(self.lists.list_for(message.queue, message.priority), due, cause, envelope)

    def send(self, messages: Sequence[Outgoing], replicas: int = 0) -> None:
        """Send messages, all or none.

        Args:
            replicas: how many are to have them before this returns.

        Raises:
            ReplicationError: the messages are sent, but so many replicas do not have them.
        """
        if replicas or any(each.due or each.cause for each in messages):
            self.send_by_script(messages, replicas)
            return
        by_list: dict[str, list[str]] = {}
        for each in messages:
            by_list.setdefault(each.list, []).append(each.envelope)
        self.connections.run(lambda client: _push(client, by_list))

    def send_by_script(self, messages: Sequence[Outgoing], replicas: int = 0) -> None:
        """As ``send``, also for those that have a due time or a cause."""
        group, numbers = numbered(each.list for each in messages)
        values = chain.from_iterable((numbers[each.list], *each[1:]) for each in messages)
        if (confirmed := self.run_replicated(SEND, group, (*self.times(), *values), replicas)) < replicas:
            raise ReplicationError(
                f"{len(messages)} messages are on Redis at {self.connections.place}, but in time only {confirmed} "
                f"replicas have confirmed them, not {replicas} (wait_replicas). They will run unless the server "
                "is lost first; sent again they may run twice."
            )

    def run_replicated(self, script: Script, group: Group, arguments: Sequence[Any], replicas: int) -> int:
        """Run a script on lists of one slot; return how many replicas have what it wrote, if it matters.

        Args:
            replicas: how many are to have it; none is waited for where that is 0.
        """
        call = self.keys_and_arguments(group, arguments)
        if replicas:
            return self.connections.execute_replicated(script, *call, replicas)
        self.connections.execute(script, *call)
        return 0

    def times(self) -> tuple[str, str]:
        """Return now, and the instant after which a worker that is alive has given a sign of it."""
        now = self.now()
        return repr(now), repr(now - self.lease)

    def reserve(self, worker: str, group: Group, limit: int, lease: int, first: int, beside: int = 0) -> list[Delivery]:
        """Take messages.

        Args:
            first: their handles are numbered from here on.
            beside: how many the worker has taken already, so that none comes that is to be alone.
        """
        now, token = repr(self.now()), f"{lease:x}"
        flat = self.run(RESERVE, group, now, worker, token, first, limit, beside)
        return [
            self.delivery(Held(group.lists[place - 1], worker, f"{token}-{n}-{now}"), lease, facts, envelope)
            for n, (place, facts, envelope) in enumerate(zip(flat[::3], flat[1::3], flat[2::3], strict=True), first)
        ]

    def delivery(self, handle: Held, lease: int, facts: bytes, envelope: bytes, holder: str = "") -> Delivery:
        """Make a delivery of what a script returned."""
        delivery = deliver(envelope, self.accept, self.lists.queue_of(handle.list), handle, lease, holder=holder)
        delivery.redelivered = delivery.message.redelivered
        learn(delivery, facts)
        return delivery

    def heartbeat(self, beats: Sequence[Beat], elsewhere: Sequence[str]) -> None:
        """Note that workers live, on the lists of their queues, and on some others if they are known there."""
        by_queues: dict[tuple[str, ...], list[Beat]] = {}
        for beat in beats:
            by_queues.setdefault(tuple(beat.queues), []).append(beat)
        for queues, some in by_queues.items():
            signs = [(each.identity, _listed(each.leases)) for each in some]
            for group, known in ((self.lists.group(queues), ""), (group_of(elsewhere), "XX")):
                if group.lists:
                    now = self.now()
                    before = repr(now - UNKNOWN_RESERVATION_AGE)
                    arguments = (repr(now), known, before, *chain.from_iterable(signs))
                    # Nobody counts on heartbeats on lists where something was only taken over (XX).
                    self.run_where_possible(HEARTBEAT, group, *arguments, needed=not known)

    def rescue(
        self, group: Group, silence: float | None, dead: Sequence[str], janitor: str, lease: int, limit: int
    ) -> list[Delivery]:
        """Take over what dead workers hold.

        Args:
            silence: seconds without a sign of life after which a worker is dead; None: silence means nothing.
            dead: workers that are known to be.
        """
        now = self.now()
        since = "" if silence is None else repr(now - silence)
        flat = self.run(
            RESCUE, group, repr(now), since, janitor, f"{lease:x}", 0, limit, repr(now - FORGOTTEN * self.lease), *dead
        )
        taken = zip(flat[::4], flat[1::4], flat[2::4], flat[3::4], strict=True)
        return [
            self.delivery(Held(group.lists[place - 1], janitor, f"{lease:x}-{n}-{now!r}"), lease, facts, envelope,
                          worker.decode())
            for n, (place, facts, envelope, worker) in enumerate(taken)
        ]  # fmt: skip

    def promote(self, group: Group) -> bool:
        """Bring due messages to their lists; return whether there may be more."""
        return DUE in self.run_where_possible(DUE_SCRIPT, group, repr(self.now()), DUE)

    def goodbye(self, group: Group, identities: Sequence[str], others: Collection[str] = ()) -> None:
        """Forget workers that hold nothing any more; of others just put back what is set aside for them."""
        for script, some in ((GOODBYE, identities), (RELEASE, others)):
            if some:
                self.run(script, group, *some)


def learn(delivery: Delivery, facts: bytes) -> None:
    """Let a delivery know the facts of its message."""
    if facts:
        deaths, refusals, alone, admitted = map(int, facts.split()[:4])
        delivery.deaths, delivery.refusals = deaths, refusals
        delivery.alone, delivery.admitted = bool(alone), bool(admitted)


def numbered(names: Any) -> tuple[Group, dict[str, int]]:
    """Return lists, each once, and their numbers as scripts count them."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names), 1)}
    return group_of(list(numbers)), numbers


#: Envelopes of one LPUSH.
_CHUNK = 1000


def _push(client: Any, by_list: dict[str, list[str]]) -> None:
    commands = [("LPUSH", name, *some) for name, envelopes in by_list.items() for some in chunked(envelopes, _CHUNK)]
    if len(commands) == 1:
        client.execute_command(*commands[0])
        return
    *queued, done = together(client, [("MULTI",), *commands, ("EXEC",)])
    # What one of them is refused for says more than that of EXEC, which is refused for its sake.
    without_errors([*queued, *(done if isinstance(done, list) else [done])])


def _listed(leases: frozenset[int]) -> str:
    return " ".join(["", *(f"{lease:x}" for lease in leases), ""])
