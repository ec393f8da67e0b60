"""Real workers on a master with two replicas and three sentinels, which make a replica the master when that dies."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from django_tasks import App
from django_tasks.exceptions import OperationalError, ReplicationError
from tests.processes import WorkerProcess
from tests.running import app_of_test
from tests.servers import Redis, Sentinel, require
from tests.testapp.tasks import add
from tests.waiting import wait_for

#: Replicas get their first copy at once.
QUICK = ("--repl-diskless-sync-delay", "0")


@dataclass
class Watched:
    """Servers that are watched."""

    master: Redis
    replicas: list[Redis]
    sentinels: list[Sentinel]

    def url(self) -> str:
        """Return the address in kombu's syntax."""
        return ";".join(f"sentinel://127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)

    def is_complete(self) -> bool:
        """Return whether all know of all."""
        states = [each.connect().sentinel_master("ours") for each in self.sentinels]
        known = all(each["num-slaves"] == 2 and each["num-other-sentinels"] == 2 for each in states)
        info = self.master.connect().info("replication")
        return known and all(info.get(f"slave{number}", {}).get("state") == "online" for number in range(2))


@pytest.fixture
def watched() -> Iterator[Watched]:
    require("redis")
    with contextlib.ExitStack() as stack:
        master = stack.enter_context(Redis(*QUICK))
        options = ("--replicaof", "127.0.0.1", str(master.port), *QUICK)
        replicas = [stack.enter_context(Redis(*options)) for _ in range(2)]
        sentinels = [stack.enter_context(Sentinel(master.port, quorum=2)) for _ in range(3)]
        watched = Watched(master, replicas, sentinels)
        wait_for(watched.is_complete, timeout=60)
        yield watched


def settings_for(watched: Watched) -> dict[str, Any]:
    url, options = watched.url(), {"master_name": "ours"}
    return {
        "BROKER_URL": url, "RESULT_BACKEND": url, "BROKER_TRANSPORT_OPTIONS": {**options, "wait_replicas": 1},
        "RESULT_BACKEND_TRANSPORT_OPTIONS": options, "WORKER_LEASE": 3.0,
    }  # fmt: skip


@pytest.fixture
def app(transactional_db: None, watched: Watched) -> Iterator[App]:
    names = {name.lower(): value for name, value in settings_for(watched).items()}
    with app_of_test(broker=names.pop("broker_url"), backend=names.pop("result_backend"), **names) as app:
        yield app


def test_what_is_confirmed_outlives_its_server_and_workers_follow(
    app: App, watched: Watched, spawn_worker: Callable[..., WorkerProcess]
) -> None:
    spawn_worker("-l", "INFO", "-c", "2", settings=settings_for(watched))
    confirmed: list[Any] = []
    unconfirmed: list[OperationalError] = []
    done = threading.Event()

    def send() -> None:
        while not done.is_set():
            try:
                confirmed.append(add.delay(len(confirmed), 1))
            except OperationalError as exc:
                unconfirmed.append(exc)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        wait_for(lambda: len(confirmed) > 100, timeout=30)
        watched.master.kill()
        wait_for(lambda: unconfirmed, timeout=30)
        before = len(confirmed)
        # The other replica follows the new master, or nothing would be confirmed.
        wait_for(lambda: len(confirmed) > before + 100, timeout=60)
    finally:
        done.set()
        sender.join()
    assert [result.get(timeout=60) for result in confirmed] == list(range(1, len(confirmed) + 1))
    wait_for(lambda: app.broker.sizes() == {}, timeout=30)


def test_too_few_replicas(app: App, watched: Watched) -> None:
    add.delay(1, 2)
    for sentinel in watched.sentinels:
        sentinel.kill()
    for replica in watched.replicas:
        replica.freeze()
    with pytest.raises(ReplicationError, match="only 0 replicas have confirmed them"):
        add.delay(1, 2)
    assert app.broker.sizes()["celery"].waiting == 2  # sent once, and not tried again
