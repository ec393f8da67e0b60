"""What becomes of slots, by the policies of their entries; each in an invented time, in memory."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from django_tasks.brokers.base import Settlement, Verb
from django_tasks.outcome import TaskMeta
from django_tasks.schedules import clocked, crontab, schedstate, schedule
from django_tasks.states import STARTED, SUCCESS
from tests.beat.simulation import START, Beat, World, every

HOUR = 3600.0


def at(seconds: float) -> datetime:
    """Return an instant of the invented time."""
    return datetime.fromtimestamp(START + seconds, timezone.utc)


def absent(world: World, definition: dict[str, Any], away: float, before: float = 0.0) -> Beat:
    """Have a beat see an entry, and look again when it was away for some seconds."""
    beat = world.beat({"a": definition})
    world.run(before)
    beat.next_at = None
    world.run(away)
    beat.next_at = world.now
    world.run(0)
    return beat


# -- slots


def test_an_interval_begins_when_it_is_first_seen(memory_world: World) -> None:
    memory_world.run(17)
    memory_world.beat({"a": every(10)})
    memory_world.run(35)
    assert memory_world.slots("a") == [27, 37, 47]


def test_a_crontab_goes_by_the_clock(memory_world: World) -> None:
    memory_world.beat({"a": every(crontab(minute="*/20"))})
    memory_world.run(2 * HOUR)
    assert memory_world.slots("a") == [1200 * number for number in range(1, 7)]


def test_the_zone_of_an_entry(memory_world: World) -> None:
    memory_world.beat({"a": every("30 6 * * *", timezone="Europe/Berlin")}, timezone="Asia/Tokyo")
    memory_world.beat({"b": every("30 6 * * *")}, timezone="Asia/Tokyo")
    memory_world.run(24 * HOUR)
    assert memory_world.slots("a", 5.5 * HOUR, 6.5 * HOUR) == [5.5 * HOUR]
    assert memory_world.slots("b", 5.5 * HOUR, 21.5 * HOUR) == [21.5 * HOUR]


def test_start_and_end(memory_world: World) -> None:
    memory_world.beat({"a": every(10, start_time=at(25), end_time=at(45))})
    memory_world.run(HOUR)
    assert memory_world.slots("a") == [25, 35, 45]


def test_a_start_that_has_been_is_still_where_slots_are_counted_from(memory_world: World) -> None:
    memory_world.run(12)
    memory_world.beat({"a": every(10, start_time=at(5))})
    memory_world.run(20)
    assert memory_world.slots("a") == [15, 25]


def test_an_entry_of_one_run(memory_world: World) -> None:
    memory_world.beat({"a": every(10, one_off=True)})
    memory_world.run(HOUR)
    assert memory_world.slots("a") == [10]


def test_an_entry_that_is_off(memory_world: World) -> None:
    memory_world.beat({"a": every(10, enabled=False)})
    memory_world.run(HOUR)
    assert memory_world.sent() == []


def test_an_instant(memory_world: World) -> None:
    memory_world.beat({"a": every(clocked(at(90))), "past": every(clocked(at(-1)))})
    memory_world.run(HOUR)
    assert memory_world.slots("a") == [90]
    assert memory_world.sent("past") == []


class Tides(schedule):
    """A schedule of somebody's own, which only says whether it is due."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    def is_due(self, last_run_at: datetime) -> schedstate:
        left = last_run_at.timestamp() + 25 - self.world.now
        return schedstate(left <= 0, 25 if left <= 0 else left)


def test_a_schedule_that_only_says_whether_it_is_due(memory_world: World) -> None:
    for _ in range(2):
        memory_world.beat({"a": every(Tides(memory_world))})
    memory_world.run(80)
    assert memory_world.slots("a") == [25, 50, 75]


class Broken(schedule):
    def is_due(self, last_run_at: datetime) -> schedstate:
        raise RuntimeError("no tide table")


def test_a_schedule_that_fails_stops_no_other(memory_world: World, caplog: pytest.LogCaptureFixture) -> None:
    memory_world.beat({"a": every(Broken()), "b": every(10)})
    memory_world.run(130)
    assert len(memory_world.slots("b")) == 13
    assert memory_world.sent("a") == []
    failures = [each for each in caplog.records if "Entry 'a': its schedule" in each.getMessage()]
    assert len(failures) == 3  # once a minute


class Lost(schedule):
    def next_slot(self, after: datetime, **_: Any) -> datetime:
        raise RuntimeError("no calendar")


def test_a_schedule_that_fails_at_the_start_stops_no_other(memory_world: World) -> None:
    memory_world.beat({"a": every(Lost(5)), "b": every(10)})
    memory_world.run(15)
    assert memory_world.slots("b") == [10]


class Backwards(schedule):
    def next_slot(self, after: datetime, **_: Any) -> datetime:
        return after


@pytest.mark.parametrize("bad", [Backwards(5), timedelta(days=3_000_000)])
def test_a_schedule_that_comes_to_nothing_stops_no_other(memory_world: World, bad: Any) -> None:
    memory_world.beat({"a": every(bad), "b": every(10)})
    memory_world.run(15)
    assert memory_world.slots("b") == [10]
    assert memory_world.sent("a") == []


def test_a_start_at_the_beginning_of_time(memory_world: World) -> None:
    memory_world.beat({"a": every(86400, start_time="0001-01-01T00:00:00+00:00")})
    memory_world.run(2 * 86400)
    assert len(memory_world.sent("a")) == 2


def test_a_task_that_there_is_not_here_is_sent_and_said_once(
    memory_world: World, caplog: pytest.LogCaptureFixture
) -> None:
    memory_world.beat({"a": {"task": "elsewhere.task", "schedule": 10}})
    memory_world.run(35)
    assert len(memory_world.sent("a")) == 3
    assert caplog.text.count("Entry 'a': there is no task 'elsewhere.task' here. It is sent all the same") == 1


# -- what was missed


@pytest.mark.parametrize(
    ("catch_up", "slots"),
    [
        ("none", [600.0]),
        ("once", [600.0]),
        ("all", [60.0 * number for number in range(1, 11)]),
        ({"all": 3}, [480.0, 540.0, 600.0]),
        (2, [540.0, 600.0]),
    ],
)
def test_catching_up(memory_world: World, catch_up: Any, slots: list[float]) -> None:
    absent(memory_world, every(60, catch_up=catch_up), 630)
    assert memory_world.slots("a") == slots


def test_catching_up_nothing_that_is_old(memory_world: World) -> None:
    absent(memory_world, every(HOUR, catch_up="none"), HOUR + 61)
    assert memory_world.sent() == []
    memory_world.run(HOUR)
    assert memory_world.slots("a") == [2 * HOUR]


def test_all_of_many_is_a_hundred(memory_world: World) -> None:
    absent(memory_world, every(1, catch_up="all"), 100_000.5)
    assert memory_world.slots("a") == [float(each) for each in range(99_901, 100_001)]


@pytest.mark.parametrize("grace", [100, timedelta(seconds=100)])
def test_grace(memory_world: World, grace: Any) -> None:
    absent(memory_world, every(60, catch_up="all", grace=grace), 630)
    assert memory_world.slots("a") == [540.0, 600.0]


def test_what_is_left_out_is_said(memory_world: World, caplog: pytest.LogCaptureFixture) -> None:
    absent(memory_world, every(60, grace=10), 119)
    assert memory_world.sent() == []
    assert "Entry 'a': 1 run up to 2027-01-04 00:01:00.000+00:00 is left out, as too late" in caplog.text


def test_years_of_an_entry_of_every_second_take_no_time(memory_world: World) -> None:
    absent(memory_world, every(1), 5 * 365 * 86400.0)
    assert len(memory_world.sent()) == 1


def test_catching_up_goes_on_from_there(memory_world: World) -> None:
    absent(memory_world, every(60), 630)
    memory_world.run(60)
    assert memory_world.slots("a") == [600, 660]


def test_a_late_message_is_logged_as_such(memory_world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "django_tasks.beat")
    absent(memory_world, every(60), 90)
    assert "due at 2027-01-04 00:01:00.000+00:00, 30 s late" in caplog.text


# -- runs that overlap


def end(world: World, count: int = 1) -> None:
    """Run what waits."""
    broker = world.beats[0].app.broker
    for delivery in broker.reserve("worker", ["celery"], count, 5):
        broker.settle([Settlement(delivery, Verb.ACK)])


def test_runs_may_overlap(memory_world: World) -> None:
    memory_world.beat({"a": every(10)})
    memory_world.run(35)
    assert len(memory_world.sent()) == 3


def test_a_slot_is_passed_over_while_the_last_run_has_not_ended(memory_world: World) -> None:
    memory_world.beat({"a": every(10, overlap="skip")})
    memory_world.run(35)
    assert memory_world.slots("a") == [10]
    end(memory_world)
    memory_world.run(10)
    assert memory_world.slots("a") == [40]


def test_a_slot_waits_until_the_last_run_has_ended(memory_world: World) -> None:
    memory_world.beat({"a": every(10, overlap="queue", catch_up="all")})
    memory_world.run(35)
    assert memory_world.slots("a") == [10]
    for seconds, slot in ((2, 20), (2, 30)):
        end(memory_world)
        memory_world.run(seconds)
        assert memory_world.slots("a") == [slot]


def test_of_slots_that_wait_those_count_that_would_be_caught_up(memory_world: World) -> None:
    memory_world.beat({"a": every(10, overlap="queue")})
    memory_world.run(35)
    end(memory_world)
    memory_world.run(2)
    assert memory_world.slots("a") == [30]


def test_a_run_that_was_purged_holds_nothing_up(memory_world: World) -> None:
    beat = memory_world.beat({"a": every(10, overlap="skip")})
    memory_world.run(15)
    broker: Any = beat.app.broker
    broker.entries.clear()
    memory_world.run(10)
    assert memory_world.slots("a") == [20]


def test_a_result_says_that_a_run_has_ended(memory_world: World) -> None:
    beat = memory_world.beat({"a": every(10, overlap="skip")})
    memory_world.run(15)
    (message,) = memory_world.sent()
    beat.app.backend.store([TaskMeta(task_id=message.id, status=SUCCESS)])
    memory_world.run(10)
    assert memory_world.slots("a") == [10, 20]


def test_a_run_whose_message_went_when_it_began(memory_world: World) -> None:
    """As of a task with ``acks_late=False``: its result says that it has started."""
    beat = memory_world.beat({"a": every(10, overlap="skip")})
    memory_world.run(15)
    (message,) = memory_world.sent()
    beat.app.backend.store([TaskMeta(task_id=message.id, status=STARTED)])
    end(memory_world)
    memory_world.run(20)
    assert memory_world.sent() == []
    beat.app.backend.store([TaskMeta(task_id=message.id, status=SUCCESS)])
    memory_world.run(10)
    assert memory_world.slots("a") == [40]


# -- what is in a message


def test_a_message_is_as_the_entry_says(memory_world: World) -> None:
    options = {"queue": "slow", "priority": 3, "headers": {"mine": 1}, "time_limit": 5}
    memory_world.beat({"a": every(10, args=[1], kwargs={"k": 2}, options=options, expires=60)})
    memory_world.run(10)
    (message,) = memory_world.sent()
    assert (list(message.args), message.kwargs, message.queue, message.priority) == ([1], {"k": 2}, "slow", 3)
    assert message.headers == {"mine": 1, "periodic_task_name": "a"}
    assert message.timelimit[0] == 5
    assert message.expires == at(70)
    assert message.eta is None


def test_jitter_spreads_runs_by_entry_and_slot(memory_world: World) -> None:
    memory_world.beat({name: every(100, jitter=50) for name in "abcdefgh"})
    memory_world.run(200)
    shifts = {
        name: [(each.eta.timestamp() - START) % 100 for each in memory_world.sent(name) if each.eta]
        for name in "abcdefgh"
    }
    flat = [shift for each in shifts.values() for shift in each]
    assert len(flat) == 16
    assert all(0 <= shift < 50 for shift in flat)
    assert len(set(flat)) == 16
    assert max(flat) - min(flat) > 20


def test_what_cannot_be_sent_is_left_out_and_said(memory_world: World, caplog: pytest.LogCaptureFixture) -> None:
    memory_world.beat(
        {"a": every(10, args=[object()]), "b": every(10, kwargs={"text": "x" * 2000})}, task_max_message_size=1000
    )
    memory_world.beats[0].app.conf.beat_schedule["c"] = every(10)
    memory_world.run(25)
    assert memory_world.slots("c") == [10, 20] or memory_world.slots("c") == [11, 21]
    errors = [each.getMessage() for each in caplog.records if each.levelno == logging.ERROR]
    assert (
        len([each for each in errors if each.startswith("Entry 'a' cannot be sent, its run of 2027-01-04 00:00:10")])
        == 1
    )
    assert len([each for each in errors if each.startswith("Entry 'b' cannot be sent")]) == 2
    assert {each.headers["periodic_task_name"] for each in memory_world.sent()} == {"c"}
