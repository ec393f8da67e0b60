"""What docs/schedules.md says of the two changes in Berlin in 2026, and the forms that it shows."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from django_tasks.schedules import BaseSchedule, crontab, schedule
from tests.schedules.clocks import DAY, HOUR, UTC, shown, slots

ZONE = "Europe/Berlin"
#: One o'clock on those days.
MARCH, OCTOBER = datetime(2026, 3, 29, 0, tzinfo=UTC), datetime(2026, 10, 24, 23, tzinfo=UTC)


@pytest.mark.parametrize(
    ("each", "march", "october"),
    [
        (crontab(30, 2), "03:00", "02:30"),
        (crontab("*/15", 2), "03:00", "02:00 02:15 02:30 02:45"),
        (crontab(0, "2,3"), "03:00", "02:00 03:00"),
        (crontab(30), "01:30 03:30 04:30", "01:30 02:30 02:30 03:30"),
        (crontab("0,20", "0-23"), "01:00 01:20 03:00 03:20 04:00 04:20",
         "01:00 01:20 02:00 02:20 02:00 02:20 03:00 03:20"),
        (schedule(3600), "01:00 03:00 04:00", "01:00 02:00 02:00 03:00"),
    ],
)  # fmt: skip
def test_the_table(each: BaseSchedule, march: str, october: str) -> None:
    for start, hours, times in ((MARCH, 3, march), (OCTOBER, 4, october)):
        found = slots(each, ZONE, start, start + hours * HOUR - timedelta(seconds=1))
        assert [f"{shown(slot, ZONE):%H:%M}" for slot in found] == times.split()


def test_days_in_the_table() -> None:
    midnight = MARCH - HOUR
    assert slots(schedule(DAY), ZONE, midnight, midnight + 2 * DAY) == [midnight, midnight + DAY, midnight + 2 * DAY]
    days = slots(schedule(DAY, relative=True), ZONE, midnight, midnight + 2 * DAY)
    assert [f"{shown(slot, ZONE):%d %H:%M}" for slot in days] == ["29 00:00", "30 00:00", "31 00:00"]


def test_samoas_day() -> None:
    after = datetime(2011, 12, 29, 12, tzinfo=UTC)
    [slot, following] = slots(crontab(0, 12, day_of_month="30,31"), "Pacific/Apia", after, after + 3 * DAY)[:2]
    assert (shown(slot, "Pacific/Apia"), shown(following, "Pacific/Apia")) == (
        datetime(2011, 12, 31), datetime(2011, 12, 31, 12),
    )  # fmt: skip


def test_six_hours_that_are_relative() -> None:
    start = datetime(2026, 5, 4, 10, 20, tzinfo=UTC)
    found = slots(schedule(6 * HOUR, relative=True), "UTC", start, start + DAY)
    assert [slot.hour for slot in found][:3] == [16, 22, 4]
