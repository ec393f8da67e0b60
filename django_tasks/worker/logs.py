"""The worker's logging: how it is set up, and the lines that tell what becomes of each task (in Celery's words)."""

from __future__ import annotations

import logging
import sys
from logging.handlers import WatchedFileHandler
from typing import TYPE_CHECKING, Any

from django_tasks import signals, states
from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.utils.log import JsonFormatter, SecretFilter, TaskFormatter, task_logger
from django_tasks.utils.saferepr import saferepr, safestr
from django_tasks.worker.files import written

if TYPE_CHECKING:
    from django_tasks.conf import Settings
    from django_tasks.exceptions import Reject
    from django_tasks.message import Message

logger = logging.getLogger("django_tasks.worker")


def setup_logging(level: str | int, logfile: str | None, json: bool, color: bool | None, conf: Settings) -> bool:
    """Set up logging for a worker, unless a receiver of the signal ``setup_logging`` does.

    The root logger gets one handler and the parent of all task loggers another, which adds the task to each line.
    With ``worker_hijack_root_logger`` off, loggers that have handlers from Django's ``LOGGING`` keep them.

    Args:
        level: the least level to log, as a name or a number.
        logfile: the file to append to; None for standard error.
        json: write each record as a JSON object instead of with the formats from the settings.
        color: colour lines by their level; None for ``worker_log_color``, and where that is None, for terminals only.
        conf: the settings.

    Returns:
        Whether it was done here, and not by a receiver.

    Raises:
        ImproperlyConfigured: there is no such level, or the file cannot be written.
        Exception: whatever a receiver of ``setup_logging`` raised, since nothing is logged without it.
    """
    colorize = _wants_color(color if color is not None else conf.worker_log_color, logfile) and not json
    facts: dict[str, Any] = {"loglevel": level_number(level), "logfile": logfile, "colorize": colorize}
    if signals.setup_logging.receivers and _left_to_receivers({**facts, "format": conf.worker_log_format}):
        return False
    root = logging.getLogger()
    hijack = conf.worker_hijack_root_logger
    root_is_free = hijack or not _has_handlers(root)
    # Where the project's own handlers stand on the root, tasks log to them too.
    tasks_are_free = hijack or (root_is_free and not _has_handlers(task_logger))
    if root_is_free:
        _give_handler(root, conf.worker_log_format, json, **facts)
    else:
        _lower_to(facts["loglevel"], logging.getLogger("django_tasks"))
    signals.after_setup_logger.send(sender=None, logger=root, format=conf.worker_log_format, **facts)
    if tasks_are_free:
        _give_handler(task_logger, conf.worker_task_log_format, json, **facts)
        task_logger.propagate = False
    else:
        _lower_to(facts["loglevel"], task_logger)
    signals.after_setup_task_logger.send(sender=None, logger=task_logger, format=conf.worker_task_log_format, **facts)
    return True


def level_number(level: str | int) -> int:
    """Return the number of a log level given by its name (in any case) or number.

    Raises:
        ImproperlyConfigured: there is no such level.
    """
    if isinstance(level, int):
        return level
    if level.isdecimal():
        return int(level)
    number = logging.getLevelName(level.strip().upper())
    if isinstance(number, int):
        return number
    raise ImproperlyConfigured(f"Unknown log level {level!r}: use DEBUG, INFO, WARNING, ERROR, CRITICAL or a number.")


def _wants_color(wish: bool | None, logfile: str | None) -> bool:
    return wish if wish is not None else logfile is None and sys.stderr.isatty()


def _left_to_receivers(facts: dict[str, Any]) -> bool:
    responses = signals.setup_logging.send(sender=None, **facts)
    for _, response in responses:
        if isinstance(response, Exception):
            raise response
    return bool(responses)


def _has_handlers(logger: logging.Logger) -> bool:
    return any(not isinstance(handler, logging.NullHandler) for handler in logger.handlers)


def _give_handler(
    logger: logging.Logger, format: str, json: bool, *, loglevel: int, logfile: str | None, colorize: bool
) -> None:
    """Make a handler of the worker's the only one of a logger."""
    with written("--logfile", logfile):
        handler = WatchedFileHandler(logfile, encoding="utf-8") if logfile else logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if json else TaskFormatter(format, use_color=colorize))
    handler.addFilter(SecretFilter())
    logger.handlers[:] = [handler]
    logger.setLevel(loglevel)


def _lower_to(level: int, logger: logging.Logger) -> None:
    """Make the worker's level count for a logger whose level nobody has set, whatever stands above it."""
    if logger.level == logging.NOTSET:
        logger.setLevel(level)


# One function for each thing that can become of a task. They are on the hot path: look at the level first.


def task_received(message: Message) -> None:
    """Log that a task has come in."""
    if logger.isEnabledFor(logging.INFO):
        _log(logging.INFO, message, states.RECEIVED, "Task %s[%s] received")


def task_succeeded(message: Message, runtime: float, retval: Any, maxsize: int = 1024) -> None:
    """Log that a task has returned ``retval`` (the value itself) after ``runtime`` seconds.

    ``maxsize`` is the task's ``resultrepr_maxsize``: how many characters of the value to show.
    """
    if logger.isEnabledFor(logging.INFO):
        text = "Task %s[%s] succeeded in %.4fs: %s"
        _log(logging.INFO, message, states.SUCCESS, text, runtime, _show(retval, maxsize), runtime=runtime)


def task_failed(message: Message, error: BaseException, runtime: float = 0.0, *, expected: bool = False) -> None:
    """Log that a task has raised; with its traceback unless the error is among the task's ``throws`` (``expected``)."""
    if not expected:
        text = "Task %s[%s] raised unexpected: %s"
        _log(logging.ERROR, message, states.FAILURE, text, _show(error), runtime=runtime, error=error)
    elif logger.isEnabledFor(logging.INFO):
        _log(logging.INFO, message, states.FAILURE, "Task %s[%s] raised expected: %s", _show(error), runtime=runtime)


def task_retried(message: Message, reason: object, runtime: float = 0.0) -> None:
    """Log that a task is going to run again; ``reason`` is the ``Retry`` that says when and why."""
    if logger.isEnabledFor(logging.INFO):
        text = "Task %s[%s] retry: %s"
        _log(logging.INFO, message, states.RETRY, text, _shorten(safestr(reason)), runtime=runtime)


def task_ignored(message: Message, runtime: float = 0.0) -> None:
    """Log that a task has raised ``Ignore``."""
    if logger.isEnabledFor(logging.INFO):
        _log(logging.INFO, message, states.IGNORED, "Task %s[%s] ignored", runtime=runtime)


def task_revoked(message: Message, reason: str = "revoked") -> None:
    """Log that a task will not run, or was stopped: ``reason`` is ``revoked``, ``expired`` or ``terminated``."""
    if logger.isEnabledFor(logging.INFO):
        text = "Task %s[%s] terminated" if reason == "terminated" else f"Discarding {reason} task: %s[%s]"
        _log(logging.INFO, message, states.REVOKED, text)


def task_rejected(message: Message, reject: Reject, runtime: float = 0.0) -> None:
    """Log that a task has refused its message."""
    text = "Task %s[%s] rejected, requeue=%s: %s"
    reason = _shorten(safestr(reject.reason))
    _log(logging.WARNING, message, states.REJECTED, text, reject.requeue, reason, runtime=runtime)


def task_discarded(message: Message, reason: str, runtime: float = 0.0) -> None:
    """Log that a task has run but what it came to does not count: it was revoked, or is somebody else's by now."""
    text = "Task %s[%s] ran in %.4fs, and what it came to is discarded: %s"
    _log(logging.WARNING, message, states.IGNORED, text, runtime, reason, runtime=runtime)


def task_ended(message: Message, error: BaseException) -> None:
    """Log that a task was ended by somebody else than the process that ran it."""
    _log(logging.ERROR, message, states.FAILURE, "Task %s[%s] failed: %r", error)


def _log(
    level: int, message: Message, state: str, text: str, *args: Any, runtime: float = 0.0,
    error: BaseException | None = None,
) -> None:  # fmt: skip
    """Log a text about a task, whose name and id come first among its arguments; facts stand apart in JSON lines."""
    name = message.shadow or message.task
    facts: dict[str, Any] = {"task_name": name, "task_id": message.id, "state": state}
    if runtime:
        facts["runtime"] = round(runtime, 6)
    logger.log(level, text, name, message.id, *args, exc_info=error, extra=facts)


def _show(value: object, maxsize: int = 1024) -> str:
    # Containers are not walked to their end: a task may return a million rows.
    return saferepr(value, maxsize, large=isinstance(value, (list, tuple, dict, set, frozenset)))


def _shorten(text: str, maxsize: int = 1024) -> str:
    return text if len(text) <= maxsize else text[: maxsize - 3] + "..."
