"""Schedules as texts."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from django_tasks.models import PeriodicTask
from django_tasks.periodic.texts import interval_seconds, of_interval, of_schedule, parse
from django_tasks.schedules import clocked, cron, crontab, schedule, solar

UTC = timezone.utc


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30),
        ("0.5", 0.5),
        ("30 s", 30),
        ("30 seconds", 30),
        ("1 minute", 60),
        ("5 min", 300),
        ("1h30m", 5400),
        ("1 hour 30 minutes", 5400),
        ("1 Hour, 30 Minutes and 5 seconds", 5405),
        ("2 days", 172800),
        ("1 week", 604800),
        ("250 ms", 0.25),
        ("15 microseconds", 0.000015),
    ],
)
def test_intervals_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert interval_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "soon", "5 parsecs", "5 6", "-5", "1 hour 30", "minutes", "5 m x", "nan", "inf"])
def test_what_is_no_interval_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"Write it like 30 seconds, 5 minutes or 1 hour 30 minutes\."):
        parse(PeriodicTask.INTERVAL, text)


@pytest.mark.parametrize("text", ["0", "0 seconds", "9999999999999 weeks"])
def test_an_interval_is_above_0_and_fits(text: str) -> None:
    with pytest.raises(ValueError, match="is not an interval above 0"):
        parse(PeriodicTask.INTERVAL, text)


@pytest.mark.parametrize(
    ("every", "text"),
    [
        (timedelta(seconds=1), "1 second"),
        (timedelta(seconds=90), "90 seconds"),
        (timedelta(hours=1), "1 hour"),
        (timedelta(days=14), "2 weeks"),
        (timedelta(milliseconds=1500), "1.5 seconds"),
        (timedelta(microseconds=15), "0.000015 seconds"),
    ],
)
def test_intervals_are_written_so_that_they_are_read_again(every: timedelta, text: str) -> None:
    assert of_interval(every) == text
    assert timedelta(seconds=interval_seconds(text)) == every


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (schedule(300), "interval", "5 minutes"),
        (schedule(timedelta(days=1), relative=True), "interval", "1 day"),
        (cron("*/10 8-17 * * mon-fri"), "cron", "*/10 8-17 * * mon-fri"),
        (cron("@daily"), "cron", "@daily"),
        (crontab(minute=0, hour="*/3"), "crontab", "0 */3 * * *"),
        (crontab(minute={0, 30}, day_of_week="mon, tue"), "crontab", "0,30 * * * 1,2"),
        (crontab(0, 0, day_of_month="1-7", day_of_week="mon"), "crontab", "0 0 1-7 * mon"),
        (solar("sunset", 52.52, -13.4), "solar", "sunset 52.52 -13.4"),
        (clocked(datetime(2027, 1, 31, 8, tzinfo=UTC)), "clocked", "2027-01-31 08:00:00+00:00"),
        (clocked(datetime(2027, 1, 31, 8)), "clocked", "2027-01-31 08:00:00"),
    ],
    ids=repr,
)
def test_a_schedule_is_written_and_read_again(value: Any, kind: str, text: str) -> None:
    assert of_schedule(value)[:2] == (kind, text)
    again = parse(kind, text, of_schedule(value)[2])
    assert again == value
    assert getattr(again, "relative", None) == getattr(value, "relative", None)


class Payday(crontab):
    """A schedule of a project's own."""


@pytest.mark.parametrize(
    "value", [Payday(), crontab(nowfun=lambda: datetime(2027, 1, 1, tzinfo=UTC)), timedelta(1)], ids=repr
)
def test_a_schedule_that_no_text_says_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="cannot be written as a text"):
        of_schedule(value)


def test_an_instant_is_what_the_text_says() -> None:
    assert parse("clocked", "2027-07-01 08:00").clocked_time == datetime(2027, 7, 1, 8)  # in the zone of the row
    assert parse("clocked", "2027-07-01T08:00Z").clocked_time == datetime(2027, 7, 1, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("cron", "0 0 31 2 *", "never due"),
        ("cron", "61 * * * *", "has no minute '61'"),
        ("crontab", "0 0 * *", "five fields"),
        ("solar", "sunset", "sunset 52.52 13.40"),
        ("solar", "", "sunset 52.52 13.40"),
        ("solar", "moonrise 1 2", "no event 'moonrise'"),
        ("solar", "sunset 91 0", "latitude 91.0 is not between"),
        ("clocked", "tomorrow", "2027-01-31 08:00"),
        ("custom", "<Payday>", "Kinds are interval, cron, crontab, solar, clocked"),
    ],
)
def test_what_cannot_be_read_says_what_to_write(kind: str, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(kind, text)
