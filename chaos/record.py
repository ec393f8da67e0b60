"""The independent record: one line for each thing that happened, in a file that no fault reaches."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

#: The last column of a line that was not cut.
WHOLE = "."


class Event(NamedTuple):
    """One line of the record.

    Attributes:
        kind: sending, sent, unsure, dropped; start, end; linked.
        subject: a task id.
        detail: the kind of task; or ``<process id>/<retries>/<node>`` of the run.
        due: before when the task may not run; 0 for at any time.
        time: seconds since the epoch.
    """

    kind: str
    subject: str
    detail: str
    due: float
    time: float


def write(kind: str, subject: str, detail: str = "", due: float = 0.0) -> None:
    """Append a line."""
    descriptor = os.open(os.environ["CHAOS_RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        # A kill can cut it where a page of the file ends, so each write begins a line of its own.
        os.write(descriptor, f"\n{kind}\t{subject}\t{detail}\t{due:.6f}\t{time.time():.6f}\t{WHOLE}\n".encode())
    finally:
        os.close(descriptor)


def read(path: Path) -> Iterator[Event]:
    """Read the record."""
    with path.open() as file:
        yield from read_on(file)


def read_on(file: TextIO) -> Iterator[Event]:
    """Read what has come since the last time, but for a line that is being written."""
    while True:
        place = file.tell()
        line = file.readline()
        if not line.endswith("\n"):
            file.seek(place)
            return
        *columns, last = line.rstrip("\n").split("\t")
        if last == WHOLE:
            kind, subject, detail, due, when = columns
            yield Event(kind, subject, detail, float(due), float(when))
