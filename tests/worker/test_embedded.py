"""The beat of a worker with ``-B``: one that hangs is seen, and replaced."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from django_tasks import App, health
from django_tasks.schedules import schedule
from django_tasks.worker.embedded import LOADING, PAUSE, SILENCE, BeatChild, BeatThread
from django_tasks.worker.forks import SILENT_LOOKS
from django_tasks.worker.shared import Page
from tests.waiting import wait_for

BROKEN = "The beat has not gone round for {:.0f} s and is killed"


class Hanging(schedule):
    """A schedule that gives no answer until it is let go."""

    asked, go = threading.Event(), threading.Event()

    def next_slot(self, after: datetime, **_: Any) -> datetime | None:
        self.asked.set()
        self.go.wait()
        return None


@pytest.fixture
def page() -> Page:
    return Page(1)


@pytest.fixture
def child(database_app: App, page: Page) -> Iterator[BeatChild]:
    """A beat that has not been started yet."""
    child = BeatChild(database_app, page)
    yield child
    if child.pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)
        os.waitpid(child.pid, 0)


def bury(child: BeatChild, now: float) -> None:
    """See that it was killed, and tell of it as the supervisor does."""
    pid, status = os.waitpid(child.pid, 0)
    assert (pid, os.WTERMSIG(status)) == (child.pid, signal.SIGKILL)
    child.died(status, now, intended=False)


def look_often(child: BeatChild, now: float) -> None:
    """Look until it is no longer taken for one that wakes up a little later."""
    for _ in range(SILENT_LOOKS + 1):
        child.watch(now)


def probed(page: Page, now: float) -> str | None:
    """Return what the probe says of a page on which all but the beat is well."""
    page.supervisor_tick = page.janitor_tick = page.broker_tick = now
    return health.problem(bytes(page.memory[:]), now, True)


def test_a_beat_that_hangs_is_replaced(child: BeatChild, page: Page, caplog: pytest.LogCaptureFixture) -> None:
    now = time.monotonic()
    child.watch(now)
    tick = wait_for(lambda: page.beat_tick)
    wait_for(lambda: page.beat_tick > tick)  # it goes on by itself
    os.kill(child.pid, signal.SIGSTOP)
    os.waitpid(child.pid, os.WUNTRACED)
    stopped_at, first = page.beat_tick, child.pid
    child.watch(stopped_at + SILENCE - 1)
    assert not caplog.messages
    now = stopped_at + SILENCE + 1
    look_often(child, now)
    assert caplog.messages == [BROKEN.format(SILENCE + 1)]
    bury(child, now)
    child.watch(now + PAUSE)
    assert child.pid not in (0, first)
    look_often(child, now + PAUSE + SILENCE + 1)  # the old sign of life does not count against the new one
    assert caplog.messages[1:] == ["The beat was killed by SIGKILL and is replaced"]
    assert "beat" in str(probed(page, stopped_at + health.BEAT_AGE + 1))
    wait_for(lambda: page.beat_tick > stopped_at)
    assert probed(page, page.beat_tick) is None


def test_a_beat_that_wakes_up_after_its_supervisor_lives_on(
    child: BeatChild, page: Page, caplog: pytest.LogCaptureFixture
) -> None:
    """As after a pause of the whole machine, or of all in a container."""
    child.watch(time.monotonic())
    wait_for(lambda: page.beat_tick)
    for _ in range(5):
        for _ in range(SILENT_LOOKS):
            child.watch(time.monotonic() + SILENCE + 5)
        child.watch(page.beat_tick)
    assert not caplog.messages
    assert os.waitpid(child.pid, os.WNOHANG) == (0, 0)


def test_a_beat_that_hangs_before_its_first_round_is_replaced(
    database_app: App, child: BeatChild, page: Page, caplog: pytest.LogCaptureFixture
) -> None:
    database_app.conf.beat_schedule = {"a": {"task": "x", "schedule": Hanging(timedelta(seconds=1))}}
    began = time.monotonic()
    child.watch(began)
    child.watch(began + LOADING - 1)
    assert not caplog.messages
    assert probed(page, began + LOADING) is None  # it may take long to read the schedule
    look_often(child, began + LOADING + 1)
    assert caplog.messages == [BROKEN.format(LOADING + 1)]
    bury(child, began + LOADING + 1)
    assert probed(page, began + LOADING + 1) == f"the beat has not gone round for {LOADING + 1:.0f} s"


def test_the_probe_sees_that_a_thread_of_beat_hangs(database_app: App, page: Page) -> None:
    beat = BeatThread(database_app, page)
    beat.start()
    try:
        wait_for(lambda: page.beat_tick)
        database_app.conf.beat_schedule = {"a": {"task": "x", "schedule": Hanging(timedelta(seconds=1))}}
        wait_for(Hanging.asked.is_set)
        tick = page.beat_tick
        assert probed(page, tick + health.BEAT_AGE - 1) is None
        assert probed(page, tick + health.BEAT_AGE + 1) == "the beat has not gone round for 91 s"
    finally:
        Hanging.go.set()
        beat.stop()
        Hanging.go.clear()
        Hanging.asked.clear()
