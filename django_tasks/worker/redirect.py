"""What tasks print as lines of the log (``WORKER_REDIRECT_STDOUTS``)."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from django_tasks.context import current_request
from django_tasks.worker.logs import level_number

if TYPE_CHECKING:
    from django_tasks.conf import Settings

#: Under Celery's name, so that a ``LOGGING`` setting written for Celery still works.
logger = logging.getLogger("celery.redirected")


#: The streams that stand for others in this process.
_printed: list[LoggedStream] = []


class _Line(threading.local):
    """The line that a thread has begun to print, by which task, and whether the thread is logging one."""

    begun = ""
    task: Mapping[str, Any] = {}
    is_logged = False


class LoggedStream:
    """A text stream whose lines go to the log (Celery's ``LoggingProxy``, but it logs whole lines).

    Args:
        stream: the stream that it stands for, and that still does whatever else streams do, such as ``fileno()``.
        level: the level of its lines.
    """

    def __init__(self, stream: TextIO, level: int) -> None:
        self._stream = stream
        self._level = level
        self._line = _Line()

    def write(self, text: str) -> int:
        """Log the lines that this completes."""
        if self._line.is_logged:
            # By a handler that writes to sys.stderr, as logging does to report its own errors.
            return self._stream.write(text)
        if not self._line.begun:
            request = current_request()
            self._line.task = {"task_name": request.task, "task_id": request.id} if request is not None else {}
        *lines, self._line.begun = (self._line.begun + text).split("\n")
        for line in lines:
            self._log(line)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each of them."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Log what has been printed of the last line."""
        text, self._line.begun = self._line.begun, ""
        self._log(text)
        self._stream.flush()

    def _log(self, text: str) -> None:
        if text.strip():
            self._line.is_logged = True
            try:
                logger.log(self._level, "%s", text, extra=self._line.task)
            finally:
                self._line.is_logged = False

    def isatty(self) -> bool:
        """Return false: colours and progress bars are not for logs."""
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def redirected_output(conf: Settings) -> Iterator[None]:
    """Log what is printed in this process, and those that are forked from it, if the settings say so."""
    if not conf.worker_redirect_stdouts:
        yield
        return
    before = sys.stdout, sys.stderr
    level = level_number(conf.worker_redirect_stdouts_level)
    _printed.extend(LoggedStream(stream, level) for stream in before)
    sys.stdout, sys.stderr = _printed
    try:
        yield
    finally:
        flush()
        _printed.clear()
        sys.stdout, sys.stderr = before


def flush() -> None:
    """Log what a task has printed without ending the line, before the next one begins."""
    for stream in _printed:
        stream.flush()
