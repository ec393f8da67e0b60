"""Both sides on one Redis: a worker and a client of each Celery, and ours; each is started once for a module."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from django_tasks import App
from django_tasks.pipes import readable
from tests.celery_environment import celery_side
from tests.interop import work
from tests.processes import WorkerProcess
from tests.running import app_of_test
from tests.servers import Redis, require
from tests.waiting import wait_for

#: Seconds in which a client answers; it waits for each result up to 60.
ANSWER = 90.0


class CeleryClient:
    """A process with a client of Celery's; its methods are those of ``Client`` there."""

    def __init__(self, process: Any) -> None:
        self.process = process

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def ask(*arguments: Any) -> Any:
            self.process.stdin.write(json.dumps([name, *arguments]) + "\n")
            self.process.stdin.flush()
            assert readable([self.process.stdout.fileno()], ANSWER), f"no answer to {name} from Celery's client"
            return json.loads(self.process.stdout.readline())

        return ask


class OurClient:
    """Our client, in this process, with what ``CeleryClient`` has and we have, too."""

    def __init__(self, app: App) -> None:
        self.app = app

    def send(self, name: str, args: Any, options: dict[str, Any]) -> None:
        work.send(self.app, name, args, options)

    def ended(self, ids: list[str]) -> list[Any]:
        for task_id in ids:
            self.app.AsyncResult(task_id).get(timeout=60, propagate=False)
        return self.known(ids)

    def known(self, ids: list[str]) -> list[Any]:
        return [as_json(work.described(self.app.AsyncResult(task_id))) for task_id in ids]


def as_json(value: Any) -> Any:
    """Return what remains of a value on its way through a pipe to a client."""
    return json.loads(json.dumps(value, default=str))


class Sides:
    """Clients and workers on one Redis, by name: "ours", or a version of Celery. A worker's queue has its name."""

    def __init__(self, stack: contextlib.ExitStack, server: Redis, directory: Path) -> None:
        self.stack, self.server, self.directory = stack, server, directory
        self.app = stack.enter_context(app_of_test(broker=server.url(), backend=server.url(), result_extended=True))
        stack.callback(self.app.backend.close)
        self.client = lru_cache(self._client)
        self.worker = lru_cache(self._worker)

    def _client(self, side: str) -> Any:
        if side == "ours":
            return OurClient(self.app)
        log = self.directory / f"client-{side}.log"
        return CeleryClient(self.stack.enter_context(celery_side(side, self.server.url(), "client", log=log)))

    def _worker(self, side: str) -> Callable[[], str]:
        """Start a worker with one slot; return what reads its log."""
        log = self.directory / f"worker-{side}.log"
        if side == "ours":
            settings = {"BROKER_URL": self.server.url(), "RESULT_BACKEND": self.server.url(), "RESULT_EXTENDED": True,
                        "CELERY_IMPORTS": ["tests.interop.tasks"]}  # fmt: skip
            worker = WorkerProcess(("-c", "1", "-l", "INFO", "-Q", "ours"), log, settings)
            self.stack.callback(worker.finish)
            worker.wait_for_log("ready")
        else:
            arguments = ("worker", "-P", "solo", "-Q", side)
            self.stack.enter_context(celery_side(side, self.server.url(), *arguments, log=log))
            wait_for(lambda: "ready." in log.read_text(), 60, lambda: f"Celery's worker\n{log.read_text()}")
        return log.read_text


@pytest.fixture(scope="module")
def sides(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sides]:
    require("redis")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Redis())
        yield Sides(stack, server, tmp_path_factory.mktemp("interop"))
