"""Every exception this package raises, under Celery's names where Celery has one."""

from __future__ import annotations

import builtins
import numbers
from datetime import datetime
from typing import Any

from django_tasks.utils.saferepr import saferepr, safestr


class CeleriacError(Exception):
    """Base of everything raised here that is not about one task's run."""


class ImproperlyConfigured(CeleriacError):
    """A setting, an option or an app cannot work as given; the message says what to change."""


class OperationalError(CeleriacError):
    """The broker or the result backend could not be reached or refused the request."""


class RequestRefused(OperationalError):
    """A server is there and refuses what it is asked: the same again is refused until somebody changes something.

    A key of somebody else has the name of one of ours, or the user may not do that. What only takes time (a full
    memory, a read-only replica) is a plain ``OperationalError``.
    """


class ReplicationError(OperationalError):
    """Messages are sent, but fewer replicas have them than were asked for (``wait_replicas``)."""


class SerializationError(CeleriacError):
    """A value could not be written to, or read from, a message or a result."""


class EncodeError(SerializationError):
    """A value cannot be serialised by the chosen serializer."""


class DecodeError(SerializationError):
    """Bytes that should hold a message or a result do not.

    ``task`` and ``id`` name the message where they could be read.
    """

    def __init__(self, message: str, *, task: str | None = None, id: str | None = None) -> None:
        super().__init__(message)
        self.task = task
        self.id = id


class ContentDisallowed(DecodeError):
    """The content type is known but not in ``accept_content``."""


class MessageTooLarge(EncodeError):
    """A message is larger than ``TASK_MAX_MESSAGE_SIZE`` bytes."""


class SecurityError(CeleriacError):
    """A stored error names something that is not an exception class."""


class LeaseLost(CeleriacError):
    """A worker tried to finish what was taken from it in the meantime."""


class TaskPredicate(CeleriacError):
    """Base of what a task raises to say how its run is to be understood."""


class Ignore(TaskPredicate):
    """Raised by a task: acknowledge the message and store nothing."""


class Reject(TaskPredicate):
    """Raised by a task: refuse the message.

    Args:
        reason: what to log and, without ``requeue``, to keep with the dead letter.
        requeue: put the message back on its queue instead of among the dead letters.
    """

    def __init__(self, reason: Any = None, requeue: bool = False) -> None:
        super().__init__(reason, requeue)
        self.reason = reason
        self.requeue = requeue

    def __str__(self) -> str:
        return f"reject requeue={self.requeue}: {safestr(self.reason)}"


class Retry(TaskPredicate):
    """Raised by ``Task.retry``: the task is going to run again.

    Args:
        message: what to say.
        exc: the error that made the retry necessary.
        when: seconds until the next run, or the time of it.
    """

    def __init__(
        self, message: str | None = None, exc: BaseException | None = None, when: Any = None, **_: Any
    ) -> None:
        super().__init__(message, exc, when)
        self.message = message
        self.exc = exc
        self.excs = saferepr(exc) if exc is not None else None
        self.when = when

    def humanize(self) -> str:
        """Return when the next run is, in words."""
        if isinstance(self.when, numbers.Number):
            return f"in {round(self.when, 2) if isinstance(self.when, float) else self.when}s"
        return f"at {self.when.isoformat() if isinstance(self.when, datetime) else self.when}"

    def __str__(self) -> str:
        if self.message:
            return self.message
        if self.excs:
            return f"Retry {self.humanize()}: {self.excs}"
        return f"Retry {self.humanize()}"


RetryTaskError = Retry


class TaskError(CeleriacError):
    """Base of the errors a task's result can hold."""


class NotRegistered(KeyError, TaskError):
    """No task of this name is known to the process."""

    def __str__(self) -> str:
        name = self.args[0] if self.args else None
        return (
            f"Task of kind {name!r} is not registered, please make sure it's imported: it must stand in a `tasks` "
            "module of an installed app, and the worker must run the same code as the sender."
        )


class AlreadyRegistered(TaskError):
    """Two different tasks have one name."""


class TimeoutError(TaskError, builtins.TimeoutError):
    """``AsyncResult.get(timeout=...)`` waited that long and the task had not ended.

    It is Python's ``TimeoutError`` too.
    """


class MaxRetriesExceededError(TaskError):
    """The task asked for one more retry than ``max_retries`` allows."""

    def __init__(self, *args: Any, task_args: Any = (), task_kwargs: Any = None) -> None:
        super().__init__(*args)
        self.task_args = task_args
        self.task_kwargs = task_kwargs or {}


class TaskRevokedError(TaskError):
    """The task was revoked (``revoked``), stopped while running (``terminated``) or came too late (``expired``)."""


class SoftTimeLimitExceeded(Exception):
    """Raised inside a task whose soft time limit has passed."""

    def __str__(self) -> str:
        return f"SoftTimeLimitExceeded{self.args}"


class TimeLimitExceeded(Exception):
    """A task ran past its hard time limit and was stopped."""

    def __str__(self) -> str:
        if len(self.args) == 1 and isinstance(self.args[0], (int, float)):
            return f"time limit of {self.args[0]:g} s"
        return f"TimeLimitExceeded{self.args}"


class WorkerLostError(Exception):
    """The worker process died while it ran the task."""


class ChordError(TaskError):
    """A task of a chord's header failed."""
