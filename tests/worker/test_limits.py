"""Time limits inside a process, and rate limits across the processes of a worker."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from django_tasks import App, Task, shared_task, states
from django_tasks.exceptions import SoftTimeLimitExceeded
from django_tasks.worker.limits import RateLimiter, ThreadLimits, alarm_guard
from django_tasks.worker.minder import Minder
from django_tasks.worker.process import _waking
from django_tasks.worker.shared import Page
from tests.running import waiting
from tests.waiting import wait_for
from tests.worker.parts import Clock, make_slot

# -- soft and hard limits in the main thread


def wait_for_ever() -> None:
    """Wait as a task does that hangs in Python code."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        pass


@pytest.fixture
def seat() -> Any:
    seat = Page(1).seats[0]
    seat.begin("1")
    return seat


def test_the_soft_limit_is_raised_in_the_call(seat: Any) -> None:
    with pytest.raises(SoftTimeLimitExceeded), alarm_guard(seat)(None, 0.05):
        wait_for_ever()


def test_the_soft_limit_ends_a_wait(seat: Any) -> None:
    started = time.monotonic()
    with pytest.raises(SoftTimeLimitExceeded), alarm_guard(seat)(None, 0.05):
        time.sleep(30)
    assert time.monotonic() - started < 20


def test_after_the_call_nothing_is_raised_and_the_handler_is_the_one_before(seat: Any) -> None:
    heard = []
    previous = signal.signal(signal.SIGALRM, lambda *_: heard.append(1))
    try:
        with alarm_guard(seat)(None, 30):
            assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
        os.kill(os.getpid(), signal.SIGALRM)
        assert heard == [1]
    finally:
        signal.signal(signal.SIGALRM, previous)


def test_the_hard_limit_is_the_supervisors_to_see(seat: Any) -> None:
    with alarm_guard(seat)(5, None):
        assert 4 < seat.deadline - time.monotonic() <= 5
    assert seat.deadline == 0.0  # hooks may take longer


def test_a_task_that_raises_has_no_deadline_any_more(seat: Any) -> None:
    with pytest.raises(ValueError, match="no"), alarm_guard(seat)(5, 4):
        raise ValueError("no")
    assert seat.deadline == 0.0
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_soft_limit_in_a_coroutine(memory_app: App) -> None:
    import asyncio

    @shared_task(soft_time_limit=0.05)
    async def endless() -> None:
        await asyncio.sleep(30)

    slot = make_slot(memory_app)
    slot.executor.guard = alarm_guard(slot.seat)
    result = endless.delay()
    slot.poll(time.monotonic())
    with pytest.raises(SoftTimeLimitExceeded):
        result.get()


def test_hooks_are_not_limited(memory_app: App) -> None:
    finished = []

    class Slow(Task[Any, Any]):
        def on_failure(self, *_: Any) -> None:
            end = time.monotonic() + 0.2
            while time.monotonic() < end:
                pass
            finished.append(1)

    @shared_task(base=Slow, soft_time_limit=0.05)
    def endless() -> None:
        wait_for_ever()

    slot = make_slot(memory_app)
    slot.executor.guard = alarm_guard(slot.seat)
    result = endless.delay()
    slot.poll(time.monotonic())
    assert finished == [1]
    assert result.state == states.FAILURE
    with pytest.raises(SoftTimeLimitExceeded):
        result.get()


# -- in threads


def test_a_soft_limit_in_a_thread() -> None:
    limits = ThreadLimits()
    raised: list[BaseException] = []

    def work() -> None:
        try:
            with limits.guard(None, 100):
                wait_for_ever()
        except SoftTimeLimitExceeded as exc:
            raised.append(exc)

    thread = threading.Thread(target=work)
    thread.start()
    wait_for(lambda: limits.soft_at)
    assert not limits.check(limits.soft_at - 1)
    assert raised == []
    assert not limits.check(limits.soft_at)
    thread.join(10)
    assert len(raised) == 1
    assert (limits.soft_at, limits.hard_at) == (0.0, 0.0)


def test_a_hard_limit_in_a_thread() -> None:
    limits = ThreadLimits()
    with limits.guard(100, None):
        assert not limits.check(limits.hard_at - 1)
        assert limits.check(limits.hard_at)
    assert not limits.check(time.monotonic() + 1000)


def test_after_the_call_no_thread_is_interrupted() -> None:
    limits = ThreadLimits()
    with limits.guard(100, 50):
        pass
    assert not limits.check(time.monotonic() + 1000)
    sum(range(100_000))  # would be interrupted here


def test_the_soft_limit_at_the_very_end_of_a_call_stays_in_the_call() -> None:
    """However the watcher and the end of the call meet, nothing is raised after the guard."""
    limits = ThreadLimits()
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            limits.check(time.monotonic() + 1000)

    watcher = threading.Thread(target=watch)
    watcher.start()
    caught = 0
    try:
        end = time.monotonic() + 1
        while time.monotonic() < end:
            try:
                with limits.guard(100, 50):
                    sum(range(50))
            except SoftTimeLimitExceeded:
                caught += 1
            assert (limits.soft_at, limits.hard_at) == (0.0, 0.0)
    finally:
        stop.set()
        watcher.join()
    assert caught


def test_the_minder_watches_every_call_with_limits(memory_app: App) -> None:
    """It is woken when there is something to mind, not before: else it would go to sleep again."""
    minder = Minder(memory_app, on_overrun=lambda: None)
    slot = make_slot(memory_app)
    minder.slots = [slot]
    limits = minder.limits[slot] = ThreadLimits()
    seen = []
    minder.wake = lambda: seen.append(minder._something_to_mind())  # type: ignore[method-assign, func-returns-value]
    with _waking(limits, minder)(9, None):
        pass
    assert seen == [True]


@pytest.mark.parametrize("acks_late", [True, False])
def test_a_hard_limit_in_a_threads_pool_ends_the_task_not_the_thread(memory_app: App, acks_late: bool) -> None:
    overrun = threading.Event()
    minder = Minder(memory_app, on_overrun=overrun.set)
    slot = make_slot(memory_app)
    minder.slots = [slot]
    limits = minder.limits[slot] = ThreadLimits()
    slot.executor.guard = _waking(limits, minder)
    slot.executor.on_acknowledged = slot.seat.note_acknowledged
    release = threading.Event()

    @shared_task
    def errback(task_id: str) -> None: ...

    @shared_task(time_limit=0.05, acks_late=acks_late)
    def stuck() -> str:
        release.wait(30)
        return "late"

    result = stuck.apply_async(link_error=errback.s())
    minder.start()
    thread = threading.Thread(target=lambda: slot.poll(time.monotonic()))
    thread.start()
    assert overrun.wait(10)
    assert result.state == states.FAILURE
    assert repr(result.result) == "TimeLimitExceeded(0.05)"
    assert [(message.task, message.args) for message in waiting(memory_app)] == [(errback.name, [result.id])]
    release.set()
    thread.join(10)
    assert result.state == states.FAILURE  # what it returned in the end is nobody's any more


# -- rate limits


def make_limiter(clock: Clock, **rates: Any) -> tuple[RateLimiter, Any]:
    tasks = {name: SimpleNamespace(name=name, rate_limit=rate) for name, rate in rates.items()}
    return RateLimiter(tasks.values(), clock), SimpleNamespace(**tasks)


def test_tokens_fall_due_one_after_the_other() -> None:
    clock = Clock()
    limiter, tasks = make_limiter(clock, mail="6/m", free=None)
    assert [limiter.admit(tasks.mail) for _ in range(4)] == [0.0, 10.0, 20.0, 30.0]
    assert limiter.admit(tasks.free) == 0.0
    clock.advance(15)
    assert limiter.admit(tasks.mail) == 25.0


def test_silence_saves_no_tokens() -> None:
    clock = Clock()
    limiter, tasks = make_limiter(clock, mail="1/s")
    limiter.admit(tasks.mail)
    clock.advance(1000)
    assert [limiter.admit(tasks.mail) for _ in range(2)] == [0.0, 1.0]


def test_tasks_do_not_share_tokens() -> None:
    limiter, tasks = make_limiter(Clock(), mail="1/s", bill="1/h", off=0)
    assert [limiter.admit(task) for task in (tasks.mail, tasks.bill, tasks.mail, tasks.bill)] == [0.0, 0.0, 1.0, 3600.0]
    assert limiter.admit(tasks.off) == limiter.admit(tasks.off) == 0.0


def test_a_task_of_later() -> None:
    limiter, _ = make_limiter(Clock())
    assert limiter.admit(SimpleNamespace(name="later", rate_limit="1/s")) == 0.0


def test_processes_and_threads_share_tokens() -> None:
    clock = Clock()
    limiter, tasks = make_limiter(clock, mail="1/s")
    reading, writing = os.pipe()

    def admit_five() -> None:
        for _ in range(5):
            os.write(writing, b"%8d" % limiter.admit(tasks.mail))

    children = []
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            threads = [
                threading.Thread(
                    target=lambda: [os.write(writing, b"%8d" % limiter.admit(tasks.mail)) for _ in "12345"]
                )
                for _ in range(2)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            os._exit(0)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 4
    given = os.read(reading, 4096)
    assert sorted(int(given[n : n + 8]) for n in range(0, len(given), 8)) == list(range(40))
    os.close(reading)
    os.close(writing)


def test_a_killed_process_holds_no_lock() -> None:
    limiter, tasks = make_limiter(Clock(), mail="1/s")
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        with limiter._locked():
            os.write(writing, b"!")
            time.sleep(60)
        os._exit(0)
    os.read(reading, 1)
    os.kill(pid, signal.SIGKILL)
    assert limiter.admit(tasks.mail) == 0.0
    os.waitpid(pid, 0)
    os.close(reading)
    os.close(writing)
