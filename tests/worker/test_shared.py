"""The shared page: what one process writes, another reads, and in one piece."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from django_tasks.worker import shared
from django_tasks.worker.process import take_seat
from django_tasks.worker.shared import BUSY, FREE, HEADER_SIZE, IDLE, SEAT_SIZE, STARTING, Condition, Page, Seat
from tests.waiting import wait_for


@pytest.fixture
def page() -> Page:
    return Page(3)


@pytest.fixture
def seat(page: Page) -> Seat:
    return page.seats[1]


def test_a_new_page_is_empty(page: Page) -> None:
    assert page.seat_count == len(page.seats) == 3
    assert (page.supervisor_tick, page.stopping, page.paused, page.drained, page.wanted) == (0.0, 0, 0, 0, 0)
    assert list(page.taken()) == []
    assert all(seat.state == FREE and seat.identity == "" and seat.leases == frozenset() for seat in page.seats)


def test_fields_do_not_overlap(page: Page, seat: Seat) -> None:
    values = {
        "state": BUSY, "verdict": shared.STUCK, "pid": 2**40, "tick": 1.5, "started": 2.5, "deadline": 3.5,
        "frozen_since": 4.5, "acknowledged": 2, "spared": 1, "signum": 9, "processed": 2**50, "convicted": 5.5,
        "limit": 6.5, "identity": "i" * 200, "running": "r" * 200,
    }  # fmt: skip
    for name, value in values.items():
        setattr(seat, name, value)
    leases = {2**62 + n for n in range(shared.LEASES)}
    for lease in leases:
        seat.add_lease(lease)
    assert {name: getattr(seat, name) for name in values} == values
    assert seat.leases == leases
    before, after = page.seats[0], page.seats[2]
    for other in (before, after):
        assert bytes(page.memory[other.base : other.base + SEAT_SIZE]) == bytes(SEAT_SIZE)


def test_fields_of_the_header_do_not_overlap(page: Page) -> None:
    values = {
        "supervisor_pid": 1, "supervisor_tick": 2.5, "janitor_pid": 3, "janitor_tick": 4.5, "broker_tick": 5.5,
        "stopping": 2, "paused": 1, "drained": 1, "wanted": 7, "shutdown_ordered": 1,
        "demand": 8, "reports": 9, "beat_tick": 10.5,
    }  # fmt: skip
    for name, value in values.items():
        setattr(page, name, value)
    assert {name: getattr(page, name) for name in values} == values
    assert (page.version, page.seat_count) == (1, 3)
    assert bytes(page.memory[:8]) == b"CELERIAC"


def test_another_process_sees_it(page: Page, seat: Seat) -> None:
    pid = os.fork()
    if pid == 0:
        seat.identity, seat.tick, seat.state = "child", 7.5, IDLE
        os._exit(0)
    os.waitpid(pid, 0)
    assert (seat.identity, seat.tick, seat.state) == ("child", 7.5, IDLE)


def test_a_taken_seat_never_looks_free(page: Page, seat: Seat) -> None:
    """A supervisor that looks for a free seat while its process begins and ends tasks."""
    seat.begin("1")
    pid = os.fork()
    if pid == 0:
        for _ in range(20_000):
            seat.begin("1")
            seat.end()
        os._exit(0)
    states = set()
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        states |= {seat.state for _ in range(100)}
    assert states <= {BUSY, IDLE}


def test_taking_a_seat(page: Page, seat: Seat) -> None:
    seat.begin("of the one before")
    seat.add_lease(1)
    seat.convict(shared.TERMINATED, seat.started)
    take_seat(seat, "worker@host", 42)
    assert (seat.state, seat.pid, seat.verdict, seat.running, seat.processed) == (STARTING, 42, shared.NONE, "", 0)
    assert seat.leases == frozenset()
    assert seat.identity.startswith("worker@host/42-")
    assert list(page.taken()) == [seat]


def test_no_two_starts_have_the_same_identity(page: Page) -> None:
    names = set()
    for _ in range(50):
        take_seat(page.seats[0], "worker@host", 42)
        names.add(page.seats[0].identity)
    assert len(names) == 50


def test_texts_that_are_too_long_are_cut_between_characters_or_marked(seat: Seat) -> None:
    seat.running = "a" + "ü" * 150
    assert seat.running.startswith("a" + "ü" * 99)
    assert seat.runs("a" + "ü" * 150)
    assert not seat.runs("a" + "ü" * 20)


def test_begin_and_end(seat: Seat) -> None:
    seat.begin("1")
    assert (seat.state, seat.running, seat.deadline) == (BUSY, "1", 0.0)
    seat.deadline = 9.0
    seat.end()
    assert (seat.state, seat.deadline, seat.processed) == (IDLE, 0.0, 1)


def test_a_verdict_belongs_to_one_run(seat: Seat) -> None:
    seat.begin("1")
    seat.convict(shared.TIME_LIMIT, seat.started)
    assert seat.is_convicted("1")
    assert not seat.is_convicted("2")
    seat.end()
    seat.begin("1")  # the same task again
    assert not seat.is_convicted("1")


def test_leases_come_and_go(seat: Seat) -> None:
    seat.add_lease(1)
    seat.add_lease(2)
    seat.drop_lease(1)
    seat.drop_lease(1)
    assert seat.leases == {2}
    for lease in range(3, 3 + shared.LEASES - 1):
        seat.add_lease(lease)
    assert len(seat.leases) == shared.LEASES


def test_clearing(page: Page, seat: Seat) -> None:
    seat.begin("1")
    seat.add_lease(1)
    seat.clear()
    assert bytes(page.memory[seat.base : seat.base + SEAT_SIZE]) == bytes(SEAT_SIZE)


def test_a_page_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "health"
    path.write_text("of the worker before")
    page = Page(2, str(path))
    page.supervisor_tick = 1.5
    page.seats[0].state = IDLE
    assert path.stat().st_size == HEADER_SIZE + 2 * SEAT_SIZE
    assert path.read_bytes() == bytes(page.memory[:])
    assert [each.name for each in tmp_path.iterdir()] == ["health"]
    page.remove()
    page.remove()
    assert not path.exists()


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        yield process
        process.kill()


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="there is no /proc here")
def test_the_condition_of_a_process(process: subprocess.Popen[bytes]) -> None:
    import signal

    assert shared.condition(process.pid) is Condition.ALIVE
    process.send_signal(signal.SIGSTOP)
    wait_for(lambda: shared.condition(process.pid) is Condition.STOPPED)
    process.send_signal(signal.SIGCONT)
    wait_for(lambda: shared.condition(process.pid) is Condition.ALIVE)
    process.kill()
    wait_for(lambda: shared.condition(process.pid) is Condition.GONE)  # nobody has waited for it yet
    process.wait()
    assert shared.condition(process.pid) is Condition.GONE


def test_a_file_is_written_through_no_link(tmp_path: Path) -> None:
    """As somebody else may lay it in a directory that all can write to."""
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / "health.new").symlink_to(precious)
    Page(1, str(tmp_path / "health"))
    assert precious.read_text() == "mine"
    assert (tmp_path / "health").read_bytes().startswith(shared.MAGIC)
