"""The example project: its pure parts here, the rest as a user runs it, in processes with settings of their own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen
from xml.etree import ElementTree

import pytest

from example_project.imports.charts import MAX_LABEL, bar_chart, dot_map, most_common
from example_project.imports.validation import Refusal, Row, UnreadableFile, read_rows
from example_project.processes import DemoFailed, free_port, start, wait_for_port
from tests.databases import name_from_environment
from tests.servers import Redis
from tests.waiting import wait_for

pytestmark = pytest.mark.skipif(name_from_environment() != "sqlite", reason="the example has a database of its own")

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "example_project" / "data"
HEADER = "iata,name,city,state,country,latitude,longitude\n"
GOOD = "ABC,Field,Town,TX,USA,30.5,-95.25\n"


def rows_of(text: str) -> list[Row | Refusal]:
    """Return the rows of a file with this text after the header."""
    return list(read_rows((HEADER + text).splitlines(keepends=True)))


def rows_of_file(name: str) -> list[Row | Refusal]:
    """Return the rows of a file that comes with the example."""
    with (DATA / name).open(encoding="utf-8-sig", newline="") as lines:
        return list(read_rows(lines))


# --- Validation -------------------------------------------------------------------------------------------------------


def test_the_sample_has_twelve_rows_without_city_and_state() -> None:
    rows = rows_of_file("airports.csv")
    refused = [row for row in rows if isinstance(row, Refusal)]
    assert len(rows) == 3376
    assert [row.line for row in refused][:3] == [1138, 1717, 2253]
    assert {row.reason for row in refused} == {"city is missing ('NA'); state is missing ('NA')"}
    assert len(refused) == 12


def test_the_damaged_sample_is_refused_where_its_readme_says() -> None:
    refused = {row.line: row.reason for row in rows_of_file("airports_with_errors.csv") if isinstance(row, Refusal)}
    assert refused == {
        4: "code '27 k' is not 3 or 4 capital letters or digits",
        7: "latitude '32.63.388889' is not a number",
        10: "has 6 cells, expected 7",
        13: "latitude 279.433575 is not between -90 and 90",
        16: "name is missing",
        19: "code '0I8' is already on line 2",
        23: "city is missing ('NA'); state is missing",
        28: "longitude 'west' is not a number",
        31: "has 8 cells, expected 7",
        36: "latitude nan is not between -90 and 90",
    }
    in_readme = re.findall(r"^\| (\d+) \|", (DATA / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert [int(line) for line in in_readme] == sorted(refused)


def test_a_good_row_is_read_whole() -> None:
    assert rows_of(" ABC , Field ,Town,TX,USA, 30.5 ,-95.25\n") == [
        Row(2, "ABC", "Field", "Town", "TX", "USA", 30.5, -95.25)
    ]


def test_lines_are_counted_through_blank_lines_and_cells_of_several_lines() -> None:
    rows = rows_of('\nABC,"Two\nlines",Town,TX,USA,30,-95\nX,Short code,Town,TX,USA,30,-95\n')
    assert [row.line for row in rows] == [3, 5]
    assert isinstance(rows[1], Refusal)


def test_a_refused_row_does_not_claim_its_code() -> None:
    rows = rows_of("ABC,,Town,TX,USA,30,-95\n" + GOOD + GOOD)
    assert [type(row) for row in rows] == [Refusal, Row, Refusal]


def test_text_that_does_not_fit_the_database_is_refused() -> None:
    (row,) = rows_of(f"ABC,{'x' * 101},Town,TX,USA,30,-95\n")
    assert isinstance(row, Refusal)
    assert row.reason == "name has 101 characters, more than 100"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Found: nothing"),
        (b"name,code\nA,B\n", "Found: name, code"),
        (HEADER.encode() + b"ABC,\xff,Town,TX,USA,30,-95\n", "not UTF-8"),
        (HEADER.encode() + b'ABC,"Never closed,Town\n', "Line 2 is not CSV"),
    ],
)
def test_an_unreadable_file_says_why(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "upload.csv"
    path.write_bytes(content)
    with path.open(encoding="utf-8-sig", newline="") as lines, pytest.raises(UnreadableFile, match=message):
        list(read_rows(lines))


# --- Charts -----------------------------------------------------------------------------------------------------------


def test_bars_are_as_long_as_their_numbers() -> None:
    chart = ElementTree.fromstring(bar_chart("Airports", [("TX", 200), ("CA", 100)]))
    assert chart.attrib["aria-label"] == "Airports. TX: 200, CA: 100"
    long, short = (int(bar.attrib["width"]) for bar in chart.iter("rect"))
    assert abs(long - 2 * short) <= 1


def test_labels_are_escaped_and_cut() -> None:
    chart = bar_chart("Airports", [("<b>" + "x" * 50, 1)])
    labels = [text.text for text in ElementTree.fromstring(chart).iter("text")]
    assert labels[0] == "<b>" + "x" * (MAX_LABEL - 4) + "…"


def test_the_map_leaves_out_what_is_far_away() -> None:
    texas = [(30 + n / 100, -100 + n / 100) for n in range(400)]
    chart = ElementTree.fromstring(dot_map("Map", [*texas, (13.5, 144.8)]))
    assert chart.attrib["aria-label"].startswith("Map. 400 of 401 airports")
    (path,) = chart
    assert path.attrib["d"].count("M") == 400


def test_a_map_of_one_airport_can_be_drawn() -> None:
    assert ElementTree.fromstring(dot_map("Map", [(30.0, -100.0)])).attrib["aria-label"].startswith("Map. 1 of 1")


def test_most_common_is_ordered_by_number_then_name() -> None:
    assert most_common(["b", "a", "c", "c"], 2) == [("c", 2), ("a", 1)]


# --- As a user runs it ------------------------------------------------------------------------------------------------


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a user who tries the example, with a folder of its own for what it writes."""
    ours = ("DJANGO_SETTINGS_MODULE", "TEST_DATABASE_URL", "TEST_SETTINGS")
    inherited = {name: value for name, value in os.environ.items() if name not in ours}
    return inherited | {"EXAMPLE_VAR": str(tmp_path / "var"), "EXAMPLE_PAUSE": "0.01", "PYTHONUNBUFFERED": "1"}


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the project's folder and return what it printed; it must succeed."""
    finished = subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=110
    )
    assert finished.returncode == 0, f"exit code {finished.returncode}\n{finished.stdout}\n{finished.stderr}"
    return finished


def test_django_has_nothing_to_say_against_it(environment: dict[str, str]) -> None:
    run(environment, "-W", "error::DeprecationWarning", "manage.py", "check", "--fail-level", "WARNING")
    run(environment, "manage.py", "makemigrations", "--check", "--dry-run")


def test_its_own_tests_pass(environment: dict[str, str]) -> None:
    assert re.search(r"Ran \d\d tests", run(environment, "manage.py", "test", "example_project").stderr)


def test_the_demo_imports_the_sample_and_mails_the_report(environment: dict[str, str], tmp_path: Path) -> None:
    output = run(environment, "-m", "example_project.demo", "--once").stdout
    assert "3,364 rows imported, 12 refused" in output
    assert "line 1138: city is missing ('NA'); state is missing ('NA')" in output
    assert "could not be sent yet" in output
    assert re.search(r"tidy up +every 5 seconds .* SUCCESS ", output)
    assert re.search(r"nightly digest +at 06:00", output)
    (mail,) = (tmp_path / "var" / "mail").iterdir()
    assert str(mail) in output
    assert "3,364 of 3,376 rows imported, 12 refused." in mail.read_text(encoding="utf-8")


@pytest.mark.parametrize("given", [True, False])
def test_the_demo_on_a_redis(environment: dict[str, str], redis_server: Redis, redis_url: str, given: bool) -> None:
    """One that it is told of, or else one that it finds at the usual port, or else starts."""
    environment.pop("REDIS_URL", None)
    output = run(
        environment | ({"REDIS_URL": redis_url} if given else {}),
        "-m",
        "example_project.demo",
        "--once",
        "--broker",
        "redis",
    ).stdout
    assert "3,364 rows imported, 12 refused" in output
    assert re.search(r"Messages, results: +redis://127\.0\.0\.1:\d+/0\n", output)
    keys = set(redis_server.connect().scan_iter())
    assert bool(keys) is given
    assert all("celeriac-example:" in key for key in keys)


def test_the_demo_says_when_its_redis_is_not_there(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "example_project.demo", "--once", "--broker", "redis"]
    nowhere = {"REDIS_URL": f"redis://127.0.0.1:{free_port(0)}/0"}
    done = subprocess.run(command, env=environment | nowhere, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "REDIS_URL is set, but cannot be used" in done.stderr


@pytest.fixture
def demo(environment: dict[str, str], tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The demo, running until the test ends; its output is in ``demo.log``.

    It is started as a shell starts what is to run in the background, with Ctrl-C ignored.
    """
    with (tmp_path / "demo.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "example_project.demo", "--port", "0"],
            env=environment,
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def test_the_demo_serves_until_ctrl_c(demo: subprocess.Popen[bytes], tmp_path: Path) -> None:
    def output() -> str:
        return (tmp_path / "demo.log").read_text(encoding="utf-8")

    wait_for(lambda: "Ctrl-C" in output() or demo.poll() is not None, 90, output)
    page = re.search(r"The report's page: +(\S+)", output())
    assert page, output()
    with urlopen(page[1]) as answer:
        assert "3,364 of 3,376 rows imported" in answer.read().decode()
    demo.send_signal(signal.SIGINT)
    assert demo.wait(60) == 0, output()
    with pytest.raises(OSError, match="refused"):
        urlopen(page[1])


def test_ctrl_c_before_the_demo_serves(demo: subprocess.Popen[bytes], tmp_path: Path) -> None:
    def output() -> str:
        return (tmp_path / "demo.log").read_text(encoding="utf-8")

    wait_for(lambda: "A worker imports" in output() or demo.poll() is not None, 60, output)
    demo.send_signal(signal.SIGINT)
    assert demo.wait(60) == 130, output()
    assert "Interrupted; everything is stopped." in output()
    assert "Traceback" not in output()
    for name in ("worker", "web-server"):
        assert "Traceback" not in (tmp_path / "var" / f"{name}.log").read_text()


INTERRUPTED_START = """
import os, signal, sys
from pathlib import Path
from example_project import processes

processes.catch_ctrl_c()
sys.addaudithook(lambda event, _: os.kill(os.getpid(), signal.SIGINT) if event == "subprocess.Popen" else None)
program = processes.start("web server", ["shell", "-c", "import time; time.sleep(60)"], Path(sys.argv[1]))
try:
    processes.pause(60)
except processes.Interrupted:
    program.stop()
    print("stopped", program.process.returncode)
"""


def test_ctrl_c_while_a_program_is_started_leaves_none_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-c", INTERRUPTED_START, str(tmp_path / "log")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == f"stopped {-signal.SIGTERM}\n", done.stderr


def test_a_program_that_stops_by_itself_is_reported_with_its_log(tmp_path: Path) -> None:
    program = start("worker", ["no-such-command"], tmp_path / "worker.log")
    with pytest.raises(DemoFailed, match=r"(?s)The worker stopped by itself \(exit code 1\).*no-such-command"):
        wait_for_port(free_port(0), program, seconds=30)
