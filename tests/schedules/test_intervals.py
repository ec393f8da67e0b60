"""Intervals: the grid that they are on, and what Celery asks of them."""

from __future__ import annotations

import pickle
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from django_tasks.schedules import schedule
from tests.schedules.clocks import UTC

START = datetime(2026, 5, 4, 10, 20, 30, 500_000, tzinfo=UTC)


def after(each: schedule, seconds: float, zone: str = "UTC") -> datetime:
    slot = each.next_slot(START + timedelta(seconds=seconds), anchor=START, zone=ZoneInfo(zone))
    assert slot is not None
    return slot


@pytest.mark.parametrize("run_every", [90, 90.0, timedelta(seconds=90)])
def test_slots_are_counted_from_the_anchor(run_every: Any) -> None:
    each = schedule(run_every)
    assert after(each, 0) == START + timedelta(seconds=90)
    assert after(each, 89.999) == START + timedelta(seconds=90)
    assert after(each, 90) == START + timedelta(seconds=180)
    assert after(each, 90 * 10**6 + 1) == START + timedelta(seconds=90 * (10**6 + 1))
    # What begins later begins with its anchor.
    assert after(each, -1) == after(each, -(10**6)) == START


def test_fractions_do_not_drift() -> None:
    assert after(schedule(0.1), 86400) == START + timedelta(seconds=86400.1)


@pytest.mark.parametrize(
    ("run_every", "zone", "first"),
    [
        (timedelta(days=1), "Europe/Berlin", "2026-05-04 22:00:00"),
        (timedelta(days=7), "Europe/Berlin", "2026-05-10 22:00:00"),
        (timedelta(hours=36), "UTC", "2026-05-05 12:00:00"),
        (timedelta(hours=2), "Europe/Berlin", "2026-05-04 12:00:00"),
        (timedelta(hours=1), "Asia/Kolkata", "2026-05-04 10:30:00"),
        (timedelta(minutes=90), "UTC", "2026-05-04 11:30:00"),
        (timedelta(minutes=5), "UTC", "2026-05-04 10:25:00"),
        (timedelta(seconds=10), "UTC", "2026-05-04 10:20:40"),
    ],
)
def test_relative_ones_are_counted_from_a_round_time(run_every: timedelta, zone: str, first: str) -> None:
    assert after(schedule(run_every, relative=True), 0, zone) == datetime.fromisoformat(first).replace(tzinfo=UTC)


@pytest.mark.parametrize("run_every", [None, "10", True, False, [10]])
def test_what_is_no_interval(run_every: Any) -> None:
    with pytest.raises(TypeError, match="The interval of a schedule is a number of seconds or a timedelta, not "):
        schedule(run_every)


@pytest.mark.parametrize("run_every", [0, -1, timedelta(0), 1e-9])
def test_an_interval_has_a_length(run_every: Any) -> None:
    with pytest.raises(ValueError, match="The interval of a schedule has to be longer than 0 seconds, not "):
        schedule(run_every)


def test_equality_and_pickling() -> None:
    each = schedule(90, relative=True, nowfun=None)
    copy = pickle.loads(pickle.dumps(each))
    assert copy == each == schedule(timedelta(seconds=90)) != schedule(91)
    assert (copy.relative, hash(copy)) == (True, hash(schedule(90)))
    assert each == timedelta(seconds=90)
    assert each != 90


@pytest.mark.parametrize(
    ("run_every", "text", "words"),
    [
        (10, "<freq: 10.00 seconds>", "every 10 seconds"),
        (1, "<freq: 1.00 second>", "every second"),
        (90, "<freq: 1.50 minutes>", "every 90 seconds"),
        (3600, "<freq: 1.00 hour>", "every hour"),
        (86400 * 2, "<freq: 2.00 days>", "every 2 days"),
        (0.5, "<freq: 0.50 seconds>", "every 0.5 seconds"),
        # Never rounded, since beat knows an entry that was changed by this text.
        (0.001, "<freq: 0.001000 seconds>", "every 0.001 seconds"),
        (100, "<freq: 100.000000 seconds>", "every 100 seconds"),
        (3661.5, "<freq: 3661.500000 seconds>", "every 3661.5 seconds"),
    ],
)
def test_its_text(run_every: float, text: str, words: str) -> None:
    assert (repr(schedule(run_every)), schedule(run_every).human_readable) == (text, words)
    assert repr(schedule(run_every, relative=True)) == f"{text[:-1]}, relative>"
    assert schedule(run_every, relative=True).human_readable == f"{words}, on round times"


def test_what_celery_asks() -> None:
    each = schedule(10, nowfun=lambda: START)
    assert each.is_due(START - timedelta(seconds=4)) == (False, 6)
    assert each.is_due(START - timedelta(seconds=10)) == (True, 10)
    assert each.is_due(START - timedelta(days=10)) == (True, 10)
    assert each.remaining_estimate(START) == timedelta(seconds=10)
    assert (each.seconds, each.human_seconds) == (10, "10.00 seconds")
