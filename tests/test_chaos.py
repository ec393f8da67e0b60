"""Short runs of the scenarios that ``make chaos`` plays for minutes."""

from __future__ import annotations

import subprocess
import sys

from tests.databases import name_from_environment
from tests.processes import ROOT


def play(scenario: str, *arguments: str) -> str:
    """Play a scenario to its end, which must be a good one, and return what it printed."""
    command = [sys.executable, "-m", "chaos", scenario, *arguments]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_nothing_is_lost_in_a_few_seconds_of_chaos() -> None:
    printed = play("faults", "--database", name_from_environment(), "--seconds", "8", "--lease", "2")
    assert "lost 0" in printed


def test_delayed_tasks_outlive_restarts_of_their_worker() -> None:
    database = name_from_environment()
    printed = play("delayed", "--database", database, "--tasks", "100", "--restarts", "3", "--seconds", "20")
    assert "sent 100, runs 100, ended 100, never run 0, run twice 0, early 0" in printed
