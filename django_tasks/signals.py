"""Celery's signals: what a project can hear about its tasks and workers.

Each signal below names its sender and its arguments, as Celery's documentation does. Receivers must accept
``**kwargs``, so that arguments can be added later::

    @task_failure.connect(sender="proj.tasks.add")
    def complain(sender=None, task_id=None, exception=None, **kwargs): ...
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any, TypeVar, overload

from asgiref.sync import async_to_sync
from django.dispatch import Signal as DjangoSignal

logger = logging.getLogger(__name__)

Receiver = TypeVar("Receiver", bound=Callable[..., Any])


class Signal(DjangoSignal):
    """A Django signal that behaves as Celery's: it decorates, knows tasks by name, and never raises.

    Where nobody may listen, ask first; it costs one attribute: ``if task_prerun.receivers: task_prerun.send(...)``.

    Args:
        name: what to call it in logs.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        # Django tells senders apart by id(). One string object per name makes equal names the same sender.
        self._names: dict[str, str] = {}

    # Unlike Django's, it returns the receiver; "unused" where Django's type stubs are not installed.
    @overload  # type: ignore[override, unused-ignore]
    def connect(
        self, receiver: Receiver, sender: Any = None, weak: bool = True, dispatch_uid: Any = None
    ) -> Receiver: ...

    @overload
    def connect(
        self, receiver: None = None, sender: Any = None, weak: bool = True, dispatch_uid: Any = None
    ) -> Callable[[Receiver], Receiver]: ...

    def connect(self, receiver: Any = None, sender: Any = None, weak: bool = True, dispatch_uid: Any = None) -> Any:
        """Call ``receiver`` whenever this is sent; also a decorator, with and without arguments.

        Args:
            receiver: a callable that accepts ``**kwargs``; left out, a decorator is returned.
            sender: listen to this sender only: a task or its name, or whatever the signal says its sender is.
            weak: forget the receiver when nothing else refers to it.
            dispatch_uid: what identifies the receiver, so that connecting it twice calls it once.

        Returns:
            The receiver.

        Raises:
            TypeError: the receiver cannot be called.
            ValueError: the receiver does not accept ``**kwargs``.
        """
        if receiver is None:
            return lambda function: self.connect(function, sender, weak, dispatch_uid)
        if not callable(receiver):
            raise TypeError(
                f"{self.name}.connect() got {receiver!r}, which cannot be called: give a function first, "
                "and the sender as sender=..."
            )
        if not _accepts_kwargs(receiver):
            raise ValueError(f"Receiver {title(receiver)} of signal {self.name} must accept **kwargs: add them to it.")
        super().connect(receiver, self._same_sender(sender, keep=True), weak, dispatch_uid)
        return receiver

    def disconnect(self, receiver: Any = None, sender: Any = None, dispatch_uid: Any = None) -> bool:
        """Stop calling a receiver; arguments as for ``connect``. Return whether it was connected."""
        return bool(super().disconnect(receiver, self._same_sender(sender), dispatch_uid))

    def has_listeners(self, sender: Any = None) -> bool:
        """Return whether anybody would be called for this sender."""
        return bool(self._listening(sender))

    def send(self, sender: Any, **named: Any) -> list[tuple[Any, Any]]:
        """Call every receiver of this sender; an exception in one is logged, and is its response.

        Args:
            sender: who sends; receivers get it as ``sender``.
            **named: the signal's own arguments.

        Returns:
            Pairs of receiver and response, in the order of connection (coroutine functions last).
        """
        if not self.receivers:
            return []
        return [(receiver, self._call(receiver, sender, named)) for receiver in self._listening(sender)]

    send_robust = send

    def _call(self, receiver: Any, sender: Any, named: dict[str, Any]) -> Any:
        try:
            response = receiver(signal=self, sender=sender, **named)
            return async_to_sync(_finished)(response) if inspect.iscoroutine(response) else response
        except Exception as error:
            logger.exception("Receiver %s of signal %s raised %r", title(receiver), self.name, error)
            return error

    def _listening(self, sender: Any) -> list[Any]:
        receivers = self._live_receivers(self._same_sender(sender))
        # Since Django 5.0 a pair: plain functions and coroutine functions.
        return [*receivers[0], *receivers[1]] if isinstance(receivers, tuple) else list(receivers)

    def _same_sender(self, sender: Any, keep: bool = False) -> Any:
        """Return the one object that stands for a task, its name, or any other sender."""
        name = sender if isinstance(sender, str) else getattr(sender, "name", None)
        if not isinstance(name, str):
            return sender
        return self._names.setdefault(name, name) if keep else self._names.get(name, name)

    def __repr__(self) -> str:
        return f"<Signal: {self.name}>"


async def _finished(response: Any) -> Any:
    return await response


def _accepts_kwargs(receiver: Any) -> bool:
    # Django's func_accepts_kwargs remembers what it was asked about, and so keeps weak receivers alive.
    return any(each.kind is each.VAR_KEYWORD for each in inspect.signature(receiver).parameters.values())


def title(receiver: Any) -> str:
    """Return what to call a receiver in logs and messages."""
    name = getattr(receiver, "__qualname__", None)
    return f"{receiver.__module__}.{name}" if name else repr(receiver)


# In the process that sends. Sender: the task's name.

#: ``body``, ``exchange``, ``routing_key``, ``headers``, ``properties``, ``declare``, ``retry_policy``; custom
#: headers, ``headers["shadow"]`` and ``properties["priority"]`` may be changed.
before_task_publish = Signal("before_task_publish")
#: ``headers``, ``body``, ``exchange``, ``routing_key``.
after_task_publish = Signal("after_task_publish")

# In the worker. Sender: the task, where nothing else is said.

#: ``request``: what has come in. Sender: the worker.
task_received = Signal("task_received")
#: ``task_id``, ``task``, ``args``, ``kwargs``; just before the task's function is called.
task_prerun = Signal("task_prerun")
#: ``task_id``, ``task``, ``args``, ``kwargs``, ``retval``, ``state``; whatever came of the run.
task_postrun = Signal("task_postrun")
#: ``result``, ``runtime`` (seconds).
task_success = Signal("task_success")
#: ``task_id``, ``exception``, ``args``, ``kwargs``, ``traceback``, ``einfo``.
task_failure = Signal("task_failure")
#: ``request``, ``reason`` (usually an exception), ``einfo``.
task_retry = Signal("task_retry")
#: ``request``, ``terminated``, ``signum``, ``expired``.
task_revoked = Signal("task_revoked")
#: ``name``, ``id``, ``message``, ``exc``: no such task here. Sender: the worker.
task_unknown = Signal("task_unknown")
#: ``message``, ``exc``: not a task message at all. Sender: the worker.
task_rejected = Signal("task_rejected")
#: ``task_id``, ``args``, ``kwargs``, ``request``, ``exception``, ``traceback``, ``einfo``: our own code failed.
task_internal_error = Signal("task_internal_error")

# The worker itself.

#: ``instance`` (None), ``conf``, ``options`` (of the command line); the first of all, so that receivers may change
#: ``conf`` for the worker of one name. Sender: the node's name.
celeryd_init = Signal("celeryd_init")
#: Before the worker starts. Sender: the worker.
worker_init = Signal("worker_init")
#: The worker takes tasks from now on. Sender: the worker.
worker_ready = Signal("worker_ready")
#: In each worker process, when it starts.
worker_process_init = Signal("worker_process_init")
#: ``pid``, ``exitcode``; in each worker process, just before it ends. A killed process sends nothing.
worker_process_shutdown = Signal("worker_process_shutdown")
#: ``sig``, ``how``, ``exitcode``; shutting down begins. Sender: the node's name.
worker_shutting_down = Signal("worker_shutting_down")
#: The worker is about to end. Sender: the worker.
worker_shutdown = Signal("worker_shutdown")

# Beat.

#: Beat starts, as a process of its own. Sender: the beat.
beat_init = Signal("beat_init")
#: Beat starts in a worker (``-B``): in its process there. Sender: the beat.
beat_embedded_init = Signal("beat_embedded_init")

# Logging of the worker. Sender: None.

#: ``loglevel``, ``logfile``, ``format``, ``colorize``. With a receiver, the worker leaves logging to it altogether.
setup_logging = Signal("setup_logging")
#: ``logger`` (the root), ``loglevel``, ``logfile``, ``format``, ``colorize``.
after_setup_logger = Signal("after_setup_logger")
#: ``logger`` (the parent of all task loggers), ``loglevel``, ``logfile``, ``format``, ``colorize``.
after_setup_task_logger = Signal("after_setup_task_logger")
