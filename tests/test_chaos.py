"""Short runs of the scenarios that ``make chaos`` plays for minutes."""

from __future__ import annotations

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
