"""Remote control: what can be said to tasks that wait or run, and to workers."""

from __future__ import annotations

import signal as signals_module
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from django_tasks import publishing, signals, states
from django_tasks.backends.base import utc_now
from django_tasks.brokers.base import Delivery, deliver, new_lease
from django_tasks.brokers.browse import RUNNING, Wanted
from django_tasks.chunks import chunked
from django_tasks.context import Context
from django_tasks.exceptions import ImproperlyConfigured, TaskRevokedError
from django_tasks.finish import ended_by, failure, finish
from django_tasks.message import Message
from django_tasks.outcome import TaskMeta

if TYPE_CHECKING:
    from django_tasks.app import App
    from django_tasks.brokers.control import Control as BrokerControl

#: Orders that workers understand.
TERMINATE, PAUSE, RESUME, RESIZE, SHUTDOWN = "terminate", "pause", "resume", "resize", "shutdown"
#: Ids that the broker is asked about at a time.
LOOKED_UP = 500


class Control:
    """Celery's ``app.control``.

    Args:
        app: the app whose broker carries the orders.
    """

    def __init__(self, app: App) -> None:
        self.app = app

    def revoke(self, task_id: str | Sequence[str], terminate: bool = False, signal: str | int | None = None) -> None:
        """Cancel tasks by id: those that wait end as REVOKED at once; those that run go on, unless ``terminate``.

        A task that runs keeps the state REVOKED whatever it returns, and is not retried.

        Args:
            terminate: also stop the process that runs it.
            signal: by which signal (name or number); SIGTERM by default.
        """
        task_ids = [task_id] if isinstance(task_id, str) else list(task_id)
        if terminate:
            self._order(TERMINATE, "", ids=task_ids, signal=signal_number(signal))
        control = self._broker_control()
        error = TaskRevokedError("revoked")
        ended = set(withdraw(self.app, error, task_ids))
        deliveries = control.take(task_ids, new_lease())
        _tell_revoked(self.app, [delivery.message for delivery in deliveries])
        finish(self.app, [failure(self.app, each, error, state=states.REVOKED) for each in deliveries])
        ended.update(delivery.message.id for delivery in deliveries)
        others = [each for each in task_ids if each not in ended]
        self._mark_revoked(others, TaskRevokedError("terminated" if terminate else "revoked"))
        # What a worker holds may come back before it has begun. Last, so that whoever reserves it then finds the end.
        control.mark_redelivered(others)

    def _mark_revoked(self, task_ids: list[str], error: Exception) -> None:
        """Store REVOKED for what no queue holds; where the task has ended, that stays."""
        backend = self.app.backend
        if not (task_ids and backend.stores):
            return
        known, running = backend.get(task_ids), self._running(task_ids)
        going = [each for each in task_ids if each not in known or not known[each].ready]
        backend.store([self._revoked(each, error, known.get(each), running.get(each)) for each in going])

    def _running(self, task_ids: list[str]) -> dict[str, tuple[Delivery, float | None]]:
        """Return the messages of these calls that workers hold, and since when, where the broker shows them."""
        broker, found = self.app.broker, {}
        browser = broker.browser
        for some in chunked(task_ids, LOOKED_UP):
            wanted = Wanted(states=(RUNNING,), ids=some)
            for each in browser.messages(wanted, LOOKED_UP, payload=True) if browser is not None else ():
                held = deliver(each.payload or "", broker.accept, each.queue, each.handle, 0, holder=each.worker)
                if held.error is None:
                    found[each.id] = held, each.reserved_at
        return found

    def _revoked(
        self, task_id: str, error: Exception, before: TaskMeta | None, running: tuple[Delivery, float | None] | None
    ) -> TaskMeta:
        """Make the meta of a revoked call, with all that its message, or what was stored before, tells of it."""
        if running is None:
            result, now = self.app.backend.encode(error, states.REVOKED), utc_now(self.app.broker.now())
            return replace(before or TaskMeta(task_id, ""), status=states.REVOKED, result=result, date_done=now)
        held, since = running
        meta = ended_by(self.app, held.message, error, states.REVOKED)
        meta.worker = held.holder.rpartition("/")[0]  # its slots are called name@host/...
        if since is not None:
            meta.date_started = utc_now(since)  # nearly: a worker begins at once, or gives back
        if before is not None:
            meta.children, meta.date_started = before.children, before.date_started or meta.date_started
        return meta

    def terminate(self, task_id: str | Sequence[str], signal: str | int | None = None) -> None:
        """Cancel tasks, and stop the processes that run them."""
        self.revoke(task_id, terminate=True, signal=signal)

    def pause(self, destination: Sequence[str] = ()) -> None:
        """Let workers finish what they run and reserve nothing more, until ``resume``.

        Args:
            destination: node names (``name@host``); all workers by default.
        """
        self._to(destination, PAUSE)

    def resume(self, destination: Sequence[str] = ()) -> None:
        """Let paused workers go on."""
        self._to(destination, RESUME)

    def pool_grow(self, n: int = 1, destination: Sequence[str] = ()) -> None:
        """Add ``n`` worker processes."""
        self._to(destination, RESIZE, by=n)

    def pool_shrink(self, n: int = 1, destination: Sequence[str] = ()) -> None:
        """Remove ``n`` worker processes once they have finished what they run; one always stays."""
        self._to(destination, RESIZE, by=-n)

    def shutdown(self, destination: Sequence[str] = ()) -> None:
        """Stop workers as SIGTERM does."""
        self._to(destination, SHUTDOWN)

    def _to(self, destination: Sequence[str], kind: str, **arguments: Any) -> None:
        for node in destination or ("",):
            self._order(kind, node, **arguments)

    def _order(self, kind: str, node: str, **arguments: Any) -> None:
        self._broker_control().give_order(kind, node, arguments)

    def _broker_control(self) -> BrokerControl:
        control = self.app.broker.control
        if control is None:
            raise ImproperlyConfigured(f"Remote control does not work over {self.app.conf.broker_url.split(':')[0]}.")
        return control


def withdraw(app: App, error: Exception, ids: Sequence[str] | None = None, queue: str = "") -> list[str]:
    """End calls as REVOKED that have not been sent: they wait for a transaction that is open here, or in an outbox.

    Args:
        error: why.
        ids: their task ids; None for all.
        queue: name of their queue; empty for any.

    Returns:
        The ids of those that there were.
    """
    wanted = None if ids is None else set(ids)
    pending = publishing.pending(
        app, lambda message: (wanted is None or message.id in wanted) and queue in ("", message.queue)
    )
    found = _end_unsent(app, pending, error)
    publishing.withdraw(app, pending)
    if not (app.conf.task_outbox and app.uses_database):
        return found
    from django_tasks.outbox import existing_outboxes  # its models cannot be imported before the apps are loaded

    for outbox in existing_outboxes():
        for some in [None] if ids is None else chunked(ids, LOOKED_UP):
            while rows := outbox.take(app.broker.now(), some, queue):
                messages = [deliver(row.payload, app.broker.accept, row.queue, row.pk, 0).message for row in rows]
                found += _end_unsent(app, [each for each in messages if each.id not in found], error)
                outbox.remove(rows)
    return found


def _end_unsent(app: App, messages: Sequence[Message], error: Exception) -> list[str]:
    _tell_revoked(app, messages)
    finish(app, [failure(app, message, error, state=states.REVOKED) for message in messages])
    return [message.id for message in messages]


def _tell_revoked(app: App, messages: Sequence[Message]) -> None:
    for message in messages if signals.task_revoked.receivers else ():
        task = app.tasks.get(message.task)
        signals.task_revoked.send(
            sender=task, request=Context(task, message), terminated=False, signum=None, expired=False
        )


def signal_number(signal: str | int | None) -> int:
    """Return a signal's number by its name (``"SIGKILL"`` or ``"KILL"``) or number; SIGTERM for None.

    Raises:
        ValueError: there is no such signal.
    """
    if signal is None:
        return int(signals_module.SIGTERM)
    if isinstance(signal, int):
        return int(signals_module.Signals(signal))
    name = signal.upper() if signal.upper().startswith("SIG") else f"SIG{signal.upper()}"
    if name not in signals_module.Signals.__members__:
        raise ValueError(f"There is no signal {signal!r}; use a name such as 'SIGTERM' or a number")
    return int(signals_module.Signals[name])
