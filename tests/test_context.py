"""The request: what a task can ask about its own run, and where it is found."""

from __future__ import annotations

import os
import threading
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from django_tasks import App, AsyncResult, Task, context, current_task, shared_task
from django_tasks.context import Context
from django_tasks.executor import Executor
from django_tasks.message import Message
from tests.running import NODE, drain, reserve
from tests.testapp.tasks import add, echo

#: Every attribute of Celery's ``Context`` (celery-wire, sections 1.2 and 1.4), as it is outside a run.
CELERYS: dict[str, Any] = {
    "args": (), "argsrepr": None, "callbacks": None, "called_directly": True, "chain": None, "chord": None,
    "children": [], "correlation_id": None, "delivery_info": None, "errbacks": None, "eta": None, "expires": None,
    "group": None, "group_index": None, "headers": {}, "hostname": None, "id": None, "ignore_result": False,
    "is_eager": False, "kwargs": {}, "kwargsrepr": None, "logfile": None, "loglevel": None, "origin": None,
    "parent_id": None, "properties": None, "replaced_task_nesting": 0, "reply_to": None, "retries": 0, "root_id": None,
    "shadow": None, "stamped_headers": None, "stamps": None, "task": None, "taskset": None, "timelimit": None,
    "utc": True,
}  # fmt: skip


@shared_task(bind=True, name="tests.context.facts")
def facts(self: Task[..., Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Return the request's attributes."""
    return {name: getattr(self.request, name) for name in CELERYS}


@pytest.fixture
def app(memory_app: App) -> App:
    return memory_app


def run(app: App, **options: Any) -> dict[str, Any]:
    """Run the task and return what it saw."""
    result = facts.apply_async((1, "two"), {"x": 3}, **options)
    value: dict[str, Any] = drain(app)[0].value
    assert value["id"] == result.id
    return value


def test_outside_a_run() -> None:
    assert {name: getattr(facts.request, name) for name in CELERYS} == CELERYS


def test_a_plain_call(app: App) -> None:
    found = run(app)
    task_id = found["id"]
    assert found.pop("origin").startswith(f"gen{os.getpid()}@")
    assert found.pop("properties")["correlation_id"] == task_id
    delivery = found.pop("delivery_info")
    assert delivery == {"exchange": "", "routing_key": "celery", "priority": 0, "redelivered": False}
    assert found == {
        **{name: value for name, value in CELERYS.items() if name in found},
        "id": task_id, "root_id": task_id, "correlation_id": task_id, "task": facts.name, "args": [1, "two"],
        "kwargs": {"x": 3}, "argsrepr": "(1, 'two')", "kwargsrepr": "{'x': 3}", "called_directly": False,
        "hostname": NODE, "timelimit": (None, None), "stamps": {}, "reply_to": None,
    }  # fmt: skip


def test_a_call_with_everything(app: App) -> None:
    eta = datetime.now(timezone.utc) - timedelta(seconds=5)
    expires = eta + timedelta(hours=1)
    found = run(
        app, eta=eta, expires=expires, priority=3, queue="q", time_limit=30, soft_time_limit=20, shadow="sh",
        headers={"tenant": "acme"}, root_id="root", parent_id="parent", group_id="group", group_index=2,
        reply_to="client", stamps={"mon": "a"}, stamped_headers=["mon"], replaced_task_nesting=1, ignore_result=True,
        link=add.s(1), link_error=[echo.s()],
    )  # fmt: skip
    assert (found["eta"], found["expires"]) == (eta.isoformat(), expires.isoformat())  # as text, as in Celery
    assert found["delivery_info"] == {"exchange": "", "routing_key": "q", "priority": 3, "redelivered": False}
    assert found["timelimit"] == (30, 20)
    assert (found["shadow"], found["headers"]) == ("sh", {"tenant": "acme"})
    assert (found["root_id"], found["parent_id"]) == ("root", "parent")
    assert (found["group"], found["taskset"], found["group_index"]) == ("group", "group", 2)
    assert (found["reply_to"], found["properties"]["reply_to"]) == ("client", "client")
    assert (found["stamps"], found["stamped_headers"]) == ({"mon": "a"}, ["mon"])
    assert (found["replaced_task_nesting"], found["ignore_result"]) == (1, True)
    assert [each["task"] for each in found["callbacks"]] == [add.name]
    assert [each["task"] for each in found["errbacks"]] == [echo.name]
    assert found["properties"]["priority"] == 3


def test_a_call_that_celery_made_as_part_of_a_workflow(app: App) -> None:
    embed = {"callbacks": None, "errbacks": None, "chain": [add.s(2)], "chord": None}
    app.broker.send([Message(facts.name, "id", embed=embed)])
    found = drain(app)[0].value
    assert [each["args"] for each in found["chain"]] == [[2]]
    # No worker of ours runs what has a chord, so that only receivers meet its request.
    assert Context(facts, Message(facts.name, "id", embed={**embed, "chord": add.s(3)})).chord["args"] == (3,)


def test_ignore_result_follows_the_task_and_the_settings(app: App) -> None:
    @shared_task(bind=True, ignore_result=True)
    def quiet(self: Any) -> Any:
        return self.request.ignore_result

    quiet.delay()
    assert drain(app)[0].value is True
    assert run(app)["ignore_result"] is False
    app.conf.task_ignore_result = True
    assert run(app)["ignore_result"] is True


def test_retries(app: App) -> None:
    @shared_task(bind=True)
    def job(self: Any) -> Any:
        if self.request.retries < 2:
            self.retry(countdown=0)
        return self.request.retries

    job.delay()
    assert [outcome.message.retries for outcome in drain(app)] == [0, 1, 2]


def test_redelivered(app: App) -> None:
    facts.delay()
    (delivery,) = reserve(app)
    delivery.message.redelivered = True
    outcome = Executor(app).run(delivery)
    assert outcome.value["delivery_info"]["redelivered"] is True


def test_children(app: App) -> None:
    @shared_task(bind=True)
    def parent(self: Any) -> list[str]:
        add.delay(1, 2)
        return [child.id for child in self.request.children]

    parent.delay()
    first, second = drain(app)
    assert first.value == [second.message.id]


# -- custom headers and unknown names


def test_custom_headers(app: App) -> None:
    request = Context(facts, Message("t", "i", headers={"tenant": "acme"}))
    assert request.tenant == "acme"
    assert request.get("tenant") == "acme"
    assert request.get("nothing") is None
    assert request.get("nothing", 5) == 5
    assert getattr(request, "nothing", "default") == "default"
    with pytest.raises(AttributeError, match=r"t\[i\] has no 'nothing', nor has it such a custom header"):
        request.nothing  # noqa: B018 - reading it is what is tested


def test_update() -> None:
    request = Context(facts, Message("t", "i"))
    request.update({"tenant": "acme"}, stage=2)
    assert (request.tenant, request.stage) == ("acme", 2)
    assert repr(request) == "<Context: t[i]>"


# -- where it is found


def test_each_thread_has_its_own(app: App) -> None:
    both = threading.Barrier(2, timeout=30)
    seen: dict[str, str] = {}

    @shared_task(bind=True)
    def job(self: Any, name: str) -> None:
        both.wait()
        seen[name] = self.request.id
        both.wait()

    results = {name: job.delay(name) for name in "ab"}
    threads = [threading.Thread(target=drain_one, args=(app,)) for _ in results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {name: result.id for name, result in results.items()}


def drain_one(app: App) -> None:
    (delivery,) = reserve(app, 1)
    Executor(app).run(delivery)


def test_a_thread_of_a_task_is_outside(app: App) -> None:
    seen: list[Any] = []

    @shared_task
    def job() -> None:
        thread = threading.Thread(target=lambda: seen.append((bool(current_task), context.current_request())))
        thread.start()
        thread.join()

    job.delay()
    drain(app)
    assert seen == [(False, None)]


def test_the_request_is_gone_after_the_run(app: App) -> None:
    for number in (1, 2):
        facts.delay(number)
        drain(app)
        assert facts.request.id is None
        assert context.innermost_request() is None


def test_two_runs_within_each_other(app: App) -> None:
    @shared_task(bind=True)
    def inner(self: Any) -> list[str]:
        return [request.task for request in context.runs()]

    @shared_task(bind=True)
    def outer(self: Any) -> Any:
        value = inner.apply().get()
        assert self.request.task == "tests.test_context.outer"
        return value

    result = outer.delay()
    drain(app)
    assert AsyncResult(result.id).get() == ["tests.test_context.inner", "tests.test_context.outer"]
