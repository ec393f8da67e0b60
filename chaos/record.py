"""The independent record: one line for each thing that happened, in a file that no fault reaches."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


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
    """Append a line; a single write to a file opened for appending is not torn by a kill."""
    descriptor = os.open(os.environ["CHAOS_RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, f"{kind}\t{subject}\t{detail}\t{due:.6f}\t{time.time():.6f}\n".encode())
    finally:
        os.close(descriptor)


def read(path: Path) -> Iterator[Event]:
    """Read the record."""
    with path.open() as file:
        for line in file:
            kind, subject, detail, due, when = line.rstrip("\n").split("\t")
            yield Event(kind, subject, detail, float(due), float(when))
