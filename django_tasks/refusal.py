"""Messages that are not run: unreadable, unknown, ended before, expired, too early, or over their rate limit."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django_tasks import signals, states
from django_tasks.backends.base import decode_into
from django_tasks.brokers.base import Delivery, Settlement, Verb
from django_tasks.canvas import not_yet
from django_tasks.context import Context
from django_tasks.exceptions import NotRegistered, TaskRevokedError
from django_tasks.finish import failure
from django_tasks.outcome import Outcome

if TYPE_CHECKING:
    from django_tasks.app import App

logger = logging.getLogger("django_tasks.worker")

#: How long an unknown task waits before it is offered again, by the number of refusals (seconds).
REFUSAL_DELAYS = (1, 2, 4, 8, 16, 32, 60, 60, 60, 60)
#: A message that comes this little too early (seconds) is not sent back for it.
EARLY = 0.05


def refuse(app: App, delivery: Delivery, task: Any, admit: Callable[[Any], float]) -> Outcome | None:
    """Return the outcome of a message that is not to run (now, here, or at all)."""
    message = delivery.message
    if delivery.error is not None:
        return _unreadable(app, delivery)
    if task is None:
        return _unknown(app, delivery)
    if message.embed and (what := not_yet(message.embed)):
        return _for_others(app, delivery, NotImplementedError(
            f"A {what} follows from this call, which a worker of Celery can run, and of ours with a later release."
        ))  # fmt: skip
    # A retry may have been revoked in the run before it, which stores nothing where results are ignored.
    if (message.redelivered or message.retries) and (ended := _ended_before(app, delivery)) is not None:
        return ended
    if message.expires is not None and message.expires.timestamp() < app.broker.now():
        return _expired(app, delivery, task)
    if message.eta is not None:
        early = message.eta.timestamp() - app.broker.now()
        if early > EARLY and not delivery.admitted:
            return _put_back(delivery, Settlement(delivery, Verb.RETURN, delay=early))
    if task.rate_limit:
        delivery.complete()
        if not delivery.admitted and (wait := admit(task)) > 0:
            return _put_back(delivery, Settlement(delivery, Verb.RETURN, delay=wait, admitted=True))
    return None


def _put_back(delivery: Delivery, settlement: Settlement) -> Outcome:
    return Outcome(delivery.message, states.PENDING, settlement=settlement, follow=False)


def _unreadable(app: App, delivery: Delivery) -> Outcome:
    logger.error(
        "A message on queue %s cannot be read and goes to the dead letters: %s", delivery.queue, delivery.error
    )
    assert delivery.error is not None
    return failure(app, delivery, delivery.error, verb=Verb.DEAD)


def _unknown(app: App, delivery: Delivery) -> Outcome:
    message = delivery.message
    error = NotRegistered(message.task)
    if signals.task_unknown.receivers:
        signals.task_unknown.send(sender=app, message=message, exc=error, name=message.task, id=message.id)
    return _for_others(app, delivery, error, "Unknown task", "Restart the worker after a change of code. ")


def _for_others(app: App, delivery: Delivery, error: Exception, what: str = "Task", advice: str = "") -> Outcome:
    """Give a message back for workers that can run it; when none has for long, it is a dead letter."""
    delivery.complete()
    message, refusals = delivery.message, delivery.refusals
    facts = {"task_name": message.task, "task_id": message.id}
    if refusals >= len(REFUSAL_DELAYS):
        logger.error("%s %s[%s] goes to the dead letters. %s `tasks dead resend %s` lets it run after all.",
                     what, message.task, message.id, error, message.id, extra=facts)  # fmt: skip
        return failure(app, delivery, error, verb=Verb.DEAD)
    delay = REFUSAL_DELAYS[refusals]
    logger.error("%s %s[%s] is put back for %d s. %s %sIt is tried again for %d s more, then it is a dead letter.",
                 what, message.task, message.id, delay, error, advice,
                 sum(REFUSAL_DELAYS[refusals:]), extra=facts)  # fmt: skip
    return _put_back(delivery, Settlement(delivery, Verb.RETURN, delay=delay, refused=True))


def _expired(app: App, delivery: Delivery, task: Any) -> Outcome:
    message = delivery.message
    if signals.task_revoked.receivers:
        signals.task_revoked.send(
            sender=task, request=Context(task, message), terminated=False, signum=None, expired=True
        )
    return failure(app, delivery, TaskRevokedError("expired"), state=states.REVOKED)


def _ended_before(app: App, delivery: Delivery) -> Outcome | None:
    """Resume a task that ended but whose message was not settled: its run is not repeated."""
    message = delivery.message
    if not app.backend.stores:
        return None
    meta = app.backend.get([message.id]).get(message.id)
    if meta is None or not meta.ready:
        return None
    outcome = Outcome(message, meta.status, None, meta.traceback, settlement=Settlement(delivery, Verb.ACK),
                      follow=meta.retries == message.retries)  # fmt: skip
    if not decode_into(outcome, meta, app.backend):
        # What was to follow from it nobody can tell, so the message is kept.
        reason = f"Its stored result cannot be read: {outcome.value}"
        outcome.settlement = Settlement(delivery, Verb.DEAD, reason=reason)
    return outcome
