"""What workers ask of the database again and again reads no whole table: the plans of all that they send."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from django.db import connection

from django_tasks.backends.orm import ORMBackend
from django_tasks.brokers.base import Beat, Settlement, Verb, new_lease
from django_tasks.brokers.browse import DEAD, Wanted
from django_tasks.brokers.orm import ORMBroker
from django_tasks.brokers.orm_claims import ALONE_INTERVAL
from django_tasks.models import QueuedMessage, TaskResult
from django_tasks.outcome import Outcome, TaskMeta
from django_tasks.states import SUCCESS
from tests.brokers.hands import ACCEPT, Clock, Hand, message, pass_time, rescue, send
from tests.tables import our_tables

pytestmark = our_tables

#: The tables that grow; those of workers and orders have a few rows.
LARGE = ("django_tasks_message", "django_tasks_result")
#: What is done now and then only, so that it may take longer in the first minute of a database that has no statistics.
RARE = ("due", "rescue", "prune")


def reads_all(plan: str) -> list[str]:
    """Return the lines of a plan that read the whole of a large table, or of one of its indexes."""
    if connection.vendor == "postgresql":
        return re.findall(rf"Seq Scan on (?:{'|'.join(LARGE)}).*", plan)
    if connection.vendor == "sqlite":
        return re.findall(rf"SCAN (?:{'|'.join(LARGE)}).*", plan)
    # A plan of MariaDB has a table and how it is read in each line.
    return re.findall(rf".*(?<!INSERT)\|(?:{'|'.join(LARGE)})\|(?:ALL|index)\|.*", plan)


def explain(cursor: Any, statement: str, parameters: Any) -> str:
    """Return the plan of a statement."""
    prefix = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN"
    cursor.execute(f"{prefix} {statement}", parameters)
    return "\n".join("|".join(map(str, row)) for row in cursor.fetchall())


@contextmanager
def watched(bad: list[str]) -> Iterator[list[str]]:
    """Explain each statement just before it is run; collect those that read all of a large table in ``bad``."""
    seen: list[str] = []
    explaining = False

    def look(execute: Any, statement: str, parameters: Any, many: bool, context: Any) -> Any:
        nonlocal explaining
        if not explaining and statement.startswith(("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")):
            explaining = True
            with connection.cursor() as cursor:
                plan = explain(cursor, statement, parameters[0] if many else parameters)
            explaining = False
            seen.append(statement)
            bad.extend(f"{line}\n    of {statement:.500}" for line in reads_all(plan))
        return execute(statement, parameters, many, context)

    with connection.execute_wrapper(look):
        yield seen


@pytest.fixture
def backend() -> ORMBackend:
    return ORMBackend("django-db://", accept=ACCEPT)


def analyze(known: bool) -> None:
    """Let the database know what is in the tables; or forget it, as before the first time that it looked."""
    with connection.cursor() as cursor:
        if not known:
            if connection.vendor == "postgresql":
                tables = ", ".join(f"'{table}'::regclass" for table in LARGE)
                cursor.execute(f"DELETE FROM pg_statistic WHERE starelid IN ({tables})")
            return
        cursor.execute(f"ANALYZE TABLE {', '.join(LARGE)}" if connection.vendor == "mysql" else "ANALYZE")
        cursor.fetchall() if connection.vendor == "mysql" else None


def multiply(model: Any) -> None:
    """Make sixteen rows of each: so few of a small table would be read by a scan with good reason."""
    names = [field.column for field in model._meta.fields if field.column not in ("id", "task_id", "cause")]
    id_of_copy = "task_id || '-%d'" if connection.vendor != "mysql" else "CONCAT(task_id, '-%d')"
    table, columns = model._meta.db_table, ", ".join(names)
    with connection.cursor() as cursor:
        for n in range(4):
            new = id_of_copy % n
            cursor.execute(f"INSERT INTO {table} (task_id, {columns}) SELECT {new}, {columns} FROM {table}")


def fill(orm: ORMBroker, backend: ORMBackend, clock: Clock) -> None:
    """Make thousands of rows of every status."""
    now = datetime.fromtimestamp(clock(), timezone.utc)
    orm.send([message(f"ready-{n}", queue="celery" if n % 3 else "other", priority=n % 4) for n in range(1500)])
    orm.send([message(f"delayed-{n}", eta=now + timedelta(days=1 + n)) for n in range(1000)])
    multiply(QueuedMessage)
    orm.send([message(f"due-{n}", eta=now + timedelta(seconds=30)) for n in range(5)])
    crowd = [Hand(orm, f"worker-{n}") for n in range(3)]
    held = [delivery for hand in crowd for delivery in hand.take(300)]
    for hand in crowd:
        hand.beat()
    for delivery in held[:100]:
        crowd[0].settle(delivery, Verb.DEAD, reason="no good")
    metas = [TaskMeta(f"ended-{n}", SUCCESS, name="task", date_done=now - timedelta(minutes=n)) for n in range(2000)]
    backend.store(metas)
    multiply(TaskResult)


def statements(orm: ORMBroker, backend: ORMBackend, clock: Clock) -> dict[str, Callable[[], object]]:
    """Return all that a worker, a janitor and whoever waits for a result do again and again."""
    hand = Hand(orm, "me")
    deliveries: list[Any] = []

    def finish() -> None:
        metas = [TaskMeta(delivery.message.id, SUCCESS, name="task") for delivery in deliveries[:5]]
        outcomes = [
            Outcome(delivery.message, SUCCESS, "1", meta=meta, settlement=Settlement(delivery, Verb.ACK))
            for delivery, meta in zip(deliveries[:5], metas, strict=True)
        ]
        orm.finish(backend, outcomes, lambda outcome: [message(f"after-{outcome.message.id}")])

    def die() -> None:
        pass_time(orm, orm.lease + 1)
        assert rescue(orm)

    dead = QueuedMessage.objects.filter(status=QueuedMessage.DEAD).values_list("task_id", flat=True)
    letters = Wanted(states=[DEAD], ids=list(dead[:3]))
    return {
        "send": lambda: send(orm, "new"),
        "reserve": lambda: deliveries.extend(hand.take(20)),
        "reserve nothing": lambda: hand.take(20, ["nothing"]),
        "finish": finish,
        "confirm": lambda: orm.confirm([Settlement(each, Verb.ACK) for each in deliveries[5:]]),
        "give back": lambda: hand.settle(deliveries[5], Verb.RETURN),
        "park": lambda: hand.settle(deliveries[6], Verb.RETURN, delay=60),
        "after a death": lambda: hand.settle(deliveries[7], Verb.RETURN, died=True),
        "bury": lambda: hand.settle(deliveries[8], Verb.DEAD, reason="no good"),
        "reserve alone": lambda: clock.advance(ALONE_INTERVAL) or hand.take(20),
        "heartbeat": hand.beat,
        "nothing due": lambda: rescue(orm),
        "due": lambda: clock.advance(31) or rescue(orm),
        "unknown reservations": lambda: orm.heartbeat([Beat("me", "node", os.getpid())]),
        "rescue": die,
        "take": lambda: orm.control.take(["delayed-7"], new_lease()) if orm.control else None,
        "get": lambda: backend.get(["ended-1", "ended-2"]),
        "wait": lambda: list(backend.wait(["ended-1", "ended-2"], timeout=1, interval=None)),
        "forget": lambda: backend.forget(["ended-1"]),
        "prune": lambda: backend.prune(500),
        "resend": lambda: orm.browser.resend(orm.browser.messages(letters, 3), backend),
    }


@pytest.mark.parametrize("known", [True, False], ids=["with statistics", "without statistics"])
def test_no_statement_reads_a_whole_table(orm: ORMBroker, backend: ORMBackend, clock: Clock, known: bool) -> None:
    fill(orm, backend, clock)
    analyze(known)
    backend.expires = 3600.0
    found: dict[str, list[str]] = {}
    for name, statement in statements(orm, backend, clock).items():
        bad: list[str] = []
        with watched(bad) as seen:
            statement()
        assert seen, f"{name}: nothing was sent"
        if bad and (known or name not in RARE):
            found[name] = bad
    assert not found, "\n".join(f"{name}:\n  {each}" for name, all_of_it in found.items() for each in all_of_it)
