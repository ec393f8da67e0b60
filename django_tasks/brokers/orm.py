"""The broker on the project's own database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from django_tasks.brokers.base import Beat, Broker, Delivery, Follow, Settlement, Size
from django_tasks.brokers.orm_claims import Claims
from django_tasks.brokers.orm_table import MessageTable, row_of
from django_tasks.brokers.orm_wait import Listener
from django_tasks.brokers.orm_workers import ORMControl, WorkerTable, server_clock_offset
from django_tasks.conf import parse_url
from django_tasks.databases import Database, in_user_transaction, unsent_ids
from django_tasks.exceptions import LeaseLost
from django_tasks.message import Message

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
        self.transaction_alias = self.database.alias
        self.messages = MessageTable(self.database)
        self.workers = WorkerTable(self.database, self.messages, self.accept)
        self.control = ORMControl(self.database, self.messages, self.accept, self)
        self.claims = Claims(self.database, self.messages, self.accept)
        self.listener = Listener(self.database)
        self._clock_offset = 0.0
        self._rescue_after = 0.0

    def now(self) -> float:
        """Return the database server's time."""
        return self.clock() + self._clock_offset

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
        self.listener.before_reserve()
        deliveries = self.claims.reserve(worker, queues, limit, lease, self.now())
        if deliveries:
            self.listener.found_something()
        return deliveries

    def settle(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        """Delete, release or bury rows whose lease still holds."""
        try:
            self.database.run(lambda: self.messages.settle(settlements, self.now()))
            return []
        except LeaseLost:
            held = self.confirm(settlements)
            lost = [settlement for settlement in settlements if settlement not in held]
            return lost + (self.settle(held) if lost else [])

    def confirm(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        """Return those whose lease still holds."""
        return self.database.run(lambda: self.messages.held(settlements))

    def finish(self, backend: ResultBackend, outcomes: Sequence[Outcome], follow: Follow) -> list[Outcome]:
        """Finish in one transaction when the backend is on this database, else as every broker does."""
        if not backend.in_transaction_of(self.database.alias):
            return super().finish(backend, outcomes, follow)
        try:
            return self.database.run(lambda: self._finish(backend, outcomes, follow))
        except LeaseLost:
            confirmed = {id(s) for s in self.confirm([o.settlement for o in outcomes if o.settlement])}
            held = [o for o in outcomes if o.settlement is None or id(o.settlement) in confirmed]
            return self.finish(backend, held, follow) if len(held) < len(outcomes) else []

    def _finish(self, backend: ResultBackend, outcomes: Sequence[Outcome], follow: Follow) -> list[Outcome]:
        # Settling comes first: it is what fails when a lease was lost, and a transaction that begins with a write
        # waits for SQLite's lock instead of failing on it.
        with self.database.atomic():
            self.messages.settle([o.settlement for o in outcomes if o.settlement], self.now())
            backend.settle_winners(outcomes)
            self.send([message for outcome in outcomes for message in follow(outcome)])
        return list(outcomes)

    def heartbeat(self, beats: Sequence[Beat]) -> None:
        """Renew worker rows; give back reservations that their workers do not know of."""

        def beat() -> None:
            self._clock_offset = server_clock_offset(self.database, self.clock())
            self.workers.beat(beats, self.now())

        self.database.run(beat)

    def goodbye(self, identities: Sequence[str]) -> None:
        """Remove the rows of workers that stopped in good order."""
        self.database.run(lambda: self.workers.remove(identities))

    def rescue(self, now: float, janitor: str, lease: int, dead: Iterable[str] = ()) -> list[Delivery]:
        """Promote due messages, then take over those of dead workers."""
        dead = list(dead)
        self.database.run(lambda: self.messages.promote(now))
        if not dead and now < self._rescue_after:
            return []
        self._rescue_after = now + self.lease / RESCUES_PER_LEASE
        return self.database.run(lambda: self.workers.take_over(now, self.lease, dead, janitor, lease))

    def sizes(self, queues: Sequence[str] | None = None) -> dict[str, Size]:
        """Count rows by queue and status."""
        return self.database.run(lambda: self.workers.sizes(queues, self.now()))

    def wait(self, queues: Sequence[str], timeout: float, wakeup: int) -> None:
        """Wait for a notification where the database gives any, else until it is time to ask again."""
        self.database.run(lambda: self.listener.wait(timeout, wakeup))
