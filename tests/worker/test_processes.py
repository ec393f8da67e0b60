"""Real workers on the test database: what they run, how they stop, what becomes of tasks when processes die."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from django_tasks import App, states
from django_tasks.brokers.base import Size
from django_tasks.current import get_current_app
from django_tasks.exceptions import TaskRevokedError, TimeLimitExceeded, WorkerLostError
from django_tasks.worker.options import WorkerOptions
from django_tasks.worker.supervisor import Supervisor
from tests.processes import WorkerProcess
from tests.testapp.tasks import add, slow
from tests.waiting import wait_for
from tests.worker import jobs

JOBS = {"CELERY_IMPORTS": ["tests.worker.jobs"]}
#: As short as a janitor that renews it a few times can keep it on a machine with a lot to do.
LEASE = 3.0
Spawn = Callable[..., WorkerProcess]
POOLS = ["prefork", "threads", "solo"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the tasks write what they do."""
    return tmp_path / "runs"


@pytest.fixture
def spawn(spawn_worker: Spawn) -> Spawn:
    """Start a worker that knows our jobs: ``spawn("-c", "2", WORKER_LEASE=3)``."""

    def spawn(*arguments: str, **settings: Any) -> WorkerProcess:
        return spawn_worker("-l", "INFO", *arguments, settings={**JOBS, **settings})

    return spawn


def go(path: Path) -> None:
    """Let the tasks end that hold."""
    Path(f"{path}.go").touch()


def wait_for_run(path: Path, number: int = 1) -> int:
    """Wait until a task has begun that many times; return the process of the last run."""
    wait_for(lambda: len(begun(path)) >= number, 20, lambda: f"run {number}; there were {jobs.read(path)}")
    return begun(path)[-1]


def begun(path: Path) -> list[int]:
    return [pid for word, pid in jobs.read(path) if word in ("begin", "ran")]


def size() -> Size:
    return get_current_app().broker.sizes(["celery"])["celery"]


def stop(worker: WorkerProcess, timeout: float = 20) -> None:
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout) == 0


def wait_for_end(pids: list[int]) -> None:
    """Wait until none of these processes is there any more."""
    wait_for(lambda: not any(alive(pid) for pid in pids), 20, lambda: f"the end of {pids}")


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# -- running


@pytest.mark.parametrize("pool", POOLS)
def test_every_pool_runs_tasks_and_stops(spawn: Spawn, pool: str) -> None:
    worker = spawn("-c", "2", "-P", pool)
    results = [add.delay(n, 1) for n in range(30)]
    assert [result.get(timeout=20) for result in results] == list(range(1, 31))
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(4) == 0  # an idle worker does not wait for the end of its pause
    assert not get_current_app().broker.sizes()
    assert "stopped." in worker.log


def test_queues(spawn: Spawn) -> None:
    spawn("-Q", "one,two,three", "-X", "three", "-c", "1")
    sent = {queue: add.apply_async((1, 1), queue=queue) for queue in ("celery", "three", "two", "one")}
    assert sent["one"].get(timeout=20) == sent["two"].get(timeout=20) == 2
    sizes = get_current_app().broker.sizes()
    assert {queue: size.waiting for queue, size in sizes.items()} == {"celery": 1, "three": 1}


@pytest.mark.parametrize("pool", POOLS)
def test_burst(spawn: Spawn, pool: str) -> None:
    """It ends when the queues are empty, and not before: processes that are used up are replaced."""
    results = add.delay_many([(n, 1) for n in range(40)])
    worker = spawn("-c", "2", "-P", pool, "--burst", "--max-tasks-per-child", "7")
    assert worker.wait() == 0
    assert [result.result for result in results] == list(range(1, 41))
    assert size() == Size()


def test_a_burst_that_is_over_at_once_has_been_ready(memory_app: App, caplog: pytest.LogCaptureFixture) -> None:
    """Its processes may have come and gone before the supervisor looks for the first time."""
    caplog.set_level("INFO", "django_tasks.worker")
    supervisor = Supervisor(memory_app, WorkerOptions("quick@test", ("celery",), burst=True), [])
    supervisor._report_ready()
    assert not supervisor.ready
    supervisor.page.drained = 1
    supervisor._report_ready()
    assert "quick@test ready." in caplog.messages


def test_a_burst_outlives_the_death_of_its_process(spawn: Spawn, path: Path) -> None:
    result = jobs.die_once.delay(str(path))
    worker = spawn("-c", "1", "--burst")
    assert worker.wait() == 0
    assert result.result == "done"
    assert len(begun(path)) == 2


@pytest.mark.parametrize("pool", POOLS)
def test_nothing_of_one_task_is_left_to_the_next(spawn: Spawn, pool: str) -> None:
    spawn("-c", "1", "-P", pool)
    for _ in range(2):
        mess, look = jobs.leave_a_mess.delay(), jobs.look_around.delay()
        assert look.get(timeout=20) == [mess.get(timeout=20), "en-us", "UTC", False, 0]


def test_resize(spawn: Spawn) -> None:
    worker = spawn("-c", "1", "-n", "growing@test")
    control = get_current_app().control
    control.pool_grow(2, ["growing@test"])
    wait_for(lambda: len(worker.children()) == 4, 10, lambda: f"three processes and a janitor:\n{worker.log}")
    control.pool_shrink(2, ["growing@test"])
    wait_for(lambda: len(worker.children()) == 2, 10, lambda: f"one process and a janitor:\n{worker.log}")
    assert add.delay(1, 1).get(timeout=20) == 2


def test_pause_resume_and_shutdown(spawn: Spawn) -> None:
    worker = spawn("-c", "1")
    control = get_current_app().control
    control.pause()
    worker.wait_for_log("Told to pause")
    wait_for(lambda: add.delay(1, 1) and size().waiting > 3, message="calls to be left alone")
    control.resume()
    wait_for(lambda: not size().waiting, 20, "the worker to go on")
    control.shutdown()
    assert worker.wait(10) == 0


# -- limits


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_soft_limits(spawn: Spawn, path: Path, pool: str) -> None:
    spawn("-c", "1", "-P", pool)
    result = jobs.spin.apply_async((str(path),), soft_time_limit=0.2)
    assert result.get(timeout=20) == "caught"


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_hard_limits(spawn: Spawn, path: Path, pool: str) -> None:
    """The task fails, its neighbours do not, and the process is replaced."""
    spawn("-c", "2", "-P", pool)
    neighbour = slow.delay(1.5)
    result = jobs.hold.apply_async((str(path),), time_limit=0.3)
    with pytest.raises(TimeLimitExceeded):
        result.get(timeout=20)
    assert neighbour.get(timeout=20) == 1.5
    (pid,) = begun(path)
    wait_for_end([pid])
    assert jobs.process_id.delay().get(timeout=20) != pid
    assert len(begun(path)) == 1
    assert get_current_app().broker.sizes() == {}


def test_at_most_once(spawn: Spawn, path: Path) -> None:
    """A task that was acknowledged before its run does not run again, and does not stay without an end."""
    spawn("-c", "1")
    with pytest.raises(WorkerLostError, match="acks_late=False"):
        jobs.die_at_most_once.delay(str(path)).get(timeout=20)
    assert len(begun(path)) == 1
    assert size() == Size()


def test_the_limit_of_the_worker(spawn: Spawn, path: Path) -> None:
    spawn("-c", "1", "--time-limit", "0.3")
    with pytest.raises(TimeLimitExceeded):
        jobs.hold.delay(str(path)).get(timeout=20)


def test_a_hard_limit_holds_while_the_worker_stops(spawn: Spawn, path: Path) -> None:
    worker = spawn("-c", "1")
    result = jobs.hold.apply_async((str(path),), time_limit=1.5)
    wait_for_run(path)
    stop(worker)
    assert repr(result.result) == "TimeLimitExceeded(1.5)"


def test_a_hard_limit_in_a_worker_that_cannot_fork(spawn: Spawn, path: Path) -> None:
    """Nobody could replace its process, so that it ends, and says so by its exit code."""
    worker = spawn("-c", "2", CANNOT_FORK=True)
    assert worker.children() == []
    result = jobs.hold.apply_async((str(path),), time_limit=0.3)
    with pytest.raises(TimeLimitExceeded):
        result.get(timeout=20)
    assert worker.wait(20) == 1
    worker.killed = True  # so that its exit code is not looked at again


def test_a_hard_limit_holds_without_a_supervisor(spawn: Spawn, path: Path) -> None:
    """What runs away in an orphan would otherwise run for ever, and keep its lease."""
    worker = spawn("-c", "1")
    children = [child.pid for child in worker.children()]
    result = jobs.hold.apply_async((str(path),), time_limit=2)
    wait_for_run(path)
    worker.killed = True
    worker.send_signal(signal.SIGKILL)
    with pytest.raises(TimeLimitExceeded):
        result.get(timeout=20)
    wait_for_end(children)
    assert "is killed: task" in worker.log
    assert len(begun(path)) == 1
    assert size() == Size()


def test_max_tasks_per_child(spawn: Spawn) -> None:
    spawn("-c", "1", "--max-tasks-per-child", "2")
    pids = [jobs.process_id.delay().get(timeout=20) for _ in range(6)]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [2, 2, 2]


def test_max_memory_per_child(spawn: Spawn) -> None:
    worker = spawn("-c", "1", "--max-memory-per-child", "200000")
    first = jobs.process_id.delay().get(timeout=20)
    assert jobs.eat.delay(250).get(timeout=20) == first
    wait_for_end([first])
    assert jobs.process_id.delay().get(timeout=20) != first
    assert worker.log.count("uses more than 200000 KiB") == 1


def test_terminate(spawn: Spawn, path: Path) -> None:
    worker = spawn("-c", "1", "-l", "INFO")
    result = jobs.hold.delay(str(path))
    pid = wait_for_run(path)
    result.revoke(terminate=True)
    wait_for_end([pid])
    assert add.delay(1, 1).get(timeout=20) == 2
    with pytest.raises(TaskRevokedError, match="terminated"):
        result.get(timeout=5)
    wait_for(lambda: size() == Size(), message="the message to be settled")
    assert len(begun(path)) == 1
    worker.wait_for_log(f"INFO/MainProcess] Worker process {pid} was killed by SIGKILL, since its task was revoked")


# -- stopping


@pytest.mark.parametrize("pool", POOLS)
def test_sigterm_waits_for_what_runs_and_leaves_the_rest(spawn: Spawn, path: Path, pool: str) -> None:
    worker = spawn("-c", "1", "-P", pool)
    running = jobs.hold.delay(str(path))
    wait_for_run(path)
    rest = [add.delay(1, 1) for _ in range(3)]
    worker.send_signal(signal.SIGTERM)
    add.delay(1, 1)
    wait_for(lambda: size().waiting == 4, message="the rest to wait")
    assert worker.process.poll() is None
    go(path)
    assert worker.wait() == 0
    assert running.result is False
    assert [result.state for result in rest] == [states.PENDING] * 3
    assert size().waiting == 4


@pytest.mark.parametrize("pool", POOLS)
def test_one_signal_that_comes_twice(spawn: Spawn, path: Path, pool: str) -> None:
    """As ``timeout`` sends it: to the process, and to its group."""
    worker = spawn("-c", "1", "-P", pool)
    result = jobs.hold.delay(str(path))
    wait_for_run(path)
    worker.send_signal(signal.SIGTERM)
    worker.send_signal(signal.SIGINT)  # two of a kind might become one on the way
    worker.wait_for_log("Stopping")
    go(path)
    assert worker.wait() == 0
    assert result.get(timeout=0) is False


@pytest.mark.parametrize("pool", POOLS)
def test_a_second_signal_gives_back_what_runs(spawn: Spawn, path: Path, pool: str) -> None:
    worker = spawn("-c", "1", "-P", pool)
    result = jobs.hold.delay(str(path))
    wait_for_run(path)
    worker.send_signal(signal.SIGTERM)
    worker.wait_for_log("Stopping (SIGTERM): 1 task runs and has 25 s to end; a second signal does not wait")

    def signalled() -> bool:
        worker.send_signal(signal.SIGTERM)  # within a second of the first it is taken for the same
        return worker.process.poll() is not None

    wait_for(signalled, message="the end of the worker")
    assert worker.wait(10) == 0
    assert "second signal has come, and what" in worker.log
    assert size().waiting == 1  # at once, not when the lease has run out
    go(path)
    spawn("-c", "1")
    assert result.get(timeout=20) is True
    assert len(begun(path)) == 2


@pytest.mark.parametrize("pool", POOLS)
def test_shutdown_timeout(spawn: Spawn, path: Path, pool: str) -> None:
    worker = spawn("-c", "1", "-P", pool, WORKER_SHUTDOWN_TIMEOUT=0.5)
    jobs.hold.delay(str(path))
    wait_for_run(path)
    stop(worker, 10)
    assert size().waiting == 1


def test_a_signal_to_all_processes_is_as_one_to_the_worker(spawn: Spawn, path: Path) -> None:
    """The managers of services and containers do that. The janitor has to keep the lease all the same."""
    worker = spawn("-c", "1", WORKER_LEASE=LEASE)
    result = jobs.hold.delay(str(path))
    wait_for_run(path)
    os.killpg(worker.pid, signal.SIGTERM)
    worker.wait_for_log("Stopping")
    other = spawn("-c", "1", WORKER_LEASE=LEASE)
    began = get_current_app().broker.now()
    wait_for(lambda: get_current_app().broker.now() > began + 1.3 * LEASE, 20)
    go(path)
    assert worker.wait() == 0
    assert result.get(timeout=5) is False
    assert len(begun(path)) == 1
    assert "goes back to its queue" not in other.log


# -- leases and deaths


def test_a_task_that_takes_three_leases_starts_once(spawn: Spawn, path: Path) -> None:
    """However long it takes: its worker lives, and another one that has nothing to do leaves it alone."""
    pools = ("prefork", "threads")
    workers = [spawn("-c", "1", "-P", pool, "-Q", pool, WORKER_LEASE=LEASE) for pool in pools]
    results = [jobs.hold.apply_async((str(path),), queue=pool) for pool in pools]
    wait_for_run(path, 2)
    workers.append(spawn("-c", "1", "-Q", ",".join(pools), WORKER_LEASE=LEASE))
    began = get_current_app().broker.now()
    wait_for(lambda: get_current_app().broker.now() > began + 3 * LEASE, 20)
    go(path)
    assert [result.get(timeout=20) for result in results] == [False, False]
    assert len(begun(path)) == 2
    assert not any("goes back to its queue" in worker.log for worker in workers)


def test_a_process_that_is_killed(spawn: Spawn, path: Path) -> None:
    """Its task runs again at once, and is told so."""
    worker = spawn("-c", "1")
    result = jobs.hold.delay(str(path))
    first = wait_for_run(path)
    os.kill(first, signal.SIGKILL)
    second = wait_for_run(path, 2)
    assert second != first
    go(path)
    assert result.get(timeout=20) is True
    assert f"Worker process {first} was killed by SIGKILL" in worker.log


def test_a_worker_that_is_killed(spawn: Spawn, path: Path) -> None:
    """Another takes over when the lease has run out."""
    worker = spawn("-c", "2", WORKER_LEASE=LEASE)
    result = jobs.hold.delay(str(path))
    wait_for_run(path)
    worker.kill()
    spawn("-c", "1", WORKER_LEASE=LEASE)
    wait_for_run(path, 2)
    go(path)
    assert result.get(timeout=20) is True


def test_a_supervisor_that_is_killed(spawn: Spawn, path: Path) -> None:
    """Its processes finish what they run, under their lease, and end."""
    worker = spawn("-c", "2", WORKER_LEASE=LEASE)
    children = [child.pid for child in worker.children()]
    result = jobs.hold.delay(str(path))
    running = wait_for_run(path)
    worker.killed = True
    worker.send_signal(signal.SIGKILL)
    other = spawn("-c", "1", WORKER_LEASE=LEASE)
    began = get_current_app().broker.now()
    wait_for(lambda: get_current_app().broker.now() > began + 1.3 * LEASE, 20)
    assert alive(running)
    go(path)
    wait_for_end(children)
    assert result.get(timeout=20) is False
    assert len(begun(path)) == 1
    assert "goes back to its queue" not in other.log


def test_a_janitor_that_is_killed(spawn: Spawn, path: Path, tmp_path: Path) -> None:
    worker = spawn("-c", "1", WORKER_LEASE=LEASE)
    result = jobs.hold.delay(str(path))
    running = wait_for_run(path)
    (janitor,) = [child.pid for child in worker.children() if child.pid != running]
    os.kill(janitor, signal.SIGKILL)
    worker.wait_for_log("The janitor was killed by SIGKILL and is replaced")
    wait_for(lambda: {child.pid for child in worker.children()} - {janitor, running}, message="another janitor")
    began = get_current_app().broker.now()
    wait_for(lambda: get_current_app().broker.now() > began + 1.3 * LEASE, 20)
    go(path)
    assert result.get(timeout=20) is False
    assert len(begun(path)) == 1


def test_a_janitor_that_hangs(spawn: Spawn, path: Path) -> None:
    worker = spawn("-c", "1", WORKER_LEASE=LEASE)
    jobs.hold.delay(str(path))
    running = wait_for_run(path)
    (janitor,) = [child.pid for child in worker.children() if child.pid != running]
    os.kill(janitor, signal.SIGSTOP)
    wait_for_end([janitor])
    worker.wait_for_log("The janitor has not gone round")
    go(path)


def test_poison(spawn: Spawn, path: Path) -> None:
    """A task that kills its process ends among the dead letters."""
    spawn("-c", "2", TASK_MAX_DELIVERIES=1)
    result = jobs.die.delay(str(path))
    with pytest.raises(WorkerLostError, match="TASK_MAX_DELIVERIES"):
        result.get(timeout=30)
    assert len(begun(path)) == 3  # once among others, then alone: once more than may be
    assert size() == Size(dead=1)
    assert add.delay(1, 1).get(timeout=20) == 2


def test_poison_takes_no_neighbour_with_it(spawn: Spawn, path: Path) -> None:
    """The tasks in other threads of its process die as often as it does, and are not buried for that."""
    neighbours = [slow.delay(0.5) for _ in range(2)]
    result = jobs.die.delay(str(path))
    spawn("-c", "3", "-P", "threads", TASK_MAX_DELIVERIES=1)
    with pytest.raises(WorkerLostError, match="TASK_MAX_DELIVERIES"):
        result.get(timeout=30)
    assert [neighbour.get(timeout=20) for neighbour in neighbours] == [0.5, 0.5]
    assert size() == Size(dead=1)


def test_a_process_that_is_stopped_for_longer_than_the_lease(spawn: Spawn, path: Path) -> None:
    worker = spawn("-c", "1", WORKER_LEASE=LEASE)
    result = jobs.hold.delay(str(path))
    first = wait_for_run(path)
    os.kill(first, signal.SIGSTOP)
    wait_for_run(path, 2)
    wait_for_end([first])
    go(path)
    assert result.get(timeout=20) is True
    assert f"Process {first} is killed: it has been stopped for {LEASE:g} s" in worker.log


def test_a_worker_without_rate_limits(spawn: Spawn) -> None:
    spawn("-c", "1", WORKER_DISABLE_RATE_LIMITS=True, TASK_DEFAULT_RATE_LIMIT="1/h")
    results = [jobs.process_id.delay() for _ in range(3)]
    assert len({result.get(timeout=20) for result in results}) == 1
