"""The broker on the project's own database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from django_tasks.brokers.base import Beat, Broker, Delivery, Follow, Settlement, Size
from django_tasks.brokers.orm_beat import ORMClaims
from django_tasks.brokers.orm_browse import ORMBrowser
from django_tasks.brokers.orm_claims import Claims
from django_tasks.brokers.orm_table import MessageTable, row_of
from django_tasks.brokers.orm_wait import Listener
from django_tasks.brokers.orm_workers import RESCUE_LIMIT, ORMControl, ServerClock, WorkerTable
from django_tasks.brokers.rules import Vigil, still_held
from django_tasks.conf import parse_url
from django_tasks.databases import Database, in_user_transaction, unsent_ids
from django_tasks.exceptions import LeaseLost
from django_tasks.message import Message
from django_tasks.models import QueuedMessage, WorkerOrder, WorkerProcess, check_tables

if TYPE_CHECKING:
    from django_tasks.backends.base import ResultBackend
    from django_tasks.outcome import Outcome

#: Looks for dead workers in the time of one lease; what is due is looked for each time.
RESCUES_PER_LEASE = 6


class ORMBroker(Broker):
    """Messages in the database ``django-db://alias`` (``default`` when no alias is given)."""

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self.database = Database(parse_url(url)[1] or "default")
        self.database.check()
        self.transaction_alias = self.database.alias
        self.messages = MessageTable(self.database)
        self.workers = WorkerTable(self.database, self.messages, self.accept)
        self.control = ORMControl(self.database, self.messages, self.accept, self)
        self.claims = Claims(self.database, self.messages, self.accept)
        self.browser = ORMBrowser(self.database, self.now, self.lease)
        self.claim_store = ORMClaims(self)
        self.listener = Listener(self.database)
        self.server_clock = ServerClock(self.database)
        self.vigil = Vigil(self.lease)
        self._rescued_at = 0.0

    def check(self) -> None:
        """Make sure that the database is migrated."""
        check_tables(self.database, QueuedMessage, WorkerProcess, WorkerOrder)

    def now(self) -> float:
        """Return the database server's time."""
        return self.clock() + self.server_clock.offset

    def close(self) -> None:
        """Drop the connection of this thread."""
        self.database.connection.close()

    def send(self, messages: Sequence[Message]) -> None:
        """Insert the messages: in the caller's transaction if one is open, else in one of their own."""
        now = self.now()
        rows = [row_of(message, now, self.max_size) for message in messages]
        if not rows:
            return
        self.database.run(lambda: self.messages.insert(rows))
        if in_user_transaction(self.database.alias):
            unsent_ids(self.database).update(message.id for message in messages)

    def unsent(self, task_id: str) -> bool:
        """Whether the transaction that is open here has yet to send this id."""
        return in_user_transaction(self.database.alias) and task_id in unsent_ids(self.database)

    def reserve(self, worker: str, queues: Sequence[str], limit: int, lease: int) -> list[Delivery]:
        """Claim rows queue by queue, each time beginning with another queue."""
        self.server_clock.keep_set(self.clock)
        self.database.run(self.listener.before_reserve)
        deliveries = self.claims.reserve(worker, queues, limit, lease, self.now())
        if deliveries:
            self.listener.found_something()
        return deliveries

    def settle(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        """Delete, release or bury rows whose lease still holds."""
        if not settlements:
            return []
        try:
            self.database.run(lambda: self.messages.settle(settlements, self.now()))
            return []
        except LeaseLost:
            held = {id(s) for s in self.confirm(settlements)}
            lost = [s for s in settlements if id(s) not in held]
            return lost + self.settle([s for s in settlements if id(s) in held])

    def confirm(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        """Return those whose lease still holds."""
        return self.database.run(lambda: self.messages.held(settlements))

    def finish(self, backend: ResultBackend, outcomes: Sequence[Outcome], follow: Follow) -> list[Outcome]:
        """Finish in one transaction; results that are kept elsewhere are stored just before it."""
        held = list(outcomes)
        storing = backend if backend.in_transaction_of(self.database.alias) else None
        if storing is None:
            held = still_held(self, held)
            backend.settle_winners(held)
        while held:
            try:
                self.database.run(partial(_finish, self, storing, held, follow))
                break
            except LeaseLost:
                held = still_held(self, held)
        return held

    def heartbeat(self, beats: Sequence[Beat]) -> None:
        """Renew worker rows; give back reservations that their workers do not know of."""
        self.server_clock.keep_set(self.clock)
        now = self.now()
        self.database.run(lambda: self.workers.beat(beats, now))
        self.vigil.beat(now)

    def goodbye(self, identities: Sequence[str]) -> None:
        """Remove the rows of workers that stopped in good order."""
        self.database.run(lambda: self.workers.remove(identities))

    def rescue(self, now: float, janitor: str, lease: int, dead: Iterable[str] = ()) -> list[Delivery]:
        """Promote due messages, then take over those of dead workers."""
        dead = list(dead)
        self.database.run(lambda: self.messages.promote(now))
        may_judge = self.vigil.may_judge(now)
        if not dead and (not may_judge or abs(now - self._rescued_at) < self.lease / RESCUES_PER_LEASE):
            return []
        silence = self.lease if may_judge else None
        deliveries = self.database.run(lambda: self.workers.take_over(now, silence, dead, janitor, lease))
        if len(deliveries) < RESCUE_LIMIT:
            self._rescued_at = now
        return deliveries

    def sizes(self, queues: Sequence[str] | None = None) -> dict[str, Size]:
        """Count rows by queue and status."""
        return self.database.run(lambda: self.workers.sizes(queues, self.now()))

    def wait(self, queues: Sequence[str], timeout: float, wakeup: int) -> None:
        """Wait for a notification where the database gives any, else until it is time to ask again."""
        self.database.run(lambda: self.listener.wait(timeout, wakeup))


def _finish(broker: ORMBroker, backend: ResultBackend | None, outcomes: Sequence[Outcome], follow: Follow) -> None:
    # Settling comes first: it is what fails when a lease was lost, and a transaction that begins with a write
    # waits for SQLite's lock instead of failing on it.
    with broker.database.atomic():
        broker.messages.settle_here([o.settlement for o in outcomes if o.settlement], broker.now())
        if backend is not None:
            backend.settle_winners(outcomes)
        broker.send([message for outcome in outcomes for message in follow(outcome)])
