"""The ORM broker: transactions, finishing in one of them, rows that are damaged, plans of its statements."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from django.core.cache import caches
from django.db import DatabaseError, connection, transaction
from django.test import TestCase

from django_tasks.backends.cache import CacheBackend
from django_tasks.backends.orm import ORMBackend
from django_tasks.brokers import orm_sql as sql
from django_tasks.brokers.base import Settlement, Verb, new_lease
from django_tasks.brokers.orm import ORMBroker
from django_tasks.databases import unsent_ids
from django_tasks.exceptions import ImproperlyConfigured, LeaseLost, OperationalError
from django_tasks.message import Message
from django_tasks.models import QueuedMessage, TaskResult, WorkerProcess
from django_tasks.outcome import Outcome, TaskMeta
from django_tasks.states import RETRY, SUCCESS
from tests.brokers.hands import ACCEPT, Clock, Hand, make_orm, message, pass_time, rescue, send
from tests.tables import our_tables
from tests.threads import elsewhere

pytestmark = our_tables


def waiting() -> list[str]:
    return list(QueuedMessage.objects.order_by("pk").values_list("task_id", flat=True))


def seen_by_others() -> list[str]:
    return elsewhere(waiting)


@pytest.mark.parametrize("cause", [None, "c"])
def test_sending_takes_one_statement(orm: ORMBroker, django_assert_num_queries: Any, cause: str | None) -> None:
    with django_assert_num_queries(1):
        send(orm, "1", cause=cause)
    with django_assert_num_queries(3 if connection.vendor == "sqlite" else 1):  # BEGIN, COMMIT
        send(orm, "1", "2", "3", cause=cause)
    assert len(waiting()) == (3 if cause else 4)


# -- the caller's transaction


def test_sent_with_the_commit(orm: ORMBroker) -> None:
    with transaction.atomic():
        send(orm, "1")
        assert waiting() == ["1"]
        assert seen_by_others() == []
        assert elsewhere(Hand(orm).ids) == []
    assert seen_by_others() == ["1"]
    assert elsewhere(Hand(orm).ids) == ["1"]


def test_dropped_with_the_rollback(orm: ORMBroker) -> None:
    with contextlib.suppress(KeyError), transaction.atomic():
        send(orm, "1")
        raise KeyError
    assert seen_by_others() == []


def test_savepoints(orm: ORMBroker) -> None:
    with transaction.atomic():
        send(orm, "1")
        with contextlib.suppress(KeyError), transaction.atomic():
            send(orm, "2")
            raise KeyError
        with transaction.atomic():
            send(orm, "3")
    assert seen_by_others() == ["1", "3"]


def test_a_message_that_cannot_be_sent_does_not_break_the_transaction(orm: ORMBroker) -> None:
    with transaction.atomic():
        send(orm, "1")
        with pytest.raises(Exception, match="255"):
            send(orm, "2", task="t" * 300)
        send(orm, "3")
    assert seen_by_others() == ["1", "3"]


def test_unsent_until_the_commit(orm: ORMBroker) -> None:
    send(orm, "before")
    with transaction.atomic():
        assert not orm.unsent("before")
        send(orm, "1")
        with transaction.atomic():
            send(orm, "2")
            assert orm.unsent("1")
        assert orm.unsent("2")
        assert not orm.unsent("before")
        assert not elsewhere(lambda: orm.unsent("1"))
    assert not orm.unsent("1")


def test_a_decorated_function_forgets_what_its_last_call_sent(orm: ORMBroker) -> None:
    @transaction.atomic
    def view(new: str, *others: str) -> list[bool]:
        send(orm, new)
        return [orm.unsent(each) for each in (new, *others)]

    assert view("1") == [True]
    assert view("2", "1") == [True, False]


class InTestCase(TestCase):
    """The blocks that ``TestCase`` wraps around a test do not count as the caller's."""

    def test_unsent(self) -> None:
        broker = make_orm(Clock())
        send(broker, "before")
        assert not broker.unsent("before")

        @transaction.atomic
        def view(new: str, *others: str) -> list[bool]:
            send(broker, new)
            return [broker.unsent(each) for each in (new, *others)]

        assert view("1", "before") == [True, False]
        assert not broker.unsent("1")
        assert view("2", "1") == [True, False]
        assert unsent_ids(broker.database) == set()

    def test_everything_else(self) -> None:
        broker = make_orm(Clock())
        hand = Hand(broker)
        send(broker, "1", "2")
        first, second = hand.take()
        assert hand.settle(first, Verb.ACK)
        assert len(broker.settle([Settlement(first, Verb.ACK), Settlement(second, Verb.ACK)])) == 1
        assert broker.sizes() == {}


# -- finishing


@pytest.fixture
def backend() -> ORMBackend:
    return ORMBackend("django-db://", accept=ACCEPT)


def outcome_of(hand: Hand, state: str = SUCCESS) -> Outcome:
    [delivery] = hand.take(1)
    meta = TaskMeta(delivery.message.id, state, name="task", worker=hand.identity)
    return Outcome(delivery.message, state, "1", meta=meta, settlement=Settlement(delivery, Verb.ACK))


def after(outcome: Outcome) -> list[Message]:
    return [message(f"after {outcome.message.id}")]


def test_finish_is_one_transaction(orm: ORMBroker, backend: ORMBackend) -> None:
    """Whatever fails, nothing is left: not even when it fails at the very end."""
    send(orm, "1")
    outcome = outcome_of(Hand(orm))

    def follow(outcome: Outcome) -> list[Message]:
        # By now the message is deleted and the result is stored, for this connection and for no other.
        assert waiting() == []
        assert TaskResult.objects.get().status == SUCCESS
        assert seen_by_others() == ["1"]
        assert elsewhere(lambda: TaskResult.objects.count()) == 0
        return [message("after"), message("after", args=(object(),))]

    with pytest.raises(Exception, match="cannot be sent"):
        orm.finish(backend, [outcome], follow)
    assert seen_by_others() == ["1"]
    assert TaskResult.objects.count() == 0
    assert outcome.settlement is not None
    assert orm.confirm([outcome.settlement])


def test_a_lost_lease_stores_nothing_and_the_others_finish(orm: ORMBroker, backend: ORMBackend) -> None:
    hand = Hand(orm)
    send(orm, "lost", "2", "3")
    outcomes = [outcome_of(hand) for _ in range(3)]
    lost = outcomes[0].settlement
    assert lost is not None
    hand.settle(lost.delivery, Verb.RETURN)
    Hand(orm, "other").take(1)
    assert orm.finish(backend, outcomes, after) == outcomes[1:]
    assert sorted(TaskResult.objects.values_list("task_id", flat=True)) == ["2", "3"]
    assert waiting() == ["lost", "after 2", "after 3"]
    assert orm.finish(backend, outcomes[:1], after) == []


def test_a_retry_is_the_message_that_follows(orm: ORMBroker, backend: ORMBackend) -> None:
    hand = Hand(orm)
    send(orm, "1")
    outcome = outcome_of(hand, RETRY)
    outcome.next_run = message("1", retries=1)
    orm.finish(backend, [outcome], lambda each: [each.next_run] if each.next_run else [])
    [again] = hand.take()
    assert (again.message.id, again.message.retries) == ("1", 1)
    assert TaskResult.objects.get().status == RETRY


class OtherBackend(CacheBackend):
    """A backend that is elsewhere, and remembers in which order things came."""

    def __init__(self, events: list[str], hand: Hand) -> None:
        super().__init__("django-cache://", accept=ACCEPT)
        self.events = events
        self.hand = hand

    def store(self, metas: Sequence[TaskMeta]) -> list[TaskMeta]:
        self.events.append(f"store, message {self.hand.broker.sizes()['celery']}")
        return super().store(metas)


def test_with_results_elsewhere_they_are_stored_first(orm: ORMBroker) -> None:
    caches["default"].clear()
    hand = Hand(orm)
    send(orm, "1")
    outcome = outcome_of(hand)
    events: list[str] = []
    backend = OtherBackend(events, hand)

    def follow(each: Outcome) -> list[Message]:
        events.append(f"follow {each.state}, seen by others: {seen_by_others()}, {len(backend.get(['1']))} result")
        return after(each)

    assert orm.finish(backend, [outcome], follow) == [outcome]
    assert [event.split(",")[0] for event in events] == ["store", "follow SUCCESS"]
    assert "reserved=1" in events[0]
    assert events[1] == "follow SUCCESS, seen by others: ['1'], 1 result"
    assert waiting() == ["after 1"]


def test_with_results_elsewhere_what_follows_is_sent_once(orm: ORMBroker) -> None:
    """A death after the result was stored: the message is still there and nothing was sent, so it can be resumed."""
    caches["default"].clear()
    hand = Hand(orm)
    send(orm, "1")
    outcome = outcome_of(hand)
    backend = CacheBackend("django-cache://", accept=ACCEPT)

    def follow(outcome: Outcome) -> list[Message]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        orm.finish(backend, [outcome], follow)
    assert backend.get(["1"])["1"].status == SUCCESS
    assert waiting() == ["1"]
    assert orm.finish(backend, [outcome], after) == [outcome]
    assert waiting() == ["after 1"]
    assert orm.finish(backend, [outcome], after) == []
    assert waiting() == ["after 1"]


def test_a_lease_that_is_lost_while_results_elsewhere_are_stored(orm: ORMBroker) -> None:
    caches["default"].clear()
    hand = Hand(orm)
    send(orm, "lost", "kept")
    outcomes = [outcome_of(hand), outcome_of(hand)]
    lost = outcomes[0].settlement
    assert lost is not None

    class Slow(CacheBackend):
        def store(self, metas: Sequence[TaskMeta]) -> list[TaskMeta]:
            hand.settle(lost.delivery, Verb.RETURN)
            return super().store(metas)

    assert orm.finish(Slow("django-cache://", accept=ACCEPT), outcomes, after) == outcomes[1:]
    assert waiting() == ["lost", "after kept"]


# -- rows


@pytest.mark.parametrize(
    "payload",
    [
        "", "{", "null", "[]", "{}", '"text"', '{"body": 5, "headers": {}, "properties": {}}', "\ufeff", "[" * 5000,
        '{"body":"!","content-type":"application/json","headers":{},"properties":{"body_encoding":"base64"}}',
    ],
)  # fmt: skip
def test_a_damaged_row_is_delivered_with_its_error_and_its_names(orm: ORMBroker, payload: str) -> None:
    send(orm, "damaged", "good")
    QueuedMessage.objects.filter(task_id="damaged").update(payload=payload)
    hand = Hand(orm)
    bad, good = hand.take()
    assert bad.error is not None
    assert good.error is None
    assert (bad.message.task, bad.message.id, bad.message.queue) == ("task", "damaged", "celery")
    [orphan, _] = rescue(orm, "worker")
    assert orphan.error is not None
    assert (orphan.message.task, orphan.message.id) == ("task", "damaged")
    assert orm.settle([Settlement(orphan, Verb.DEAD, reason=str(orphan.error))]) == []
    assert orm.control is not None


def test_heartbeats_are_kept_in_rows(orm: ORMBroker, clock: Clock) -> None:
    hand = Hand(orm, queues=("a", "b"))
    hand.beat()
    first = WorkerProcess.objects.get()
    clock.advance(5)
    hand.beat()
    second = WorkerProcess.objects.get()
    assert (second.identity, second.node, second.queues) == ("worker", "node@host", "a,b")
    assert second.started_at == first.started_at
    assert second.seen_at - first.seen_at == pytest.approx(5, abs=0.001)


def test_a_heartbeat_makes_the_row_again_that_another_janitor_took_away(orm: ORMBroker) -> None:
    hand = Hand(orm)
    hand.beat()
    WorkerProcess.objects.all().delete()
    hand.beat()
    assert WorkerProcess.objects.count() == 1


def test_more_orphans_than_one_statement_takes_over(orm: ORMBroker) -> None:
    hand = Hand(orm)
    send(orm, *map(str, range(450)))
    hand.take(1000)
    hand.beat()
    counts = []
    pass_time(orm, orm.lease + 1)
    while orphans := rescue(orm):
        counts.append(len(orphans))
    assert counts == [200, 200, 50]


def test_old_orders_are_forgotten(orm: ORMBroker, clock: Clock) -> None:
    assert orm.control is not None
    orm.control.give_order("pause", "", {})
    clock.advance(3700)
    orm.control.give_order("resume", "", {})
    assert [order.kind for order in orm.control.orders(0)] == ["resume"]


def test_an_order_that_commits_late_is_not_missed(orm: ORMBroker) -> None:
    """Its number is lower than that of one which was read already."""
    giver, reader = orm.control, make_orm(Clock()).control
    assert giver is not None
    assert reader is not None
    giver.give_order("before", "", {})
    last = reader.orders(-1)[-1].number
    if connection.vendor == "sqlite":  # with one writer at a time numbers and commits have one order
        giver.give_order("early", "", {})
        assert [order.kind for order in reader.orders(last)] == ["early"]
        assert reader.orders(last + 1) == []
        return
    with transaction.atomic():
        giver.give_order("early", "", {})
        elsewhere(lambda: giver.give_order("late", "", {}))
        first = elsewhere(lambda: reader.orders(last))
    assert [order.kind for order in first] == ["late"]
    highest = first[-1].number
    assert [order.kind for order in reader.orders(highest)] == ["early"]
    assert reader.orders(highest) == []
    assert [order.kind for order in reader.orders(last)] == ["early", "late"]


# -- clocks


@pytest.mark.skipif("connection.vendor == 'sqlite'", reason="SQLite has no clock of its own")
def test_the_servers_clock_counts() -> None:
    """A machine whose clock is an hour behind does not make its reservations look an hour old."""
    clock = Clock()
    clock.advance(-3600)
    late = ORMBroker("django-db://", accept=ACCEPT)
    late.clock = clock
    assert late.now() == clock()
    send(make_orm(Clock()), "1")
    [delivery] = Hand(late).take()
    assert abs(late.now() - time.time()) < 60
    right = make_orm(Clock())
    Hand(right).beat()
    assert rescue(right) == []
    assert right.confirm([Settlement(delivery, Verb.ACK)])


def test_a_clock_that_is_set_back(orm: ORMBroker, clock: Clock) -> None:
    hand = Hand(orm)
    rescue(orm)
    hand.take()
    clock.advance(-3600)
    send(orm, "1")
    hand.settle(hand.take()[0], Verb.RETURN, died=True)
    assert hand.ids() == []  # it has just been looked for
    clock.advance(2)
    assert hand.ids() == ["1"]
    assert [each.message.id for each in rescue(orm, "worker")] == ["1"]


# -- what it says when it cannot work


def test_an_unknown_database() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"no database 'nowhere' for django-db://nowhere\. DATABASES"):
        ORMBroker("django-db://nowhere", accept=ACCEPT)
    with pytest.raises(ImproperlyConfigured, match="no database 'nowhere'"):
        ORMBackend("django-db://nowhere", accept=ACCEPT)


def test_a_database_of_another_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "vendor", "oracle")
    monkeypatch.setattr(connection, "display_name", "Oracle")
    with pytest.raises(ImproperlyConfigured, match="cannot use Oracle: it needs SQLite, PostgreSQL, MariaDB"):
        ORMBroker("django-db://", accept=ACCEPT)


@pytest.mark.skipif("connection.vendor != 'sqlite'", reason="about SQLite")
def test_an_old_sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    database: Any = connection
    monkeypatch.setattr(database.Database, "sqlite_version_info", (3, 34, 1))
    with pytest.raises(ImproperlyConfigured, match=r"SQLite 3.34.1 is too old for django-db://default: it needs 3.35"):
        ORMBroker("django-db://", accept=ACCEPT)


def test_missing_tables(orm: ORMBroker) -> None:
    names = ("django_tasks_message", "django_tasks_result")
    with connection.schema_editor() as editor:
        for name in names:
            editor.alter_db_table(QueuedMessage, name, f"{name}_away")
    try:
        for use in (
            lambda: send(orm, "1"),
            lambda: orm.reserve("worker", ["celery"], 1, new_lease()),
            orm.check,
            lambda: ORMBackend("django-db://", accept=ACCEPT).get(["1"]),
            lambda: ORMBackend("django-db://", accept=ACCEPT).store([TaskMeta("1", SUCCESS)]),
        ):
            with pytest.raises(ImproperlyConfigured, match=r"run `python manage\.py migrate`"):
                use()
    finally:
        with connection.schema_editor() as editor:
            for name in names:
                editor.alter_db_table(QueuedMessage, f"{name}_away", name)
    orm.check()


def test_a_message_larger_than_mariadb_takes(orm: ORMBroker) -> None:
    """Its server closes the connection, which must not be taken for an outage that another try could mend."""
    text = "x" * 17_000_000
    if connection.vendor != "mysql":
        send(orm, "1", args=(text,))
        assert len(Hand(orm).take()[0].message.args[0]) == len(text)
        return
    with pytest.raises(Exception, match=r"more than database 'default' takes \(max_allowed_packet = 16,777,216\)"):
        send(orm, "1", args=(text,))
    with pytest.raises(Exception, match="max_allowed_packet"):
        send(orm, "1", args=("\\'\"" * 1_500_000,))
    send(orm, "2", args=("\U0001f40d" * 3_000_000,))
    assert Hand(orm).ids() == ["2"]


# -- plans


def explain(statement: str, parameters: Sequence[Any]) -> str:
    prefix = "EXPLAIN QUERY PLAN " if connection.vendor == "sqlite" else "EXPLAIN "
    with connection.cursor() as cursor:
        cursor.execute(prefix + statement, parameters)
        return "\n".join(" ".join(map(str, row)) for row in cursor.fetchall())


@pytest.fixture
def many(orm: ORMBroker) -> None:
    """Thousands of messages of every status, and statistics that know it."""
    when = datetime.now(timezone.utc) + timedelta(days=1)
    orm.send([message(str(n), queue="celery" if n % 3 else "other", priority=n % 4) for n in range(3000)])
    orm.send([message(str(n), eta=when) for n in range(3000)])
    Hand(orm).take(300)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE TABLE django_tasks_message" if connection.vendor == "mysql" else "ANALYZE")
        cursor.fetchall() if connection.vendor == "mysql" else None


@pytest.mark.usefixtures("many")
def test_claiming_reads_the_index_in_order() -> None:
    if connection.vendor == "mysql":
        plan = explain(f"{sql.SELECT_FOR_CLAIM} FOR UPDATE SKIP LOCKED", [0, "celery", 10])
        assert "filesort" not in plan
    else:
        plan = explain(sql.CLAIM[connection.vendor], ["worker", 1, 1.0, 0, "celery", 10])
        assert "Sort" not in plan
        assert "TEMP B-TREE" not in plan
    assert "django_tasks_msg_claim" in plan
    assert "Seq Scan" not in plan
    assert "SCAN django_tasks_message" not in plan


@pytest.mark.usefixtures("many")
def test_due_messages_are_found_by_the_index() -> None:
    statement = sql.PROMOTE.get(connection.vendor, f"{sql.SELECT_DUE} FOR UPDATE SKIP LOCKED")
    plan = explain(statement, [time.time()])
    assert "django_tasks_msg_due" in plan
    assert "Seq Scan" not in plan
    assert "SCAN django_tasks_message" not in plan
    if connection.vendor == "mysql":
        assert "PRIMARY" in explain(sql.mark_ready([1, 2]), [])


@pytest.mark.usefixtures("many")
def test_settling_finds_rows_by_their_key() -> None:
    plan = explain(sql.acknowledge([1, 2, 3]), [5])
    key = {"sqlite": "INTEGER PRIMARY KEY", "postgresql": "django_tasks_message_pkey", "mysql": "PRIMARY"}
    assert key[connection.vendor] in plan


# -- the one who loses


def test_settling_in_the_callers_transaction_leaves_it_usable(orm: ORMBroker) -> None:
    hand = Hand(orm)
    send(orm, "1")
    [delivery] = hand.take()
    hand.settle(delivery, Verb.RETURN)
    with transaction.atomic():
        assert not hand.settle(delivery, Verb.ACK)
        send(orm, "2")
    assert seen_by_others() == ["1", "2"]
    with pytest.raises(LeaseLost):
        orm.messages.settle([Settlement(delivery, Verb.ACK)], orm.now())


def test_an_error_of_the_callers_own_is_not_taken_for_an_outage(orm: ORMBroker) -> None:
    with contextlib.suppress(DatabaseError), transaction.atomic():
        with contextlib.suppress(DatabaseError), connection.cursor() as cursor:
            cursor.execute("SELECT nothing FROM nowhere")
        try:
            send(orm, "1")
        except OperationalError:
            pytest.fail("the broker is not away")
    connection.ensure_connection()
    send(orm, "2")
    assert "2" in seen_by_others()
