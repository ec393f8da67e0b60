"""Whether mypy and pyright know tasks and results as their users write them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processes import ROOT

HERE = Path(__file__).resolve().parent
Findings = dict[str, dict[int, str]]


def mypy(cache: Path) -> Findings:
    """Return what mypy says about the samples, by file and line."""
    pytest.importorskip("mypy")
    done = run("mypy", "--strict", "--no-error-summary", f"--cache-dir={cache}", *samples())
    found: Findings = {name: {} for name in ("right.py", "wrong.py")}
    for path, line, text in re.findall(r"^(\S+?\.py):(\d+): error: (.*)$", done.stdout, re.MULTILINE):
        found[Path(path).name][int(line)] = text
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return found


def pyright(cache: Path) -> Findings:
    """Return what pyright says about them."""
    pytest.importorskip("pyright")
    done = run("pyright", "--outputjson", "--pythonpath", sys.executable, *samples())
    found: Findings = {name: {} for name in ("right.py", "wrong.py")}
    assert done.returncode in (0, 1), done.stdout + done.stderr
    for each in json.loads(done.stdout)["generalDiagnostics"]:
        if each["severity"] == "error":
            found[Path(each["file"]).name][each["range"]["start"]["line"] + 1] = each["message"]
    return found


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=110, check=False
    )


def samples() -> list[str]:
    return [str(HERE.relative_to(ROOT) / name) for name in ("right.py", "wrong.py")]


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_samples(checker: Callable[[Path], Findings], tmp_path: Path) -> None:
    found = checker(tmp_path)
    assert found["right.py"] == {}
    lines = (HERE / "wrong.py").read_text().splitlines()
    expected = {number for number, line in enumerate(lines, 1) if line.endswith("# error")}
    assert len(expected) > 20
    assert set(found["wrong.py"]) == expected, found["wrong.py"]
