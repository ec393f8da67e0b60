"""One of everything that a version leaves on its broker and in its result backend, for the next version to find."""

from __future__ import annotations

from datetime import datetime, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import transaction

from django_tasks import App
from django_tasks.brokers.base import Beat, Delivery, Settlement, Verb, new_lease
from django_tasks.executor import Executor
from django_tasks.finish import finish
from django_tasks.message import Message
from django_tasks.outbox import Outbox
from tests.upgrade.jobs import describe, fail, reject_once, retry_once

NODE = "old@host"
WORKER = f"{NODE}/1"
#: Queues of the calls that a worker of the old version has had in its hands.
QUEUES = ("celery", "held", "alone", "refused", "limited", "dead", "run")
ARGS, KWARGS = (1, "zwei", [3.5, None]), {"key": "Ärger"}
TYPED = (datetime(2030, 1, 2, 3, 4, 5, 678901, timezone.utc), UUID(int=7), Decimal("1.10"), b"\0\xff")


class Scenario:
    """Leaves calls, and notes what they are to come to.

    Attributes:
        calls: by id, what ``jobs.describe`` is to return.
        dead: ids of those that are to be sent back first.
    """

    def __init__(self, app: App) -> None:
        self.app = app
        self.calls: dict[str, dict[str, Any]] = {}
        self.dead = ["dead", "to-be-rejected"]

    def play(self) -> None:
        """Do everything."""
        self._wait()
        self._had_by_a_worker()
        self._ended()
        self.app.broker.heartbeat([Beat(WORKER, NODE, 4711, QUEUES, frozenset({self.held.lease}), 3, True)])
        self.app.control.terminate("revoked")
        self.app.control.pause([NODE])
        self.app.control.pool_grow(2, [NODE])

    def call(self, task_id: str, task: Any = describe, args: Any = ARGS, retries: int = 0, **options: Any) -> None:
        self.calls[task_id] = {"args": repr(args), "kwargs": repr(KWARGS), "headers": options.get("headers", {}),
                               "retries": retries}  # fmt: skip
        task.apply_async(args, KWARGS, task_id=task_id, **options)

    def _wait(self) -> None:
        self.call("plain")
        self.call("typed", args=TYPED)
        self.call("pickled", args=({1, 2},), serializer="pickle")
        self.call("packed", args=("x" * 300,), compression="zlib")
        self.call("full", expires=datetime(2100, 1, 1, tzinfo=timezone.utc), priority=3, headers={"tenant": "Süd"},
                  time_limit=60, soft_time_limit=50, shadow="shown")  # fmt: skip
        self.call("linked", link=describe.si(*ARGS, **KWARGS).set(task_id="called-back"))
        self.calls["called-back"] = self.calls["plain"]
        self.call("delayed", countdown=1)
        self.call("to-be-retried", retry_once, headers={"tenant": "Süd"}, retries=1)
        self.call("to-be-rejected", reject_once, headers={"tenant": "Süd"})

    def take(self, queue: str, *args: Any, **options: Any) -> Delivery:
        """Send a call, and let a worker reserve it."""
        self.call(queue, *args, queue=queue, **options)
        (delivery,) = self.app.broker.reserve(WORKER, [queue], 1, new_lease())
        return delivery

    def _had_by_a_worker(self) -> None:
        self.held = self.take("held")
        for queue, verb, facts in (
            ("alone", Verb.RETURN, {"died": True}),
            ("refused", Verb.RETURN, {"refused": True, "delay": 1.0}),
            ("limited", Verb.RETURN, {"admitted": True, "delay": 1.0}),
            ("dead", Verb.DEAD, {"reason": "as it was told"}),
        ):
            assert self.app.broker.settle([Settlement(self.take(queue), verb, **facts)]) == []

    def _ended(self) -> None:
        followed = describe.si(*ARGS, **KWARGS).set(task_id="followed")
        self.run("ended", link=followed)
        self.calls["followed"] = self.calls.pop("ended")
        self.run("failed", fail)
        del self.calls["failed"]
        self.run("retried", retry_once, retries=1)
        describe.update_state("in-progress", "PROGRESS", {"done": 3})
        describe.apply_async(ARGS, KWARGS, task_id="revoked")
        self.app.control.revoke("revoked")

    def run(self, task_id: str, *args: Any, **options: Any) -> None:
        self.call(task_id, *args, queue="run", **options)
        (delivery,) = self.app.broker.reserve(WORKER, ["run"], 1, new_lease())
        finish(self.app, [Executor(self.app, hostname=NODE).run(delivery)])

    def leave_in_the_outbox(self) -> None:
        """Write a message that its process could not publish any more."""
        message = Message(describe.name, "in-the-outbox", ARGS, dict(KWARGS))
        with transaction.atomic():
            Outbox("default").write([message], self.app.broker.now() - 60, None)
        self.calls["in-the-outbox"] = self.calls["plain"]
