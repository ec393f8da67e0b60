"""tools/budgets.py reports what breaks the rules, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

BUDGETS = Path(__file__).resolve().parent.parent / "tools" / "budgets.py"
Check = Callable[[dict[str, str]], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Write files of a package and run the tool on it."""

    def run(files: dict[str, str]) -> subprocess.CompletedProcess[str]:
        package = tmp_path / "django_tasks"
        for name, text in {"__init__.py": "", **files}.items():
            path = package / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return subprocess.run([sys.executable, BUDGETS, package], capture_output=True, text=True, check=False)

    return run


def function(lines: int, docstring: str = "") -> str:
    """Return a function of that many lines, its docstring aside."""
    return "def function():\n" + docstring + "    pass\n" * (lines - 1)


def klass(methods: int, name: str = "Some") -> str:
    """Return a class of that many methods."""
    return f"class {name}:\n" + "".join(f"    def method{number}(self): ...\n" for number in range(methods))


def test_a_tree_within_its_budgets(check: Check) -> None:
    result = check(
        {
            "__init__.py": "from django_tasks.task import Task\n",
            "states.py": "\n" * 300,
            "message.py": "from . import states\nfrom .states import READY\n"
            + function(40, '    """One\n    two.\n    """\n'),
            "brokers/__init__.py": "from django_tasks.message import Message\n",
            "brokers/base.py": klass(15),
            "app.py": "from .brokers.base import Some\n" + klass(30, "App"),
            "task.py": "if TYPE_CHECKING:\n    from django_tasks.worker import Worker\n",
            "worker.py": "import django_tasks.task\n",
            "_settings_table.py": "\n" * 1000,
            "migrations/0001_initial.py": function(400),
        }
    )
    assert result.stdout == "sizes and imports are fine\n"
    assert result.returncode == 0


@pytest.mark.parametrize(
    ("files", "finding"),
    [
        pytest.param({"states.py": "\n" * 301}, "states.py: 301 lines, the budget of a file is 300", id="file"),
        pytest.param(
            {"states.py": function(41)}, "states.py:1: function() has 41 lines, the budget is 40", id="function"
        ),
        pytest.param({"states.py": klass(16)}, "states.py:1: Some has 16 methods, the budget is 15", id="class"),
        pytest.param(
            {"states.py": "from django_tasks.message import Message\n", "message.py": ""},
            "states imports message, which is in a later layer",
            id="direction",
        ),
        pytest.param(
            {"states.py": "def late():\n    from .app import App\n", "app.py": ""},
            "states imports app, which is in a later layer",
            id="direction inside a function",
        ),
        pytest.param(
            {"states.py": "import django_tasks\n"},
            "states imports the package itself, which is in a later layer",
            id="the package itself",
        ),
        pytest.param(
            {
                "brokers/redis.py": "from .base import Broker\n",
                "brokers/base.py": "def late():\n    from . import redis\n",
            },
            "imports form a cycle: brokers.base -> brokers.redis -> brokers.base",
            id="cycle",
        ),
        pytest.param({"extra.py": ""}, "extra: its layer is not known", id="unknown layer"),
    ],
)
def test_what_breaks_a_rule_is_reported(check: Check, files: dict[str, str], finding: str) -> None:
    result = check(files)
    assert finding in result.stdout
    assert result.stdout.endswith("1 over budget or the wrong way round\n")
    assert result.returncode == 1
