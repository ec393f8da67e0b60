"""The scheduler: where its entries come from, and what happens when something is away or wrong."""

from __future__ import annotations

import gc
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from django_tasks import App
from django_tasks.beat.agenda import SPARE
from django_tasks.beat.entry import Entry
from django_tasks.beat.scheduler import BATCH, LOCKED, MANY, MESSAGES
from django_tasks.beat.sources import Changes, SettingsSource
from django_tasks.exceptions import OperationalError
from django_tasks.schedules import clocked
from tests.beat.simulation import START, World, entry, every


class ListSource:
    """Entries that a test changes, as somebody changes rows in a database."""

    def __init__(self, app: App, **definitions: dict[str, Any]) -> None:
        self.app = app
        self.rows: dict[str, Entry] = {}
        self.changed: list[Entry] = []
        self.removed: list[str] = []
        self.off: set[str] = set()
        self.told: list[str] = []
        self.asked: list[list[str]] = []
        self.away = False
        for name, definition in definitions.items():
            self.put(name, definition)
        self.changed.clear()

    def put(
        self, name: str, definition: dict[str, Any], *, noticed: bool = True, since: datetime | None = None
    ) -> None:
        """Write a row; one that is not ``noticed`` comes up in no look for changes."""
        self.rows[name] = entry(self.app, definition, name, since)
        if noticed:
            self.changed.append(self.rows[name])

    def drop(self, name: str, *, noticed: bool = True) -> None:
        del self.rows[name]
        if noticed:
            self.removed.append(name)

    def _answer(self) -> None:
        if self.away:
            raise OperationalError("no database")

    def entries(self) -> Iterable[Entry]:
        self._answer()
        return list(self.rows.values())

    def changes(self) -> Changes:
        self._answer()
        changes = Changes(list(self.changed), list(self.removed))
        self.changed.clear()
        self.removed.clear()
        return changes

    def still_valid(self, names: Sequence[str]) -> Mapping[str, Entry | None]:
        self._answer()
        self.asked.append(sorted(names))
        return {name: self.rows.get(name) for name in names}

    def paused(self) -> Collection[str]:
        return set(self.off)

    def fired(self, names: Sequence[str]) -> None:
        self.told += names


@pytest.fixture
def source(memory_world: World) -> ListSource:
    return ListSource(memory_world.app())


# -- sources


def test_what_is_added_fires(memory_world: World, source: ListSource) -> None:
    memory_world.beat(sources=[source])
    memory_world.run(5)
    source.put("a", every(10))
    memory_world.run(12)
    assert memory_world.slots("a") == [16] or memory_world.slots("a") == [15]


def test_a_change_counts_within_two_seconds(memory_world: World, source: ListSource) -> None:
    source.put("a", every(1000))
    memory_world.beat(sources=[source])
    memory_world.run(100.5)
    source.put("a", every(1), since=datetime.fromtimestamp(START + 100.5, timezone.utc))
    memory_world.run(2)
    assert memory_world.slots("a") == [101, 102]


def test_an_instant_that_was_before_any_beat_looked(memory_world: World, source: ListSource) -> None:
    """A row that was made at second 0 for second 5, when beats were away until second 60."""
    made = datetime.fromtimestamp(START, timezone.utc)
    source.put("a", every(clocked(made + timedelta(seconds=5))), since=made)
    memory_world.run(60)
    memory_world.beat(sources=[source])
    memory_world.run(3600)
    assert memory_world.slots("a") == [5]


def test_what_is_removed_fires_no_more(memory_world: World, source: ListSource) -> None:
    source.put("a", every(10))
    memory_world.beat(sources=[source])
    memory_world.run(15)
    source.drop("a")
    memory_world.run(50)
    assert memory_world.slots("a") == [10]


@pytest.mark.parametrize("change", ["removed", "off", "other"])
def test_an_entry_is_looked_at_just_before_it_fires(memory_world: World, source: ListSource, change: str) -> None:
    """Also where nobody has noticed the change."""
    source.put("a", every(10))
    memory_world.beat(sources=[source])
    memory_world.run(15)
    if change == "removed":
        source.drop("a", noticed=False)
    else:
        source.put("a", every(10, enabled=False) if change == "off" else every(10, args=["new"]), noticed=False)
    memory_world.run(6)
    if change == "other":
        assert memory_world.slots("a") == [10, 20]
        assert [list(each.args) for each in memory_world.sent("a")] == [[], ["new"]]
    else:
        assert memory_world.slots("a") == [10]


def test_those_that_are_due_are_looked_at_together(memory_world: World, source: ListSource) -> None:
    for number in range(30):
        source.put(f"entry {number:02}", every(10))
    memory_world.beat(sources=[source])
    memory_world.run(10)
    assert source.asked == [sorted(source.rows)]


def test_what_was_paused_is_not_caught_up(memory_world: World, source: ListSource) -> None:
    source.put("a", every(10, catch_up="all"))
    memory_world.beat(sources=[source])
    memory_world.run(15)
    source.put("a", every(10, catch_up="all", enabled=False))
    memory_world.run(100)
    source.put("a", every(10, catch_up="all"))
    memory_world.run(10)
    slots = memory_world.slots("a")
    assert slots == [10, 120]


def test_one_run_more_after_it_was_enabled_again(memory_world: World, source: ListSource) -> None:
    source.put("a", every(10, one_off=True))
    memory_world.beat(sources=[source])
    memory_world.run(25)
    source.put("a", every(10, one_off=True, enabled=False))
    memory_world.run(5)
    source.put("a", every(10, one_off=True))
    memory_world.run(30)
    assert memory_world.slots("a") == [10, 40]


def test_sources_are_told_what_has_fired(memory_world: World, source: ListSource) -> None:
    source.put("a", every(10))
    settings = SettingsSource(memory_world.app(beat_schedule={"b": every(10)}))
    memory_world.beat(sources=[settings, source])
    memory_world.run(25)
    assert source.told == ["a", "a"]


def test_the_later_source_has_the_last_word(memory_world: World, source: ListSource) -> None:
    settings = SettingsSource(memory_world.app(beat_schedule={"a": every(10, args=["settings"])}))
    source.put("a", every(10, args=["row"]))
    memory_world.beat(sources=[settings, source])
    memory_world.run(15)
    assert [list(each.args) for each in memory_world.sent("a")] == [["row"]]
    source.drop("a")
    memory_world.run(10)
    assert [list(each.args) for each in memory_world.sent("a")] == [["row"], ["settings"]]


def test_a_later_source_may_pause_an_entry(memory_world: World, source: ListSource) -> None:
    settings = SettingsSource(memory_world.app(beat_schedule={"a": every(10)}))
    memory_world.beat(sources=[settings, source])
    memory_world.run(15)
    source.off.add("a")
    memory_world.run(20)
    source.off.clear()
    memory_world.run(20)
    assert memory_world.slots("a") == [10, 40, 50]


def test_what_the_program_adds_while_beat_runs(memory_world: World) -> None:
    beat = memory_world.beat({"a": every(10)})
    memory_world.run(5)
    beat.app.add_periodic_task(10, "tests.job", name="b")
    memory_world.run(12)
    assert memory_world.slots("a") == [10]
    assert len(memory_world.sent("b")) == 1
    del beat.app.periodic_tasks["b"]
    memory_world.run(20)
    assert len(memory_world.sent("b")) == 1


def test_what_the_program_changes_to_what_cannot_be_is_left_out(
    memory_world: World, caplog: pytest.LogCaptureFixture
) -> None:
    beat = memory_world.beat({"a": every(10), "b": every(10)})
    memory_world.run(15)
    beat.app.conf.beat_schedule["a"] = every("61 * * * *")
    memory_world.run(20)
    assert (memory_world.slots("a"), memory_world.slots("b")) == ([10], [10, 20, 30])
    assert "It is left out." in caplog.text
    beat.app.conf.beat_schedule["a"] = every(10)
    memory_world.run(10)
    assert 40 in memory_world.slots("a")


def test_an_entry_that_cannot_be_stops_no_other(memory_world: World, caplog: pytest.LogCaptureFixture) -> None:
    memory_world.beat({"a": every("61 * * * *"), "b": every(10)})
    memory_world.run(15)
    assert memory_world.slots("b") == [10]
    assert "Entry 'a' of the schedule, schedule: '61 * * * *' is no schedule" in caplog.text


# -- outages and errors


def test_a_source_that_is_away_does_not_hold_up_the_others(
    memory_world: World, source: ListSource, caplog: pytest.LogCaptureFixture
) -> None:
    source.put("a", every(10, catch_up="all"))
    settings = SettingsSource(memory_world.app(beat_schedule={"b": every(10)}))
    memory_world.beat(sources=[settings, source])
    memory_world.run(15)
    source.away = True
    memory_world.run(20)
    assert memory_world.slots("a") == [10]
    assert memory_world.slots("b") == [10, 20, 30]
    assert caplog.text.count("A part of the schedule cannot be read, the rest is served: no database") == 1
    source.away = False
    memory_world.run(2)
    assert memory_world.slots("a") == [10, 20, 30]


def test_a_start_waits_for_a_source_that_may_pause_entries_of_others(memory_world: World, source: ListSource) -> None:
    entries = {"b": every(10, catch_up="all"), "c": every(10)}
    beat = memory_world.beat(sources=[SettingsSource(memory_world.app(beat_schedule=entries)), source])
    memory_world.run(15)
    source.away = True
    beat.start()
    memory_world.run(20)
    assert memory_world.slots("b") == memory_world.slots("c") == [10]
    source.off.add("c")
    source.away = False
    memory_world.run(2)
    assert memory_world.slots("b") == [10, 20, 30]
    assert memory_world.slots("c") == [10]


@pytest.mark.parametrize("place", ["claim", "states", "send_left"])
def test_a_broker_that_is_away_is_waited_for(memory_world: World, place: str) -> None:
    beat = memory_world.beat({"a": every(10, catch_up="all")})
    memory_world.run(15)
    store: Any = beat.scheduler.store
    work = getattr(store, place)

    def away(*args: Any) -> Any:
        raise OperationalError("no broker")

    setattr(store, place, away)
    if place == "states":
        beat.start()
    memory_world.run(30)
    setattr(store, place, work)
    memory_world.run(3)
    assert memory_world.slots("a") == [10, 20, 30, 40]


def test_a_claim_whose_answer_was_lost(memory_world: World) -> None:
    beat = memory_world.beat({"a": every(10, catch_up="all")})
    memory_world.run(15)
    store: Any = beat.scheduler.store
    work = store.claim

    def lost(claims: Any) -> Any:
        store.claim = work
        work(claims)
        raise OperationalError("no answer")

    store.claim = lost
    memory_world.run(20)
    assert memory_world.slots("a") == [10, 20, 30]


def test_a_message_that_the_broker_refuses_spoils_no_batch(
    memory_world: World, caplog: pytest.LogCaptureFixture
) -> None:
    beat = memory_world.beat({name: every(10) for name in "abc"})
    memory_world.run(5)
    store: Any = beat.scheduler.store
    work = store.claim

    def refuse(claims: Any) -> Any:
        if any(claim.before.name == "b" and claim.messages for claim in claims):
            raise ValueError("this cannot be stored")
        return work(claims)

    store.claim = refuse
    memory_world.run(20)
    assert memory_world.slots("a") == memory_world.slots("c") == [10, 20]
    assert memory_world.sent("b") == []
    said = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert [each.getMessage().partition(",")[0] for each in said] == ["Entry 'b' cannot be sent"] * 2
    assert beat.state("b").runs == 0


def test_one_tick_does_not_take_all(memory_world: World) -> None:
    beat = memory_world.beat({f"entry {number}": every(10) for number in range(BATCH + 50)})
    memory_world.run(5)
    beat.next_at = None
    memory_world.run(5)
    assert beat.scheduler.tick(memory_world.now) == 0.0
    assert len(memory_world.sent()) == BATCH
    beat.scheduler.tick(memory_world.now)
    assert len(memory_world.sent()) == BATCH + 50


def test_one_tick_does_not_send_all(memory_world: World) -> None:
    beat = memory_world.beat({f"entry {number}": every(1, catch_up="all") for number in range(30)})
    memory_world.run(0)
    beat.next_at = None
    memory_world.run(500)
    assert beat.scheduler.tick(memory_world.now) == 0.0
    assert len(memory_world.sent()) == MESSAGES
    for _ in range(2):
        beat.scheduler.tick(memory_world.now)
    assert len(memory_world.sent()) == 3000


def test_what_somebody_holds_is_tried_again_soon(memory_world: World) -> None:
    """Not at once, again and again."""
    beat = memory_world.beat({"a": every(10), "b": every(10)})
    memory_world.run(5)
    beat.next_at = None
    memory_world.run(5)
    store: Any = beat.scheduler.store
    work = store.claim
    store.claim = lambda claims: work([claim for claim in claims if claim.before.name != "a"])
    assert beat.scheduler.tick(memory_world.now) == LOCKED
    assert memory_world.slots("b") == [10]
    store.claim = work
    beat.scheduler.tick(memory_world.now + LOCKED)
    assert memory_world.slots("a") == [10]


def test_places_of_the_agenda_that_nobody_comes_back_to(memory_world: World, source: ListSource) -> None:
    source.put("a", every(1000))
    beat = memory_world.beat(sources=[source])
    for number in range(500):
        source.put("a", every(1000 + number))
        memory_world.run(1)
    assert len(beat.scheduler.agenda._heap) <= SPARE + 2


def test_ticks_tell_when_to_come_back(memory_world: World) -> None:
    beat = memory_world.beat({"a": every(10), "b": every(0.25)})
    beat.scheduler.max_interval = 0.5
    now = memory_world.now
    assert beat.scheduler.tick(now) == 0.25
    assert beat.scheduler.tick(now + 0.1) == pytest.approx(0.15)


def test_a_state_that_somebody_deleted(memory_world: World) -> None:
    beat = memory_world.beat({"a": every(10)})
    memory_world.run(15)
    beat.scheduler.store.forget(["a"])
    memory_world.run(30)
    slots = memory_world.slots("a", *(each / 1000 for each in range(0, 60_000)))
    assert slots[0] == 10
    assert len(slots) == 3


def test_many_entries_are_not_searched_for_garbage_again_and_again(memory_world: World) -> None:
    few = memory_world.beat({"a": every(3600)})
    many = memory_world.beat({str(number): every(3600) for number in range(MANY + 1)})
    frozen = gc.get_freeze_count()
    try:
        few.turn()
        assert gc.get_freeze_count() == frozen
        many.turn()
        assert gc.get_freeze_count() > frozen + MANY
        assert gc.isenabled()
    finally:
        gc.unfreeze()


def test_entries_are_equal_to_what_they_are(memory_world: World) -> None:
    """Else one would be taken for changed each time that it is looked at."""
    app = memory_world.app()
    made = [entry(app, every("*/5 * * * *", timezone="Europe/Berlin", kwargs={"a": [1]})) for _ in range(2)]
    assert made[0] == made[1]
    assert replace(made[0], enabled=False) != made[1]
