"""What other versions have left, or will leave: this version's workers go on with it, and its results can be read.

What was recorded is that of earlier versions. With additions wherever later ones may make them, it stands for theirs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from datetime import date, datetime, timezone
from typing import Any

import pytest
from django.db import connection

from django_tasks import App, AsyncResult, states
from django_tasks.backends.cache import CacheBackend
from django_tasks.brokers.base import Size
from django_tasks.brokers.beat import Claim
from django_tasks.brokers.browse import DEAD, Wanted
from django_tasks.models import PeriodicTask, QueuedMessage
from django_tasks.operations import act, look
from django_tasks.periodic.source import DatabaseSource
from django_tasks.periodic.texts import of_schedule
from django_tasks.version import __version__
from tests.processes import WorkerProcess
from tests.running import app_of_test
from tests.upgrade.jobs import describe
from tests.upgrade.load import LATER, fill_cache, fill_redis, fill_tables, sample, versions
from tests.upgrade.record import ACCEPT, record
from tests.upgrade.scenario import KWARGS, NODE, QUEUES, SCHEDULES, WORKER
from tests.upgrade.tables import wider_tables
from tests.waiting import wait_for

Spawn = Callable[..., WorkerProcess]
both = pytest.mark.parametrize("later", [False, True], ids=["earlier", "later"])
every_version = pytest.mark.parametrize("version", versions())
LEASE = 3.0


class Left:
    """What a version has left, and an app of this version that finds it."""

    def __init__(self, app: App, recorded: dict[str, Any], later: bool) -> None:
        self.app = app
        self.recorded = recorded
        self.calls: dict[str, dict[str, Any]] = {}
        for task_id, call in recorded["calls"].items():
            # The message of a call-back is made by this version.
            added = LATER if later and task_id != "called-back" else {}
            self.calls[task_id] = {**call, "headers": {**call["headers"], **added}}

    def dead(self) -> list[str]:
        browser = look.browser_of(self.app)
        return sorted(letter.id for letter in browser.messages(Wanted(states=(DEAD,)), 100))


@pytest.fixture(params=["tables", "redis"])
def left(request: pytest.FixtureRequest, transactional_db: None, version: str, later: bool) -> Iterator[Left]:
    kind, recorded = request.param, sample(version)[request.param]
    if kind == "redis" and connection.vendor != "sqlite":
        pytest.skip("the same as on SQLite")
    url = "django-db://" if kind == "tables" else request.getfixturevalue("redis_url")
    options = {"accept_content": ACCEPT, "result_accept_content": ACCEPT, "worker_lease": LEASE}
    with app_of_test(url, **options) as app, wider_tables() if later else nullcontext():
        if kind == "tables":
            fill_tables(recorded["content"], later)
        else:
            fill_redis(url, recorded["content"], later)
        yield Left(app, recorded, later)


@both
@every_version
def test_a_worker_goes_on(left: Left, spawn_worker: Spawn) -> None:
    if left.app.broker.transaction_alias:  # what only a later version knows is let alone
        QueuedMessage.objects.create(task_id="later", task="later", queue="celery", status=99, sent_at=0, payload="{")
    url = left.app.conf.broker_url
    settings = {"CELERY_IMPORTS": ["tests.upgrade.jobs"], "ACCEPT_CONTENT": ACCEPT, "RESULT_ACCEPT_CONTENT": ACCEPT,
                "BROKER_URL": url, "RESULT_BACKEND": url, "WORKER_LEASE": LEASE, "RESULT_EXPIRES": 0}  # fmt: skip
    worker = spawn_worker("-B", "-c", "1", "-l", "INFO", "-Q", ",".join(QUEUES), settings=settings)
    wait_for(lambda: left.dead() == left.recorded["dead"], 20, lambda: f"dead letters; there are {left.dead()}")
    assert sorted(act.resend(left.app)) == left.recorded["dead"]
    came = {task_id: AsyncResult(task_id).get(timeout=30) for task_id in left.calls}
    assert came == left.calls
    assert left.dead() == []
    assert "ERROR" not in worker.log
    wait_for(lambda: all(size == Size() for size in left.app.broker.sizes(QUEUES).values()), 20, "empty queues")


@both
@every_version
def test_results_are_read(left: Left) -> None:
    failed, revoked = AsyncResult("failed"), AsyncResult("revoked")
    assert (failed.state, repr(failed.result)) == (states.FAILURE, "ValueError('as always')")
    assert str(failed.traceback).endswith("ValueError: as always\n")
    assert (revoked.state, repr(revoked.result)) == (states.REVOKED, "TaskRevokedError('revoked')")
    ended, going = AsyncResult("ended"), AsyncResult("in-progress")
    assert ended.get(timeout=0)["args"] == "(1, 'zwei', [3.5, None])"
    assert ended.date_done is not None
    assert (going.state, going.info) == ("PROGRESS", {"done": 3})
    assert AsyncResult("retried").state == states.RETRY


@both
@every_version
def test_operators_see_it(left: Left) -> None:
    (worker,) = look.workers(left.app)
    assert (worker.identity, worker.node, worker.pid, tuple(worker.queues)) == (WORKER, NODE, 4711, QUEUES)
    assert (worker.alive, worker.paused) == (False, True)
    assert left.dead() == ["dead"]
    (refused,) = look.browser_of(left.app).messages(Wanted(refused=True), 10)
    assert (refused.id, refused.refusals) == ("refused", 1)
    assert {state.name for state in look.queues(left.app)} >= set(QUEUES)
    assert [(order.kind, order.node) for order in left.app.broker.control.orders(0)] == [
        ("terminate", ""), ("pause", NODE), ("resize", NODE),
    ]  # fmt: skip


@both
@every_version
def test_beat_goes_on(left: Left) -> None:
    store = left.app.broker.claim_store
    assert store is not None
    state = store.states(["noon"])["noon"]
    assert (state.runs, state.last_id, state.definition, state.version) == (2, "scheduled-unsent", "as it was", 3)
    store.send_left()
    assert store.running(["scheduled", "scheduled-unsent"]) == {"scheduled", "scheduled-unsent"}
    after = state._replace(slot=state.done + 60, version=4)
    assert store.claim([Claim(state, after)]) == {"noon"}
    assert store.states(["noon"]) == {"noon": after}


@both
@every_version
def test_schedules_in_the_database_are_read(left: Left) -> None:
    if not left.app.broker.transaction_alias:
        pytest.skip("they are in the database")
    left.app.conf.beat_schedule = {"of settings": {"task": describe.name, "schedule": 10}}
    source = DatabaseSource(left.app)
    entries = {entry.name: entry for entry in source.entries()}
    assert {name: of_schedule(entry.schedule)[0] for name, entry in entries.items()} == {
        **{kind: kind for kind in SCHEDULES}, "everything": "crontab"
    }  # fmt: skip
    every = entries["everything"]
    assert (every.args, every.kwargs, every.options) == (
        (1, date(2027, 1, 31)),
        KWARGS,
        {"queue": "slow", "priority": 3},
    )
    assert (str(every.zone), every.catch_up, every.most, every.grace) == ("Europe/Berlin", "all", 7, 60)
    assert (every.overlap, every.jitter, every.one_off, every.expires) == ("skip", 5, True, 30)
    assert (every.start_time, every.end_time) == tuple(
        datetime(year, 1, 1, tzinfo=timezone.utc) for year in (2027, 2028)
    )
    assert source.paused() == {"of settings"}
    PeriodicTask.objects.get(name="cron").resume()
    assert [(entry.name, entry.enabled) for entry in source.changes().changed] == [("cron", True)]


@both
@every_version
def test_results_in_a_cache_are_read(version: str, later: bool) -> None:
    with app_of_test(backend="django-cache://default") as app:
        fill_cache(sample(version)["cache"], later)
        assert isinstance(app.backend, CacheBackend)
        assert AsyncResult("ended").get(timeout=0)["retries"] == 0
        assert repr(AsyncResult("failed").result) == "ValueError('as always')"
        assert AsyncResult("revoked").state == states.REVOKED
        assert AsyncResult("in-progress").info == {"done": 3}
        app.backend.forget(["ended", "failed", "revoked", "in-progress"])


def test_the_newest_sample_is_what_this_version_leaves(transactional_db: None, redis_url: str) -> None:
    newest = versions()[-1]
    hint = "run `python -m tests.upgrade.record`, and keep the samples of versions that were released as they are"
    assert newest == __version__.rpartition(".")[0], hint
    assert shape(json.loads(json.dumps(record(redis_url)))) == shape(sample(newest)), hint


def shape(value: Any) -> Any:
    """Return what is where, with the types of values in their places."""
    if isinstance(value, dict):
        return {re.sub(r"^[0-9a-f]{15,}(-.*)?$", "*", key): shape(each) for key, each in value.items()}
    if isinstance(value, list):
        return [shape(each) for each in value]
    if isinstance(value, str) and "\n" in value and not value.startswith("Traceback"):
        return [shape(line) for line in value.splitlines()]
    if isinstance(value, str) and value[:1] in ("[", "{"):
        with suppress(ValueError):
            return shape(json.loads(value))
    return type(value).__name__
