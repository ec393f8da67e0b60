"""The janitor, stepped: signs of life, what the dead left behind, orders, old results."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from django_tasks import App, shared_task, signals, states
from django_tasks.brokers.base import Beat, new_lease
from django_tasks.brokers.memory import Entry, MemoryBroker
from django_tasks.exceptions import OperationalError, TaskRevokedError, TimeLimitExceeded, WorkerLostError
from django_tasks.outcome import TaskMeta
from django_tasks.worker import shared
from django_tasks.worker.janitor import BEATS_PER_LEASE, PRUNE, PRUNE_BATCH, ROUND, Janitor
from django_tasks.worker.options import WorkerOptions
from django_tasks.worker.process import take_seat
from django_tasks.worker.shared import Page, Seat
from tests.waiting import wait_for
from tests.worker.parts import NODE, Away, Clock

LEASE = 30.0


@pytest.fixture
def app(memory_app: App) -> App:
    return memory_app


@pytest.fixture
def clock(app: App) -> Clock:
    """The time of the broker, the backend and the janitor."""
    clock = Clock(time.time())
    app.broker.clock = app.backend.clock = clock
    return clock


@pytest.fixture
def page() -> Page:
    return Page(4)


@pytest.fixture
def janitor(app: App, page: Page, clock: Clock) -> Janitor:
    return Janitor(app, WorkerOptions(NODE, ("celery",), concurrency=2), page, "janitor")


def entries(app: App) -> list[Entry]:
    assert isinstance(app.broker, MemoryBroker)
    return list(app.broker.entries.values())


def sit(page: Page, number: int = 0, pid: int | None = None) -> Seat:
    """Give a seat to this process, which is alive."""
    seat = page.seats[number]
    take_seat(seat, NODE, os.getpid() if pid is None else pid)
    seat.state = shared.IDLE
    return seat


def reserve(app: App, worker: str, limit: int = 1) -> list[Any]:
    deliveries = app.broker.reserve(worker, ("celery",), limit, new_lease())
    assert len(deliveries) == limit
    return deliveries


def die(seat: Seat, running: str = "", verdict: int = shared.NONE) -> None:
    """Note that the process of a seat has died, in the middle of a task or not."""
    if running:
        seat.begin(running)
    if verdict:
        seat.convict(verdict, seat.started)
    seat.state = shared.DEAD


def make_add() -> Any:
    @shared_task
    def add() -> int:
        return 1

    return add


# -- signs of life


def test_it_beats_for_itself_and_all_living_slots(
    app: App, janitor: Janitor, page: Page, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    beats: list[Beat] = []
    monkeypatch.setattr(app.broker, "heartbeat", beats.extend)
    idle, busy = sit(page, 0), sit(page, 1)
    busy.begin("1")
    busy.add_lease(7)
    busy.processed = 3
    page.seats[2].state = shared.DEAD
    assert janitor.poll(clock.now) == ROUND
    assert [beat.identity for beat in beats] == ["janitor", idle.identity, busy.identity]
    assert {beat.node for beat in beats} == {NODE}
    assert (beats[2].leases, beats[2].processed, beats[2].pid) == ({7}, 3, os.getpid())
    assert page.janitor_tick == clock.now
    assert page.broker_tick > 0


def test_it_beats_a_few_times_a_lease(
    app: App, janitor: Janitor, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    beats: list[float] = []
    monkeypatch.setattr(app.broker, "heartbeat", lambda _: beats.append(clock.now))
    end = clock.now + LEASE
    while clock.now < end:
        clock.advance(janitor.poll(clock.now))
    assert len(beats) == BEATS_PER_LEASE


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        yield process
        process.kill()


def test_what_people_should_see_it_tells_at_once(
    app: App, janitor: Janitor, page: Page, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[list[Beat]] = []
    monkeypatch.setattr(app.broker, "heartbeat", told.append)
    janitor.poll(clock.now)
    seat = sit(page)
    janitor.poll(clock.now)
    janitor.poll(clock.now)
    assert [[beat.identity for beat in beats] for beats in told] == [["janitor"], ["janitor", seat.identity]]
    page.paused = 1
    janitor.poll(clock.now)
    assert [beat.paused for beat in told[-1]] == [True, True]


def test_a_frozen_process_is_not_kept_alive(
    app: App, janitor: Janitor, page: Page, clock: Clock, sleeper: subprocess.Popen[bytes]
) -> None:
    make_add().delay()
    seat = sit(page, pid=sleeper.pid)
    janitor.poll(clock.now)
    (delivery,) = reserve(app, seat.identity)
    seat.add_lease(delivery.lease)
    sleeper.send_signal(signal.SIGSTOP)
    wait_for(lambda: shared.condition(sleeper.pid) is shared.Condition.STOPPED)
    for _ in range(4):
        janitor.poll(clock.advance(LEASE / 3))
    assert app.broker.sizes()["celery"].waiting == 1


def test_a_busy_process_is_kept_alive_however_long_its_task_takes(
    app: App, janitor: Janitor, page: Page, clock: Clock
) -> None:
    result = make_add().delay()
    seat = sit(page)
    (delivery,) = reserve(app, seat.identity)
    seat.add_lease(delivery.lease)
    seat.begin(result.id)
    for _ in range(20):
        janitor.poll(clock.advance(LEASE / 3))
    assert app.broker.sizes()["celery"].reserved == 1


def test_what_a_slot_does_not_know_of_goes_back(app: App, janitor: Janitor, page: Page, clock: Clock) -> None:
    """The reply to its reserve was lost."""
    make_add().delay()
    seat = sit(page)
    reserve(app, seat.identity)
    janitor.poll(clock.now)
    assert app.broker.sizes()["celery"].reserved == 1
    for _ in range(3):
        janitor.poll(clock.advance(5))
    (entry,) = entries(app)
    assert (entry.worker, entry.deaths, entry.alone) == (None, 0, False)


def test_without_a_supervisor_it_notices_the_deaths_of_its_siblings(
    app: App, janitor: Janitor, page: Page, clock: Clock, sleeper: subprocess.Popen[bytes]
) -> None:
    make_add().delay()
    seat = sit(page, pid=sleeper.pid)
    reserve(app, seat.identity)
    sleeper.kill()
    wait_for(lambda: shared.condition(sleeper.pid) is shared.Condition.GONE)
    janitor.poll(clock.now)
    assert app.broker.sizes()["celery"].waiting == 1
    assert seat.state == shared.FREE


# -- what the dead left behind


def test_what_a_dead_process_held_goes_back_at_once(app: App, janitor: Janitor, page: Page, clock: Clock) -> None:
    result = make_add().delay()
    seat = sit(page)
    reserve(app, seat.identity)
    die(seat, running=result.id)
    janitor.poll(clock.now)
    (entry,) = entries(app)
    assert (entry.worker, entry.alone, entry.redelivered, entry.deaths) == (None, True, True, 0)
    assert result.state == states.PENDING
    assert seat.state == shared.FREE


def test_what_another_worker_held_goes_back_after_its_lease(
    app: App, janitor: Janitor, page: Page, clock: Clock
) -> None:
    make_add().delay()
    app.broker.heartbeat([Beat("other", "other@host", 1)])
    reserve(app, "other")
    janitor.poll(clock.advance(LEASE - 1))
    assert app.broker.sizes()["celery"].reserved == 1
    janitor.poll(clock.advance(2))
    assert app.broker.sizes()["celery"].waiting == 1


def test_poison(app: App, janitor: Janitor, page: Page, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """The first death makes it run alone; those alone are counted."""
    app.conf.update(task_max_deliveries=2)
    result = make_add().delay()
    deaths = []
    while not result.ready():
        seat = sit(page)
        (delivery,) = reserve(app, seat.identity)
        deaths.append((delivery.alone, delivery.deaths))
        die(seat, running=result.id)
        janitor.poll(clock.advance(1))
    assert deaths == [(False, 0), (True, 0), (True, 1), (True, 2)]
    assert app.broker.sizes()["celery"].dead == 1
    with pytest.raises(WorkerLostError, match="3 workers died while they ran this task and no other"):
        result.get()
    assert "TASK_MAX_DELIVERIES" in caplog.text


def test_a_death_before_the_run_began_is_not_counted(app: App, janitor: Janitor, page: Page, clock: Clock) -> None:
    """The process waited until nothing else ran in it, and a neighbour killed it."""
    app.conf.update(task_max_deliveries=1)
    make_add().delay()
    for _ in range(3):
        seat = sit(page)
        (delivery,) = reserve(app, seat.identity)
        seat.spared = delivery.alone
        die(seat)
        janitor.poll(clock.advance(1))
        (entry,) = entries(app)
        assert (entry.worker, entry.alone, entry.deaths, entry.redelivered) == (None, True, 0, True)


def test_a_hard_time_limit(app: App, janitor: Janitor, page: Page, clock: Clock) -> None:
    """Only the task that ran too long fails; others of its batch go back, and nobody counts a death."""
    told: list[Any] = []

    def receiver(sender: Any, task_id: str, exception: BaseException, **_: Any) -> None:
        told.append((sender, task_id, repr(exception)))

    add = make_add()
    results = [add.apply_async(time_limit=5, link_error=add.si()), add.delay()]
    seat = sit(page)
    reserve(app, seat.identity, 2)
    die(seat, running=results[0].id, verdict=shared.TIME_LIMIT)
    signals.task_failure.connect(receiver)
    try:
        janitor.poll(clock.now)
    finally:
        signals.task_failure.disconnect(receiver)
    assert told == [(add, results[0].id, "TimeLimitExceeded(5)")]
    with pytest.raises(TimeLimitExceeded) as raised:
        results[0].get()
    assert raised.value.args == (5.0,)
    assert results[1].state == states.PENDING
    back, errback = entries(app)
    assert (back.id, back.alone, back.deaths, back.worker) == (results[1].id, False, 0, None)
    assert errback.worker is None


def test_a_verdict_about_a_task_that_ended_is_void(app: App, janitor: Janitor, page: Page, clock: Clock) -> None:
    """The supervisor kills for one task, and in that moment the next one begins."""
    add = make_add()
    results = [add.delay(), add.delay()]
    seat = sit(page)
    reserve(app, seat.identity, 2)
    seat.begin(results[0].id)
    late = seat.started
    seat.end()
    seat.begin(results[1].id)
    seat.convict(shared.TIME_LIMIT, late)
    die(seat)
    janitor.poll(clock.now)
    assert [result.state for result in results] == [states.PENDING] * 2
    assert [(entry.worker, entry.alone) for entry in entries(app)] == [(None, False)] * 2


def test_terminated(app: App, janitor: Janitor, page: Page, clock: Clock) -> None:
    told: list[Any] = []

    def receiver(request: Any, terminated: bool, signum: int, expired: bool, **_: Any) -> None:
        told.append((request.id, terminated, signum, expired))

    result = make_add().delay()
    seat = sit(page)
    reserve(app, seat.identity)
    seat.signum = signal.SIGQUIT
    die(seat, running=result.id, verdict=shared.TERMINATED)
    signals.task_revoked.connect(receiver)
    try:
        janitor.poll(clock.now)
    finally:
        signals.task_revoked.disconnect(receiver)
    assert result.state == states.REVOKED
    with pytest.raises(TaskRevokedError, match="terminated"):
        result.get()
    assert told == [(result.id, True, int(signal.SIGQUIT), False)]
    assert entries(app) == []


@pytest.mark.parametrize(
    ("verdict", "state", "error"),
    [
        (shared.NONE, states.FAILURE, WorkerLostError),
        (shared.SHUTDOWN, states.FAILURE, WorkerLostError),
        (shared.TIME_LIMIT, states.FAILURE, TimeLimitExceeded),
        (shared.TERMINATED, states.REVOKED, TaskRevokedError),
    ],
)
def test_what_was_acknowledged_before_its_run_is_not_run_again_but_ended(
    app: App, janitor: Janitor, page: Page, clock: Clock, verdict: int, state: str, error: type[Exception]
) -> None:
    seat = sit(page)
    seat.begin("1")
    seat.note_acknowledged(True)
    seat.limit = 2.5
    die(seat, verdict=verdict)
    janitor.poll(clock.now)
    result = app.AsyncResult("1")
    assert result.state == state
    assert isinstance(result.result, error)
    if error is TimeLimitExceeded:
        assert result.result.args == (2.5,)
    assert seat.state == shared.FREE


def test_what_was_acknowledged_before_its_run_and_is_not_to_be_stored(
    app: App, janitor: Janitor, page: Page, clock: Clock
) -> None:
    seat = sit(page)
    seat.begin("1")
    seat.note_acknowledged(False)
    die(seat)
    janitor.poll(clock.now)
    assert app.AsyncResult("1").state == states.PENDING
    assert seat.state == shared.FREE


def test_ids_longer_than_their_place_on_the_page(app: App, janitor: Janitor, page: Page, clock: Clock) -> None:
    result = make_add().apply_async(task_id="ü" * 120)
    seat = sit(page)
    reserve(app, seat.identity)
    die(seat, running=result.id, verdict=shared.TERMINATED)
    janitor.poll(clock.now)
    assert result.state == states.REVOKED


def test_killed_at_the_end_of_a_shutdown(app: App, janitor: Janitor, page: Page, clock: Clock) -> None:
    result = make_add().delay()
    seat = sit(page)
    reserve(app, seat.identity)
    die(seat, running=result.id, verdict=shared.SHUTDOWN)
    janitor.poll(clock.now)
    (entry,) = entries(app)
    assert (entry.worker, entry.alone, entry.deaths) == (None, False, 0)


def test_a_frozen_process_that_was_killed_is_a_death(app: App, janitor: Janitor, page: Page, clock: Clock) -> None:
    result = make_add().delay()
    seat = sit(page)
    reserve(app, seat.identity)
    die(seat, running=result.id, verdict=shared.STUCK)
    janitor.poll(clock.now)
    (entry,) = entries(app)
    assert (entry.worker, entry.alone) == (None, True)


def test_a_seat_is_freed_when_all_is_decided(app: App, janitor: Janitor, page: Page, clock: Clock) -> None:
    """A server that goes away in the middle costs no verdict: the decision is made when it is back."""
    result = make_add().apply_async(time_limit=5)
    seat = sit(page)
    reserve(app, seat.identity)
    die(seat, running=result.id, verdict=shared.TIME_LIMIT)
    away = Away(app.backend, "store")
    for _ in range(30):  # longer than what is not known of would stay reserved
        janitor.safe_poll(clock.advance(ROUND))
    assert seat.state == shared.DEAD
    assert app.broker.sizes()["celery"].reserved == 1
    away.on = False
    janitor.safe_poll(clock.advance(ROUND))
    assert result.state == states.FAILURE
    assert seat.state == shared.FREE


def test_after_an_outage_a_sign_of_life_is_given_at_once(app: App, janitor: Janitor, clock: Clock) -> None:
    assert app.broker.browser is not None
    janitor.poll(clock.now)
    away = Away(app.broker, "heartbeat", "rescue")
    for _ in range(20):
        janitor.safe_poll(clock.advance(LEASE / 10))
    assert [each.alive for each in app.broker.browser.workers()] == [False]
    away.on = False
    for _ in range(2):
        janitor.safe_poll(clock.advance(ROUND))
    assert [each.alive for each in app.broker.browser.workers()] == [True]


def test_after_an_outage_the_others_are_given_time_to_beat(
    app: App, janitor: Janitor, page: Page, clock: Clock
) -> None:
    """No worker could give a sign of life; the first that is back must not take the others for dead."""
    make_add().delay()
    app.broker.heartbeat([Beat("other", "other@host", 1)])
    (delivery,) = reserve(app, "other")
    janitor.safe_poll(clock.now)
    away = Away(app.broker, "heartbeat", "rescue")
    for _ in range(20):
        janitor.safe_poll(clock.advance(LEASE / 10))
    away.on = False
    janitor.safe_poll(clock.advance(1))
    assert app.broker.sizes()["celery"].reserved == 1
    app.broker.heartbeat([Beat("other", "other@host", 1, leases=frozenset({delivery.lease}))])
    for _ in range(40):
        janitor.safe_poll(clock.advance(ROUND))
    assert app.broker.sizes()["celery"].reserved == 1
    for _ in range(40):  # now it is silent without an excuse
        janitor.safe_poll(clock.advance(1))
    assert app.broker.sizes()["celery"].waiting == 1


# -- failures of its own


def test_a_broker_that_is_away_is_reported_once_and_when_it_is_back(
    app: App, janitor: Janitor, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    away = Away(app.broker, "rescue")
    for _ in range(5):
        assert janitor.safe_poll(clock.advance(ROUND)) == ROUND
    away.on = False
    janitor.safe_poll(clock.advance(ROUND))
    janitor.safe_poll(clock.advance(ROUND))
    assert [record.getMessage() for record in caplog.records] == [
        "Messages cannot be reached; this goes on trying: the server is away",
        "Messages can be reached again, after 2.5 s",
    ]


def test_a_long_outage_is_reported_once_a_minute(
    app: App, janitor: Janitor, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    Away(app.broker, "rescue")
    for _ in range(5 * 60):
        janitor.safe_poll(clock.advance(1.0))
    assert len(caplog.records) == 5


def test_no_failure_ends_the_heartbeat(
    app: App, janitor: Janitor, page: Page, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(limit: int) -> int:
        raise ZeroDivisionError("ours")

    app.backend.prune = fail  # type: ignore[method-assign]
    make_add().delay()
    seat = sit(page)
    (delivery,) = reserve(app, seat.identity)
    seat.add_lease(delivery.lease)
    for _ in range(200):
        janitor.safe_poll(clock.advance(ROUND))
    assert app.broker.sizes()["celery"].reserved == 1
    assert len([record for record in caplog.records if "The janitor failed" in record.msg]) >= 1
    assert caplog.records[0].exc_info is not None


def test_leaving_after_a_trouble_that_is_not_the_brokers(app: App, janitor: Janitor) -> None:
    Away(app.backend, "prune")
    janitor.leave()
    assert janitor._trouble
    assert app.broker.browser is not None
    assert app.broker.browser.workers() == []


def test_leaving_without_a_broker(app: App, janitor: Janitor, clock: Clock) -> None:
    Away(app.broker, "rescue", "goodbye")
    janitor.leave()


# -- orders


@pytest.fixture
def obeying(app: App, janitor: Janitor, clock: Clock) -> Janitor:
    janitor.poll(clock.now)
    return janitor


def obey(janitor: Janitor, clock: Clock) -> None:
    janitor.poll(clock.advance(2))


def test_orders_from_before_its_start_are_not_for_it(app: App, janitor: Janitor, page: Page, clock: Clock) -> None:
    app.control.shutdown()
    janitor.poll(clock.now)
    obey(janitor, clock)
    assert not page.shutdown_ordered
    app.control.shutdown()
    obey(janitor, clock)
    assert page.shutdown_ordered


def test_pause_and_resume(app: App, obeying: Janitor, page: Page, clock: Clock) -> None:
    app.control.pause()
    obey(obeying, clock)
    assert page.paused
    app.control.resume([NODE])
    obey(obeying, clock)
    assert not page.paused


def test_orders_to_others(app: App, obeying: Janitor, page: Page, clock: Clock) -> None:
    app.control.pause(["other@host"])
    obey(obeying, clock)
    assert not page.paused


def test_resize(app: App, obeying: Janitor, page: Page, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    page.wanted = 1
    app.control.pool_grow(1)
    obey(obeying, clock)
    assert page.wanted == 2
    app.control.pool_grow(50)  # no more than there can be
    obey(obeying, clock)
    assert page.wanted == 2
    assert "Told to run 2 processes, the most that this worker can have (52 were asked for)" in caplog.text
    app.control.pool_shrink(50)  # one always stays
    obey(obeying, clock)
    assert page.wanted == 1


def test_an_order_that_nobody_knows(app: App, obeying: Janitor, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    assert app.broker.control is not None
    app.broker.control.give_order("dance", "", {})
    obey(obeying, clock)
    assert "'dance' cannot be carried out" in caplog.text


@pytest.mark.parametrize("signum", ["SIGTERM", "SIGINT", "SIGKILL"])
def test_terminate(
    app: App, obeying: Janitor, page: Page, clock: Clock, sleeper: subprocess.Popen[bytes], signum: str
) -> None:
    result = make_add().delay()
    seat, other = sit(page, 0, sleeper.pid), sit(page, 1)
    reserve(app, seat.identity)
    seat.begin(result.id)
    other.begin("another task")
    result.revoke(terminate=True, signal=signum)
    obey(obeying, clock)
    assert sleeper.wait(10) == -signal.SIGKILL
    assert (seat.verdict, other.verdict) == (shared.TERMINATED, shared.NONE)
    assert seat.signum == signal.Signals[signum]
    seat.state = shared.DEAD
    obey(obeying, clock)
    assert result.state == states.REVOKED
    assert entries(app) == []


def test_terminate_what_does_not_run(app: App, obeying: Janitor, page: Page, clock: Clock) -> None:
    seat = sit(page)
    seat.begin("1")
    seat.end()
    app.control.terminate("1")
    obey(obeying, clock)
    assert seat.verdict == shared.NONE


def test_terminate_a_process_that_is_gone(
    app: App, obeying: Janitor, page: Page, clock: Clock, sleeper: subprocess.Popen[bytes]
) -> None:
    sleeper.kill()
    sleeper.wait()
    sit(page, pid=sleeper.pid).begin("1")
    app.control.terminate("1")
    app.control.pause()
    obeying.orders.obey()
    assert page.paused


def test_terminate_in_a_threads_pool(app: App, page: Page, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    janitor = Janitor(app, WorkerOptions(NODE, ("celery",), pool="threads", concurrency=4), page, "janitor")
    janitor.poll(clock.now)
    sit(page).begin("1")
    app.control.terminate("1")
    obey(janitor, clock)
    assert "cannot be terminated in a threads pool" in caplog.text


def test_a_broker_without_control(app: App, janitor: Janitor, clock: Clock) -> None:
    app.broker.control = None
    assert janitor.poll(clock.now) == ROUND


# -- old results


def test_prune(app: App, janitor: Janitor, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    long_ago = datetime.now(timezone.utc) - timedelta(days=100 * 365)
    real = app.backend.prune
    # Two kinds of rows are counted together, so that there may be more than asked for.
    monkeypatch.setattr(app.backend, "prune", lambda limit: (removed := real(limit)) and removed + 5)
    for number in range(2 * PRUNE_BATCH + 1):
        app.backend.store([TaskMeta(str(number), states.SUCCESS, date_done=long_ago)])
    monkeypatch.setattr("django_tasks.worker.janitor.PRUNE_FOR", 0.0)
    janitor.poll(clock.now)
    assert len(app.backend.metas) == PRUNE_BATCH + 1
    monkeypatch.setattr("django_tasks.worker.janitor.PRUNE_FOR", 60.0)
    janitor.poll(clock.advance(ROUND))  # there were more: in the next round again, and for as long as that may take
    assert len(app.backend.metas) == 0
    app.backend.store([TaskMeta("1", states.SUCCESS, date_done=long_ago)])
    janitor.poll(clock.advance(2))
    assert len(app.backend.metas) == 1
    janitor.poll(clock.advance(PRUNE))
    assert len(app.backend.metas) == 0


def test_rounds_go_on_after_an_error(app: App, janitor: Janitor, clock: Clock) -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    rounds: list[float] = []

    def poll(now: float) -> float:
        rounds.append(now)
        if len(rounds) == 2:
            raise OperationalError("away")
        os.write(writing, b"!")
        return 60.0

    janitor.poll = poll  # type: ignore[method-assign]
    janitor.loop(reading, lambda: len(rounds) >= 4)
    assert len(rounds) == 4
    os.close(reading)
    os.close(writing)
