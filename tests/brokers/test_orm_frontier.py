"""Claims behind what PostgreSQL cannot clean up: where they begin, and what they find all the same."""

from __future__ import annotations

import time

import pytest
from django.db import connection, transaction

from django_tasks.brokers import orm_sql as sql
from django_tasks.brokers.base import Verb
from django_tasks.brokers.orm import ORMBroker
from django_tasks.brokers.orm_frontier import EVERY, LATE, SHARE, SLOW, SLOW_LOOKS, SOON, STEP, Frontier
from tests.brokers.hands import Hand, send
from tests.tables import our_tables

pytestmark = our_tables


def test_as_long_as_looks_are_quick_claims_begin_at_the_beginning() -> None:
    frontier = Frontier()
    for second in range(100):
        assert frontier.start(second) is None
        frontier.looked(SLOW, second)
        frontier.reached((0, second), second)


def test_one_slow_look_says_nothing() -> None:
    frontier = Frontier()
    frontier.reached((0, 1), 0)
    for second in range(100):
        frontier.looked(SLOW * 2 if second % SLOW_LOOKS else 0.0, second)
        assert frontier.start(second + LATE) is None


def slow(frontier: Frontier, seconds: float, now: float) -> None:
    """Let looks from the beginning take that long."""
    for _ in range(SLOW_LOOKS):
        frontier.looked(seconds, now)


def starts(frontier: Frontier, now: float) -> tuple[object, object]:
    """Return where a claim begins that looks back, and where the next one does."""
    return frontier.start(now), frontier.start(now)


def test_slow_looks_are_made_rarely_and_claims_begin_where_those_of_a_moment_ago_ended() -> None:
    frontier = Frontier()
    for second in range(10):
        frontier.reached((0, 100 + second), second)
    slow(frontier, 0.1, 10)
    assert starts(frontier, 10) == ((0, 100 + 10 - LATE), (0, 109))
    assert frontier.start(10 + EVERY / 2) == (0, 109)
    assert starts(frontier, 11) == ((0, 100 + 11 - LATE), (0, 109))
    assert frontier.start(10 + 0.1 / SHARE - 0.01) == (0, 109)
    assert frontier.start(10 + 0.1 / SHARE) is None
    frontier.looked(SLOW / 2, 21)
    assert frontier.start(21) is None


def test_what_was_claimed_just_now_says_nothing() -> None:
    frontier = Frontier()
    slow(frontier, 10, 0)
    frontier.reached((0, 1), 0)
    frontier.reached((0, 2), LATE)
    assert starts(frontier, LATE + SOON / 2) == ((0, 1), (0, 1))
    assert frontier.start(LATE + SOON) == (0, 2)


def test_a_place_is_never_left_for_one_before_it() -> None:
    frontier = Frontier()
    slow(frontier, 10, 0)
    for number, place in enumerate([(0, 5), (-3, 9), (0, 4), (1, 1)]):
        frontier.reached(place, number)
    assert [frontier.start(number + LATE) for number in range(4)] == [(0, 5), (0, 5), (0, 5), (1, 1)]


def test_few_places_are_remembered() -> None:
    frontier = Frontier()
    for number in range(1000):
        frontier.reached((0, number), number * STEP / 99)
    assert len(frontier._reached) <= 11


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="only PostgreSQL needs it")
def test_claims_at_the_frontier(orm: ORMBroker) -> None:
    """What is more urgent and what is new is found at once, in order; what came back before it, with the next look."""
    hand = Hand(orm)
    send(orm, "1", "2", "3", "4")
    first, second = hand.take(2)
    frontier = orm.claims.frontiers["celery"] = Frontier()
    slow(frontier, 10, time.monotonic())
    frontier.reached((0, second.handle), time.monotonic() - LATE)
    hand.settle(first, Verb.RETURN)
    send(orm, "less urgent", priority=-1)
    send(orm, "urgent", priority=9)
    send(orm, "5", "6")
    assert hand.ids(2) == ["urgent", "3"]
    assert hand.ids() == ["4", "5", "6", "less urgent"]
    assert hand.ids() == []
    orm.claims.frontiers.clear()
    assert hand.ids() == ["1"]


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="only PostgreSQL needs it")
def test_claims_at_the_frontier_read_the_index_from_there(orm: ORMBroker) -> None:
    for statement, place in ((sql.CLAIM_BEFORE, [0]), (sql.CLAIM_FROM, [0, 5])):
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute(f"EXPLAIN {statement}", ["worker", 1, 1.0, 0, "celery", *place, 10])
            plan = "\n".join(row[0] for row in cursor.fetchall())
        (condition,) = (line for line in plan.splitlines() if "Index Cond" in line and "queue" in line)
        assert "ranking" in condition
        assert "Sort" not in plan
