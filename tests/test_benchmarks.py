"""The benchmarks run and print what they should; how fast anything is, no test says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.catalogue import SYSTEMS
from benchmarks.idleness import Run, Span, share, stretches
from benchmarks.measures import ROWS, quantile
from benchmarks.parts import REDIS_PARTS, REST, SQL_PARTS, Parts
from benchmarks.plan import Plan
from benchmarks.runner import Result
from tests.servers import require

ROOT = Path(__file__).resolve().parent.parent
NUMBER = r"[\d,]+(\.\d+)?"


def benchmarks(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    environment = {key: value for key, value in os.environ.items() if key != "DJANGO_SETTINGS_MODULE"}
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def rows(text: str) -> dict[str, list[str]]:
    """Return the cells of all tables in a report by their first one."""
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return {first.strip(): [cell.strip() for cell in rest] for first, *rest in lines}


def result(name: str, **numbers: list[float]) -> Result:
    """Return what was measured of a system."""
    return Result(SYSTEMS[name], {"": "1.0", "Django": "5.2"}, numbers)


def quick_run(*arguments: str) -> tuple[str, dict[str, list[str]]]:
    """Return the report of a quick run that went well, and the rows of its tables."""
    done = benchmarks("--quick", *arguments)
    assert done.returncode == 0, done.stderr
    assert "failed" not in done.stdout + done.stderr
    found = rows(done.stdout)
    for cells in (found[title] for title in titles() if title in found):
        assert all(re.fullmatch(NUMBER, cell) for cell in cells), found
    return done.stdout, found


def titles(*keys: str) -> set[str]:
    """Return the first cells of rows; of all by default."""
    return {f"{ROWS[key].title} ({ROWS[key].unit})" for key in keys or ROWS}


ON_REDIS = ("server_cpu", "load", "drain_2", "drain_4", "drain_registered", "drain_delayed", "drain_waiting")


def test_a_quick_run_measures_everything_on_sqlite() -> None:
    text, found = quick_run()
    assert re.search(r"^- django-celeriac: \S+, Django \S+, Python \S+$", text, re.MULTILINE), text
    assert re.search(r"^### SQLite \S+, journal_mode=WAL, synchronous=NORMAL$", text, re.MULTILINE), text
    assert titles() - titles(*ON_REDIS) <= set(found)


def test_a_quick_run_measures_throughput_where_sqlite_waits_for_the_disk() -> None:
    text, found = quick_run("--databases", "sqlite-full")
    assert re.search(r"^### SQLite \S+, journal_mode=WAL, synchronous=FULL$", text, re.MULTILINE), text
    assert set(found) & titles() == titles("enqueue", "bulk", "drain", "worker_cpu")


def test_a_quick_run_measures_more_on_redis() -> None:
    require("redis")
    text, found = quick_run("--databases", "redis", "--measures", "throughput,load,scale,growth")
    assert re.search(r"^### Redis \S+, without persistence$", text, re.MULTILINE), text
    assert titles(*ON_REDIS) <= set(found)


@pytest.mark.parametrize(("database", "parts"), [("sqlite", SQL_PARTS), ("redis", REDIS_PARTS)])
def test_a_profile_names_all_parts(database: str, parts: Parts) -> None:
    if database == "redis":
        require("redis")
    done = benchmarks("profile", "--databases", database, "--tasks", "200")
    assert done.returncode == 0, done.stderr
    assert "200 tasks that do nothing:" in done.stdout
    found = rows(done.stdout)
    for part in (*parts, REST):
        spent, share, calls = found[part]
        assert re.fullmatch(NUMBER, spent)
        assert re.fullmatch(r"\d+%", share)
        # A part that was never entered measures a function that nobody calls any more.
        assert part == REST or float(calls) > 0, f"{part} was never entered"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--systems", "celeriac,celery4"], "celery4 is not one of celeriac, huey", id="unknown system"),
        pytest.param(["--databases", "oracle"], "oracle is not one of sqlite, sqlite-full", id="unknown database"),
        pytest.param(["profile", "--databases", "sqlite-full"], "on sqlite, postgresql, redis only", id="no profile"),
        pytest.param(["--rounds", "0"], "0 is not a whole number above 0", id="no rounds"),
        pytest.param(["--write", "setup.cfg"], "setup.cfg has no place for results", id="nowhere to write"),
        pytest.param(["--quick", "--write", "docs/benchmarks.md"], "its numbers mean nothing", id="quick to write"),
    ],
)
def test_what_cannot_be_is_refused(arguments: list[str], message: str) -> None:
    done = benchmarks(*arguments)
    assert done.returncode == 2
    assert message in done.stderr


def test_a_report_has_medians_and_says_how_many_times_better_we_are() -> None:
    ours = result("celeriac", drain=[900.0, 1000.0, 5000.0], start_p50=[2.0])
    theirs = result("huey", drain=[500.0], start_p50=[5.0])
    theirs.failures.append("idle: its worker ended by itself")
    broken = Result(SYSTEMS["django_q2"], failures=["latency: its agent ended by itself"])
    text = report.report(Plan(), {"Memory": "2 GiB"}, {"sqlite": "SQLite 3"}, {"sqlite": [ours, theirs, broken]})
    assert "- Memory: 2 GiB\n- django-celeriac: 1.0, Django 5.2\n- huey: 1.0, Django 5.2\n" in text
    found = rows(text)
    assert found["drain, 1 process (tasks/s)"] == ["1,000", "500 (2.0)", "-"]
    assert found["sending to start, p50 (ms)"] == ["2.0", "5.0 (2.5)", "-"]
    assert "idle CPU time in 30 s (s)" not in found
    assert "- huey failed: idle: its worker ended by itself" in text
    assert "django-celeriac, drain, 1 process: 410%" in text


def test_a_report_is_written_between_the_markers_only(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.write(page, "new")
    assert page.read_text() == f"before\n{report.BEGIN}\n\nnew\n\n{report.END}\nafter\n"


def test_the_documentation_has_a_place_for_results() -> None:
    assert report.has_place(ROOT / "docs" / "benchmarks.md")
    assert not report.has_place(ROOT / "docs" / "index.md")


def test_quantiles_are_values_that_occurred() -> None:
    values = [5.0, 1.0, 3.0, 2.0, 4.0]
    assert [quantile(values, share) for share in (0.01, 0.5, 0.6, 0.99, 1.0)] == [1.0, 3.0, 3.0, 5.0, 5.0]


def ran(slot: int, sent: float, began: float, ended: float) -> Run:
    """Return a run whose result was seen at once."""
    return Run(sent, slot, began, ended, ended)


@pytest.mark.parametrize(
    ("runs", "expected", "part"),
    [
        pytest.param([ran(1, 0, 1, 6), ran(2, 0, 2, 8)], [(0, 1), (0, 2)], 2 / 8, id="two hand-overs at once"),
        pytest.param([ran(1, 0, 0, 6), ran(2, 1, 0, 8)], [], 0, id="begun before the call returned"),
        pytest.param([ran(1, 0, 0, 6), ran(2, 0, 0, 2), ran(2, 4, 4, 8)], [], 0, id="idle, but nothing waits"),
        pytest.param([ran(1, 0, 0, 4), ran(2, 0, 0, 4), ran(2, 1, 4, 8)], [], 0, id="it waits, but none is idle"),
        pytest.param(
            [ran(1, 0, 0, 5), ran(2, 0, 0, 2), ran(1, 1, 5, 8)], [(2, 5)], 3 / 8, id="behind another slot's task"
        ),
        pytest.param([ran(1, 0, 0, 5), ran(1, 1, 5, 10)], [(1, 5)], 4 / 10, id="a slot that ran nothing"),
        pytest.param(
            [ran(1, 0, 0, 9), ran(2, 1, 3, 4), ran(2, 2, 6, 7), ran(2, 8, 9, 10)],
            [(1, 3), (4, 6), (8, 9)],
            5 / 10,
            id="a stretch ends where a task begins, or none waits any more",
        ),
    ],
)
def test_how_long_a_slot_was_idle_while_a_task_waited(runs: list[Run], expected: list[Span], part: float) -> None:
    found = stretches(runs, 2)
    assert sorted(found) == expected
    assert share(runs, found) == pytest.approx(part)


def test_what_a_beat_costs() -> None:
    done = benchmarks("beat", "--entries", "200", "--minutes", "2")
    assert done.returncode == 0, done.stderr
    assert re.search(rf"first start: {NUMBER} s\nnext start: {NUMBER} s\n", done.stdout)
    assert re.search(rf"[1-9]\d* ticks of 2 invented minutes, [1-9]\d* messages: median {NUMBER} ms", done.stdout)
    assert re.search(rf"an edit and the tick after it: \d+ statements, {NUMBER} ms", done.stdout)


def test_how_late_a_beat_fires() -> None:
    done = benchmarks("beat", "--drift", "3")
    assert done.returncode == 0, done.stderr
    fired, slots = re.findall(r"(\d+) of (\d+) slots fired", done.stdout)[0]
    assert fired == slots != "0"
