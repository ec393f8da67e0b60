"""Tasks that both sides have, made by either's decorator, and what either's client says of a result.

It imports neither Celery nor our package, since it runs in the environments of both.
"""

from __future__ import annotations

import datetime
import decimal
import time
import uuid
from collections.abc import Callable
from typing import Any

#: What JSON does not have, and messages and results carry nevertheless (celery-wire, section 1.7).
TYPED = [
    decimal.Decimal("1.50"), datetime.date(2026, 11, 21), datetime.time(3, 4),
    datetime.datetime(2026, 11, 21, 1, 2, 3, tzinfo=datetime.timezone.utc), uuid.UUID(int=7), b"text", b"\xff\x00",
    "zwölf", None, 2**70,
]  # fmt: skip


class Custom(Exception):
    """An error that clients do not have."""


def define(task: Callable[..., Any], ignore: type[Exception]) -> None:
    """Make the tasks.

    Args:
        task: ``app.task`` or ``shared_task``.
        ignore: the exception that ends a run without a result.
    """

    @task(name="add")
    def add(x: int, y: int) -> int:
        return x + y

    @task(name="fail")
    def fail(message: str) -> None:
        raise ValueError(message, 42)

    @task(name="custom")
    def custom() -> None:
        raise Custom("own")

    @task(name="types")
    def types(*args: Any) -> list[Any]:
        return [[repr(arg) for arg in args], TYPED]

    @task(name="progress", bind=True)
    def progress(self: Any) -> None:
        self.update_state(state="PROGRESS", meta={"done": 1})
        raise ignore

    @task(name="again", bind=True, max_retries=1)
    def again(self: Any) -> int:
        if self.request.retries == 0:
            raise self.retry(countdown=0, exc=KeyError("k"))
        return int(self.request.retries)

    @task(name="waiting", bind=True)
    def waiting(self: Any) -> None:
        raise self.retry(countdown=3600, exc=KeyError("k"))

    @task(name="clock")
    def clock() -> float:
        return time.time()

    @task(name="hold", bind=True)
    def hold(self: Any, seconds: float) -> None:
        self.update_state(state="HELD")
        time.sleep(seconds)

    @task(name="look", bind=True)
    def look(self: Any) -> list[Any]:
        request = self.request
        return [request.retries, request.get("x-extra"), request.shadow, request.delivery_info["routing_key"],
                request.root_id == request.id, request.parent_id]  # fmt: skip

    @task(name="failed")
    def failed(task_id: str) -> str:
        return f"{task_id} failed"


def described(result: Any) -> dict[str, Any]:
    """Return what a client makes of a result: either's ``AsyncResult``."""
    value = result.result
    if isinstance(value, BaseException):
        value = [type(value).__module__, type(value).__qualname__, [str(arg) for arg in value.args]]
    return {
        "state": result.state, "ready": result.ready(), "value": value, "traceback": result.traceback,
        "name": result.name, "args": result.args, "worker": result.worker, "retries": result.retries,
        "done": str(result.date_done), "children": [child.id for child in result.children or ()],
    }  # fmt: skip


def send(app: Any, name: str, args: Any, options: dict[str, Any]) -> Any:
    """Send a call through the app of either; return the result.

    Args:
        args: "typed" for ``TYPED``.
        options: of ``apply_async``; ``expires`` and ``eta`` in seconds from now, ``link`` and ``link_error`` as task,
            arguments and id; what is linked goes to the same queue.
    """
    args = TYPED if args == "typed" else args
    now = datetime.datetime.now(datetime.timezone.utc)
    for option in ("expires", "eta"):
        if option in options:
            options[option] = now + datetime.timedelta(seconds=options[option])
    for option in ("link", "link_error"):
        if option in options:
            task, more, task_id = options[option]
            options[option] = app.signature(task, args=more, options={"task_id": task_id, "queue": options["queue"]})
    return app.send_task(name, args, **options)
