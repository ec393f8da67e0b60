"""Every change of the clocks of twenty zones in ten years: what they skip runs once, and what they show twice, too."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from django_tasks.schedules import BaseSchedule, cron, crontab, schedule
from tests.schedules.clocks import DAY, HOUR, MINUTE, YEARS, ZONES, changes, shown, slots, walk

pytestmark = pytest.mark.parametrize("zone", ZONES)
SECOND = timedelta(seconds=1)


def at(clock: datetime) -> list[BaseSchedule]:
    """Return what runs every day when the clocks show this: a crontab, and a cron string."""
    return [crontab(clock.minute, clock.hour), cron(f"{clock.minute} {clock.hour} * * *")]


def skipped(zone: str) -> list[tuple[datetime, list[datetime]]]:
    """Return changes forth, each with some times that the clocks do not show then."""
    return [
        (change, [before + MINUTE, before + (after - before) / 2, after - MINUTE])
        for change in changes(zone)
        if (after := shown(change, zone)) > (before := shown(change - MINUTE, zone)) + MINUTE
    ]


def repeated(zone: str) -> list[tuple[datetime, list[datetime]]]:
    """Return changes back, each with some times that the clocks show twice then."""
    return [
        (change, [first, first + 7 * MINUTE, last])
        for change in changes(zone)
        if (first := shown(change, zone)) < (last := shown(change - MINUTE, zone))
    ]


def test_there_are_changes(zone: str) -> None:
    assert {change.year for change in changes(zone)} <= set(YEARS)
    assert len(skipped(zone)) + len(repeated(zone)) == len(changes(zone)) >= 2


def test_what_is_skipped_runs_once_at_the_next_valid_instant(zone: str) -> None:
    for change, times in skipped(zone):
        for clock in times:
            for each in at(clock):
                assert each.next_slot(change - SECOND, anchor=change, zone=ZoneInfo(zone)) == change
                following = each.next_slot(change, anchor=change, zone=ZoneInfo(zone))
                assert following is not None
                assert following > change
                assert (shown(following, zone).hour, shown(following, zone).minute) == (clock.hour, clock.minute)


def test_what_comes_twice_runs_the_first_time(zone: str) -> None:
    for change, times in repeated(zone):
        for clock in times:
            for each in at(clock):
                slot = each.next_slot(change - 12 * HOUR, anchor=change, zone=ZoneInfo(zone))
                assert slot is not None
                assert slot < change
                assert shown(slot, zone) == clock
                following = each.next_slot(slot, anchor=change, zone=ZoneInfo(zone))
                assert following is not None
                assert shown(following, zone) == clock + DAY


def test_all_that_names_hours(zone: str) -> None:
    for change in changes(zone):
        start, end = change - 14 * HOUR, change + 14 * HOUR
        hours = {shown(change + number * HOUR, zone).hour for number in (-2, 2)} | {0, 12}
        times = {(hour, minute) for hour in hours for minute in (0, 10, 30, 45)}
        expected = list(walk(lambda clock, times=times: (clock.hour, clock.minute) in times, True, zone, start, end))
        for each in (crontab("0,10,30,45", hours), cron(f"0,10,30,45 {','.join(map(str, hours))} * * *")):
            assert slots(each, zone, start, end) == expected, (each, change)


@pytest.mark.parametrize("minutes", [{0}, {30}, {0, 15, 30, 45}, set(range(60))])
def test_what_names_no_hour_goes_on_in_every_hour_that_passes(zone: str, minutes: set[int]) -> None:
    for change in changes(zone):
        start, end = change - 5 * HOUR, change + 5 * HOUR
        expected = walk(lambda clock: clock.minute in minutes, False, zone, start, end)
        assert slots(crontab(minutes), zone, start, end) == list(expected), change


def test_a_day_that_names_no_hour(zone: str) -> None:
    # The change may be at midnight, and the day is then shorter or longer at its end.
    for change in changes(zone):
        start, end = change - 26 * HOUR, change + 3 * HOUR
        day = shown(change - MINUTE, zone).date()
        each = crontab(20, day_of_month=day.day, month_of_year=day.month)
        expected = walk(lambda clock, day=day: clock.minute == 20 and clock.date() == day, False, zone, start, end)
        assert slots(each, zone, start, end) == list(expected), change


def test_seconds(zone: str) -> None:
    for change in changes(zone):
        after = change - 10 * SECOND
        for expected in (change - 5 * SECOND, change, change + 5 * SECOND):
            assert cron("* * * * * */5").next_slot(after, anchor=after, zone=ZoneInfo(zone)) == expected
            after = expected


def test_intervals_are_unaffected(zone: str) -> None:
    for change in changes(zone):
        start = change - 3 * HOUR
        found = slots(schedule(1800), zone, start, start + 8 * HOUR)
        assert found == [start + number * 30 * MINUTE for number in range(17)]


def test_an_interval_of_days_that_is_relative_begins_each_day(zone: str) -> None:
    daily, midnight = schedule(DAY, relative=True), crontab(0, 0)
    for change in changes(zone):
        start, end = change - 30 * HOUR, change + 30 * HOUR
        assert slots(daily, zone, start, end) == slots(midnight, zone, start, end), change


def test_far_away(zone: str) -> None:
    # From one change on to what is due at the next ones, weeks and months later.
    for change in changes(zone):
        for instant in (change - DAY, change - SECOND, change):
            for later in [each for each in changes(zone) if instant < each][:2]:
                clock = shown(later, zone)
                each = crontab(clock.minute, day_of_month=clock.day, month_of_year=clock.month)
                slot = each.next_slot(instant, anchor=instant, zone=ZoneInfo(zone))
                assert slot is not None
                start = max(slot - 3 * HOUR, instant.replace(second=0) + MINUTE)
                first = next(walk(lambda local, clock=clock: (local.month, local.day, local.minute) == (
                    clock.month, clock.day, clock.minute), False, zone, start, slot))  # fmt: skip
                assert first == slot
