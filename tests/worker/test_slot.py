"""A slot, stepped: what it reserves, when it finishes, and what becomes of it all when something goes wrong."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone, translation

from django_tasks import App, shared_task, signals, states
from django_tasks.brokers.memory import MemoryBroker
from django_tasks.exceptions import OperationalError
from django_tasks.message import Message
from django_tasks.worker.batch import FLUSH_AFTER, GIVE_BACK_AFTER, LARGEST, LONG, SHARE_AFTER
from django_tasks.worker.limits import RateLimiter
from django_tasks.worker.minder import Minder
from django_tasks.worker.options import WorkerOptions
from django_tasks.worker.process import WorkerProcess
from django_tasks.worker.shared import BUSY, FREE, IDLE, STARTING, Page
from django_tasks.worker.slot import IDLE_WAIT, PAUSE_WAIT, Slot
from tests.waiting import wait_for
from tests.worker.parts import NODE, Away, Clock, make_slot


@pytest.fixture
def app(memory_app: App) -> App:
    return memory_app


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def slot(app: App, clock: Clock) -> Slot:
    return make_slot(app, clock)


def sizes(app: App) -> tuple[int, int]:
    """Return how many messages wait, and how many are reserved."""
    size = app.broker.sizes(["celery"])["celery"]
    return size.waiting, size.reserved


def make_taking(clock: Clock) -> Any:
    """Return a task that takes some seconds of the invented clock."""

    @shared_task
    def taking(seconds: float) -> float:
        clock.advance(seconds)
        return seconds

    return taking


def poll(slot: Slot) -> float:
    return slot.poll(slot.clock())


# -- one step


def test_nothing_to_do(app: App, slot: Slot, clock: Clock) -> None:
    assert poll(slot) == IDLE_WAIT
    assert (slot.seat.state, slot.seat.tick, slot.idle_polls) == (IDLE, clock.now, 1)
    assert slot.seat.leases == frozenset()


def test_one_task(app: App, slot: Slot, clock: Clock) -> None:
    seen: list[Any] = []

    @shared_task(bind=True)
    def look(self: Any) -> int:
        seen.append((slot.seat.state, slot.seat.running == self.request.id, len(slot.seat.leases)))
        return 1

    result = look.delay()
    assert poll(slot) == 0.0  # there may be more: look again at once
    assert seen == [(BUSY, True, 1)]
    assert result.get() == 1
    assert (slot.seat.state, slot.seat.processed, slot.seat.leases) == (IDLE, 1, frozenset())
    assert app.broker.sizes() == {}


def test_language_time_zone_and_context_variables_end_with_their_task(app: App, slot: Slot) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="unset")

    @shared_task
    def exchange(language: str, zone: str) -> list[str]:
        before = [str(translation.get_language()), timezone.get_current_timezone_name(), variable.get()]
        translation.activate(language)
        timezone.activate(zone)
        variable.set("set")
        return before

    results = [exchange.delay("de", "Asia/Tokyo") for _ in range(2)]
    for _ in results:
        poll(slot)
    assert [result.get() for result in results] == [["en-us", "UTC", "unset"]] * 2


def test_a_lease_is_listed_before_the_reserve_and_until_all_is_settled(app: App, slot: Slot) -> None:
    @shared_task
    def add() -> None: ...

    listed: dict[str, bool] = {}

    def watch(name: str) -> None:
        real = getattr(app.broker, name)

        def call(*args: Any) -> Any:
            listed[name] = bool(slot.seat.leases)
            if name == "reserve":
                assert args[-1] in slot.seat.leases
            return real(*args)

        setattr(app.broker, name, call)

    watch("reserve")
    watch("settle")
    add.delay()
    poll(slot)
    assert listed == {"reserve": True, "settle": True}


def test_a_reserve_that_fails_is_not_listed_any_more(app: App, slot: Slot) -> None:
    Away(app.broker, "reserve")
    with pytest.raises(OperationalError):
        poll(slot)
    assert slot.seat.leases == frozenset()


def test_paused(app: App, clock: Clock) -> None:
    @shared_task
    def add() -> None: ...

    paused = [True]
    slot = make_slot(app, clock, paused=lambda: paused[0])
    add.delay()
    assert poll(slot) == PAUSE_WAIT
    assert sizes(app) == (1, 0)
    paused.clear()
    paused.append(False)
    poll(slot)
    assert sizes(app) == (0, 0)


def test_task_received(app: App, slot: Slot) -> None:
    @shared_task
    def add() -> None: ...

    received: list[Any] = []

    def receiver(sender: Any, request: Any, **_: Any) -> None:
        assert request.id == request.task_id
        assert request.hostname == slot.executor.hostname
        received.append((sender, request.id, request.name, request.args, request.delivery_info["routing_key"]))

    result = add.delay()
    signals.task_received.connect(receiver)
    try:
        poll(slot)
    finally:
        signals.task_received.disconnect(receiver)
    assert received == [(app, result.id, add.name, [], "celery")]


def test_what_cannot_be_logged_is_finished_all_the_same(app: App, slot: Slot, caplog: pytest.LogCaptureFixture) -> None:
    @shared_task(throws=KeyError)
    def broken() -> None:
        raise ValueError("no")

    broken.throws = 5
    result = broken.delay()
    poll(slot)
    assert result.state == states.FAILURE
    assert "could not be logged" in caplog.text


# -- batches


def test_batches_grow_with_short_tasks_and_shrink_with_long_ones(app: App, slot: Slot, clock: Clock) -> None:
    taking = make_taking(clock)
    taking.delay_many([(0.0001,)] * 500)
    grown = []
    while app.broker.sizes():
        poll(slot)
        grown.append(slot.batch.size)
    assert sorted(grown) == grown
    assert 16 < grown[-1] <= LARGEST
    app.broker.entries.clear()
    taking.delay_many([(0.2,)] * 2)
    poll(slot)
    assert slot.batch.size == 1


def test_batches_grow_though_the_servers_are_slow(app: App, slot: Slot, clock: Clock) -> None:
    """All the more: each task costs less of a round trip then."""
    for name in ("reserve", "finish"):
        slow_down(app.broker, name, clock)
    taking = make_taking(clock)
    taking.delay_many([(0.0001,)] * 100)
    while app.broker.sizes():
        poll(slot)
    assert slot.batch.size > 10


def slow_down(broker: Any, name: str, clock: Clock) -> None:
    real = getattr(broker, name)

    def call(*args: Any) -> Any:
        clock.advance(0.05)
        return real(*args)

    setattr(broker, name, call)


def test_batches_do_not_grow_while_there_is_little_to_do(app: App, slot: Slot, clock: Clock) -> None:
    taking = make_taking(clock)
    taking.delay_many([(0.0001,)] * 50)
    while app.broker.sizes():
        poll(slot)
    size = slot.batch.size
    assert 1 < size < LARGEST
    for _ in range(3):
        taking.delay(0.0001)
        poll(slot)
    assert slot.batch.size == size


def test_what_has_ended_is_finished_before_the_rest_of_the_batch_if_it_has_waited(
    app: App, slot: Slot, clock: Clock
) -> None:
    taking = make_taking(clock)
    seen = []

    @shared_task
    def look() -> None:
        seen.append([result.state for result in results])

    slot.batch.size = 4
    results = [taking.delay(FLUSH_AFTER / 2), taking.delay(FLUSH_AFTER / 2), taking.delay(FLUSH_AFTER)]
    look.delay()
    poll(slot)
    assert seen == [[states.SUCCESS] * 3]


def test_short_tasks_are_finished_together(app: App, slot: Slot, clock: Clock) -> None:
    taking = make_taking(clock)
    stores = []
    real = app.backend.store
    app.backend.store = lambda metas: stores.append(len(metas)) or real(metas)  # type: ignore[method-assign, func-returns-value]
    slot.batch.size = 10
    taking.delay_many([(0.0,)] * 10)
    poll(slot)
    assert stores == [10]


def test_what_has_no_message_any_more_is_stored_before_the_next_begins(app: App, slot: Slot, clock: Clock) -> None:
    """The next may kill the process, and nobody else knows the outcome."""
    seen: list[Any] = []

    @shared_task(acks_late=False)
    def once() -> int:
        return 1

    @shared_task
    def look() -> None:
        seen.append((result.state, slot.seat.acknowledged))

    real = app.backend.store
    stored: list[int] = []

    def store(metas: Any) -> Any:
        stored.append(slot.seat.acknowledged)
        return real(metas)

    app.backend.store = store  # type: ignore[method-assign]
    slot.executor.on_acknowledged = slot.seat.note_acknowledged
    slot.batch.size = 3
    look.delay()
    result = once.apply_async(link=look.si())
    look.delay()
    poll(slot)
    assert seen == [(states.PENDING, 0), (states.SUCCESS, 0)]
    assert stored == [2, 0]  # until it is stored, the seat says that the janitor would have to tell of its death
    assert sizes(app) == (1, 0)  # the callback


@pytest.mark.django_db(transaction=True)
def test_what_somebody_is_told_of_is_stored_and_nothing_else_of_the_run_is_left(app: App, slot: Slot) -> None:
    seen: list[Any] = []

    def after_return(*_: Any) -> None:
        seen.append((result.state, connection.in_atomic_block, slot.seat.state, slot.seat.runs(result.id)))

    @shared_task(after_return=after_return)
    def leaves_a_transaction() -> None:
        transaction.atomic().__enter__()

    slot.batch.size = 2
    result = leaves_a_transaction.delay()
    leaves_a_transaction.delay()
    poll(slot)
    assert seen[0] == (states.SUCCESS, False, BUSY, True)


def test_stopping_in_the_middle_of_a_batch_gives_back_the_rest(app: App, slot: Slot, clock: Clock) -> None:
    @shared_task
    def stop() -> None:
        slot.stop.asked = True  # type: ignore[attr-defined]

    slot.batch.size = 5
    results = [stop.delay() for _ in range(5)]
    poll(slot)
    assert [result.state for result in results] == [states.SUCCESS] + [states.PENDING] * 4
    assert sizes(app) == (4, 0)
    assert all(entry.deaths == entry.refusals == 0 and not entry.redelivered for entry in app.broker.entries.values())


def test_after_more_than_a_lease_the_rest_of_the_batch_goes_back(app: App, slot: Slot, clock: Clock) -> None:
    """The process was stopped meanwhile, and others may have begun what it held."""
    taking = make_taking(clock)
    slot.batch.size = 3
    results = taking.delay_many([(app.broker.lease + 1,), (0,), (0,)])
    poll(slot)
    assert [result.state for result in results] == [states.SUCCESS] + [states.PENDING] * 2
    assert sizes(app) == (2, 0)


# -- the minder


@pytest.fixture
def minder(app: App, slot: Slot) -> Minder:
    minder = Minder(app, on_overrun=lambda: None)
    minder.slots = [slot]
    return minder


def test_behind_a_long_task(app: App, slot: Slot, clock: Clock, minder: Minder) -> None:
    seen = []

    @shared_task
    def short() -> None: ...

    @shared_task
    def long() -> None:
        minder.mind(clock.advance(FLUSH_AFTER / 2))
        seen.append((first.state, sizes(app)))
        minder.mind(clock.advance(FLUSH_AFTER))
        seen.append((first.state, sizes(app)))
        minder.mind(clock.advance(GIVE_BACK_AFTER))
        seen.append((first.state, sizes(app)))

    slot.batch.size = 4
    first = short.delay()
    last = [long.delay(), short.delay(), short.delay()]
    poll(slot)
    assert seen == [
        (states.PENDING, (0, 4)),  # nothing has waited for long
        (states.SUCCESS, (0, 3)),  # what has ended is finished
        (states.SUCCESS, (2, 1)),  # what has not begun goes back
    ]
    assert [result.state for result in last] == [states.SUCCESS, states.PENDING, states.PENDING]
    assert sizes(app) == (2, 0)


@pytest.mark.parametrize(
    ("state", "lease", "waiting"),
    [
        pytest.param(IDLE, 0, (2, 1), id="another slot waits"),
        pytest.param(IDLE, 1, (0, 3), id="another slot reserves"),
        pytest.param(BUSY, 1, (0, 3), id="another slot runs a task"),
        pytest.param(STARTING, 0, (0, 3), id="another slot starts"),
        pytest.param(FREE, 0, (0, 3), id="there is no other slot"),
    ],
)
def test_what_waits_behind_a_task_goes_back_soon_where_a_slot_is_idle(
    app: App, clock: Clock, state: int, lease: int, waiting: tuple[int, int]
) -> None:
    page = Page(2)
    slot = make_slot(app, clock, page=page)
    other = page.seats[1]
    other.state = state
    if lease:
        other.add_lease(lease)
    limiter = RateLimiter([])
    minder = WorkerProcess(app, WorkerOptions(NODE, ("celery",)), page, page.seats[:1], limiter, None).minder
    minder.slots = [slot]
    seen = []

    @shared_task
    def look() -> None:
        minder.mind(clock.advance(SHARE_AFTER / 2))
        seen.append(sizes(app))
        minder.mind(clock.advance(SHARE_AFTER))
        seen.append(sizes(app))

    slot.batch.size = 3
    for _ in range(3):
        look.delay()
    poll(slot)
    assert seen[:2] == [(0, 3), waiting]
    if limiter._file is not None:
        limiter._file.close()


def test_behind_a_short_task_the_slot_finishes_itself(app: App, slot: Slot, clock: Clock, minder: Minder) -> None:
    seen = []

    @shared_task
    def look() -> None:
        if slot.batch.ended:
            slot.batch.running_since = clock.advance(FLUSH_AFTER)  # the first has waited long, this one runs since now
            minder.mind(clock.advance(LONG / 2))
            seen.append(first.state)
            minder.mind(clock.advance(LONG))
            seen.append(first.state)

    slot.batch.size = 2
    first, _ = look.delay(), look.delay()
    poll(slot)
    assert seen == [states.PENDING, states.SUCCESS]


def test_behind_a_long_hook(app: App, slot: Slot, clock: Clock, minder: Minder) -> None:
    seen = []

    def on_success(*_: Any) -> None:
        minder.mind(clock.advance(GIVE_BACK_AFTER * 2))
        seen.append(sizes(app))

    @shared_task(on_success=on_success)
    def told() -> None: ...

    slot.batch.size = 2
    told.delay()
    told.delay()
    poll(slot)
    assert seen == [(1, 0)]


def test_a_minder_that_fails_puts_back_what_it_took(app: App, slot: Slot, clock: Clock, minder: Minder) -> None:
    """Nothing is left in the batch after the poll, nor does anything run twice."""
    runs = []

    @shared_task
    def short(number: int) -> None:
        runs.append(number)

    @shared_task
    def long() -> None:
        away = Away(app.broker, "settle")
        minder.mind(clock.advance(GIVE_BACK_AFTER))
        assert away.failures
        away.on = False

    slot.batch.size = 4
    first = short.delay(1)
    long.delay()
    short.delay(3)
    poll(slot)
    while sum(sizes(app)):
        poll(slot)
    assert runs == [1, 3]
    assert first.state == states.SUCCESS
    assert not slot.batch.waiting
    assert not slot.batch.ended


def test_a_slot_waits_for_what_the_minder_has_in_its_hands(app: App, clock: Clock) -> None:
    slot = make_slot(app)
    minder = Minder(app, on_overrun=lambda: None)
    minder.slots = [slot]
    taken, go_on = threading.Event(), threading.Event()

    @shared_task
    def short() -> None: ...

    @shared_task
    def long() -> None:
        thread.start()
        assert taken.wait(10)

    slot.batch.size = 3
    for task in (long, short, short):
        task.delay()
    real = app.broker.settle

    def settle(settlements: Any) -> Any:
        if threading.current_thread() is thread:
            taken.set()
            assert go_on.wait(10)
        return real(settlements)

    app.broker.settle = settle  # type: ignore[method-assign]
    thread = threading.Thread(target=lambda: minder.mind(slot.batch.running_since + 1))
    polling = threading.Thread(target=lambda: poll(slot))
    polling.start()
    assert taken.wait(10)
    polling.join(0.2)
    assert polling.is_alive()
    assert len(slot.seat.leases) == 1
    go_on.set()
    polling.join(10)
    thread.join(10)
    assert slot.seat.leases == frozenset()
    assert sizes(app) == (2, 0)


def test_the_minder_is_told_of_batches_only(app: App, clock: Clock) -> None:
    @shared_task
    def add() -> None: ...

    told = []
    slot = make_slot(app, clock, on_batch=lambda: told.append(slot.batch.size))
    add.delay()
    poll(slot)
    assert told == []
    slot.batch.size = 2
    add.delay()
    add.delay()
    poll(slot)
    assert told == [2]


def test_the_minders_thread(app: App) -> None:
    """As in a worker process: real threads, real time."""
    slot = make_slot(app)
    minder = Minder(app, on_overrun=lambda: None)
    minder.slots = [slot]
    slot.on_batch = minder.wake
    minder.start()
    done = threading.Event()

    @shared_task
    def short() -> None: ...

    @shared_task
    def long() -> None:
        wait_for(lambda: sizes(app) == (1, 1) and first.state == states.SUCCESS, message="the minder")
        done.set()

    slot.batch.size = 3
    first = short.delay()
    long.delay()
    short.delay()
    poll(slot)
    assert done.is_set()


# -- a broker, or a backend, that is away


def test_results_that_cannot_be_stored_are_kept_until_they_can(app: App, slot: Slot) -> None:
    runs = []

    @shared_task
    def add(number: int) -> int:
        runs.append(number)
        return number

    slot.batch.size = 3
    results = [add.delay(n) for n in range(3)]
    away = Away(app.backend, "store")
    tick = slot.seat.tick
    slot.giving_up = lambda: setattr(away, "on", away.failures < 3) or False  # type: ignore[func-returns-value]
    slot.clock = slot.batch.clock = lambda: 2_000_000.0
    slot.poll(slot.clock())
    assert [result.get() for result in results] == runs == [0, 1, 2]
    assert away.failures == 3
    assert slot.seat.tick > tick  # a worker that waits for a server is alive


def test_stopping_does_not_wait_for_a_server_that_is_away(app: App, slot: Slot, caplog: Any) -> None:
    @shared_task
    def stop() -> None:
        slot.stop.asked = True  # type: ignore[attr-defined]

    result = stop.delay()
    Away(app.backend, "store")
    poll(slot)
    assert "1 finished tasks could not be stored and will run again" in caplog.text
    assert result.state == states.PENDING
    assert sizes(app) == (0, 1)  # it comes back when the lease has run out
    assert slot.seat.leases == frozenset()


def test_a_stop_is_heard_while_a_server_is_away(app: App, slot: Slot, monkeypatch: pytest.MonkeyPatch) -> None:
    @shared_task
    def add() -> None: ...

    asked = []

    def giving_up() -> bool:
        asked.append(1)
        return len(asked) > 3

    monkeypatch.setattr("django_tasks.worker.batch.FIRST_PAUSE", 3600.0)
    slot.giving_up = giving_up
    add.delay()
    away = Away(app.backend, "store")
    poll(slot)
    assert away.failures == 2
    assert sizes(app) == (0, 1)


def test_a_server_that_goes_away_in_the_middle_of_a_batch(app: App, slot: Slot) -> None:
    """What has ended is finished, what has not begun goes back: also when the executor could not even begin."""
    runs = []

    @shared_task
    def add(number: int) -> None:
        runs.append(number)

    @shared_task(acks_late=False)
    def once() -> None:
        runs.append("once")

    slot.batch.size = 4
    first = add.delay(1)
    once.delay()
    add.delay(3)
    real, failures = app.broker.settle, [1]

    def settle(settlements: Any) -> Any:
        if failures:
            failures.pop()
            raise OperationalError("away")
        return real(settlements)

    app.broker.settle = settle  # type: ignore[method-assign]
    with pytest.raises(OperationalError):
        poll(slot)
    assert runs == [1]
    assert first.state == states.SUCCESS
    assert sizes(app) == (2, 0)
    assert not slot.batch.waiting
    assert slot.seat.state == IDLE
    poll(slot)
    assert runs == [1, "once", 3]
    assert sizes(app) == (0, 0)


def test_messages_that_cannot_be_given_back_do_not_cost_the_results(app: App, slot: Slot) -> None:
    @shared_task
    def stop() -> None:
        slot.stop.asked = True  # type: ignore[attr-defined]

    slot.batch.size = 2
    first, second = stop.delay(), stop.delay()
    real = app.broker.settle

    def settle(settlements: Any) -> Any:
        if any(each.verb.value == "return" for each in settlements):
            raise OperationalError("away")
        return real(settlements)

    app.broker.settle = settle  # type: ignore[method-assign]
    poll(slot)
    assert (first.state, second.state) == (states.SUCCESS, states.PENDING)
    assert sizes(app) == (0, 1)
    assert slot.seat.leases == frozenset()  # so that the heartbeat gives it back


def test_an_exception_of_the_executor_loses_nothing(app: App, slot: Slot) -> None:
    @shared_task
    def add() -> None: ...

    class Odd(BaseException):
        pass

    def run(delivery: Any) -> Any:
        raise Odd

    slot.batch.size = 3
    results = [add.delay() for _ in range(3)]
    real = slot.executor.run
    outcomes = iter([real, run])
    slot.executor.run = lambda delivery: next(outcomes)(delivery)  # type: ignore[method-assign]
    with pytest.raises(Odd):
        poll(slot)
    assert [result.state for result in results] == [states.SUCCESS, states.PENDING, states.PENDING]
    assert sizes(app) == (1, 1)


# -- the loop


@pytest.fixture
def wakeup() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    yield reading, writing
    os.close(reading)
    os.close(writing)


def test_the_loop_runs_until_stopping(app: App, wakeup: tuple[int, int]) -> None:
    slot = make_slot(app)

    @shared_task
    def stop() -> None:
        slot.stop.asked = True  # type: ignore[attr-defined]

    results = [stop.delay(), stop.delay()]
    slot.loop(wakeup[0])
    assert [result.state for result in results] == [states.SUCCESS, states.PENDING]


def test_the_loop_ends_from_a_wait(app: App, wakeup: tuple[int, int]) -> None:
    slot = make_slot(app)
    slot.idle_wait = 60.0
    thread = threading.Thread(target=slot.loop, args=(wakeup[0],))
    thread.start()
    wait_for(lambda: slot.idle_polls, message="the first poll")
    slot.stop.asked = True  # type: ignore[attr-defined]
    os.write(wakeup[1], b"!")
    thread.join(10)
    assert not thread.is_alive()


def test_one_line_says_all_of_a_message_that_cannot_be_read(app: App, caplog: pytest.LogCaptureFixture) -> None:
    assert isinstance(app.broker, MemoryBroker)
    slot = make_slot(app)
    app.broker.send([Message("x", "1")])
    next(iter(app.broker.entries.values())).payload = "no JSON"
    slot.poll(time.monotonic())
    assert app.broker.sizes()["celery"].dead == 1
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "cannot be read and goes to the dead letters" in record.getMessage()


def test_the_loop_waits_with_growing_pauses_for_a_broker_that_is_away(
    app: App, wakeup: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    slot = make_slot(app)

    @shared_task
    def stop() -> None:
        slot.stop.asked = True  # type: ignore[attr-defined]

    result = stop.delay()
    away = Away(app.broker, "reserve")
    thread = threading.Thread(target=slot.loop, args=(wakeup[0],))
    thread.start()
    for number in (1, 2, 3):
        wait_for(lambda number=number: away.failures >= number)  # type: ignore[misc]
        if number == 3:
            away.on = False
        os.write(wakeup[1], b"!")  # ends the pause
    thread.join(10)
    assert result.state == states.SUCCESS
    said = [record for record in caplog.records if "Messages cannot be reached" in record.msg]
    assert [record.args[0] for record in said][:3] == [0.1, 0.2, 0.4]  # type: ignore[index]
    assert all(record.levelno == logging.DEBUG for record in said)  # the janitor tells people


def test_the_loop_ends_though_the_broker_is_away(app: App, wakeup: tuple[int, int]) -> None:
    slot = make_slot(app)
    away = Away(app.broker, "wait")
    thread = threading.Thread(target=slot.loop, args=(wakeup[0],), daemon=True)
    thread.start()
    wait_for(lambda: away.failures >= 1)
    slot.stop.asked = True  # type: ignore[attr-defined]
    os.write(wakeup[1], b"!")
    thread.join(10)
    assert not thread.is_alive()


def test_a_question_about_stopping_that_fails_is_no_end(app: App, wakeup: tuple[int, int]) -> None:
    """In a burst it asks the broker whether the queues are empty."""
    slot = make_slot(app)
    answers = iter([OperationalError("away"), False, True])

    def stopping() -> bool:
        answer = next(answers)
        if isinstance(answer, OperationalError):
            raise answer
        return bool(answer)

    slot.stopping = stopping
    slot.idle_wait = 0.01
    slot.loop(wakeup[0])
    assert slot.idle_polls == 1


def test_abandon_gives_back_what_runs(app: App, slot: Slot) -> None:
    """At the end of a worker in one process, whose task cannot be stopped."""

    @shared_task
    def long() -> None:
        slot.batch.abandon()

    @shared_task
    def short() -> None: ...

    slot.batch.size = 3
    results = [short.delay(), long.delay(), short.delay()]
    poll(slot)
    assert isinstance(app.broker, MemoryBroker)
    assert [result.state for result in results] == [states.SUCCESS, states.PENDING, states.PENDING]
    assert sizes(app) == (2, 0)


# -- the log


def test_what_a_revoked_run_came_to_is_not_said_to_have_succeeded(
    app: App, slot: Slot, caplog: pytest.LogCaptureFixture
) -> None:
    @shared_task(bind=True)
    def revoked(self: Any) -> int:
        app.control.revoke(self.request.id)
        return 1

    result = revoked.delay()
    with caplog.at_level(logging.INFO, "django_tasks.worker"):
        slot.poll(slot.clock())
    assert f"[{result.id}] ran in " in caplog.text
    assert "what it came to is discarded: it had ended as REVOKED" in caplog.text
    assert "succeeded" not in caplog.text


def test_what_a_run_without_its_lease_came_to_is_not_said_to_have_succeeded(
    app: App, slot: Slot, caplog: pytest.LogCaptureFixture
) -> None:
    @shared_task
    def taken_over() -> None:
        assert isinstance(app.broker, MemoryBroker)
        for entry in app.broker.entries.values():
            entry.lease = 1

    taken_over.delay()
    with caplog.at_level(logging.INFO, "django_tasks.worker"):
        slot.poll(slot.clock())
    assert "what it came to is discarded: its lease was lost while it ran" in caplog.text
    assert "succeeded" not in caplog.text
