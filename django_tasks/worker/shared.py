"""What the processes of a worker know of each other: one shared page, no pipes, no locks.

Layout version 1, little-endian; instants are seconds of the monotonic clock, which processes of one machine share.
Every field has one writer. ``django_tasks.health`` reads the file form of it (``--healthcheck-file``) without Django.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Iterator
from enum import Enum
from typing import Any

MAGIC = b"CELERIAC"
VERSION = 1
HEADER_SIZE, SEAT_SIZE = 128, 512

#: Seat states: free, a process starts, waits, runs a task, has died (its messages are to be rescued).
FREE, STARTING, IDLE, BUSY, DEAD = range(5)
#: Why a process was killed.
NONE, TIME_LIMIT, TERMINATED, SHUTDOWN, STUCK = range(5)

#: Leases that a seat can hold at once: the batch in work and one being reserved, with room to spare.
LEASES = 6
_NAME = struct.Struct("<H200s")


class Field:
    """A number at a fixed place of the page."""

    def __init__(self, offset: int, code: str) -> None:
        self.offset = offset
        self.struct = struct.Struct("<" + code)

    def __get__(self, page: Any, owner: Any = None) -> Any:
        return self.struct.unpack_from(page.memory, page.base + self.offset)[0]

    def __set__(self, page: Any, value: float) -> None:
        self.struct.pack_into(page.memory, page.base + self.offset, value)


class Text:
    """A text of up to 200 bytes at a fixed place of the page."""

    def __init__(self, offset: int) -> None:
        self.offset = offset

    def __get__(self, page: Any, owner: Any = None) -> str:
        length, data = _NAME.unpack_from(page.memory, page.base + self.offset)
        return bytes(data[:length]).decode(errors="replace")

    def __set__(self, page: Any, value: str) -> None:
        data = value.encode()[:200]
        _NAME.pack_into(page.memory, page.base + self.offset, len(data), data)


class Seat:
    """The place of one slot: a worker process, or a thread of one."""

    state = Field(0, "B")
    #: Why the supervisor or the janitor killed it.
    verdict = Field(1, "B")
    pid = Field(8, "q")
    #: When its loop last went round.
    tick = Field(16, "d")
    #: When the running task began, and when it must have ended (0: no limit).
    started = Field(24, "d")
    deadline = Field(32, "d")
    #: Since when its process has been stopped (0: it is not).
    frozen_since = Field(40, "d")
    processed = Field(48, "q")
    #: Name of the worker in the broker's eyes.
    identity = Text(106)
    #: Id of the running task.
    running = Text(308)

    def __init__(self, memory: mmap.mmap, base: int) -> None:
        self.memory = memory
        self.base = base
        self._leases = struct.Struct(f"<{LEASES}q")

    def clear(self) -> None:
        """Make it free again."""
        self.memory[self.base : self.base + SEAT_SIZE] = bytes(SEAT_SIZE)

    @property
    def leases(self) -> frozenset[int]:
        """The leases that its slot holds."""
        return frozenset(self._leases.unpack_from(self.memory, self.base + 56)) - {0}

    def add_lease(self, lease: int) -> None:
        """List a lease, before the reserve that it is for."""
        slots = list(self._leases.unpack_from(self.memory, self.base + 56))
        slots[slots.index(0)] = lease
        self._leases.pack_into(self.memory, self.base + 56, *slots)

    def drop_lease(self, lease: int) -> None:
        """Remove a lease when nothing of it is left."""
        slots = [0 if each == lease else each for each in self._leases.unpack_from(self.memory, self.base + 56)]
        self._leases.pack_into(self.memory, self.base + 56, *slots)

    def begin(self, task_id: str, limit: float | None) -> None:
        """Note that a task begins that may take ``limit`` seconds."""
        now = time.monotonic()
        self.running = task_id
        self.started = now
        self.deadline = now + limit if limit else 0.0
        self.state = BUSY

    def end(self) -> None:
        """Note that it has ended."""
        self.deadline = 0.0
        self.state = IDLE
        self.processed += 1


class Page:
    """The shared page: a header and the seats.

    Args:
        seats: how many slots there can ever be.
        path: keep it in this file, for the health probe.
    """

    supervisor_pid = Field(16, "q")
    supervisor_tick = Field(24, "d")
    janitor_pid = Field(32, "q")
    janitor_tick = Field(40, "d")
    #: When the broker last answered the janitor.
    broker_tick = Field(48, "d")
    seat_count = Field(56, "q")
    stopping = Field(64, "B")
    paused = Field(65, "B")
    #: How many processes are wanted; orders change it.
    wanted = Field(72, "q")
    #: Set by a shutdown order.
    shutdown_ordered = Field(80, "B")

    base = 0

    def __init__(self, seats: int, path: str | None = None) -> None:
        size = HEADER_SIZE + seats * SEAT_SIZE
        self.path = path
        if path is None:
            self.memory = mmap.mmap(-1, size)
        else:
            # A new file under a temporary name: a probe sees the whole page or the one before it.
            with open(f"{path}.new", "w+b") as file:
                file.truncate(size)
                self.memory = mmap.mmap(file.fileno(), size)
            os.replace(f"{path}.new", path)
        self.memory[: len(MAGIC)] = MAGIC
        struct.pack_into("<q", self.memory, 8, VERSION)
        self.seat_count = seats
        self.seats = [Seat(self.memory, HEADER_SIZE + n * SEAT_SIZE) for n in range(seats)]

    def taken(self) -> Iterator[Seat]:
        """Return the seats of living slots."""
        return (seat for seat in self.seats if seat.state in (STARTING, IDLE, BUSY))

    def remove(self) -> None:
        """Delete the file."""
        if self.path is not None and os.path.exists(self.path):
            os.unlink(self.path)


class Condition(Enum):
    """How a process is, as the system tells."""

    ALIVE = "alive"
    #: SIGSTOP, or a debugger.
    STOPPED = "stopped"
    #: Ended, whether or not anybody has taken notice of it.
    GONE = "gone"


def condition(pid: int) -> Condition:
    """Return how a process is; without /proc, a stopped process cannot be told from a living one."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            letter = file.read().rpartition(b")")[2].split()[0]
    except OSError:
        return _condition_by_signal(pid)
    if letter in (b"Z", b"X"):
        return Condition.GONE
    return Condition.STOPPED if letter in (b"T", b"t") else Condition.ALIVE


def _condition_by_signal(pid: int) -> Condition:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return Condition.GONE
    except PermissionError:
        pass
    return Condition.ALIVE
