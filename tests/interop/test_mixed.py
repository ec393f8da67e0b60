"""A short run of what ``python -m chaos mixed`` plays for minutes."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.celery_environment import VERSIONS, python_with_celery
from tests.processes import ROOT
from tests.servers import require


@pytest.mark.timeout(300)
def test_both_kinds_of_workers_are_killed_and_every_task_runs() -> None:
    """But as many as Celery's workers may lose by themselves, which is a message at most of each that is killed."""
    require("redis")
    python_with_celery(VERSIONS[0])
    few = ("--tasks", "300", "--visibility", "3", "--pause", "0.7")
    command = [sys.executable, "-m", "chaos", "mixed", "--celery", VERSIONS[0], *few]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"by ours [1-9]\d*, by Celery [1-9]", done.stdout)
    assert re.search(r"killed \w+, ", done.stdout)
