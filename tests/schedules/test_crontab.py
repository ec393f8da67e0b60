"""All forms in which Celery's crontab is written, and what is refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

import django_tasks
from django_tasks.schedules import ParseException, calendars, crontab, crontab_parser
from tests.schedules.clocks import UTC

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)  # a Thursday


def now() -> datetime:
    return NEW_YEAR


def next_runs(each: crontab, count: int, start: datetime = NEW_YEAR) -> list[str]:
    found = []
    for _ in range(count):
        slot = each.next_slot(start, anchor=start, zone=UTC)
        assert slot is not None
        found.append(f"{slot:%m-%d %H:%M}")
        start = slot
    return found


@pytest.mark.parametrize(
    ("field", "spec", "numbers"),
    [
        ("minute", "*", range(60)),
        ("minute", None, range(60)),
        ("minute", 7, [7]),
        ("minute", "7", [7]),
        ("minute", "*/15", [0, 15, 30, 45]),
        ("minute", "1,13,30-45,50-59/2", [1, 13, *range(30, 46), 50, 52, 54, 56, 58]),
        ("minute", "1, 2 ,3", [1, 2, 3]),
        ("minute", [0, 30], [0, 30]),
        ("minute", (0, 30), [0, 30]),
        ("minute", {0, 30}, [0, 30]),
        ("minute", frozenset({0, 30}), [0, 30]),
        ("minute", range(0, 60, 20), [0, 20, 40]),
        ("minute", (number for number in (3, 4)), [3, 4]),
        ("minute", ["*/30", 7], [0, 7, 30]),
        ("hour", "*/3", [0, 3, 6, 9, 12, 15, 18, 21]),
        ("hour", "0,8-17/2", [0, 8, 10, 12, 14, 16]),
        ("hour", "22-2", [22, 23, 0, 1, 2]),
        ("hour", "20-6/3", [20, 23, 2, 5]),
        ("hour", "5-5", [5]),
        ("day_of_week", 0, [0]),
        ("day_of_week", "sunday", [0]),
        ("day_of_week", "mon-fri", [1, 2, 3, 4, 5]),
        ("day_of_week", "Tues,THURSDAY", [2, 4]),
        ("day_of_week", "fri-mon", [5, 6, 0, 1]),
        ("day_of_week", "mon-fri/2", [1, 3, 5]),
        ("day_of_week", "*/2", [0, 2, 4, 6]),
        ("day_of_week", ["sat", 0], [6, 0]),
        ("day_of_month", "2-30/3", [2, 5, 8, 11, 14, 17, 20, 23, 26, 29]),
        ("day_of_month", "1-7,15-21", [*range(1, 8), *range(15, 22)]),
        ("day_of_month", "*/10", [1, 11, 21, 31]),
        ("month_of_year", "*/3", [1, 4, 7, 10]),
        ("month_of_year", "2-12/2", [2, 4, 6, 8, 10, 12]),
        ("month_of_year", "jan,Sept,december", [1, 9, 12]),
        ("month_of_year", "nov-feb", [11, 12, 1, 2]),
    ],
)
def test_a_field(field: str, spec: Any, numbers: Any) -> None:
    each = crontab(**{field: spec})
    assert getattr(each, field) == set(numbers)
    # What was given can be read again, however it was written.
    assert pickle.loads(pickle.dumps(each)) == each


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"minute": 60}, ValueError, "The crontab's minute has no 60: it takes 0 to 59."),
        ({"minute": -1}, ValueError, "The crontab's minute has no -1: it takes 0 to 59."),
        ({"minute": [0, 61]}, ValueError, "The crontab's minute has no 61: it takes 0 to 59."),
        ({"hour": "8-24"}, ValueError, "The crontab's hour has no 24: it takes 0 to 23."),
        ({"hour": "noon"}, ValueError, "The crontab's hour has no 'noon': it takes 0 to 23."),
        (
            {"day_of_week": 7},
            ValueError,
            "The crontab's day_of_week has no 7: it takes 0 to 6 (Sunday is 0, Saturday 6).",
        ),
        ({"day_of_month": 0}, ValueError, "The crontab's day_of_month has no 0: it takes 1 to 31."),
        (
            {"month_of_year": "mon"},
            ValueError,
            "The crontab's month_of_year has no 'mon': it takes 1 to 12; its names are jan, feb, mar, apr, may, jun, "
            "jul, aug, sep, oct, nov, dec.",
        ),
        ({"minute": []}, ValueError, "The crontab's minute is empty: give at least one number, or '*' for all."),
        (
            {"minute": "1,,2"},
            ParseException,
            "The crontab's minute '1,,2' cannot be read at '': write numbers, ranges (1-5), '*' or '*/5', with commas "
            "between them.",
        ),
        ({"minute": "-5"}, ParseException, "The crontab's minute '-5' cannot be read at '-5'"),
        ({"minute": "1-5-9"}, ParseException, "The crontab's minute '1-5-9' cannot be read at '1-5-9'"),
        ({"minute": "**"}, ParseException, "The crontab's minute '**' cannot be read at '**'"),
        (
            {"minute": "5/10"},
            ParseException,
            "The crontab's minute '5/10' has a step after a single number: write '5-59/10' for every so many from "
            "there on.",
        ),
        ({"minute": "*/"}, ParseException, "The crontab's minute '*/' has no number above 0 after the '/'."),
        ({"minute": "*/0"}, ParseException, "The crontab's minute '*/0' has no number above 0 after the '/'."),
        ({"minute": "1-9/x"}, ParseException, "The crontab's minute '1-9/x' has no number above 0 after the '/'."),
        (
            {"minute": 1.5},
            TypeError,
            "The crontab's minute is a number, a text such as '*/2' or an iterable of these, not 1.5.",
        ),
        (
            {"minute": [None]},
            TypeError,
            "The crontab's minute is a number, a text such as '*/2' or an iterable of these",
        ),
        (
            {"day_of_month": 31, "month_of_year": 2},
            ValueError,
            "This crontab is never due: day_of_month 31 does not occur in month_of_year 2. Correct one of them; the "
            "last day of a month, whichever that is, is L in a cron string, such as '0 0 L * *'.",
        ),
        (
            {"day_of_month": "30,31", "month_of_year": {2}, "day_of_week": "mon"},
            ValueError,
            "This crontab is never due: day_of_month 30,31 does not occur in month_of_year {2}.",
        ),
        ({"day_of_month": [31], "month_of_year": "4,6,9,11"}, ValueError, "This crontab is never due"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        crontab(**fields)
    assert str(caught.value).startswith(message)


def test_its_parser_by_itself() -> None:
    assert crontab_parser().parse("*/15") == {0, 15, 30, 45}
    assert crontab_parser(24).parse("*/4") == {0, 4, 8, 12, 16, 20}
    assert crontab_parser(7).parse("mon-wed") == {1, 2, 3}
    assert crontab_parser(31, 1).parse("*/10") == {1, 11, 21, 31}
    assert crontab_parser(12, 1).parse("jun") == {6}
    with pytest.raises(crontab_parser.ParseException):
        crontab_parser().parse("*/x")


@pytest.mark.parametrize(
    ("each", "expected"),
    [
        (crontab(), ["01-01 00:01", "01-01 00:02"]),
        (crontab(0, 0), ["01-02 00:00", "01-03 00:00"]),
        (crontab("*/20", "8,17"), ["01-01 08:00", "01-01 08:20", "01-01 08:40", "01-01 17:00"]),
        (crontab(30, 7, "mon-fri"), ["01-01 07:30", "01-02 07:30", "01-05 07:30"]),
        (crontab(0, 0, day_of_month=1), ["02-01 00:00", "03-01 00:00"]),
        (crontab(0, 0, day_of_month=31), ["01-31 00:00", "03-31 00:00", "05-31 00:00", "07-31 00:00", "08-31 00:00"]),
        (crontab(0, 0, day_of_month=29, month_of_year=2), ["02-29 00:00"]),
        # Both have to fit: the first Monday of a month.
        (crontab(0, 9, "mon", "1-7"), ["01-05 09:00", "02-02 09:00", "03-02 09:00", "04-06 09:00"]),
        (crontab(0, 0, "fri", 13), ["02-13 00:00", "03-13 00:00", "11-13 00:00"]),
        (crontab(59, 23, month_of_year=12), ["12-01 23:59", "12-02 23:59"]),
        (crontab.from_string("0 9 1-7 * mon"), ["01-05 09:00", "02-02 09:00"]),
    ],
)
def test_when_it_runs(each: crontab, expected: list[str]) -> None:
    assert next_runs(each, len(expected)) == expected


def test_leap_years_for_as_long_as_they_are_apart() -> None:
    # Until 2096 every 28 years, then over 2100, which has no 29 February.
    each, slot, years = crontab(0, 0, "sun", 29, 2), datetime(2050, 1, 1, tzinfo=UTC), []
    for _ in range(3):
        following = each.next_slot(slot, anchor=slot, zone=UTC)
        assert following is not None
        slot = following
        years.append(slot.year)
    assert years == [2060, 2088, 2128]


def test_the_zone_counts() -> None:
    each = crontab(0, 9)
    for zone, hour in (("Europe/Berlin", 8), ("Asia/Kolkata", 3), ("America/New_York", 14)):
        slot = each.next_slot(NEW_YEAR, anchor=NEW_YEAR, zone=ZoneInfo(zone))
        assert slot is not None
        assert slot.hour == hour
        assert slot.tzinfo is UTC


def test_instants_without_a_zone_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"after has no time zone: datetime.datetime\(2026, 1, 1, 0, 0\). Give an aware"
    ):
        crontab().next_slot(datetime(2026, 1, 1), anchor=NEW_YEAR, zone=UTC)


SAME: list[Callable[[], crontab]] = [
    lambda: crontab("0,30", "8-10", "mon,tue"),
    lambda: crontab({0, 30}, [8, 9, 10], "1-2"),
    lambda: crontab("*/30", range(8, 11), {1, 2}, "1-31", "*"),
]


@pytest.mark.parametrize("other", SAME)
def test_equality_is_that_of_meaning(other: Callable[[], crontab]) -> None:
    assert SAME[0]() == other()
    assert hash(SAME[0]()) == hash(other())
    assert SAME[0]() != crontab("0,30", "8-10", "mon")
    assert SAME[0]() != "0,30 8-10 * * mon,tue"
    assert crontab(nowfun=now) == crontab(nowfun=now) != crontab()


def test_pickling_keeps_what_was_given_and_nowfun_but_not_the_app() -> None:
    each = crontab("*/5", [1, 2], nowfun=now, app=object())
    copy = pickle.loads(pickle.dumps(each))
    assert copy == each
    assert (copy._orig_minute, copy._orig_hour, copy.nowfun, copy._app) == ("*/5", [1, 2], now, None)
    assert next_runs(copy, 3) == next_runs(each, 3)


class Nightly(crontab):
    """A class of somebody's."""


def test_pickling_a_class_of_somebody() -> None:
    copy = pickle.loads(pickle.dumps(Nightly(0, 3)))
    assert type(copy) is Nightly
    assert copy == crontab(0, 3)


def test_its_text() -> None:
    each = crontab({30, 0}, "8-17", "mon-fri", [1, 15], "jan")
    assert repr(each) == "<crontab: {0, 30} 8-17 [1, 15] jan mon-fri (m/h/dM/MY/d)>"
    assert repr(crontab()) == "<crontab: * * * * * (m/h/dM/MY/d)>"
    assert each.as_text() == "0,30 8,9,10,11,12,13,14,15,16,17 1,15 1 1,2,3,4,5"
    assert crontab.from_string(each.as_text()) == each
    assert crontab("*", "0-23").as_text() == "* * * * *"
    with pytest.raises(ValueError, match=r"A crontab has five fields \(.*\), not 4 as '\* \* \* \*' has"):
        crontab.from_string("* * * *")


@pytest.mark.parametrize(
    ("each", "words"),
    [
        (crontab(), "every minute"),
        (crontab("*/15"), "every 15 minutes"),
        (crontab(0), "every hour"),
        (crontab(0, "*/6"), "at 00:00, 06:00, 12:00 and 18:00"),
        (crontab(0, "*/2"), "every 2 hours"),
        (crontab(20), "at minute 20 of every hour"),
        (crontab("*/7"), "at minute 0, 7, 14, 21, 28, 35, 42, 49 and 56 of every hour"),
        (crontab("*/10", "8-17"), "every 10 minutes of hour 8 to 17"),
        (crontab(30, 2), "at 02:30"),
        (crontab(30, "2,14", "mon-fri"), "at 02:30 and 14:30 on Monday to Friday"),
        (crontab(0, 9, "mon", "1-7"), "at 09:00 on Monday, if that is day 1 to 7 of the month"),
        (crontab(0, 0, day_of_month="1,15", month_of_year="jun-aug,dec"),
         "at 00:00 on day 1 and 15 of the month in June to August and December"),
        (crontab(0, 0, month_of_year="jan,feb"), "at 00:00 in January and February"),
    ],
)  # fmt: skip
def test_in_words(each: crontab, words: str) -> None:
    assert each.human_readable == words


def test_what_celery_asks() -> None:
    each = crontab(30, 7, nowfun=lambda: NEW_YEAR + timedelta(hours=7, minutes=29))
    assert each.is_due(NEW_YEAR - timedelta(days=1) + timedelta(hours=7, minutes=30)) == (False, 60)
    assert each.remaining_estimate(NEW_YEAR) == timedelta(minutes=1)
    late = crontab(30, 7, nowfun=lambda: NEW_YEAR + timedelta(hours=8))
    state = late.is_due(NEW_YEAR)
    assert state == (True, 23.5 * 3600)
    assert (state.is_due, state.next) == (True, 23.5 * 3600)
    # Without a zone they are in UTC.
    naive = crontab(30, 7, nowfun=lambda: datetime(2026, 1, 1, 8))
    assert naive.is_due(datetime(2026, 1, 1)) == state


def test_it_can_be_imported_as_celerys() -> None:
    assert django_tasks.crontab is crontab


def test_croniter_is_asked_for_each_day_once() -> None:
    # It takes longer than all the rest, and 100,000 entries have to start in seconds.
    calendars._day_after.cache_clear()
    for number in range(1440):
        crontab(number % 60, number // 60, "mon-fri").next_slot(NEW_YEAR, anchor=NEW_YEAR, zone=ZoneInfo("Asia/Tokyo"))
    assert calendars._day_after.cache_info().misses <= 3


def test_an_argument_that_there_is_not() -> None:
    with pytest.raises(TypeError, match=r"^crontab\.__init__\(\) got an unexpected keyword argument 'minutes'"):
        crontab(minutes=5)  # type: ignore[call-arg]
