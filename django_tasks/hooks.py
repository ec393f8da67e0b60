"""Hooks: what a task may define to hear about its runs, and the telling. None of them can change the outcome."""

from __future__ import annotations

import logging
from typing import Any

from django_tasks import signals, states
from django_tasks.context import Context
from django_tasks.errors import ExceptionInfo
from django_tasks.message import Message
from django_tasks.outcome import Outcome

logger = logging.getLogger("django_tasks.worker")


class Hooks:
    """Methods of a task for it to override."""

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Run before ``run``."""

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        """Run after a success."""

    def on_failure(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Run after a failure; ``einfo`` shows the traceback as text."""

    def on_retry(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Run when the task is going to be retried."""

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Run after each run that ended the task: not after a retry, ``Ignore`` or ``Reject`` (as in Celery)."""


def tell_of_receipt(app: Any, message: Message, hostname: str) -> None:
    """Send ``task_received``, whose request has names of its own in Celery."""
    if signals.task_received.receivers:
        request = Context(app.tasks.get(message.task), message, name=message.task, task_id=message.id,
                          hostname=hostname)  # fmt: skip
        signals.task_received.send(sender=app, request=request)


def wanted(task: Any, state: str) -> bool:
    """Whether anybody is to be told of a run that came to this state."""
    names, signal = _LISTENERS.get(state, ((), signals.task_postrun))
    if signals.task_postrun.receivers or signal.receivers:
        return True
    kind, own = type(task), vars(task)
    for name in names:  # noqa: SIM110 - a generator takes twice as long, and this is asked after every run
        if getattr(kind, name) is not _SILENT[name] or name in own:
            return True
    return False


def call(task: Any, request: Context, outcome: Outcome) -> None:
    """Call hooks and signals; none of them can change the outcome, nor keep the next from being called."""
    einfo = None if outcome.state == states.SUCCESS else ExceptionInfo(outcome.value)
    for step in (_STEPS.get(outcome.state, _nothing), _after_return, _postrun):
        try:
            step(task, outcome, request, einfo)
        except BaseException as exc:
            if request.is_eager and not isinstance(exc, Exception):
                raise  # a pressed Ctrl-C, or what ends a test, is meant for the caller
            _report(task, request, exc)


def _report(task: Any, request: Context, exc: BaseException) -> None:
    logger.error("A hook of task %s[%s] raised %r", task.name, request.id, exc, exc_info=exc)
    if signals.task_internal_error.receivers:
        signals.task_internal_error.send(sender=task, task_id=request.id, args=request.args, kwargs=request.kwargs,
                                         request=request, exception=exc, traceback=exc.__traceback__,
                                         einfo=ExceptionInfo(exc))  # fmt: skip


def _after_return(task: Any, outcome: Outcome, request: Context, einfo: Any) -> None:
    if outcome.state in (states.SUCCESS, states.FAILURE):
        task.after_return(outcome.state, outcome.value, request.id, request.args, request.kwargs, einfo)


def _postrun(task: Any, outcome: Outcome, request: Context, einfo: Any) -> None:
    if signals.task_postrun.receivers:
        signals.task_postrun.send(sender=task, task_id=request.id, task=task, args=request.args,
                                  kwargs=request.kwargs, retval=outcome.value, state=outcome.state)  # fmt: skip


def _on_success(task: Any, outcome: Outcome, request: Context, einfo: Any) -> None:
    if signals.task_success.receivers:
        signals.task_success.send(sender=task, result=outcome.value, runtime=outcome.runtime)
    task.on_success(outcome.value, request.id, request.args, request.kwargs)


def _on_failure(task: Any, outcome: Outcome, request: Context, einfo: Any) -> None:
    tell_of_failure(task, outcome.message, outcome.value)
    task.on_failure(outcome.value, request.id, request.args, request.kwargs, einfo)


def tell_of_failure(task: Any, message: Message, exc: BaseException) -> None:
    """Send ``task_failure`` for a task whose own process could not: it was killed, or hangs."""
    if signals.task_failure.receivers:
        signals.task_failure.send(sender=task, task_id=message.id, exception=exc, args=message.args,
                                  kwargs=message.kwargs, traceback=exc.__traceback__,
                                  einfo=ExceptionInfo(exc))  # fmt: skip


def _on_retry(task: Any, outcome: Outcome, request: Context, einfo: Any) -> None:
    if signals.task_retry.receivers:
        signals.task_retry.send(sender=task, request=request, reason=outcome.value, einfo=einfo)
    task.on_retry(outcome.value.exc or outcome.value, request.id, request.args, request.kwargs, einfo)


def _on_reject(task: Any, outcome: Outcome, request: Context, einfo: Any) -> None:
    if signals.task_rejected.receivers:
        signals.task_rejected.send(sender=task, message=outcome.message, exc=outcome.value)


def _nothing(task: Any, outcome: Outcome, request: Context, einfo: Any) -> None:
    """``Ignore`` is nobody's event."""


_STEPS = {
    states.SUCCESS: _on_success,
    states.FAILURE: _on_failure,
    states.RETRY: _on_retry,
    states.REJECTED: _on_reject,
}
#: The hooks that nobody has overridden.
_SILENT = vars(Hooks)
#: The hooks of each state, and its signal beside ``task_postrun``.
_LISTENERS = {
    states.SUCCESS: (("on_success", "after_return"), signals.task_success),
    states.FAILURE: (("on_failure", "after_return"), signals.task_failure),
    states.RETRY: (("on_retry",), signals.task_retry),
    states.REJECTED: ((), signals.task_rejected),
}
