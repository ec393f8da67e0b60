"""Celery's side of the tests with Celery: it runs in an environment of its own, where our package is not.

python celery_side.py URL read ID...    print what its client makes of results, one line of JSON for each
python celery_side.py URL wait ID...    print a line when it listens, then what get() gives, one line for each
python celery_side.py URL worker        be a worker
python celery_side.py URL send          send some tasks, and print their ids by name, in one line
"""

from __future__ import annotations

import datetime
import decimal
import json
import sys
from typing import Any

from celery import Celery, states
from celery.exceptions import Ignore

url, command, *ids = sys.argv[1:]
app = Celery("side", broker=url, backend=url)
app.conf.update(result_extended=True, worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True)


class Custom(Exception):
    """An error that the other side does not have."""


@app.task(name="add")
def add(x: int, y: int) -> int:
    return x + y


@app.task(name="fail")
def fail(message: str) -> None:
    raise ValueError(message, 42)


@app.task(name="custom")
def custom() -> None:
    raise Custom("own")


@app.task(name="types")
def types() -> list[Any]:
    return [decimal.Decimal("1.50"), datetime.date(2026, 11, 21), "zwölf", None, 2**70]


@app.task(name="progress", bind=True)
def progress(self: Any) -> None:
    self.update_state(state="PROGRESS", meta={"done": 1})
    raise Ignore


@app.task(name="again", bind=True, max_retries=1)
def again(self: Any) -> int:
    if self.request.retries == 0:
        raise self.retry(countdown=0, exc=KeyError("k"))
    return int(self.request.retries)


def described(task_id: str) -> dict[str, Any]:
    result = app.AsyncResult(task_id)
    value = result.result
    if isinstance(value, BaseException):
        value = [type(value).__module__, type(value).__qualname__, [str(arg) for arg in value.args]]
    return {
        "state": result.state, "ready": result.ready(), "value": value, "traceback": result.traceback,
        "name": result.name, "args": result.args, "worker": result.worker, "retries": result.retries,
        "done": str(result.date_done), "children": [child.id for child in result.children or ()],
    }  # fmt: skip


def say(value: Any) -> None:
    print(json.dumps(value, default=str), flush=True)


if command == "read":
    for task_id in ids:
        say(described(task_id))
elif command == "wait":
    results = [app.AsyncResult(task_id) for task_id in ids]
    app.backend.result_consumer.start(ids[0])
    for task_id in ids:
        app.backend.result_consumer.consume_from(task_id)
    say("listening")
    for result in results:
        try:
            say(result.get(timeout=60))
        except Exception as exc:
            say([type(exc).__module__, type(exc).__qualname__, [str(arg) for arg in exc.args]])
elif command == "worker":
    app.worker_main(["worker", "-P", "solo", "-l", "INFO", "--without-mingle", "--without-gossip"])
elif command == "send":
    sent = {task.name: task.delay(*args) for task, args in (
        (add, (2, 3)), (fail, ("bad",)), (custom, ()), (types, ()), (progress, ()), (again, ()),
    )}  # fmt: skip
    expired = add.apply_async((1, 1), expires=datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc))
    say({**{name: result.id for name, result in sent.items()}, "expired": expired.id})
else:
    sys.exit(f"unknown: {command}, {states.ALL_STATES}")
