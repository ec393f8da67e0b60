"""Cron strings, as croniter reads them."""

from __future__ import annotations

import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from django_tasks.schedules import calendars, cron, crontab
from tests.schedules.clocks import UTC

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)  # a Thursday


def next_runs(each: cron, count: int) -> list[str]:
    found, start = [], NEW_YEAR
    for _ in range(count):
        slot = each.next_slot(start, anchor=start, zone=UTC)
        assert slot is not None
        found.append(f"{slot:%y-%m-%d %H:%M:%S}")
        start = slot
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20 20 * * 1", ["26-01-05 20:20:00", "26-01-12 20:20:00"]),
        ("  20   20 * *   MON ", ["26-01-05 20:20:00", "26-01-12 20:20:00"]),
        ("*/30 8-9 * * *", ["26-01-01 08:00:00", "26-01-01 08:30:00", "26-01-01 09:00:00"]),
        ("@yearly", ["27-01-01 00:00:00"]),
        ("@annually", ["27-01-01 00:00:00"]),
        ("@monthly", ["26-02-01 00:00:00"]),
        ("@weekly", ["26-01-04 00:00:00"]),
        ("@daily", ["26-01-02 00:00:00"]),
        ("@Midnight", ["26-01-02 00:00:00"]),
        ("@hourly", ["26-01-01 01:00:00"]),
        # The sixth field is the second, the seventh the year.
        ("* * * * * */20", ["26-01-01 00:00:20", "26-01-01 00:00:40", "26-01-01 00:01:00"]),
        ("30 6 1 1 * 15 2028-2029", ["28-01-01 06:30:15", "29-01-01 06:30:15"]),
        # Sunday has two numbers.
        ("0 0 * * 7", ["26-01-04 00:00:00"]),
        ("0 0 * * 5-7", ["26-01-02 00:00:00", "26-01-03 00:00:00", "26-01-04 00:00:00", "26-01-09 00:00:00"]),
        # One of the two is enough, as in cron, where a crontab needs both.
        ("0 0 13 * fri", ["26-01-02 00:00:00", "26-01-09 00:00:00", "26-01-13 00:00:00"]),
        ("0 0 31 2 fri", ["26-02-06 00:00:00"]),
        ("0 0 L * *", ["26-01-31 00:00:00", "26-02-28 00:00:00"]),
        ("0 0 15W * *", ["26-01-15 00:00:00", "26-02-16 00:00:00"]),
        ("0 0 * * 2#3", ["26-01-20 00:00:00", "26-02-17 00:00:00"]),
        ("0 0 * * L5", ["26-01-30 00:00:00", "26-02-27 00:00:00"]),
        ("0 0 ? * 1", ["26-01-05 00:00:00"]),
        # croniter by itself takes 5-5 for every minute.
        ("5-5 12-12/2 1-1 * *", ["26-01-01 12:05:00", "26-02-01 12:05:00"]),
        ("0 0 29 2 *", ["28-02-29 00:00:00", "32-02-29 00:00:00"]),
    ],
)
def test_when_it_runs(text: str, expected: list[str]) -> None:
    assert next_runs(cron(text), len(expected)) == expected


def test_years_that_are_over() -> None:
    assert cron("0 0 1 1 * 0 2020").next_slot(NEW_YEAR, anchor=NEW_YEAR, zone=UTC) is None
    assert cron("0 0 1 1 * 0 2020").is_due(NEW_YEAR) == (False, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "0 8 * *",
            "The cron string '0 8 * *' has 4 fields: it takes five (minute, hour, day of the month, month, day ",
        ),
        ("", "The cron string '' has no fields: it takes five"),
        ("1 2 3 4 5 6 7 8", "The cron string '1 2 3 4 5 6 7 8' has 8 fields: it takes five"),
        (
            "60 * * * *",
            "The cron string '60 * * * *' has no minute '60': it takes 0 to 59, '*', ranges (1-5), steps (*/5), and ",
        ),
        ("* 24 * * *", "The cron string '* 24 * * *' has no hour '24': it takes 0 to 23, "),
        (
            "* * 1,15W * *",
            "The cron string '* * 1,15W * *' has no day of the month '1,15W': it takes 1 to 31, L (the l",
        ),
        ("0 8 * 13 mun", "The cron string '0 8 * 13 mun' has no month '13': it takes 1 to 12 or jan to dec, "),
        ("* * * * mun", "The cron string '* * * * mun' has no day of the week 'mun': it takes 0 (Sunday) to 7"),
        ("* * * * * 60", "The cron string '* * * * * 60' has no second '60'"),
        ("* * * * * 0 1900", "The cron string '* * * * * 0 1900' has no year '1900': it takes 1970 to 2099"),
        ("*/0 * * * *", "The cron string '*/0 * * * *' has no minute '*/0'"),
        ("0 0 31 2 *", "The cron string '0 0 31 2 *' is never due: there is no such day."),
        ("0 0 31 4,6,9,11 *", "The cron string '0 0 31 4,6,9,11 *' is never due"),
        ("0 0 29 2 * 0 2025-2027", "The cron string '0 0 29 2 * 0 2025-2027' is never due"),
        ("@reboot", "There is no cron string '@reboot': those with a name are @yearly, @annually, @monthly, @weekly, "),
        ("H * * * *", "The cron string 'H * * * *' has H or R, which stand for any number: write the number."),
        ("0 R(1-5) * * *", "The cron string '0 R(1-5) * * *' has H or R"),
        ("0 h/2 * * *", "The cron string '0 h/2 * * *' has H or R"),
        (
            "0 0 13 * 5#2",
            "The cron string '0 0 13 * 5#2' has a day with W, # or L and the other kind of day ",
        ),
        ("0 0 1 * L5", "The cron string '0 0 1 * L5' has a day with W, # or L and the other kind of day"),
        ("0 0 15w * 1", "The cron string '0 0 15w * 1' has a day with W, # or L and the other kind of day"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match="cron string") as caught:
        cron(text)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("text", ["30", "30 seconds", "1.5 h", "30s", "every 5 minutes"])
def test_an_interval_is_no_cron_string(text: str) -> None:
    with pytest.raises(ValueError, match=r"An interval is a number of seconds or a timedelta, not a text"):
        cron(text)


def test_it_is_a_text() -> None:
    with pytest.raises(TypeError, match=r"A cron string is a text such as '20 20 \* \* 1', not 5\."):
        cron(5)  # type: ignore[arg-type]


def test_equality_and_pickling() -> None:
    each = cron("0  9 * * MON")
    copy = pickle.loads(pickle.dumps(each))
    assert copy == each == cron("0 9 * * MON") != cron("0 9 * * 2")
    assert hash(copy) == hash(each)
    assert (copy.expression, repr(copy)) == ("0 9 * * MON", "<cron: 0 9 * * MON>")
    assert each != crontab(0, 9, "mon")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("20 20 * * 1", "at 20:20 on Monday"),
        ("@hourly", "every hour"),
        ("*/5 * * * *", "every 5 minutes"),
        ("* * * * * */20", "every minute, at second 0, 20 and 40"),
        ("0 0 1 jan-mar *", "at 00:00 on day 1 of the month in January to March"),
        ("0 0 L * *", "at 00:00 on the last day of the month"),
        ("0 0 13 * 5", "at 00:00 on day 13 of the month or on Friday"),
        ("0 0 * * 2#3", "at 00:00 on the third Tuesday of the month"),
        ("0 0 * * 1 0 2030", "at 00:00 on Monday in 2030"),
        ("0 0 1,2,L 1 ?", "at 00:00 on day 1 and 2 and the last day of the month in January"),
        ("0 0 15W * *", "at 00:00 on the weekday nearest to day 15 of the month"),
        ("0 0 * * 5#1,2#3,2#1", "at 00:00 on the first Tuesday, the third Tuesday and the first Friday of the month"),
        ("0 0 * * L5", "at 00:00 on the last Friday of the month"),
        ("0 0 L 2 mon-fri", "at 00:00 on the last day of the month or on Monday to Friday in February"),
        ("0 0 1 1 * 0 2027-2030", "at 00:00 on day 1 of the month in January of 2027 to 2030"),
    ],
)
def test_in_words(text: str, words: str) -> None:
    assert cron(text).human_readable == words


def test_threads_do_not_disturb_each_other() -> None:
    # croniter keeps its place in an object, and what is read of an expression is shared.
    each, zone = cron("0 0 L * 1"), ZoneInfo("Europe/Berlin")
    starts = [NEW_YEAR.replace(year=year, month=month) for year in range(1990, 2030) for month in range(1, 13)]
    alone = [cron("0 0 L * 1").next_slot(start, anchor=start, zone=zone) for start in starts]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        calendars._day_after.cache_clear()
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda start: each.next_slot(start, anchor=start, zone=zone), starts))
    finally:
        sys.setswitchinterval(interval)
    assert together == alone
