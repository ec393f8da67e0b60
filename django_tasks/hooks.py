"""Hooks: what a task may define to hear about its runs, and the telling. None of them can change the outcome."""

from __future__ import annotations

import logging
from typing import Any

from django_tasks import signals, states
from django_tasks.context import Context
from django_tasks.errors import ExceptionInfo
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
        """Run after each run."""


def call(task: Any, outcome: Outcome, request: Context) -> None:
    """Call hooks and signals; none of them can change the outcome."""
    try:
        _HOOKS.get(outcome.state, _no_hook)(task, outcome, request)
        if outcome.state not in (states.IGNORED, states.REJECTED):
            einfo = None if outcome.state == states.SUCCESS else ExceptionInfo(outcome.value)
            task.after_return(outcome.state, outcome.value, request.id, request.args, request.kwargs, einfo)
        if signals.task_postrun.receivers:
            signals.task_postrun.send(sender=task, task_id=request.id, task=task, args=request.args,
                                      kwargs=request.kwargs, retval=outcome.value, state=outcome.state)  # fmt: skip
    except Exception as exc:
        logger.exception("A hook of task %s[%s] raised", task.name, request.id)
        if signals.task_internal_error.receivers:
            signals.task_internal_error.send(sender=task, task_id=request.id, args=request.args,
                                             kwargs=request.kwargs, request=request, exception=exc,
                                             traceback=exc.__traceback__, einfo=ExceptionInfo(exc))  # fmt: skip


def _on_success(task: Any, outcome: Outcome, request: Context) -> None:
    if signals.task_success.receivers:
        signals.task_success.send(sender=task, result=outcome.value)
    task.on_success(outcome.value, request.id, request.args, request.kwargs)


def _on_failure(task: Any, outcome: Outcome, request: Context) -> None:
    einfo = ExceptionInfo(outcome.value)
    if signals.task_failure.receivers:
        signals.task_failure.send(sender=task, task_id=request.id, exception=outcome.value, args=request.args,
                                  kwargs=request.kwargs, traceback=outcome.value.__traceback__,
                                  einfo=einfo)  # fmt: skip
    task.on_failure(outcome.value, request.id, request.args, request.kwargs, einfo)


def _on_retry(task: Any, outcome: Outcome, request: Context) -> None:
    einfo = ExceptionInfo(outcome.value)
    if signals.task_retry.receivers:
        signals.task_retry.send(sender=task, request=request, reason=outcome.value, einfo=einfo)
    task.on_retry(outcome.value.exc or outcome.value, request.id, request.args, request.kwargs, einfo)


def _on_reject(task: Any, outcome: Outcome, request: Context) -> None:
    if signals.task_rejected.receivers:
        signals.task_rejected.send(sender=task, message=outcome.message, exc=outcome.value)


def _no_hook(task: Any, outcome: Outcome, request: Context) -> None:
    """``Ignore`` is nobody's event."""


_HOOKS = {
    states.SUCCESS: _on_success,
    states.FAILURE: _on_failure,
    states.RETRY: _on_retry,
    states.REJECTED: _on_reject,
}
