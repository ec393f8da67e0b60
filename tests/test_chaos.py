"""A short run of the chaos that ``make chaos`` makes for minutes: nothing may be lost."""

from __future__ import annotations

import subprocess
import sys

from tests.databases import name_from_environment
from tests.processes import ROOT


def test_nothing_is_lost_in_a_few_seconds_of_chaos() -> None:
    command = [sys.executable, "-m", "chaos", "--database", name_from_environment(), "--seconds", "6", "--lease", "2"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "lost 0" in run.stdout
