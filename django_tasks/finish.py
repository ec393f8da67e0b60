"""The one way a task ends: store its outcome, send what follows from it, settle its message.

The worker, the janitor, remote control and whoever else ends a task do it through ``finish``.
"""

from __future__ import annotations

import inspect
import logging
import uuid
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from django_tasks import producer, publishing, signals, states
from django_tasks.backends.base import utc_now
from django_tasks.brokers.base import Delivery, Settlement, Verb
from django_tasks.canvas import Signature, named_steps, next_step
from django_tasks.context import Context, ignores_result
from django_tasks.errors import format_traceback
from django_tasks.exceptions import Ignore
from django_tasks.message import Message
from django_tasks.outcome import Outcome, TaskMeta
from django_tasks.utils.saferepr import saferepr, safestr

if TYPE_CHECKING:
    from django_tasks.app import App

logger = logging.getLogger("django_tasks.worker")


def finish(app: App, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """End tasks; a batch in as few round trips as the servers allow.

    Returns:
        The outcomes that count. What a worker ran without holding its lease any more leaves no trace; where the task
        had ended before, the outcome becomes the earlier one.

    Raises:
        OperationalError: a server is away; nothing is lost, the messages are still there.
    """
    if signals.before_task_publish.receivers or signals.after_task_publish.receivers:
        counted = _finish_and_announce(app, outcomes)
    else:
        counted = app.broker.finish(app.backend, outcomes, partial(follow_ups, app))
    for outcome in counted:
        call_errbacks(app, outcome)
        end_chain(app, outcome)
    if len(counted) < len(outcomes):
        _disown(outcomes, counted)
    for outcome in outcomes:
        if outcome.tell is not None:
            outcome.tell(outcome)
    return counted


def _finish_and_announce(app: App, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Finish, and tell receivers of what follows as of every message that is sent."""
    following: dict[int, list[Message]] = {}

    def announced(outcome: Outcome) -> list[Message]:
        messages = following[id(outcome)] = follow_ups(app, outcome)
        publishing.announce(app, messages, {})
        return messages

    counted = app.broker.finish(app.backend, outcomes, announced)
    publishing.tell_sent(message for outcome in counted for message in following[id(outcome)])
    return counted


def _disown(outcomes: Sequence[Outcome], counted: Sequence[Outcome]) -> None:
    """Let what does not count end for hooks, receivers and the log as ``Ignore`` does."""
    held = {id(outcome) for outcome in counted}
    for outcome in outcomes:
        if id(outcome) not in held:
            outcome.discarded = "its lease was lost while it ran"
            outcome.state, outcome.value = states.IGNORED, Ignore(outcome.discarded)


def failure(
    app: App, ended: Delivery | Message, exc: BaseException, *, verb: Verb = Verb.ACK, state: str = states.FAILURE
) -> Outcome:
    """Make the outcome of what ends without (or after) a run, with an exception as its result.

    Args:
        ended: the delivery; the message alone where that is settled already.
        verb: what becomes of the delivery.
    """
    message = ended if isinstance(ended, Message) else ended.message
    stored = message.id and stores(app, app.tasks.get(message.task), message, failed=True)
    meta = ended_by(app, message, exc, state) if stored else None
    settlement = None if isinstance(ended, Message) else Settlement(ended, verb, reason=safestr(exc) or saferepr(exc))
    return Outcome(message, state, exc, meta=meta, settlement=settlement)


def stores(app: App, task: Any, message: Message, failed: bool = False) -> bool:
    """Whether the end of a call is stored.

    Args:
        task: None where it is not known.
        failed: the end is no success.
    """
    if not app.backend.stores:
        return False
    if not ignores_result(message, task, app):
        return True
    even_then = getattr(task, "store_errors_even_if_ignored", None)
    return failed and bool(app.conf.task_store_errors_even_if_ignored if even_then is None else even_then)


def ended_by(app: App, message: Message, exc: BaseException, state: str) -> TaskMeta:
    """Make the meta of a call that an exception from outside has ended."""
    return TaskMeta(
        message.id, state, app.backend.encode(exc, state), format_traceback(exc) if exc.__traceback__ else None,
        date_done=utc_now(app.broker.now()), name=message.task, args=message.args, kwargs=message.kwargs,
        retries=message.retries, queue=message.queue, group_id=message.group, parent_id=message.parent_id,
    )  # fmt: skip


def follow_ups(app: App, outcome: Outcome) -> list[Message]:
    """Return the messages that follow from an outcome; their ids come from it, so that twice means the same."""
    if outcome.next_run is not None:
        return [outcome.next_run]
    embed = outcome.message.embed
    if not embed or not outcome.follow:
        return []
    if outcome.state == states.SUCCESS:
        following = [*(embed.get("callbacks") or ()), *next_step(embed)]
        return [_follow_up(app, outcome, n, each, outcome.value) for n, each in enumerate(following)]
    if outcome.state == states.FAILURE:
        signatures = enumerate(embed.get("errbacks") or ())
        failed = outcome.message.id
        return [_follow_up(app, outcome, n, each, failed) for n, each in signatures if not _runs_inline(app, each)]
    return []


def _follow_up(app: App, outcome: Outcome, number: int, data: dict[str, Any], value: Any) -> Message:
    cause = outcome.message
    signature = Signature(data)
    args = signature.args if signature.immutable else (value, *signature.args)
    options = {"parent_id": cause.id, "root_id": cause.root_id, **signature.options}
    why = f"{cause.id}/{cause.retries}/{outcome.state}/{number}"
    options["task_id"] = signature.id or str(uuid.uuid5(uuid.NAMESPACE_OID, why))
    task = app.tasks.get(signature.task)
    message = producer.build_message(app, signature.task, args, signature.kwargs, options, task)
    message.cause = why
    return message


def end_chain(app: App, outcome: Outcome) -> None:
    """Let the steps of a chain that will never run end as the one before them has: somebody may wait for the last."""
    embed = outcome.message.embed
    if outcome.state not in (states.FAILURE, states.REVOKED) or not (outcome.follow and embed and app.backend.stores):
        return
    try:
        steps = [Message(task, task_id) for task, task_id in named_steps(embed)]
        app.backend.store([ended_by(app, step, outcome.value, outcome.state) for step in steps])
    except Exception as exc:  # the task itself has ended, and neither it nor those beside it are to end again for this
        logger.error("That the chain of task %s ended with it could not be stored: %s", outcome.message.id, exc)


def _runs_inline(app: App, data: dict[str, Any]) -> bool:
    """Whether an errback takes (request, exc, traceback) and is called in this process, as Celery does it."""
    task = app.tasks.get(data["task"])
    if task is None:
        return False
    try:
        parameters = inspect.signature(task.run).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return len(positional) > 1 or any(p.kind is p.VAR_POSITIONAL for p in parameters)


def call_errbacks(app: App, outcome: Outcome) -> None:
    """Call the inline errbacks. They run after the failure is stored, at most once, and cannot undo it."""
    embed = outcome.message.embed
    if outcome.state != states.FAILURE or not (outcome.follow and embed):
        return
    request = Context(app.tasks.get(outcome.message.task), outcome.message)
    for data in embed.get("errbacks") or ():
        if _runs_inline(app, data):
            try:
                signature = Signature(data)
                given = () if signature.immutable else (request, outcome.value, outcome.traceback)
                app.tasks[signature.task](*given, *signature.args, **signature.kwargs)
            except (Exception, SystemExit):  # it is about a task that has ended, and no reason to end the worker
                logger.exception("Errback %s of task %s[%s] raised", data["task"], request.task, request.id)
