"""What the chaos scenarios conclude from what they saw: an audit that overlooks something is worse than none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chaos.beside_audit import Findings, table
from chaos.failover import Findings as FailOver
from chaos.farm import Farm, System
from chaos.monkey import Fault
from chaos.plan import Act, Breaker
from chaos.silence import longest_silences
from tests.servers import Redis, require

# -- silences


def silence(starts: list[float], *excuses: Fault, end: float = 60.0) -> float:
    return longest_silences({"first": starts}, excuses, end)["first"]


def frozen(begin: float, end: float, node: str = "first") -> Fault:
    return Fault("freeze_worker", nodes=frozenset({node}), begin=begin, end=end)


def restarted(begin: float, end: float) -> Fault:
    return Fault("restart_server", begin=begin, end=end)


def test_a_silence_between_two_excuses_counts() -> None:
    assert silence([10, 52, 55], frozen(10, 30), restarted(50, 51), end=56) == 20


@pytest.mark.parametrize(
    ("excuses", "longest"),
    [
        ((), 40),
        ((frozen(15, 45),), 5),
        ((frozen(10, 30), frozen(25, 50)), 5),
        ((frozen(10, 50), restarted(20, 21)), 5),
        ((frozen(20, 50),), 10),
        ((frozen(5, 20),), 30),
        ((frozen(10, 50, node="second"),), 40),
        ((restarted(20, 22), restarted(29, 30), restarted(45, 46)), 15),
    ],
)
def test_what_no_excuse_covers_is_silence(excuses: tuple[Fault, ...], longest: float) -> None:
    assert silence([0, 5, 10, 50, 55], *excuses) == longest


def test_a_silence_lasts_until_the_end_of_sending_and_no_longer() -> None:
    assert silence([0, 4], frozen(20, 25), end=40) == 16
    assert silence([0, 4, 100], end=40) == 36
    assert silence([0, 4], frozen(4, 50), end=40) == 4


def test_a_worker_that_never_began_anything_was_silent_all_the_time() -> None:
    assert longest_silences({"first": [10, 20, 30], "second": []}, [], 30)["second"] == 20


# -- beside Celery

CLEAN = Findings(sent=100, refused=2, slowest=1.0, ran=100, failed=0, waiting=0, lost=0, again=3, twice=1, late=2.0,
                 silence=3.0, stuck=0, ended=0)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "clean"),
    [
        ({}, True),
        ({"failed": 1}, False),
        ({"failed": 2, "unlucky": 1}, False),
        ({"failed": 2, "unlucky": 2}, True),
        ({"sent": 0, "ran": 0}, False),
        ({"lost": 1}, False),
        ({"waiting": 1}, False),
        ({"stuck": 1}, False),
        ({"ended": 1}, False),
        ({"silence": 10.5}, False),
    ],
)
def test_what_ours_may_not_do_beside_celery(changes: dict[str, Any], clean: bool) -> None:
    assert replace(CLEAN, **changes).is_clean is clean


def test_the_table_has_a_row_for_each_finding_that_it_names() -> None:
    shown = table({"ours": CLEAN, "celery": replace(CLEAN, lost=7)})
    assert "| calls that were acknowledged | 100 | 100 |" in shown
    assert "| lost: neither run nor anywhere | 0 | 7 |" in shown


# -- fail-overs


@pytest.mark.parametrize(
    ("lost", "every_replica", "consuming", "good"),
    [
        ([0, 0], True, [1.0, 2.0], True),
        ([0, 1], True, [1.0, 2.0], False),
        ([0, 1], False, [1.0, 2.0], True),
        ([0, 0], True, [1.0, 10.5], False),
    ],
)
def test_what_a_fail_over_may_cost(lost: list[int], every_replica: bool, consuming: list[float], good: bool) -> None:
    found = FailOver(sent=100, lost=lost, consuming=consuming)
    assert found.is_as_promised(every_replica) is good


# -- faults by plan


@pytest.fixture
def breaker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Breaker]:
    """A farm of one worker and a Redis, without a proxy between them."""
    require("redis")
    monkeypatch.setenv("CHAOS_RECORD", "")  # a farm sets it: so it is afterwards what it was
    with Redis() as server:
        farm = Farm(tmp_path, {"first": System()}, server.url(), server.url("1"))
        proxy: Any = None
        made = Breaker(farm, server, proxy, standstill=1000.0)
        try:
            farm.wait_until_ready()
            yield made
        finally:
            made.mend(everything=True)
            farm.close()


@pytest.mark.parametrize("kill", ["kill_worker", "freeze_worker"])
def test_a_worker_that_was_stopped_is_excused_until_another_takes_its_place(breaker: Breaker, kill: str) -> None:
    check_that_an_excuse_ends(breaker, "freeze_worker", kill)


@pytest.mark.parametrize("kill", ["restart_server", "freeze_server"])
def test_a_server_that_was_stopped_is_excused_until_it_is_restarted(breaker: Breaker, kill: str) -> None:
    check_that_an_excuse_ends(breaker, "freeze_server", kill)


def check_that_an_excuse_ends(breaker: Breaker, freeze: str, then: str) -> None:
    breaker.do(Act(0.0, freeze, "first", 0.0))
    assert breaker.faults[0].end == 0
    breaker.do(Act(1.0, then, "first", 0.0))
    first, second = breaker.faults
    ended = first.end
    assert ended >= first.begin
    assert ended <= (second.end or ended)
    breaker.mend(everything=True)
    assert first.end == ended
