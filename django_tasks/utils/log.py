"""Loggers for tasks, and what the worker puts between a record and the screen or the file.

``get_task_logger`` is what tasks use; the formatters and the filter may be used in a project's own ``LOGGING`` too.
"""

from __future__ import annotations

import json
import logging
import re
from datetime import datetime, timezone
from typing import Any

import orjson

from django_tasks.context import current_request

#: The parent of all task loggers, under Celery's name, so that a ``LOGGING`` setting written for Celery still works.
task_logger = logging.getLogger("celery.task")

#: What stands for the task where none is running, as in Celery.
NO_TASK = "???"


def get_logger(name: str) -> logging.Logger:
    """Return the logger of this name (Celery's spelling of ``logging.getLogger``)."""
    return logging.getLogger(name)


def get_task_logger(name: str) -> logging.Logger:
    """Return a logger for a module with tasks: ``logger = get_task_logger(__name__)``.

    It is a child of ``celery.task``, whatever its name, and its records carry ``task_name`` and ``task_id``.

    Args:
        name: the logger's name.

    Raises:
        RuntimeError: the name is that of the parent itself, or of one of its parents.
    """
    logger = logging.getLogger(name)
    if _descends(task_logger, logger):
        raise RuntimeError(f"Logger name {name!r} stands above all task loggers: use get_task_logger(__name__).")
    if not _descends(logger, task_logger):
        # Those above it by name are made now: made later, they would take it from celery.task.
        above = name
        while above := above.rpartition(".")[0]:
            logging.getLogger(above)
        logger.parent = task_logger
    logger.addFilter(add_task)
    return logger


def _descends(logger: logging.Logger, ancestor: logging.Logger) -> bool:
    """Return whether records of ``logger`` come to ``ancestor``, itself included."""
    at: logging.Logger | None = logger
    while at is not None and at is not ancestor:
        at = at.parent
    return at is ancestor


def add_task(record: logging.LogRecord) -> bool:
    """Give a record the ``task_name`` and ``task_id`` of the task that runs here, unless it has them (a filter)."""
    request = current_request()
    if not hasattr(record, "task_name"):
        record.task_name = (request and request.task) or NO_TASK
    if not hasattr(record, "task_id"):
        record.task_id = (request and request.id) or NO_TASK
    return True


# A password ends at the last "@" before the path, so that one with an "@" in it is hidden whole.
_PASSWORD = re.compile(r"""(://[^\s:/?#@"]*):[^\s/?#"]+@""")


def mask_passwords(text: str) -> str:
    """Return the text with the password of every URL in it as ``**`` (``redis://:secret@host`` -> ``redis://:**@host``)."""
    return _PASSWORD.sub(r"\1:**@", text) if "://" in text else text


class SecretFilter(logging.Filter):
    """Mask the passwords of URLs in a record's message, traceback and stack."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record where it holds a password; let every record pass."""
        try:
            message = record.getMessage()
        except Exception:
            # An error would come out of the caller's logger.info(); the formatter meets it again, and there logging
            # reports it.
            return True
        masked = mask_passwords(message)
        if masked != message:
            record.msg, record.args = masked, ()
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = mask_passwords(record.exc_text)
        if record.stack_info:
            record.stack_info = mask_passwords(record.stack_info)
        return True


_COLORS = {"DEBUG": "34", "WARNING": "33", "ERROR": "31", "CRITICAL": "35"}


class TaskFormatter(logging.Formatter):
    """A formatter that knows ``%(task_name)s`` and ``%(task_id)s`` and can colour a line by its level.

    Args:
        fmt: the format, as for ``logging.Formatter``.
        use_color: wrap lines that are not INFO in a terminal's colour codes.
        datefmt: the format of the time, as for ``logging.Formatter``.
    """

    def __init__(self, fmt: str | None = None, use_color: bool = True, datefmt: str | None = None) -> None:
        super().__init__(fmt, datefmt)
        self.use_color = use_color

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, or lines, of a record."""
        add_task(record)
        text = super().format(record)
        color = _COLORS.get(record.levelname) if self.use_color else None
        return f"\x1b[1;{color}m{text}\x1b[0m" if color else text


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, process, message, task, traceback and whatever was ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a line of JSON; a value that JSON does not know becomes its ``str()``."""
        add_task(record)
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="microseconds"),
            "level": record.levelname,
            "logger": record.name,
            "process": record.processName,
            "message": record.getMessage(),
        }
        for key, value in vars(record).items():
            if key not in _RECORD and value is not NO_TASK:
                line.setdefault(key, value)
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            line["exc"] = record.exc_text
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        return mask_passwords(_dumps(line))


#: What every record has; the rest is ``extra``.
_RECORD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}


def _dumps(line: dict[str, Any]) -> str:
    try:
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        # Lone surrogates, huge integers, circles: a line of text in every place is better than no line.
        return json.dumps({key: str(value) for key, value in line.items()})
