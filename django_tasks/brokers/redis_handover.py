"""From a wait that has brought a message to the run of its task, without a round trip in between.

The server has put the message into the worker's inbox and sent it along, so that its task can begin at once. That it is
in the worker's hands, and that the waits at other lists are over, is written to the server in the same moment, and the
answer read later. The handle is the same whatever that will be: if the server did not agree, settling it fails.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from redis.exceptions import NoScriptError

from django_tasks.brokers.base import Delivery
from django_tasks.brokers.redis_blocked import Blocked, end_waits
from django_tasks.brokers.redis_ledger import DIRECTORY, RELEASE, Held, Ledger, learn
from django_tasks.brokers.redis_lists import Group, own_prefix
from django_tasks.redis_connections import Script
from django_tasks.redis_pool import without_errors

BEGIN = Script(DIRECTORY, "ledger", "begin")


class Brought(NamedTuple):
    """A message that a wait has brought, the connection it came over, and those that still wait at the other lists."""

    envelope: bytes
    ended: Blocked
    waiting: Sequence[Blocked]


class Handover:
    """One message on its way from the inbox into its worker's hands.

    Args:
        ledger: of the broker.
        brought: the message; all connections are to one server.
        group: the lists at which the worker has waited.
        worker: whose inbox it is in.
        lease: of the reserve.
    """

    def __init__(self, ledger: Ledger, brought: Brought, group: Group, worker: str, lease: int) -> None:
        self.ledger = ledger
        self.envelope, self.ended, self.waiting = brought
        self.worker = worker
        self.lease = lease
        place = group.lists.index(self.ended.name)
        order = [place, *(each for each in range(len(group.lists)) if each != place)]
        self.group = Group([group.lists[each] for each in order], [group.own[each] for each in order])
        self.now = repr(ledger.now())
        self.handle = Held(self.ended.name, worker, f"{lease:x}-0-{self.now}")
        self.delivery: Delivery | None = None
        self._is_learned = False

    def begin(self) -> Delivery:
        """Tell the server, and return the message without waiting for what it says.

        Raises:
            one of REDIS_ERRORS: the connection is lost, and nobody knows what the server has read.
        """
        script = BEGIN.call(*self.ledger.keys_and_arguments(self.group, self._arguments()))
        self.ended.write([*(each.unblocking for each in self.waiting), script])
        self.delivery = self.ledger.delivery(self.handle, self.lease, b"", self.envelope)
        return self.delivery

    def _arguments(self) -> tuple[object, ...]:
        return (self.now, self.worker, self.handle.field, self.envelope)

    def read(self) -> bool:
        """Read what the server says; return whether the message is in the worker's hands.

        Raises:
            OperationalError, or one of REDIS_ERRORS: nobody knows.
        """
        *ended, facts = self.ended.answers(len(self.waiting) + 1)
        if isinstance(facts, NoScriptError):
            facts = self.ledger.run(BEGIN, self.group, *self._arguments())
        without_errors([*ended, facts])
        late = [each for each, has_ended in zip(self.waiting, ended, strict=True) if not has_ended]
        for each in self.waiting:
            if each not in late:
                each.end()
        # They had ended just before; if not, what they brought since then is for others.
        if any(end_waits(late, self.ended.unblock, self.ledger.connections.timeout)):
            self.ledger.run(RELEASE, self.group, self.worker)
        self._learn(facts)
        return facts is not None

    def complete(self, read_answer: Callable[[], object]) -> None:
        """Learn what is known of the message: by ``read_answer``, or from the ledger if the server's answer got lost.

        Raises:
            OperationalError: the server is away.
        """
        read_answer()
        if not self._is_learned:
            key, field = f"{own_prefix(self.handle.list)}held.{self.worker}", self.handle.field
            value = self.ledger.connections.run(lambda client: client.hget(key, field))
            self._learn(value and value.partition(b"\n")[0])

    def _learn(self, facts: bytes | None) -> None:
        assert self.delivery is not None
        learn(self.delivery, facts or b"")
        self._is_learned = True
