"""What operators ask: queues, workers, calls. Nothing here changes anything."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django_tasks import states
from django_tasks.brokers.base import Size
from django_tasks.brokers.browse import DEAD, DELAYED, STATES, WAITING, Browser, SeenWorker, StoredMessage, Wanted
from django_tasks.exceptions import CeleriacError
from django_tasks.operations import unpublished
from django_tasks.operations.unpublished import UNPUBLISHED
from django_tasks.task import Task

if TYPE_CHECKING:
    from django_tasks.app import App
    from django_tasks.outcome import TaskMeta

#: Messages that are looked at for the tasks that nobody knows.
PAGE = 100
#: States by which calls are listed; tasks may have others of their own.
KNOWN_STATES = (
    *STATES,
    UNPUBLISHED,
    states.PENDING,
    states.STARTED,
    states.RETRY,
    states.SUCCESS,
    states.FAILURE,
    states.REVOKED,
)
#: Messages of one task id that are shown: more than one is rare (a retry that another worker has made meanwhile).
MESSAGES_PER_ID = 10


class OperationFailed(CeleriacError):
    """What was asked for is not there or cannot be done; the message says why, and what to do instead."""


@dataclass(slots=True)
class QueueState:
    """One queue.

    Attributes:
        size: how many messages the broker has.
        workers: how many workers (nodes) take from it; None where that is not known.
        unpublished: how many messages wait in an outbox for the broker.
    """

    name: str
    size: Size
    workers: int | None
    unpublished: int = 0


@dataclass(slots=True)
class Call:
    """One call of a task as far as it is known: by its messages, its result, or both.

    Attributes:
        messages: as the broker has them, newest first; none once the call has ended, unless it is a dead letter.
        meta: what the result backend has.
    """

    id: str
    messages: list[StoredMessage] = field(default_factory=list)
    meta: TaskMeta | None = None

    @property
    def message(self) -> StoredMessage | None:
        """The newest message."""
        return self.messages[0] if self.messages else None

    @property
    def task(self) -> str:
        """The task's name."""
        return (self.message.task if self.message else "") or (self.meta.name if self.meta else "")

    @property
    def queue(self) -> str:
        """The queue that it is on, or came from."""
        return (self.message.queue if self.message else "") or (self.meta.queue if self.meta else "")

    @property
    def state(self) -> str:
        """Where its message is (``waiting``, ``delayed``, ``running``, ``dead``, ``unpublished``); without one, its
        stored state."""
        if self.message:
            return self.message.state
        return self.meta.status if self.meta else states.PENDING

    @property
    def ended(self) -> bool:
        """Whether nothing is going to run it any more; a dead letter is such a call."""
        if self.messages:
            return all(each.state == DEAD for each in self.messages)
        return self.meta is not None and self.meta.ready

    @property
    def since(self) -> float | None:
        """When it came to its state, in seconds since the epoch, as far as that is known."""
        if self.message:
            taken = self.message.state not in (WAITING, DELAYED, UNPUBLISHED)
            return self.message.reserved_at if taken else self.message.sent_at
        when = (self.meta.date_done or self.meta.date_started) if self.meta else None
        return when.timestamp() if when else None


def browser_of(app: App) -> Browser:
    """Return the broker's browser.

    Raises:
        OperationFailed: it has none.
    """
    if app.broker.browser is None:
        raise OperationFailed(
            f"The broker of BROKER_URL ({_scheme(app.conf.broker_url)}) cannot list its messages and workers. "
            "`tasks queues`, `tasks call` and `tasks result` work without that."
        )
    return app.broker.browser


def _scheme(url: str) -> str:
    """Return what a message may show of a URL, which can hold a password."""
    return url.partition(":")[0] + "://"


def queues(app: App) -> list[QueueState]:
    """Return all queues that the settings declare, that have messages, or that a worker takes from, by name."""
    sizes = app.broker.sizes()
    nodes: dict[str, set[str]] = {}
    for worker in app.broker.browser.workers() if app.broker.browser else ():
        for name in worker.queues if worker.alive else ():
            nodes.setdefault(name, set()).add(worker.node)
    left = unpublished.by_queue(app)
    for name in (*app.router.queues, *nodes, *left):
        sizes.setdefault(name, Size())
    known = app.broker.browser is not None
    return [
        QueueState(name, sizes[name], len(nodes.get(name, ())) if known else None, left.get(name, 0))
        for name in sorted(sizes)
    ]


def unknown_tasks(app: App) -> list[str]:
    """Return the names of tasks that workers do not know and that are to be tried again, as far as a look shows."""
    if app.broker.browser is None:
        return []
    found = app.broker.browser.messages(Wanted((WAITING, DELAYED), refused=True), PAGE)
    return sorted({message.task for message in found})


def workers(app: App) -> list[SeenWorker]:
    """Return the slots and janitors of all workers."""
    return browser_of(app).workers()


# -- calls


def calls(app: App, *, state: str = "", queue: str = "", task: str = "", limit: int = 20) -> list[Call]:
    """Return the newest calls.

    Args:
        state: where the message is (``waiting``, ``delayed``, ``running``, ``dead``, ``unpublished``), or a stored
            state (``SUCCESS``, ``FAILURE``, ...); empty for all of both.
        queue: name of the queue.
        task: name of the task.
        limit: how many at most.

    Raises:
        OperationFailed: the broker, or for a stored state the result backend, cannot list what it has.
    """
    places = _places(state)
    if places:
        stored = _messages(app, places, queue, task, limit)
        results = app.backend.get([message.id for message in stored]) if app.backend.stores else {}
        found = [Call(message.id, [message], results.get(message.id)) for message in stored]
        if state or not lists_results(app):
            return found
        metas = app.backend.latest(queue=queue, task=task, limit=limit) or []
        return _merged(found, metas)[:limit]
    if not lists_results(app):
        raise OperationFailed(
            f"The result backend of RESULT_BACKEND ({_scheme(app.conf.result_backend)}) cannot list its results. "
            "With RESULT_BACKEND = 'django-db://' they are listed, whatever the broker; `tasks result ID` shows one."
        )
    stored_state = state.upper() if state.upper() in states.ALL_STATES else state
    metas = app.backend.latest(state=stored_state, queue=queue, task=task, limit=limit) or []
    return [Call(meta.task_id, meta=meta) for meta in metas]


def _messages(app: App, places: Sequence[str], queue: str, task: str, limit: int) -> list[StoredMessage]:
    """Return the newest messages of these places."""
    found = unpublished.messages(app, limit, queue=queue, task=task) if UNPUBLISHED in places else []
    known = [place for place in places if place != UNPUBLISHED]
    if known:
        found += browser_of(app).messages(Wanted(known, queue, task), limit)
    if len(known) < len(places):
        found.sort(key=lambda message: message.sent_at or 0.0, reverse=True)
    return found[:limit]


def _places(state: str) -> tuple[str, ...]:
    """Return the places of messages that a state means; none for a state that only results have."""
    if not state:
        return (*STATES, UNPUBLISHED)
    if state.upper() == states.PENDING:
        return (WAITING, DELAYED, UNPUBLISHED)
    return tuple(place for place in (*STATES, UNPUBLISHED) if place == state.lower())


def lists_results(app: App) -> bool:
    """Whether the result backend can list what it has."""
    return app.backend.latest(limit=0) is not None


def _merged(found: list[Call], metas: Iterable[TaskMeta]) -> list[Call]:
    """Put messages and results together by id, newest first."""
    by_id = {call.id: call for call in reversed(found)}
    for meta in metas:
        by_id.setdefault(meta.task_id, Call(meta.task_id, meta=meta))
    return sorted(by_id.values(), key=lambda call: call.since or 0.0, reverse=True)


def find(app: App, task_id: str) -> Call:
    """Return everything known of one call, its messages with their envelopes.

    Raises:
        OperationFailed: nothing is known.
    """
    call = known(app, task_id)
    if call is None:
        raise OperationFailed(
            f"Nothing is known of task {task_id!r}: it was never sent, its result is past RESULT_EXPIRES, its task "
            "stores none, or it runs right now with acks_late=False."
        )
    return call


def known(app: App, task_id: str) -> Call | None:
    """Return everything known of one call; None if that is nothing."""
    messages = unpublished.messages(app, MESSAGES_PER_ID, ids=[task_id])
    if app.broker.browser is not None:
        # What the broker has comes first: what was published may stay in the outbox for a moment.
        messages = app.broker.browser.messages(Wanted(ids=[task_id]), MESSAGES_PER_ID, payload=True) + messages
    meta = app.backend.get([task_id]).get(task_id) if app.backend.stores else None
    return Call(task_id, messages, meta) if messages or meta else None


# -- tasks


def registered(app: App) -> dict[str, dict[str, Any]]:
    """Return the options of each task, by its name, that differ from the defaults of ``Task``."""
    defaults = _options()
    found: dict[str, dict[str, Any]] = {}
    for name, task in sorted(app.tasks.items()):
        values = {option: getattr(task, option) for option in defaults}
        found[name] = {option: value for option, value in values.items() if value != defaults[option]}
    return found


def _options() -> dict[str, Any]:
    """Return the options of tasks with their defaults; what the code of a task says of itself is none."""
    unwanted = ("name", "bind", "typing")
    return {
        name: value
        for name, value in vars(Task).items()
        if name in Task.__annotations__ or not (callable(value) or hasattr(value, "__get__"))
        if not name.startswith("_") and name not in unwanted
    }


def suggestion(name: str, names: Iterable[str]) -> str:
    """Return a sentence with the names that may have been meant, by their last parts; empty if none is near."""
    last_parts = {each: each.rpartition(".")[2] for each in names}
    near = difflib.get_close_matches(name.rpartition(".")[2], set(last_parts.values()))
    meant = [each for each, last in last_parts.items() if last in near]
    meant.sort(key=lambda each: difflib.SequenceMatcher(None, name, each).ratio(), reverse=True)
    return f" Did you mean {' or '.join(meant[:3])}?" if meant else ""
