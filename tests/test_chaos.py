"""Short runs of the scenarios that ``make chaos`` plays for minutes."""

from __future__ import annotations

import re
import subprocess
import sys

import django
import pytest

from tests.databases import name_from_environment
from tests.processes import ROOT
from tests.servers import require

DATABASE = name_from_environment()


def play(scenario: str, *arguments: str, statuses: tuple[int, ...] = (0,)) -> str:
    """Play a scenario to its end and return what it printed."""
    command = [sys.executable, "-m", "chaos", scenario, *arguments]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert run.returncode in statuses, run.stdout + run.stderr
    return run.stdout


def test_nothing_is_lost_in_a_few_seconds_of_chaos() -> None:
    printed = play("faults", "--database", DATABASE, "--seconds", "8")
    assert "lost 0" in printed


@pytest.mark.skipif(DATABASE != "sqlite", reason="about Redis, the same on every database")
def test_nothing_is_lost_on_redis_either() -> None:
    require("redis")
    printed = play("faults", "--database", "redis", "--seconds", "8", "--lease", "4")
    assert "lost 0" in printed


@pytest.mark.skipif(DATABASE != "sqlite", reason="about Redis, the same on every database")
def test_the_same_faults_for_each_system_are_audited() -> None:
    """Celery's side is played by `make chaos` alone."""
    require("redis")
    few = ("--seconds", "1.5", "--after", "0", "--only", "kill_child", "reset_connections", "restart_server")
    printed = play("beside", "--systems", "ours", *few)
    assert re.search(r"run to the end \| [1-9]", printed)
    assert "| lost: neither run nor anywhere | 0 |" in printed


@pytest.mark.skipif(DATABASE != "sqlite", reason="about Redis, the same on every database")
def test_a_fail_over_that_loses_nothing_is_good() -> None:
    require("redis")
    assert "lost 0 (0)" in play("failover", "--times", "1", "--wait", "1", "--senders", "2")


def test_delayed_tasks_outlive_restarts_of_their_worker() -> None:
    printed = play("delayed", "--database", DATABASE, "--tasks", "100", "--restarts", "3", "--seconds", "20")
    assert "sent 100, runs 100, ended 100, never run 0, run twice 0, early 0" in printed


@pytest.mark.skipif(DATABASE != "sqlite", reason="about SQLite")
@pytest.mark.skipif(django.VERSION < (5, 1), reason="the demo's settings for SQLite take Django 5.1")
def test_nobody_sees_a_locked_database() -> None:
    printed = play("locked", "--seconds", "5")
    assert "errors in requests 0, in tasks 0, lines of trouble in logs 0" in printed


@pytest.mark.skipif(DATABASE == "sqlite", reason="SQLite keeps nothing for old snapshots")
def test_a_backlog_is_drained_behind_an_old_snapshot() -> None:
    """How long claims take is printed and not judged here: status 1 says that some were slow."""
    arguments = ("--finished", "20000", "--messages", "5000", "--seconds", "2")
    printed = play("snapshot", "--database", DATABASE, *arguments, statuses=(0, 1))
    assert "left: none" in printed


@pytest.mark.parametrize("database", [DATABASE, *(["redis"] if DATABASE == "sqlite" else [])])
def test_beats_that_are_killed_and_frozen_send_each_slot_once(database: str) -> None:
    if database == "redis":
        require("redis")
    printed = play("beat", "--database", database, "--seconds", "6")
    assert re.search(r"slots [1-9]\d*, messages [1-9]\d*: missing 0, twice 0, of no slot 0", printed)


@pytest.mark.skipif(DATABASE != "sqlite", reason="about Redis, the same on every database")
def test_beats_that_die_and_stand_still_for_hours_of_an_invented_time() -> None:
    require("redis")
    printed = play("beat", "--database", "redis", "--simulate", "3")
    assert printed.count("each once") == 3
