"""Exceptions as data: how a result holds an error, and how it becomes one again (celery-wire, section 4.3)."""

from __future__ import annotations

import builtins
import sys
import traceback
from typing import Any

from django_tasks import exceptions, serialization
from django_tasks.exceptions import EncodeError, SecurityError, TaskError
from django_tasks.utils.saferepr import saferepr

#: Packages whose exceptions have their namesakes in ``django_tasks.exceptions``.
_CELERYS = ("celery.", "billiard.", "kombu.")


def exception_to_dict(exc: BaseException, serializer: str = "json") -> dict[str, Any]:
    """Return ``{"exc_type", "exc_message", "exc_module"}``; arguments that cannot be encoded become their repr."""
    arguments = []
    for argument in exc.args:
        try:
            serialization.dumps(argument, serializer)
        except EncodeError:
            arguments.append(saferepr(argument))
        else:
            arguments.append(argument)
    kind = type(exc)
    return {"exc_type": kind.__qualname__, "exc_message": arguments, "exc_module": kind.__module__}


def exception_from_dict(data: Any) -> BaseException:
    """Return the exception a result holds: the same class where this process has it, else one of the same name.

    Raises:
        SecurityError: the name stands for something that is not an exception class.
    """
    if isinstance(data, BaseException):
        return data
    if not isinstance(data, dict) or "exc_type" not in data:
        return ValueError(data)
    kind = _find_class(str(data["exc_type"]), data.get("exc_module"))
    message = data.get("exc_message")
    arguments = message if isinstance(message, (list, tuple)) else [] if message is None else [message]
    try:
        exc = kind(*arguments)
    except Exception:
        exc = kind.__new__(kind)
    # An __init__ may want, or make of them, something else than its args: those were the ones in the worker.
    exc.args = tuple(arguments)
    return exc


def _find_class(name: str, module_name: str | None) -> type[BaseException]:
    # Ours also where Celery is there, so that code that catches ours need not know which of the two has run the task.
    found: Any = getattr(exceptions, name, None) if (module_name or "").startswith(_CELERYS) else None
    if found is None:
        # What is not loaded is not imported (nor does Celery): a stored error must not say which code runs here.
        found = sys.modules.get(module_name) if module_name else builtins
        for part in name.split("."):
            found = getattr(found, part, None)
    if found is None:
        return type(name.rpartition(".")[2], (Exception,), {"__module__": module_name or __name__})
    if not (isinstance(found, type) and issubclass(found, BaseException)):
        raise SecurityError(f"The stored error names {module_name}.{name}, which is not an exception class.")
    return found


def without_our_frames(exc: BaseException) -> BaseException:
    """Let the traceback of a task's exception begin in the task: how we came to call it tells nobody anything."""
    frame = exc.__traceback__
    while frame is not None and frame.tb_frame.f_globals.get("__name__", "").startswith("django_tasks."):
        frame = frame.tb_next
    return exc.with_traceback(frame) if frame is not None else exc


def format_traceback(exc: BaseException) -> str:
    """Return the traceback as text, from the task's own frame on."""
    return "".join(traceback.format_exception(type(exc), exc, exc.__traceback__))


class ExceptionInfo:
    """An exception with its traceback as text, as hooks and signals get it (Celery's ``einfo``)."""

    def __init__(self, exception: BaseException) -> None:
        self.exception = exception
        self.type = type(exception)
        self.traceback = format_traceback(exception)

    def __str__(self) -> str:
        return self.traceback

    def __repr__(self) -> str:
        return f"<ExceptionInfo: {saferepr(self.exception)}>"


def raisable(value: Any) -> Exception:
    """Return what to raise for a stored error: the end of a worker's task must not end the process that asks."""
    if isinstance(value, Exception):
        return value
    if isinstance(value, BaseException):
        return TaskError(f"The task raised {saferepr(value)}")
    return Exception(value)


class RemoteTraceback(Exception):
    """The traceback of the worker, shown as the cause of an exception that ``get()`` raises."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n\n{self.text}"
