"""Running a task in the caller: ``apply()`` and ``TASK_ALWAYS_EAGER``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django_tasks import finish, producer, states
from django_tasks.eager_result import EagerResult
from django_tasks.exceptions import NotRegistered
from django_tasks.executor import Executor
from django_tasks.message import Message, decode_envelope, encode_envelope
from django_tasks.outcome import Outcome
from django_tasks.serialization import content_types

if TYPE_CHECKING:
    from django_tasks.app import App


def run(
    app: App, task: Any, args: Any, kwargs: Any, options: dict[str, Any], *, sent: bool = False
) -> EagerResult[Any]:
    """Run a task and its retries one after the other, without waiting, then its callbacks.

    Args:
        options: of ``apply_async``; ``throw`` raises what the task raises.
        sent: write and read the message as if it travelled, so that what cannot be sent fails here too.

    Raises:
        EncodeError: with ``sent``, an argument cannot be serialised.
    """
    throw = options.pop("throw", None)
    if throw is None:
        throw = app.conf.task_eager_propagates
    message = producer.build_message(app, task.name, args, kwargs, options, task)
    outcome = _run(app, task, _as_received(app, message) if sent else message, throw)
    return EagerResult(message.id, outcome.value, outcome.state, outcome.traceback, name=task.name, sent=sent)


def _run(app: App, task: Any, message: Message, throw: bool) -> Outcome:
    executor = Executor(app, hostname="eager", eager=True)
    outcome = executor.execute(task, message)
    while outcome.next_run is not None:
        outcome = executor.execute(task, outcome.next_run)
    if outcome.meta is not None:
        app.backend.store([outcome.meta])
    error = outcome.value
    if outcome.state in states.PROPAGATE_STATES and (throw or not isinstance(error, Exception)):
        raise error  # what is no Exception, such as a pressed Ctrl-C, is meant for the caller
    for following in finish.follow_ups(app, outcome):
        if following.task not in app.tasks:
            raise NotRegistered(following.task)
        _run(app, app.tasks[following.task], following, throw)
    finish.call_errbacks(app, outcome)
    return outcome


def _as_received(app: App, message: Message) -> Message:
    text = encode_envelope(message, max_size=app.conf.task_max_message_size)
    received = decode_envelope(text, content_types([*app.conf.accept_content, message.serializer]))
    received.queue = message.queue
    return received
