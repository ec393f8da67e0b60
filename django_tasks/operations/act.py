"""What operators do: dead letters, purging, revoking, running again, orders to workers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django_tasks import states
from django_tasks.async_result import AsyncResult
from django_tasks.brokers.base import new_lease
from django_tasks.brokers.browse import DEAD, DELAYED, RUNNING, WAITING, Browser, StoredMessage, Wanted
from django_tasks.canvas import named_steps
from django_tasks.control import withdraw
from django_tasks.exceptions import DecodeError, TaskRevokedError
from django_tasks.finish import failure, finish
from django_tasks.message import Message, decode_envelope
from django_tasks.operations.look import (
    Call,
    OperationFailed,
    browser_of,
    find,
    known,
    lists_results,
    suggestion,
    workers,
)
from django_tasks.outcome import TaskMeta

if TYPE_CHECKING:
    from django_tasks.app import App

#: Messages that one transaction changes.
PAGE = 200
#: The header in which a call that was made again names the one before.
RERUN_OF = "rerun_of"


# -- dead letters


def resend(app: App, ids: Sequence[str] | None = None, task: str = "") -> list[str]:
    """Let dead letters run after all: their old outcome is forgotten, then they wait on their queues again.

    Forgotten is also how the rest of their chains ended with them.

    Args:
        ids: task ids; None for all dead letters.
        task: only those of this task.

    Returns:
        The ids of those sent back.

    Raises:
        OperationFailed: one of the ids is no dead letter; then nothing is changed.
    """
    browser = browser_of(app)
    resent = []
    for page in _dead(app, browser, ids, task, payload=True):
        if steps := [each for letter in page for each in _chained(app, letter)]:
            app.backend.forget(steps)
        resent += browser.resend(page, app.backend)
    return resent


def _chained(app: App, letter: StoredMessage) -> list[str]:
    """Return the ids of the steps after a letter, which have ended as it has (``finish.end_chain``)."""
    with contextlib.suppress(DecodeError):
        return [task_id for _, task_id in named_steps(read(app, letter).embed or {})]
    return []


def drop(app: App, ids: Sequence[str] | None = None, task: str = "") -> int:
    """Delete dead letters and return how many; their results stay. Arguments and errors as for ``resend``."""
    browser = browser_of(app)
    return sum(browser.drop(page) for page in _dead(app, browser, ids, task))


def _dead(
    app: App, browser: Browser, ids: Sequence[str] | None, task: str, payload: bool = False
) -> Iterator[list[StoredMessage]]:
    wanted = Wanted((DEAD,), task=task, ids=ids)
    if ids is not None:
        found = {letter.id for page in _pages(browser, wanted) for letter in page}
        for missing in [each for each in ids if each not in found]:
            call = find(app, missing)
            raise OperationFailed(
                f"Task {missing} is no dead letter{f' of {task}' if task else ''}: it is {call.state}. "
                "`tasks rerun ID` makes a new call of a task that has ended. Nothing was changed."
            )
    yield from _pages(browser, wanted, payload)


def _pages(browser: Browser, wanted: Wanted, payload: bool = False) -> Iterator[list[StoredMessage]]:
    """Yield what is wanted page by page; what comes meanwhile is newer and not met."""
    after: StoredMessage | None = None
    while page := browser.messages(wanted, PAGE, after, payload=payload):
        yield page
        after = page[-1]


# -- calls that have not ended


def purge(app: App, queue: str = "") -> int:
    """End everything that waits, now or for its time or in an outbox, as REVOKED; return how many.

    What a worker holds goes on, and dead letters stay. It ends through ``finish`` like any task, so that nobody waits
    for ever for a result.

    Args:
        queue: name of the queue; empty for all.
    """
    browser, control = browser_of(app), app.broker.control
    if control is None:
        raise OperationFailed("This broker cannot take messages back, so that its queues cannot be purged from here.")
    error = TaskRevokedError("purged")
    count = len(withdraw(app, error, queue=queue))
    for page in _pages(browser, Wanted((WAITING, DELAYED), queue)):
        deliveries = control.take([message.id for message in page], new_lease())
        count += len(finish(app, [failure(app, each, error, state=states.REVOKED) for each in deliveries]))
    return count


def revoke(app: App, ids: Sequence[str], terminate: bool = False, signal: str | None = None) -> dict[str, str]:
    """Cancel calls, as ``app.control.revoke`` does.

    Args:
        terminate: also stop the processes that run them.
        signal: by which signal.

    Returns:
        What each of them did until then: ``waiting``, ``delayed``, ``running``, or a stored state.

    Raises:
        OperationFailed: nothing is known of one of them, or it has ended; then nothing is changed.
        ValueError: there is no such signal.
    """
    before: dict[str, Call] = {}
    for task_id in ids:
        call = find(app, task_id) if app.broker.browser else known(app, task_id) or Call(task_id)
        if call.state == DEAD:
            raise OperationFailed(
                f"Task {task_id} is a dead letter, which no worker runs; `tasks dead drop {task_id}` deletes it."
            )
        if call.ended:
            raise OperationFailed(f"Task {task_id} has ended as {call.state}: there is nothing to revoke.")
        before[task_id] = call
    for running in before.values():
        _keep_description(app, running)
    app.control.revoke(list(ids), terminate=terminate, signal=signal)
    return {task_id: call.state for task_id, call in before.items()}


def _keep_description(app: App, call: Call) -> None:
    """Store what runs, since its message is going to be gone and the result alone can be looked at or run again."""
    if call.state != RUNNING or call.meta is not None or not app.backend.stores:
        return
    with contextlib.suppress(DecodeError):
        message = read(app, call.messages[0])
        app.backend.store([
            TaskMeta(message.id, states.STARTED, name=message.task, args=message.args, kwargs=message.kwargs,
                     queue=call.queue, retries=message.retries, group_id=message.group, parent_id=message.parent_id)
        ])  # fmt: skip


# -- new calls


def rerun(app: App, task_id: str) -> AsyncResult[Any]:
    """Make the call of a task that has ended once more, under a new id; its header ``rerun_of`` names the old one.

    What was linked to the old call is not called again: for a dead letter, ``resend`` does that.

    Raises:
        OperationFailed: nothing is known of it, it has not ended, or its arguments are not known.
    """
    call = find(app, task_id)
    if not call.ended:
        raise OperationFailed(f"Task {task_id} has not ended: it is {call.state}. Revoke it first, or let it end.")
    args, kwargs = _arguments(app, call.message) if call.message else _stored_arguments(call.meta)
    if not call.task or not isinstance(args, (list, tuple)) or not isinstance(kwargs, dict):
        cure = ""
        if not (call.task or app.conf.result_extended or lists_results(app)):
            cure = " With RESULT_EXTENDED = True, results that are stored from then on do."
        raise OperationFailed(
            f"Task {task_id} cannot be run again: its result does not hold its name and arguments in a form that "
            f"can be read back.{cure}"
        )
    return app.send_task(call.task, args, kwargs, queue=call.queue or None, headers={RERUN_OF: task_id})


def read(app: App, stored: StoredMessage) -> Message:
    """Decode a stored message.

    Raises:
        DecodeError: it cannot be read.
    """
    return decode_envelope(stored.payload or "", app.broker.accept)


def _arguments(app: App, stored: StoredMessage) -> tuple[Any, Any]:
    try:
        message = read(app, stored)
    except DecodeError as exc:
        raise OperationFailed(f"Task {stored.id} cannot be run again, since its message cannot be read: {exc}") from exc
    return message.args, message.kwargs


def _stored_arguments(meta: Any) -> tuple[Any, Any]:
    return (meta.args, meta.kwargs) if meta is not None else (None, None)


def call(app: App, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], **options: Any) -> AsyncResult[Any]:
    """Call a task of this project by name, with the options of ``apply_async``.

    Raises:
        OperationFailed: there is no such task.
        TypeError: it does not take these arguments.
    """
    task = app.tasks.get(name)
    if task is None:
        raise OperationFailed(f"There is no task {name!r}.{suggestion(name, app.tasks)} `tasks registered` lists all.")
    result: AsyncResult[Any] = task.apply_async(args, kwargs, **options)
    return result


# -- workers

PAUSE, RESUME, GROW, SHRINK, SHUTDOWN = "pause", "resume", "grow", "shrink", "shutdown"


def tell(app: App, order: str, destination: Sequence[str] = (), n: int = 1) -> list[str]:
    """Give workers an order, which they obey within two seconds.

    Args:
        order: PAUSE, RESUME, GROW, SHRINK or SHUTDOWN.
        destination: node names; all workers by default.
        n: by how many processes to grow or shrink.

    Returns:
        The nodes that are going to obey; none for all of them where the broker does not know who there is.

    Raises:
        OperationFailed: no worker, or none of that name, is running; or those that are meant do not grow and shrink.
    """
    nodes = list(destination)
    if app.broker.browser is not None:
        nodes = _nodes(app, destination, resize=order in (GROW, SHRINK))
    if order in (GROW, SHRINK):
        (app.control.pool_grow if order == GROW else app.control.pool_shrink)(n, destination)
    else:
        {PAUSE: app.control.pause, RESUME: app.control.resume, SHUTDOWN: app.control.shutdown}[order](destination)
    return nodes


def _nodes(app: App, destination: Sequence[str], *, resize: bool) -> list[str]:
    """Return the workers that run and are meant; nobody else would ever read an order."""
    alive = [worker for worker in workers(app) if worker.alive]
    nodes = sorted({worker.node for worker in alive})
    if not nodes:
        raise OperationFailed("No worker is running: nobody would obey. `manage.py runworker` starts one.")
    for node in destination:
        if node not in nodes:
            raise OperationFailed(f"No worker {node!r} is running; there is {', '.join(nodes)}.")
    meant = list(destination) or nodes
    janitors = [worker for worker in alive if worker.janitor] if resize else []
    # Two workers may have one name.
    fixed = {each.node for each in janitors if each.fixed} - {each.node for each in janitors if not each.fixed}
    refusing = [node for node in meant if node in fixed]
    if refusing and (destination or len(refusing) == len(meant)):
        raise OperationFailed(
            f"{', '.join(refusing)} would not obey, and nobody was told: a worker with --autoscale scales itself, and "
            "one in another pool than prefork cannot be resized."
        )
    return [node for node in meant if node not in fixed]
