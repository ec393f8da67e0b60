"""The broker on Redis: Celery's lists, so that its workers and clients share the queues, and a ledger of our own."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from django_tasks.brokers.base import Beat, Broker, Delivery, Follow, Settlement, Size, Verb
from django_tasks.brokers.redis_beat import RedisClaims
from django_tasks.brokers.redis_browse import RedisBrowser, sizes_of
from django_tasks.brokers.redis_cluster import ClusterFinisher, ClusterLedger, ClusterLists, make_repeatable
from django_tasks.brokers.redis_cluster_common import ClusterControl, ClusterRegister
from django_tasks.brokers.redis_control import RedisControl
from django_tasks.brokers.redis_finish import Finisher
from django_tasks.brokers.redis_ledger import Ledger
from django_tasks.brokers.redis_lists import Lists, check_options
from django_tasks.brokers.redis_register import Register
from django_tasks.brokers.redis_wait import Waiter
from django_tasks.brokers.rules import Vigil
from django_tasks.message import Message
from django_tasks.redis_cluster import connections_to
from django_tasks.redis_connections import RedisConnections

if TYPE_CHECKING:
    from django_tasks.backends.base import ResultBackend
    from django_tasks.outcome import Outcome

logger = logging.getLogger("django_tasks.worker")

#: Messages taken over from dead workers at a time.
RESCUE_LIMIT = 200
#: Looks for dead workers in the time of one lease; what is due is looked for each time.
RESCUES_PER_LEASE = 6
#: Times that one look brings due messages to their queues, for the sake of the heartbeat.
MOST_PROMOTIONS = 20
#: Seconds between looks at the server's clock.
CLOCK_AGE = 10.0


class RedisBroker(Broker):
    """Messages on Redis or Valkey (``redis://host:port/number``; ``redis_urls`` has the other forms)."""

    owns_connections: ClassVar[bool] = True

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        check_options(self.options)
        self.connections = connections_to("BROKER_URL", url, timeout=self.timeout, options=self.options, tls=self.tls)
        self.server_clock = ServerClock(self.connections)
        cluster = self.connections.is_cluster
        self.lists = (ClusterLists if cluster else Lists)(self.options)
        kind = ClusterLedger if cluster else Ledger
        self.ledger = kind(self.connections, self.lists, self.now, self.lease, self.accept)
        self.finisher = (ClusterFinisher if cluster else Finisher)(self)
        self.register = (ClusterRegister if cluster else Register)(self.connections, self.lists)
        self.waiter = Waiter(self.ledger)
        self.control = (ClusterControl if cluster else RedisControl)(self)
        self.browser: RedisBrowser = RedisBrowser(self)
        self.claim_store = RedisClaims(self)
        self.vigil = Vigil(self.lease)
        self._rescued_at = 0.0
        self._turn = 0
        #: Lists of which this process's janitor has taken something over, though it may not serve them.
        self._elsewhere: set[str] = set()

    def now(self) -> float:
        """Return the server's time."""
        return self.clock() + self.server_clock.offset

    def check(self) -> None:
        """Make sure that the server is not too old, and warn of one that may delete messages."""
        self.connections.check_version()
        policy = self.connections.eviction_policy()
        self.close()  # whoever checks is about to fork
        if policy != "noeviction":
            logger.warning(
                "Redis at %s has maxmemory-policy %s: when its memory is full it deletes messages. Set noeviction.",
                self.connections.place, policy,
            )  # fmt: skip

    def close(self) -> None:
        """Drop this process's connections, but for those on which a thread waits."""
        self.waiter.close()
        self.connections.close()

    def send(self, messages: Sequence[Message]) -> None:
        """Push the messages in one round trip, all or none; in a cluster in one for each slot, all of that or none."""
        if self.connections.is_cluster:
            make_repeatable(messages, self.lists)
        outgoing = [self.ledger.outgoing(message, self.max_size) for message in messages]
        if outgoing:
            self.server_clock.keep_set(self.clock)
            self.register.note(message.queue for message in messages)
            self.ledger.send(outgoing, self.options.get("wait_replicas", 0))

    def reserve(self, worker: str, queues: Sequence[str], limit: int, lease: int) -> list[Delivery]:
        """Pop messages into the worker's part of the ledger; what is not due yet is parked until then."""
        self._turn += 1
        turn = self._turn % len(queues)
        group = self.lists.group([*queues[turn:], *queues[:turn]])  # first, since it refuses names that cannot be
        found: list[Delivery] = []
        number = 0
        while len(found) < limit:
            taken = self.waiter.hand_over(worker, queues, lease)
            if taken is None:
                self.register.note(queues)
                self.server_clock.keep_set(self.clock)
                taken = self.ledger.reserve(worker, group, limit - len(found), lease, number)
            number += len(taken)
            early = self._early(taken)
            found += [delivery for delivery in taken if delivery not in early] if early else taken
            if not early:
                break
            now = self.now()
            self.settle([Settlement(each, Verb.RETURN, delay=_due(each) - now) for each in early])
        self.waiter.reserved(worker)
        return found

    def _early(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Return what Celery, or one of us when no worker was there, has put on the list before its time."""
        dated = [delivery for delivery in deliveries if delivery.message.eta is not None]
        now = self.now() if dated else 0.0
        return [delivery for delivery in dated if _due(delivery) > now]

    def settle(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        """End deliveries whose lease holds."""
        return self.finisher.settle(settlements)

    def confirm(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        """Return those whose lease holds."""
        return self.finisher.confirm(settlements)

    def finish(self, backend: ResultBackend, outcomes: Sequence[Outcome], follow: Follow) -> list[Outcome]:
        """Store, send what follows, and settle, in one script; results that are elsewhere are stored before."""
        return self.finisher.finish(backend, outcomes, follow)

    def heartbeat(self, beats: Sequence[Beat]) -> None:
        """Renew the leases of living workers; take back what they do not know they hold."""
        self.server_clock.keep_set(self.clock)
        self.ledger.heartbeat(beats, sorted(self._elsewhere))  # first, as the leases hang on it
        self.register.beat(beats, self.now())
        self.vigil.beat(self.now())

    def goodbye(self, identities: Sequence[str]) -> None:
        """Forget workers that stopped in good order; those for whom the server may still wait when their lease ends."""
        if identities:
            self.register.remove(identities)
            over = [each for each in identities if self.waiter.is_over(each)]
            self.ledger.goodbye(self.lists.group(self.register.queues()), over, set(identities).difference(over))

    def rescue(self, now: float, janitor: str, lease: int, dead: Iterable[str] = ()) -> list[Delivery]:
        """Bring due messages to their lists, then take over those of dead workers."""
        dead, group = list(dead), self.lists.group(self.register.known_queues())
        if not group.lists:
            return []
        for _ in range(MOST_PROMOTIONS):
            if not self.ledger.promote(group):
                break
        may_judge = self.vigil.may_judge(now)
        if not dead and (not may_judge or abs(now - self._rescued_at) < self.lease / RESCUES_PER_LEASE):
            return []
        # ``now`` may be earlier than it is: the time of an outage does not count as silence.
        silence = self.now() - now + self.lease if may_judge else None
        group = self.lists.group(self.register.known_queues(0))
        deliveries = self.ledger.rescue(group, silence, dead, janitor, lease, RESCUE_LIMIT)
        self._elsewhere.update(delivery.handle.list for delivery in deliveries)
        if dead:
            self.register.remove(dead)
        if len(deliveries) < RESCUE_LIMIT:
            self._rescued_at = now
            if silence is not None:
                self.register.forget_silent(self.now() - silence)
        return deliveries

    def sizes(self, queues: Sequence[str] | None = None) -> dict[str, Size]:
        """Count messages."""
        return sizes_of(self, queues)

    def wait(self, queues: Sequence[str], timeout: float, wakeup: int) -> None:
        """Let the server move the next message into this worker's inbox."""
        if queues:
            self.server_clock.keep_set(self.clock)  # now, as there is time
        self.waiter.wait(queues, timeout, wakeup)


def _due(delivery: Delivery) -> float:
    return delivery.message.eta.timestamp() if delivery.message.eta else 0.0


class ServerClock:
    """The seconds by which the server's time is ahead of our clock."""

    def __init__(self, connections: RedisConnections) -> None:
        self.connections = connections
        self.offset = 0.0
        self._asked_at: float | None = None

    def keep_set(self, clock: Callable[[], float]) -> None:
        """Ask the server now and then; ``clock`` gives our own time."""
        if self._asked_at is not None and time.monotonic() - self._asked_at < CLOCK_AGE:
            return
        seconds, microseconds = self.connections.run(lambda client: client.time())
        # By when the answer came, not by the middle of the round trip: who is ahead brings messages too early.
        self.offset = seconds + microseconds / 1e6 - clock()
        self._asked_at = time.monotonic()
