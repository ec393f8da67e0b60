"""What the processes of a worker know of each other: one shared page, no pipes, no locks.

Layout version 1, in the byte order of the machine; instants are seconds of the monotonic clock, which processes of one
machine share. ``django_tasks.health`` reads the file form of it (``--healthcheck-file``) without Django.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

from django_tasks.worker.files import written

MAGIC = b"CELERIAC"
VERSION = 1
HEADER_SIZE, SEAT_SIZE = 128, 512

#: Seat states: free, a process starts, waits, runs a task, has died (its messages are to be rescued).
FREE, STARTING, IDLE, BUSY, DEAD = range(5)
#: Why a process was killed.
NONE, TIME_LIMIT, TERMINATED, SHUTDOWN, STUCK = range(5)

#: Processes that orders can add to those that a worker began with.
SPARE = 4
#: Leases that a seat can hold at once: the batch in work and one being reserved, with room to spare.
LEASES = 4
#: Bytes that a text can have.
NAME_SIZE = 200
_NAME = struct.Struct(f"<H{NAME_SIZE}s")


class Field:
    """A number at a fixed place of the page."""

    # Through a memory view, which writes it in one piece; struct.pack_into sets the place to zero first, and for a
    # moment a seat that is taken would look free.

    def __init__(self, offset: int, code: str) -> None:
        self.code = code
        self.place = offset // struct.calcsize(code)

    def __get__(self, page: Any, owner: Any = None) -> Any:
        return page.views[self.code][self.place]

    def __set__(self, page: Any, value: float) -> None:
        page.views[self.code][self.place] = value


def _views(memory: memoryview) -> dict[str, Any]:
    """Return a piece of memory as arrays of each kind of number."""
    return {"B": memory, "q": memory.cast("q"), "d": memory.cast("d")}


class Text:
    """A text of up to 200 bytes at a fixed place of the page."""

    def __init__(self, offset: int) -> None:
        self.offset = offset

    def __get__(self, page: Any, owner: Any = None) -> str:
        length, data = _NAME.unpack_from(page.memory, page.base + self.offset)
        return bytes(data[:length]).decode(errors="replace")

    def __set__(self, page: Any, value: str) -> None:
        data = value.encode()[:NAME_SIZE]
        _NAME.pack_into(page.memory, page.base + self.offset, len(data), data)


def _cut(text: str) -> str:
    """Return what ``Text`` keeps of a text."""
    return text.encode()[:NAME_SIZE].decode(errors="replace")


class Seat:
    """The place of one slot: a worker process, or a thread of one."""

    state = Field(0, "B")
    #: Why the supervisor or the janitor killed it.
    verdict = Field(1, "B")
    #: The running task's message is settled already (``acks_late=False``): 1, or 2 if its failure is to be stored.
    acknowledged = Field(2, "B")
    #: The message that it holds alone has not begun to run.
    spared = Field(3, "B")
    #: The signal by which its task is terminated, as was asked.
    signum = Field(4, "B")
    pid = Field(8, "q")
    #: When its loop last went round.
    tick = Field(16, "d")
    #: When the running task began, and when it must have ended (0: no limit).
    started = Field(24, "d")
    deadline = Field(32, "d")
    #: Since when its process has been stopped (0: it is not).
    frozen_since = Field(40, "d")
    processed = Field(48, "q")
    #: The running task's hard time limit in seconds.
    limit = Field(88, "d")
    #: ``started`` of the task that the verdict is about: the next one may have begun in the meantime.
    convicted = Field(96, "d")
    #: Name of the worker in the broker's eyes.
    identity = Text(106)
    #: Id of the running task.
    running = Text(308)

    def __init__(self, page: Page, base: int) -> None:
        self.memory = page.memory
        self.base = base
        self.views = _views(memoryview(page.memory)[base : base + SEAT_SIZE])
        self._leases = self.views["q"][56 // 8 : 56 // 8 + LEASES]

    def clear(self) -> None:
        """Make it free again."""
        self.memory[self.base + 1 : self.base + SEAT_SIZE] = bytes(SEAT_SIZE - 1)
        self.state = FREE  # last: whoever sees this may take it

    def convict(self, verdict: int, started: float) -> None:
        """Note why its process is killed; ``started`` tells which task it is about."""
        self.convicted = started
        self.verdict = verdict

    def convict_if_late(self, now: float) -> bool:
        """Convict its process if the running task is past its hard time limit; return whether it is."""
        started = self.started  # before the deadline: if the next task has begun, the verdict is void
        late = bool(self.state == BUSY and 0 < self.deadline <= now)
        if late:
            self.convict(TIME_LIMIT, started)
        return late

    def is_convicted(self, task_id: str) -> bool:
        """Whether the verdict is about the run of this task."""
        return self.runs(task_id) and self.convicted == self.started

    @property
    def leases(self) -> frozenset[int]:
        """The leases that its slot holds."""
        return frozenset(self._leases) - {0}

    @property
    def is_waiting(self) -> bool:
        """Whether its slot has no messages, nor asks for some at this moment."""
        return bool(self.state == IDLE and not any(self._leases))

    def add_lease(self, lease: int) -> None:
        """List a lease, before the reserve that it is for."""
        self._leases[self._leases.tolist().index(0)] = lease

    def drop_lease(self, lease: int) -> None:
        """Remove a lease when nothing of it is left."""
        if lease in self._leases:
            self._leases[self._leases.tolist().index(lease)] = 0

    def runs(self, task_id: str) -> bool:
        """Whether its last task, which may have ended, is this one."""
        return self.running == _cut(task_id)

    def begin(self, task_id: str) -> None:
        """Note that a task begins."""
        self.spared = 0
        self.running = task_id
        self.started = time.monotonic()
        self.state = BUSY

    def note_acknowledged(self, stored: bool) -> None:
        """Note that the running task's message is gone, and whether its failure is to be stored."""
        self.acknowledged = 2 if stored else 1

    def end(self) -> None:
        """Note that it has ended."""
        self.deadline = 0.0
        self.acknowledged = 0
        self.state = IDLE
        self.processed += 1


class Page:
    """The shared page: a header and the seats.

    Args:
        seats: how many slots there can ever be.
        path: keep it in this file, for the health probe.
    """

    version = Field(8, "q")
    supervisor_pid = Field(16, "q")
    supervisor_tick = Field(24, "d")
    janitor_pid = Field(32, "q")
    janitor_tick = Field(40, "d")
    #: When the broker last answered the janitor.
    broker_tick = Field(48, "d")
    seat_count = Field(56, "q")
    #: 1 tells the processes to stop, 2 the janitor too.
    stopping = Field(64, "B")
    paused = Field(65, "B")
    #: A process has found the queues of a burst empty.
    drained = Field(66, "B")
    #: How many processes are wanted; orders change it.
    wanted = Field(72, "q")
    #: Set by a shutdown order.
    shutdown_ordered = Field(80, "B")
    #: For how many processes there is work, and how often the janitor has counted that.
    demand = Field(88, "q")
    reports = Field(96, "q")
    #: When the beat of ``-B`` last went round; 0 until it has for the first time.
    beat_tick = Field(104, "d")

    base = 0

    def __init__(self, seats: int, path: str | None = None) -> None:
        size = HEADER_SIZE + seats * SEAT_SIZE
        self.path = path
        if path is None:
            self.memory = mmap.mmap(-1, size)
        else:
            # A new file under a temporary name: a probe sees the whole page or the one before it.
            # Never what somebody else has put there, such as a link to a file of ours.
            with written("--healthcheck-file", path):
                Path(f"{path}.new").unlink(missing_ok=True)
                with open(f"{path}.new", "x+b") as file:
                    file.truncate(size)
                    self.memory = mmap.mmap(file.fileno(), size)
                os.replace(f"{path}.new", path)
        self.views = _views(memoryview(self.memory))
        self.memory[: len(MAGIC)] = MAGIC
        self.version = VERSION
        self.seat_count = seats
        self.seats = [Seat(self, HEADER_SIZE + n * SEAT_SIZE) for n in range(seats)]

    def taken(self) -> Iterator[Seat]:
        """Return the seats of living slots."""
        return (seat for seat in self.seats if seat.state in (STARTING, IDLE, BUSY))

    def has_waiting(self) -> bool:
        """Whether a slot waits for messages."""
        return any(seat.is_waiting for seat in self.seats)

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
