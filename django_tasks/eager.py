"""Running a task in the caller: ``apply()`` and ``TASK_ALWAYS_EAGER``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from django_tasks import producer, states
from django_tasks.canvas import Signature
from django_tasks.executor import Executor
from django_tasks.outcome import Outcome
from django_tasks.result import AsyncResult

if TYPE_CHECKING:
    from django_tasks.app import App

R = TypeVar("R")


class EagerResult(AsyncResult[R]):
    """The result of ``apply()``: known from the start.

    Args:
        id: the task id.
        value: the return value or the exception.
        state: the state it ended in.
        traceback: the traceback as text.
    """

    def __init__(self, id: str, value: Any, state: str, traceback: str | None = None, name: str = "") -> None:
        super().__init__(id)
        self._eager = {"state": state, "result": value, "traceback": traceback, "name": name}

    state = status = property(lambda self: self._eager["state"], doc="The state it ended in.")
    result = info = property(lambda self: self._eager["result"], doc="The return value or the exception.")
    traceback = property(lambda self: self._eager["traceback"], doc="The traceback as text, or None.")
    name = property(lambda self: self._eager["name"], doc="The task's name.")

    def get(self, timeout: float | None = None, propagate: bool = True, interval: float | None = None, **_: Any) -> R:
        """Return the value, or raise the exception."""
        value = self._eager["result"]
        if propagate and self.state in states.PROPAGATE_STATES:
            raise value if isinstance(value, BaseException) else Exception(value)
        return value  # type: ignore[no-any-return]

    wait = get

    async def aget(self, timeout: float | None = None, propagate: bool = True) -> R:
        """Return the value, or raise the exception."""
        return self.get(timeout, propagate)

    def forget(self) -> None:
        """There is nothing to forget."""

    def revoke(self, terminate: bool = False, signal: str | int | None = None) -> None:
        """It has ended: there is nothing to revoke."""


def run(app: App, task: Any, args: Any, kwargs: Any, options: dict[str, Any]) -> EagerResult[Any]:
    """Run a task and its retries one after the other, without waiting, then its callbacks.

    Args:
        options: of ``apply_async``; ``throw`` raises what the task raises.
    """
    throw = options.pop("throw", None)
    message = producer.build_message(app, task.name, args, kwargs, options, task)
    executor = Executor(app, hostname="eager", eager=True)
    outcome = executor.execute(task, message)
    while outcome.next_run is not None:
        outcome = executor.execute(task, outcome.next_run)
    if outcome.meta is not None:
        app.backend.store([outcome.meta])
    failed = outcome.state in states.PROPAGATE_STATES
    if failed and (app.conf.task_eager_propagates if throw is None else throw):
        raise outcome.value
    _follow(outcome)
    return EagerResult(message.id, outcome.value, outcome.state, outcome.traceback, name=task.name)


def _follow(outcome: Outcome) -> None:
    embed = outcome.message.embed or {}
    succeeded = outcome.state == states.SUCCESS
    value = outcome.value if succeeded else outcome.message.id
    for each in embed.get("callbacks" if succeeded else "errbacks") or ():
        Signature(each).apply((value,))
