"""Several beats on one broker, of each kind: each slot has one message, whatever happens to them."""

from __future__ import annotations

from typing import Any

import pytest

from django_tasks.brokers import redis_beat
from django_tasks.brokers.beat import UNSENT_AGE
from django_tasks.exceptions import OperationalError
from tests.beat.simulation import Beat, Died, World, every
from tests.tables import our_tables

pytestmark = our_tables

SCHEDULE = {"tens": every(10, catch_up="all"), "minutes": every("* * * * *", catch_up="all")}


def test_several_beats_send_each_slot_once(world: World) -> None:
    for skew in (0.0, 5.0, -5.0):
        world.beat(SCHEDULE, skew=skew)
    world.run(300)
    assert world.slots("tens") == [10.0 * number for number in range(1, 31)]
    assert world.slots("minutes") == [60.0 * number for number in range(1, 6)]


def test_another_beat_takes_over(world: World) -> None:
    first, _ = world.beat(SCHEDULE), world.beat(SCHEDULE)
    world.run(45)
    first.next_at = None
    world.run(50)
    assert world.slots("tens") == [10.0 * number for number in range(1, 10)]


def test_a_beat_that_comes_back_finds_that_all_is_done(world: World) -> None:
    first, _ = world.beat(SCHEDULE), world.beat(SCHEDULE)
    world.run(45)
    first.next_at = None
    world.run(1000)
    first.next_at = world.now
    world.run(60)
    assert world.slots("tens") == [10.0 * number for number in range(1, 111)]


def test_beats_with_other_entries_leave_each_other_alone(world: World) -> None:
    world.beat({"a": every(10)})
    world.beat({"b": every(15)})
    world.run(35)
    assert world.slots("a") == [10, 20, 30]
    assert world.slots("b") == [15, 30]


def test_a_new_beat_goes_on_where_the_last_one_ended(world: World) -> None:
    world.beat({"a": every(10)})
    world.run(25)
    world.stop()
    world.run(13)
    world.beat({"a": every(10)})
    world.run(4)
    assert world.slots("a") == [10, 20, 30, 40]


def test_a_schedule_that_was_changed_meanwhile_begins_anew(world: World) -> None:
    """An interval of an hour becomes one of ten seconds: nothing of what would have been due is caught up."""
    world.beat({"a": every(3600)})
    world.run(3610)
    world.stop()
    world.run(1000)
    world.beat({"a": every(10, catch_up="all")})
    world.run(10)
    assert world.slots("a") == [3600, 4620]


def test_other_arguments_are_no_change_of_the_schedule(world: World) -> None:
    world.beat({"a": every(100)})
    world.run(150)
    world.stop()
    world.run(100)
    world.beat({"a": every(100, args=[1])})
    world.run(1)
    assert world.slots("a") == [100, 200]


def test_beats_of_old_and_new_settings_both_go_on(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """As while a site is deployed, or when somebody has forgotten to stop the old one."""
    old = world.beat({"a": every(7)})
    world.run(30)
    world.beat({"a": every(10)})
    world.run(71)
    assert world.slots("a") == sorted({*(7.0 * n for n in range(1, 15)), *(10.0 * n for n in range(4, 11))})
    assert "Another beat has other schedules for a: both are heeded" in caplog.text
    world.beats.remove(old)
    world.run(50)
    assert world.slots("a")[-5:] == [110, 120, 130, 140, 150]


def test_old_and_new_crontabs(world: World) -> None:
    world.beat({"a": every("*/2 * * * *")})
    world.beat({"a": every("*/3 * * * *")})
    world.run(1200)
    assert world.slots("a") == sorted({*(120.0 * n for n in range(1, 11)), *(180.0 * n for n in range(1, 7))})


# -- dying and freezing


def interrupted(beat: Beat, place: str, before: bool, what: Any) -> None:
    """Let something happen once, before or after a step of a beat's store."""
    store: Any = beat.scheduler.store
    work = getattr(store, place)

    def step(*args: Any) -> Any:
        setattr(store, place, work)
        if before:
            what()
            return work(*args)
        answer = work(*args)
        what()
        return answer

    setattr(store, place, step)


def die() -> None:
    raise Died


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("place", ["prepare", "claim", "states"])
def test_a_beat_that_dies_at_a_step(world: World, place: str, before: bool) -> None:
    beat = world.beat(SCHEDULE)
    if world.kind != "memory":
        world.beat(SCHEDULE)
    world.run(15)
    interrupted(beat, place, before, die)
    if place == "states":
        beat.start()
    world.run(200)
    assert world.slots("tens") == [10.0 * number for number in range(1, 22)]
    assert world.slots("minutes") == [60.0, 120.0, 180.0]


@pytest.mark.parametrize("seconds", [3.0, 8.0, 400.0])
@pytest.mark.parametrize("place", ["prepare", "claim"])
def test_a_beat_that_stands_still_before_a_step(world: World, place: str, seconds: float) -> None:
    beat = world.beat(SCHEDULE)
    if world.kind != "memory":
        world.beat(SCHEDULE)
    world.run(15)
    interrupted(beat, place, True, lambda: world.run(seconds))
    world.run(500)
    until = int(world.now - world.beats[0].state("tens").anchor) // 10
    assert world.slots("tens") == [10.0 * number for number in range(1, until + 1)]


@pytest.fixture
def redis_world(world: World) -> World:
    if world.kind != "redis":
        pytest.skip("only on Redis are a claim and its messages two steps")
    return world


@pytest.mark.parametrize("before", [True, False])
def test_a_beat_that_dies_between_claim_and_messages(redis_world: World, before: bool) -> None:
    """Before they are sent, or before that is written down: another beat sends them, and each is there once."""
    first, _ = redis_world.beat({"a": every(100)}), redis_world.beat({"a": every(100)})
    redis_world.run(50)
    interrupted(first, "_send", before, die)
    first.next_at = redis_world.now + 49.999  # so that it is the first to look
    first.scheduler.tick(redis_world.now)
    redis_world.run(50.5)
    assert first.state("a").runs == 1
    redis_world.run(UNSENT_AGE + 3)
    assert redis_world.slots("a") == [100]


@pytest.mark.parametrize("seconds", [2.0, 8.0, 400.0, 20_000.0])
def test_a_beat_that_stands_still_between_claim_and_messages(redis_world: World, seconds: float) -> None:
    """However long: what it sends then has been sent."""
    schedule = {"a": every(7, catch_up="all")} if seconds < 1000 else {"a": every(1000, catch_up="all")}
    first, _ = redis_world.beat(schedule), redis_world.beat(schedule)
    interrupted(first, "_send", True, lambda: redis_world.run(seconds))
    interrupted(redis_world.beats[1], "_send", True, lambda: None)
    redis_world.run(2 * seconds + 100)
    every_seconds = 7 if seconds < 1000 else 1000
    begun = first.state("a").begun
    count = int((redis_world.now - begun) // every_seconds)
    assert redis_world.slots("a") == [float(every_seconds * number) for number in range(1, count + 1)]


def test_messages_that_were_left_go_before_those_of_the_next_claim(redis_world: World) -> None:
    first = redis_world.beat({"a": every(2)})
    interrupted(first, "_send", True, die)
    redis_world.run(2.5)
    assert redis_world.sent() == []
    redis_world.beat({"a": every(2)})
    redis_world.run(2)  # before what was left is old enough to be looked for
    assert redis_world.slots("a") == [2, 4]


def test_what_could_not_be_sent_is_sent_later(redis_world: World, caplog: pytest.LogCaptureFixture) -> None:
    beat = redis_world.beat({"a": every(100)})

    def fail() -> None:
        raise OperationalError("away")

    interrupted(beat, "_send", True, fail)
    redis_world.run(101)
    assert "Entries are claimed, and their messages will be sent when that is possible: away" in caplog.text
    redis_world.run(10)
    assert redis_world.slots("a") == [100]


def test_a_list_that_cannot_be_written_holds_up_no_other(redis_world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Somebody has made something else of the key."""
    definition = every(10, options={"queue": "spoilt"}, catch_up="all")
    beats = [redis_world.beat({"a": definition, "b": every(10)}) for _ in range(2)]
    broker: Any = beats[0].app.broker
    broker.connections.run(lambda client: client.set("spoilt", "text"))
    redis_world.run(45)
    broker.connections.run(lambda client: client.delete("spoilt"))
    assert redis_world.slots("b") == [10, 20, 30, 40]
    assert redis_world.sent("a") == []
    assert "Entries are claimed, and their messages will be sent when that is possible" in caplog.text
    assert caplog.text.count("Messages that were claimed cannot be sent yet, and wait") == 2  # once for each beat
    redis_world.run(10)
    assert redis_world.slots("a") == [10, 20, 30, 40, 50]


def test_messages_are_kept_until_replicas_have_them(redis_world: World) -> None:
    world = redis_world
    beat = world.beat({"a": every(10)}, broker_transport_options={"wait_replicas": 1})
    world.run(15)
    broker: Any = beat.app.broker
    unsent = broker.connections.run(lambda client: client.hkeys("{_django_tasks}.beat.unsent"))
    assert unsent == [b"a"]
    world.run(10)
    assert world.slots("a") == [10, 20]


def test_a_long_backlog_is_not_gone_through(redis_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    beat = redis_world.beat({"a": every(10, overlap="skip")})
    redis_world.run(15)
    store = beat.scheduler.store
    (message,) = redis_world.sent()
    assert store.running([message.id, "other"]) == {message.id}
    monkeypatch.setattr(redis_beat, "BACKLOG", 0)
    assert store.running([message.id, "other"]) == {message.id, "other"}


def test_lists_forget_entries_that_are_forgotten(redis_world: World) -> None:
    beat = redis_world.beat({"a": every(10)})
    redis_world.run(15)
    broker: Any = beat.app.broker
    assert broker.connections.run(lambda client: client.hkeys("{celery}.beat")) == [b"a"]
    beat.scheduler.store.forget(["a"])
    assert broker.connections.run(lambda client: client.hkeys("{celery}.beat")) == []


# -- hours of it


@pytest.mark.parametrize("seed", range(3))
def test_hours_in_which_beats_die_and_stand_still(world: World, seed: int) -> None:
    schedule = {"minutes": every(60, catch_up={"all": 1000}), "quarters": every("*/15 * * * *", catch_up={"all": 1000})}
    world.faults.seed(seed)
    for skew in (0.0, 5.0, -5.0):
        world.beat(schedule, skew=skew)
    world.run(0.5)
    world.deadly, world.freezing = 0.002, 0.003
    world.run(3600)
    world.deadly = world.freezing = 0.0
    world.run(300)
    minutes = int(world.now - world.beats[0].state("minutes").begun) // 60
    quarters = int(world.now - world.beats[0].state("quarters").begun) // 900
    assert world.slots("minutes") == [60.0 * number for number in range(1, minutes + 1)]
    assert world.slots("quarters") == [900.0 * number for number in range(1, quarters + 1)]
    assert minutes >= 60
