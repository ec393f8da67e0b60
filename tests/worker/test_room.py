"""Slots of one process, stepped: a message that workers have died with runs with nothing beside it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from django_tasks import App, shared_task
from django_tasks.brokers.memory import MemoryBroker
from django_tasks.worker.room import Room
from django_tasks.worker.shared import BUSY, IDLE
from django_tasks.worker.slot import PAUSE_WAIT, Slot
from tests.waiting import wait_for
from tests.worker.parts import make_slot


class Process:
    """Three slots, and a task that runs in the first of them until ``go``."""

    def __init__(self, app: App) -> None:
        self.app = app
        room = Room(3)
        self.slots = [make_slot(app, room=room) for _ in range(3)]
        self.go = threading.Event()
        self.threads: list[threading.Thread] = []
        go = self.go

        @shared_task
        def hold() -> None:
            assert go.wait(10)

        hold.delay()
        self.poll_in_thread(self.slots[0])
        wait_for(lambda: self.slots[0].seat.state == BUSY, message="the first slot to run its task")

    def poll_in_thread(self, slot: Slot) -> threading.Thread:
        thread = threading.Thread(target=lambda: slot.poll(slot.clock()))
        thread.start()
        self.threads.append(thread)
        return thread

    def end(self) -> None:
        self.go.set()
        for thread in self.threads:
            thread.join(10)


@pytest.fixture
def process(memory_app: App) -> Iterator[Process]:
    process = Process(memory_app)
    yield process
    process.end()


def send(app: App, deaths: int) -> Any:
    """Send a message that some workers have died with, and return its result."""

    @shared_task
    def add() -> int:
        return 1

    result = add.delay()
    assert isinstance(app.broker, MemoryBroker)
    (entry,) = app.broker.free()
    entry.alone, entry.deaths = True, deaths
    return result


def test_after_a_death_that_counts_a_message_runs_with_nothing_beside_it(process: Process) -> None:
    app, (_, second, third) = process.app, process.slots
    result = send(app, deaths=1)
    waiting = process.poll_in_thread(second)
    wait_for(lambda: second.seat.spared, message="the second slot to wait")
    assert third.poll(third.clock()) == PAUSE_WAIT
    assert waiting.is_alive()
    assert not result.ready()
    process.go.set()
    assert result.get(timeout=10) == 1
    waiting.join(10)
    assert not second.seat.spared
    send(app, deaths=0)
    assert third.poll(third.clock()) == 0.0


def test_before_that_neighbours_do_not_matter(process: Process) -> None:
    result = send(process.app, deaths=0)
    second = process.slots[1]
    second.poll(second.clock())
    assert result.get(timeout=1) == 1


def test_a_slot_that_waits_for_its_neighbours_gives_signs_of_life(process: Process) -> None:
    second = process.slots[1]
    send(process.app, deaths=1)
    process.poll_in_thread(second)
    wait_for(lambda: second.seat.spared, message="the second slot to wait")
    seen = second.seat.tick
    wait_for(lambda: second.seat.tick > seen, message="a sign of life")
    assert second.seat.state == IDLE


def test_a_slot_that_waits_for_its_neighbours_can_be_stopped(process: Process) -> None:
    app, (_, second, third) = process.app, process.slots
    send(app, deaths=app.conf.task_max_deliveries)
    waiting = process.poll_in_thread(second)
    wait_for(lambda: second.seat.spared, message="the second slot to wait")
    stop: Any = second.stop  # type: ignore[attr-defined]
    stop.asked = True
    waiting.join(10)
    assert app.broker.sizes()["celery"].waiting == 1
    assert not third.room.is_closed_to(third)


def test_what_was_reserved_before_the_room_was_closed_goes_back(process: Process) -> None:
    """Another slot may close it between the look and the first task."""
    app, (_, second, third) = process.app, process.slots
    send(app, deaths=app.conf.task_max_deliveries)
    reserve = app.broker.reserve

    def close_the_room_meanwhile(*arguments: Any) -> Any:
        deliveries = reserve(*arguments)
        app.broker.reserve = reserve  # type: ignore[method-assign]
        send(app, deaths=app.conf.task_max_deliveries)
        process.poll_in_thread(second)
        wait_for(lambda: third.room.is_closed_to(third), message="the second slot to close the room")
        return deliveries

    app.broker.reserve = close_the_room_meanwhile  # type: ignore[method-assign]
    assert third.poll(third.clock()) == 0.0
    size = app.broker.sizes()["celery"]
    assert (size.waiting, size.reserved) == (1, 2)
