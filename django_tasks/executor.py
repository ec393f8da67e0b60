"""Running one message: a value that goes through named steps and comes out as an outcome."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.db import connections

from django_tasks import context, hooks, refusal, signals, states
from django_tasks.backends.base import utc_now
from django_tasks.brokers.base import Delivery, Settlement, Verb
from django_tasks.context import Context
from django_tasks.errors import ExceptionInfo, without_our_frames
from django_tasks.exceptions import EncodeError, Ignore, OperationalError, Reject, Retry
from django_tasks.finish import failure, stores
from django_tasks.message import Message
from django_tasks.outcome import Outcome, TaskMeta
from django_tasks.utils.saferepr import safestr

if TYPE_CHECKING:
    from django_tasks.app import App


logger = logging.getLogger("django_tasks.worker")

#: A hard and a soft time limit in seconds; None for no limit.
Limits = tuple[float | None, float | None]


def no_admission(task: Any) -> float:
    """Admit every task: there is no rate limit."""
    return 0.0


def _nothing(stored: bool) -> None:
    """Whom it may not concern."""


def time_limits(task: Any, message: Message, otherwise: Limits) -> Limits:
    """Return the hard and soft limit of a run: the call's, else the task's, else the worker's."""
    hard, soft = message.timelimit
    return hard or task.time_limit or otherwise[0], soft or task.soft_time_limit or otherwise[1]


class Executor:
    """Runs messages for one app.

    Args:
        hostname: ``name@host`` of the worker.
        admit: asked before a task with a rate limit; returns the seconds until its turn, 0 for now.
        guard: makes the context in which a call with limits (hard, soft; seconds) runs.
        limits: hard and soft limits of tasks that have none of their own.
        eager: calls come from ``apply()`` in this process.
    """

    def __init__(
        self,
        app: App,
        *,
        hostname: str = "",
        admit: Callable[[Any], float] = no_admission,
        guard: Callable[[float | None, float | None], AbstractContextManager[Any]] | None = None,
        limits: Limits = (None, None),
        eager: bool = False,
    ) -> None:
        self.app = app
        self.hostname = hostname
        self.admit = admit
        self.guard = guard
        self.limits = limits
        self.eager = eager
        #: Told when a message is gone before its task is called, and whether a failure of the task is to be stored.
        self.on_acknowledged: Callable[[bool], None] = _nothing

    def run(self, delivery: Delivery) -> Outcome:
        """Run a delivery, or refuse it; whatever happens, the outcome says what becomes of the message.

        Raises:
            OperationalError: a server is away; the task was not called.
        """
        acknowledged = False
        try:
            task = self.app.tasks.get(delivery.message.task)
            refused = refusal.refuse(self.app, delivery, task, self.admit)
            if refused is not None:
                return refused
            if not self._option(task, "acks_late"):
                if self.app.broker.settle([Settlement(delivery, Verb.ACK)]):
                    return Outcome(delivery.message, states.IGNORED, "its lease was lost before it began")
                acknowledged = True
                self.on_acknowledged(self._stores(task, delivery.message, failed=True))
            outcome = self.execute(task, delivery.message)
        except OperationalError:
            raise
        except Exception as exc:
            outcome = self._internal_error(delivery, exc)
        else:
            outcome.settlement = self._settlement(delivery, outcome)
        if acknowledged:
            outcome.settlement = None
        return outcome

    def _internal_error(self, delivery: Delivery, exc: Exception) -> Outcome:
        """End a task that our own code could not run, and keep its message."""
        message = delivery.message
        logger.critical("Task %s[%s] INTERNAL ERROR: %r", message.task, message.id, exc, exc_info=exc)
        if signals.task_internal_error.receivers:
            task = self.app.tasks.get(message.task)
            signals.task_internal_error.send(sender=task, task_id=message.id, args=message.args, kwargs=message.kwargs,
                                             request=Context(task, message), exception=exc,
                                             traceback=exc.__traceback__, einfo=ExceptionInfo(exc))  # fmt: skip
        return failure(self.app, delivery, exc, verb=Verb.DEAD)

    # -- running

    def execute(self, task: Any, message: Message) -> Outcome:
        """Call the task; its hooks and the signals after it are called by ``finish``, but here for eager calls."""
        request = Context(task, message, hostname=self.hostname, is_eager=self.eager)
        token = context.push(request)
        started = time.perf_counter()
        began = self.app.broker.now() if not self.eager else time.time()
        try:
            if self._option(task, "track_started") and self._stores(task, message):
                self._store_started(message, request)
            outcome = self._call(task, message, request)
            outcome.runtime = time.perf_counter() - started
            self._encode(task, outcome, request, began)
            if self.eager:
                hooks.call(task, request, outcome)
            elif hooks.wanted(task, outcome.state):
                # Later, but as if it were here: with this request, the task's language and so on.
                here = copy_context()
                outcome.tell = lambda ended: here.run(hooks.call, task, request, ended)
        finally:
            context.pop(token)
        return outcome

    def _store_started(self, message: Message, request: Context) -> None:
        """Store STARTED; for news of that kind the task does not wait until a server is back."""
        now = self.app.broker.now() if not self.eager else time.time()
        meta = self._meta(message, states.STARTED, request, now, None)
        try:
            info = {"pid": os.getpid(), "hostname": self.hostname}
            meta.result = self.app.backend.encode(info, states.STARTED)
            self.app.backend.store([meta])
        except Exception as exc:
            logger.warning("STARTED of task %s[%s] could not be stored: %s", message.task, message.id, exc)

    def _call(self, task: Any, message: Message, request: Context) -> Outcome:
        try:
            if signals.task_prerun.receivers:
                signals.task_prerun.send(
                    sender=task, task_id=message.id, task=task, args=message.args, kwargs=message.kwargs
                )
            task.before_start(message.id, message.args, message.kwargs)
            if self.guard is not None and any(limits := time_limits(task, message, self.limits)):
                with self.guard(*limits):
                    value = self._invoke(task, message)
            else:
                value = self._invoke(task, message)
        except BaseException as exc:
            return self._raised(task, message, request, without_our_frames(exc))
        if request.next_run is not None:
            return Outcome(message, states.RETRY, Retry(when=task.default_retry_delay), next_run=request.next_run)
        return Outcome(message, states.SUCCESS, value)

    def _invoke(self, task: Any, message: Message) -> Any:
        value = task(*message.args, **message.kwargs)
        return asyncio.run(_awaited(value)) if inspect.iscoroutine(value) else value

    def _raised(self, task: Any, message: Message, request: Context, exc: BaseException) -> Outcome:
        """Say what an exception of the task means; what comes after ``retry(throw=False)`` cannot undo it."""
        if isinstance(exc, Retry):
            return self._retried(message, request, exc)
        if request.next_run is not None:
            retry = Retry(exc=exc, when=task.default_retry_delay)
            retry.__cause__ = exc
            return self._retried(message, request, retry)
        if isinstance(exc, Ignore):
            return Outcome(message, states.IGNORED, exc, follow=False)
        if isinstance(exc, Reject):
            return Outcome(message, states.REJECTED, exc, traceback=str(ExceptionInfo(exc)), follow=False)
        if _retries_by_itself(task, exc):
            try:
                task.retry(exc=exc, **_automatic_retry(task, request.retries))
            except Retry as retry:
                return self._retried(message, request, retry)
            except BaseException as final:
                exc = without_our_frames(final)
        return Outcome(message, states.FAILURE, exc, traceback=str(ExceptionInfo(exc)))

    def _retried(self, message: Message, request: Context, retry: Retry) -> Outcome:
        if request.next_run is None:  # raised by hand, as `raise Retry()`
            return Outcome(message, states.FAILURE, retry, traceback=str(ExceptionInfo(retry)))
        return Outcome(message, states.RETRY, retry, traceback=str(ExceptionInfo(retry)), next_run=request.next_run)

    # -- after the run

    def _encode(self, task: Any, outcome: Outcome, request: Context, began: float) -> None:
        """Serialise what is to be stored; a value that cannot be makes the task fail."""
        state = states.FAILURE if outcome.state == states.REJECTED else outcome.state
        if state == states.IGNORED or (outcome.state == states.REJECTED and outcome.value.requeue):
            return
        if not self._stores(task, outcome.message, failed=state == states.FAILURE):
            return
        value = outcome.value.exc or outcome.value if state == states.RETRY else outcome.value
        # One reading of the clock for both: so they are as far apart as the run was long.
        ended = began + outcome.runtime if state in states.READY_STATES else None
        meta = self._meta(outcome.message, state, request, began, ended)
        try:
            meta.result = self.app.backend.encode(value, state)
        except EncodeError as exc:
            error = EncodeError(f"Task {task.name} returned what cannot be stored: {exc}")
            outcome.state, outcome.value, outcome.traceback = states.FAILURE, error, str(ExceptionInfo(error))
            outcome.next_run = None
            meta.status, meta.result = states.FAILURE, self.app.backend.encode(error, states.FAILURE)
        meta.traceback = outcome.traceback
        outcome.meta = meta

    def _meta(self, message: Message, state: str, request: Context, began: float, ended: float | None) -> TaskMeta:
        # By position: so many by name would take twice as long.
        return TaskMeta(
            message.id, state, None, None, [child.as_tuple() for child in request.children],
            None if ended is None else utc_now(ended), utc_now(began), message.group, message.parent_id,
            message.task, message.args, message.kwargs, self.hostname, message.retries, message.queue,
        )  # fmt: skip

    def _settlement(self, delivery: Delivery, outcome: Outcome) -> Settlement:
        if outcome.state == states.REJECTED:
            if outcome.value.requeue:
                delivery.redelivered = True  # so that the task can tell, and requeue only once
                return Settlement(delivery, Verb.RETURN)
            return Settlement(delivery, Verb.DEAD, reason=safestr(outcome.value.reason or "rejected by the task"))
        return Settlement(delivery, Verb.ACK)

    def _stores(self, task: Any, message: Message, failed: bool = False) -> bool:
        if self.eager and not self.app.conf.task_store_eager_result:
            return False
        return stores(self.app, task, message, failed)

    def _option(self, task: Any, name: str) -> Any:
        value = getattr(task, name)
        return getattr(self.app.conf, f"task_{name}") if value is None else value


def _retries_by_itself(task: Any, exc: BaseException) -> bool:
    wanted, unwanted = tuple(task.autoretry_for), tuple(task.dont_autoretry_for)
    return bool(wanted) and isinstance(exc, wanted) and not isinstance(exc, unwanted)


def _automatic_retry(task: Any, retries: int) -> dict[str, Any]:
    """Return the arguments of an automatic retry: ``retry_kwargs``, but with a back-off its delay (as in Celery)."""
    arguments = dict(task.retry_kwargs)
    if task.retry_backoff:
        factor = float(task.retry_backoff)
        # A float overflows at 2**1024; the longest delay is reached long before.
        delay = min(task.retry_backoff_max, factor * 2 ** min(retries, 64))
        # Full jitter, as in Celery: it keeps tasks that failed together from coming back together.
        arguments["countdown"] = random.uniform(0, delay) if task.retry_jitter else delay
    return arguments


async def _awaited(coroutine: Any) -> Any:
    try:
        return await coroutine
    finally:
        # Coroutines use the database in a thread of their own, whose connections nobody else looks after.
        await sync_to_async(_close_unusable_connections)()


def _close_unusable_connections() -> None:
    for connection in connections.all(initialized_only=True):
        connection.close_if_unusable_or_obsolete()
