"""One of everything that a version leaves on its broker and in its result backend, for the next version to find."""

from __future__ import annotations

from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import transaction

from django_tasks import App
from django_tasks.brokers.base import Beat, Delivery, Settlement, Verb, new_lease
from django_tasks.brokers.beat import Claim, EntryState
from django_tasks.executor import Executor
from django_tasks.finish import finish
from django_tasks.message import Message
from django_tasks.models import PeriodicTask
from django_tasks.outbox import Outbox
from tests.upgrade.jobs import describe, fail, reject_once, retry_once

NODE = "old@host"
WORKER = f"{NODE}/1"
#: Queues of the calls that a worker of the old version has had in its hands.
QUEUES = ("celery", "held", "alone", "refused", "limited", "dead", "run")
#: Periodic tasks in the database, by their kinds.
SCHEDULES = {
    "interval": "90 seconds",
    "cron": "@daily",
    "crontab": "30 7 1-7 * mon",
    "solar": "sunset 52.52 13.4",
    "clocked": "2030-01-31 08:00Z",
}
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
        self._scheduled()
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

    def _scheduled(self) -> None:
        """Claim two slots of an entry; on Redis beat dies before it sends the second one."""
        store: Any = self.app.broker.claim_store
        begun = self.app.broker.now() - 600
        state = EntryState("noon", begun, begun, definition="as it was")
        store.add([state])
        send = getattr(store, "_send", None)
        for number, task_id in enumerate(("scheduled", "scheduled-unsent"), 1):
            slot, headers = begun + 60 * number, {"periodic_task_name": "noon"}
            after = state._replace(slot=slot, fired=slot, runs=number, last_id=task_id, version=number + 1)
            claim = Claim(state, after, [Message(describe.name, task_id, ARGS, dict(KWARGS), headers=headers)], [slot])
            if send is not None and number == 2:
                store._send = lambda unsent: None
            store.prepare(claim)
            assert store.claim([claim]) == {"noon"}
            self.calls[task_id] = {**self.calls["plain"], "headers": headers}
            state = after
        if send is not None:
            store._send = send

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

    def leave_schedules(self) -> None:
        """Keep periodic tasks in the database, all off: of each kind one, one with everything, and one of settings."""
        rows = PeriodicTask.objects
        for kind, text in SCHEDULES.items():
            rows.create(name=kind, task=describe.name, kind=kind, schedule=text, enabled=False)
        rows.create(
            name="everything", task=describe.name, kind="crontab", schedule="30 7 1-7 * mon", timezone="Europe/Berlin",
            args=[1, date(2027, 1, 31)], kwargs=KWARGS, options={"queue": "slow", "priority": 3}, catch_up="all",
            catch_up_max=7, grace=60, overlap="skip", jitter=5, start_time=datetime(2027, 1, 1, tzinfo=timezone.utc),
            end_time=datetime(2028, 1, 1, tzinfo=timezone.utc), one_off=True, expires=30, enabled=False,
        )  # fmt: skip
        rows.create(name="of settings", task=describe.name, schedule="10 seconds", origin="settings", enabled=False)
