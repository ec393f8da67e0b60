"""The independent record: one line for each thing that happened, in a file that no fault reaches."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import NamedTuple


class Event(NamedTuple):
    """One line of the record.

    Attributes:
        kind: sending, sent, unsure, start, end, linked, kill.
        subject: a task id, or what was done to whom.
        detail: the kind of task, a retry number, a process id.
        time: seconds since the epoch.
    """

    kind: str
    subject: str
    detail: str
    time: float


def write(kind: str, subject: str, detail: object = "") -> None:
    """Append a line; a single write to a file opened for appending is not torn by a kill."""
    descriptor = os.open(os.environ["CHAOS_RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, f"{kind}\t{subject}\t{detail}\t{time.time():.6f}\n".encode())
    finally:
        os.close(descriptor)


def read(path: str) -> Iterator[Event]:
    """Read the record."""
    with open(path) as file:
        for line in file:
            kind, subject, detail, when = line.rstrip("\n").split("\t")
            yield Event(kind, subject, detail, float(when))
