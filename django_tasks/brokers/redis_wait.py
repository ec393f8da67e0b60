"""How an idle worker on Redis waits: the server moves the next message into the worker's inbox.

A process has one connection for each list that it serves, and waits on all of them at once. Nothing is lost between the
list and the worker: what a blocking move took is in the inbox, which the next reserve empties, also after a reconnect.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Sequence
from typing import Any

from redis.exceptions import AskError, TryAgainError

from django_tasks.brokers.base import drain, open_pipe, readable
from django_tasks.brokers.redis_ledger import RELEASE, Ledger
from django_tasks.brokers.redis_lists import Group
from django_tasks.exceptions import OperationalError
from django_tasks.redis_errors import REDIS_ERRORS, translated

#: Seconds for which nobody waits for lists that are moving to another node of a cluster.
MOVING_PAUSE = 0.1
#: Leases after which a wait is over on the server, however late that heard of it.
LONGEST_WAIT = 2


class Waiter:
    """Waits for messages; in a pool of threads one thread at a time does, and the others wait for its place.

    Args:
        ledger: of the broker.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.connections = ledger.connections
        self.lists = ledger.lists
        self._mine = _Mine()
        self._pid = 0
        self._places = (-1, -1)
        self._blocked: dict[str, Blocked] = {}
        #: When the waits of workers have begun that may be in force on the server.
        self._waits: dict[str, float] = {}

    def reserved(self, worker: str) -> None:
        """Note whose inbox this thread waits for, which a reserve has just emptied."""
        self._mine.worker, self._mine.set_aside = worker, False

    def is_over(self, worker: str) -> bool:
        """Whether nothing can be set aside for a worker any more.

        A server may not hear that we have closed a connection, and goes on waiting then until the time is up.
        """
        began = self._waits.get(worker)
        return began is None or time.monotonic() - began > LONGEST_WAIT * self.ledger.lease

    def wait(self, queues: Sequence[str], timeout: float, wakeup: int) -> None:
        """Wait until a message is in the inbox, or for ``wakeup``, or for ``timeout`` seconds.

        It takes no longer than a lease, so that the server has ended it before a worker that died is forgotten.

        Raises:
            OperationalError: the server is away; there may be something in the inbox all the same.
        """
        if self._pid != os.getpid():
            self._begin_process()
        if not queues:
            self._release()
            if timeout > 0 and readable([wakeup], timeout):
                drain(wakeup)
            return
        timeout = min(timeout, self.ledger.lease)
        deadline = time.monotonic() + timeout
        if self._mine.worker and self._take_place(timeout, wakeup):
            try:
                self._mine.queues = queues
                self._waits[self._mine.worker] = time.monotonic()
                self._block(self.lists.group(queues), deadline - time.monotonic(), wakeup)
                del self._waits[self._mine.worker]
            except (OperationalError, *REDIS_ERRORS) as exc:
                self._mine.set_aside = True
                self._disconnect()
                if isinstance(exc, OperationalError):
                    raise
                if not isinstance(exc, (AskError, TryAgainError)) or not self.connections.is_cluster:
                    raise translated(exc, self.connections.place) from exc
                # A slot moves (MovedError is an AskError): the next reserve learns where it is.
                readable([wakeup], MOVING_PAUSE)
            finally:
                os.write(self._places[1], b".")

    def _release(self) -> None:
        """Give back what has been set aside for this thread, which is not going to reserve it now."""
        if self._mine.set_aside:
            self.ledger.run(RELEASE, self.lists.group(self._mine.queues), self._mine.worker)
            self._mine.set_aside = False

    def close(self) -> None:
        """Close this process's connections, unless a thread waits on them."""
        if self._pid != os.getpid():
            return
        with contextlib.suppress(BlockingIOError):
            os.read(self._places[0], 1)
            self._disconnect()
            os.write(self._places[1], b".")

    def _begin_process(self) -> None:
        """Make what a process has for itself; what a parent had is left alone."""
        self._blocked, self._waits = {}, {}
        self._places = open_pipe(self)
        os.set_blocking(self._places[0], False)
        os.write(self._places[1], b".")
        self._pid = os.getpid()

    def _take_place(self, timeout: float, wakeup: int) -> bool:
        """Wait to be the one that waits; return whether it came to that."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                os.read(self._places[0], 1)
                return True
            except BlockingIOError:
                left = deadline - time.monotonic()
            if left <= 0:
                return False
            if wakeup in readable([wakeup, self._places[0]], left):
                drain(wakeup)
                return False

    def _block(self, group: Group, timeout: float, wakeup: int) -> None:
        if timeout <= 0:
            return
        blocked = [self._connection(name) for name in group.lists]
        for connection, own in zip(blocked, group.own, strict=True):
            connection.begin(f"{own}inbox.{self._mine.worker}", timeout)
        descriptors = [connection.descriptor for connection in blocked]
        ready = readable([wakeup, *descriptors], timeout + self.connections.timeout)
        if not ready:
            raise TimeoutError("a blocking command has not ended")
        if wakeup in ready:
            drain(wakeup)
        ended = [each for each, descriptor in zip(blocked, descriptors, strict=True) if descriptor in ready]
        waiting = [each for each in blocked if each not in ended]
        moved = [connection.end() for connection in ended]
        self._unblock(waiting, ended)  # or they would take messages while this worker is busy
        self._mine.set_aside = any([*moved, *[connection.end() for connection in waiting]])

    def _unblock(self, waiting: Sequence[Blocked], ended: Sequence[Blocked]) -> None:
        """End the waits of some connections, over one that has ended where there is one to their server."""
        for server in {each.server for each in waiting}:
            some = [each for each in waiting if each.server == server]
            free = next((each for each in ended if each.server == server), None)
            if free is not None:
                free.unblock(some)
            else:
                client = self.connections.beside(some[0].connection)
                for each in some:
                    client.client_unblock(each.client_id)

    def _connection(self, name: str) -> Blocked:
        if name not in self._blocked:
            self._blocked[name] = Blocked(self.connections.new_connection(name), name)
        return self._blocked[name]

    def _disconnect(self) -> None:
        blocked, self._blocked = self._blocked, {}
        for connection in blocked.values():
            connection.close()


class _Mine(threading.local):
    """What a thread knows of itself: its worker's identity, and whether something may be in its inbox."""

    worker = ""
    queues: Sequence[str] = ()
    set_aside = False


class Blocked:
    """A connection that waits for one list.

    Args:
        connection: one of redis-py's, of our own.
        name: the list.
    """

    def __init__(self, connection: Any, name: str) -> None:
        self.connection = connection
        self.name = name
        self.client_id = 0

    def begin(self, inbox: str, seconds: float) -> None:
        """Let the server move the next message to an inbox when there is one."""
        if not self.client_id:
            self.connection.connect()
            self.connection.send_command("CLIENT", "ID")
            self.client_id = self.connection.read_response()
        self.connection.send_command("BLMOVE", self.name, inbox, "RIGHT", "LEFT", repr(round(seconds, 3)))

    @property
    def server(self) -> tuple[Any, Any]:
        """Where it goes."""
        return getattr(self.connection, "host", None), getattr(self.connection, "port", None)

    @property
    def descriptor(self) -> int:
        """What becomes readable when the wait ends."""
        return int(self.connection._sock.fileno())

    def end(self) -> bool:
        """Read the answer; return whether a message was moved."""
        return self.connection.read_response() is not None

    def unblock(self, others: Sequence[Blocked]) -> None:
        """End the waits of other connections; this one has ended."""
        commands = [("CLIENT", "UNBLOCK", each.client_id) for each in others]
        self.connection.send_packed_command(self.connection.pack_commands(commands))
        for _ in commands:
            self.connection.read_response()

    def close(self) -> None:
        """Close the connection."""
        self.connection.disconnect()
