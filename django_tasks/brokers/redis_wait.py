"""How an idle worker on Redis waits: the server moves the next message into the worker's inbox.

A process has one connection for each list that it serves, and waits on all of them at once. Nothing is lost between the
list and the worker: what a blocking move took is in the inbox, which the next reserve empties, also after a reconnect.
What one of them has brought is begun before the server has answered that reserve (``redis_handover.py``).
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from redis.exceptions import AskError, TryAgainError

from django_tasks.brokers.base import Delivery
from django_tasks.brokers.redis_blocked import Blocked, end_waits
from django_tasks.brokers.redis_handover import BEGIN, Brought, Handover
from django_tasks.brokers.redis_ledger import RELEASE, Ledger
from django_tasks.brokers.redis_lists import Group
from django_tasks.exceptions import OperationalError, RequestRefused
from django_tasks.pipes import Place, drain, readable
from django_tasks.redis_errors import REDIS_ERRORS, translated

logger = logging.getLogger("django_tasks.worker")

#: Seconds for which nobody waits for lists that are moving to another node of a cluster.
MOVING_PAUSE = 0.1
#: Seconds after which the server has read what begins the waits at all lists.
IN_FORCE = 0.01
#: Leases after which a wait is over on the server, however late that heard of it.
LONGEST_WAIT = 2


class Waiter:
    """Waits for messages; in a pool of threads one thread at a time does, and the others wait for its place.

    A thread to whom a wait has brought a message keeps the place until it takes that message, or rests.

    Args:
        ledger: of the broker.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.connections = ledger.connections
        self.lists = ledger.lists
        self._mine = _Mine()
        self._pid = 0
        self._starting = threading.Lock()
        self._place: Place
        #: A message that is begun while the server's answer is on its way.
        self._begun: Handover | None = None
        self._begin_process()

    def reserved(self, worker: str) -> None:
        """Note whose inbox this thread waits for, which a reserve has just emptied."""
        self._mine.worker = worker
        self._set_aside.discard(worker)

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
        with self._starting:
            if self._pid != os.getpid():
                self._begin_process()
                self._place, self._pid = Place(), os.getpid()
        if not queues:
            self._release()
            if timeout > 0 and readable([wakeup], timeout):
                drain(wakeup)
            return
        if self._mine.brought is not None:
            return
        timeout = min(timeout, self.ledger.lease)
        deadline = time.monotonic() + timeout
        worker = self._mine.worker
        if worker and self._place.take(timeout, wakeup):
            self._mine.queues = tuple(queues)
            try:
                self.read_answer()  # another thread's, which has used these connections
                with self._whole(worker):
                    self._block(self.lists.group(queues), deadline - time.monotonic(), wakeup)
            except OperationalError as exc:
                if not isinstance(exc.__cause__, AskError | TryAgainError) or not self.connections.is_cluster:
                    raise
                # A slot moves (MovedError is an AskError): the next reserve learns where it is.
                readable([wakeup], MOVING_PAUSE)
            finally:
                if self._mine.brought is None:
                    self._place.leave()

    def hand_over(self, worker: str, queues: Sequence[str], lease: int) -> list[Delivery] | None:
        """Take what the last wait of this thread has brought; None if it has brought nothing.

        Raises:
            OperationalError: the server is away; the message may be in the inbox, or taken.
        """
        if self._mine.brought is not None and (worker, *queues) != (self._mine.worker, *self._mine.queues):
            self._release()
        brought, self._mine.brought = self._mine.brought, None
        if brought is None:
            return None
        try:
            handover = Handover(self.ledger, brought, self.lists.group(queues), worker, lease)
            with self._whole(worker):
                delivery = handover.begin()
                # In a process that was stopped meanwhile, others may have taken over what was set aside for it.
                if _is_plain(delivery) and time.monotonic() - self._waits[worker] < self.ledger.lease / 2:
                    self._begun, delivery.more = handover, partial(handover.complete, self.read_answer)
                    return [delivery]
                is_taken = handover.read()
                self._waits.pop(worker, None)
            return [delivery] if is_taken else []
        finally:
            self._place.leave()

    def read_answer(self) -> None:
        """Read what the server says to the message that was begun last; if it cannot be heard, settling will tell.

        Raises:
            RequestRefused: the server does not let us.
        """
        if self._pid != os.getpid():
            return  # a child of a task; the answer is for its parent
        with self._reading:
            handover, self._begun = self._begun, None
            if handover is not None:
                try:
                    with self._whole(handover.worker):
                        handover.read()
                        self._waits.pop(handover.worker, None)
                except RequestRefused:
                    raise
                except OperationalError as exc:
                    logger.debug("It is not known yet whether %s is reserved: %s", handover.handle, exc)

    def _release(self) -> None:
        """Give back what has been set aside for this thread, which is not going to reserve it now."""
        worker, brought = self._mine.worker, self._mine.brought
        if brought is not None:
            self._mine.brought = None
            self._set_aside.add(worker)
            try:
                with self._whole(worker):
                    self._call_off(brought.waiting, [brought.ended])
                    self._waits.pop(worker, None)
            finally:
                self._place.leave()
        if worker in self._set_aside:
            self.ledger.run(RELEASE, self.lists.group(self._mine.queues), worker)
            self._set_aside.discard(worker)

    def close(self) -> None:
        """Close this process's connections, unless another thread waits on them."""
        if self._pid != os.getpid():
            return
        if self._mine.brought is not None:
            self._mine.brought = None
            self._set_aside.add(self._mine.worker)
            self._place.leave()
        if self._place.take_free():
            self._disconnect()
            self._place.leave()

    @contextlib.contextmanager
    def _whole(self, worker: str) -> Iterator[None]:
        """Close the connections if something goes wrong, so that no answer is taken for that to the next command."""
        try:
            yield
        except BaseException as exc:  # a time limit, too, which may be raised between any two steps
            self._set_aside.add(worker)
            self._disconnect()
            if isinstance(exc, REDIS_ERRORS):
                raise translated(exc, self.connections.place) from exc
            raise

    def _begin_process(self) -> None:
        """Make what a process has for itself; what a parent had is left alone."""
        self._blocked: dict[str, Blocked] = {}
        #: When the waits of workers have begun that may be in force on the server.
        self._waits: dict[str, float] = {}
        #: Workers in whose inboxes something may be.
        self._set_aside: set[str] = set()
        self._begun = None
        self._reading = threading.Lock()

    def _block(self, group: Group, timeout: float, wakeup: int) -> None:
        worker = self._mine.worker
        if timeout <= 0:
            return
        if not self._blocked:  # perhaps the server has just been started
            self.connections.run(lambda client: client.script_load(BEGIN.text))
        blocked = [self._connection(name) for name in group.lists]
        self._waits[worker] = time.monotonic()
        for connection, own in zip(blocked, group.own, strict=True):
            connection.begin(f"{own}inbox.{worker}", timeout)
        begun = time.monotonic()
        descriptors = [connection.descriptor for connection in blocked]
        ready = readable([wakeup, *descriptors], timeout + self.connections.timeout)
        if not ready:
            raise TimeoutError("a blocking command has not ended")
        if wakeup in ready:
            drain(wakeup)
        ended = [each for each, descriptor in zip(blocked, descriptors, strict=True) if descriptor in ready]
        waiting = [each for each in blocked if each not in ended]
        moved = [envelope for each in ended if (envelope := each.end()) is not None]
        in_force = time.monotonic() - begun > IN_FORCE and not self.connections.is_cluster
        if in_force and len(moved) == len(ended) == 1 and len({each.server for each in blocked}) == 1:
            self._mine.brought = Brought(moved[0], ended[0], waiting)
            return
        if self._call_off(waiting, ended) or moved:
            self._set_aside.add(worker)
        self._waits.pop(worker, None)

    def _call_off(self, waiting: Sequence[Blocked], ended: Sequence[Blocked]) -> bool:
        """End waits, or they would take messages while this worker is busy; return whether they have taken some."""
        brought = []
        for server in {each.server for each in waiting}:
            some = [each for each in waiting if each.server == server]
            # Over one that has ended, where there is one to their server.
            free = next((each for each in ended if each.server == server), None)
            unblock = partial(_unblock, self.connections.beside(some[0].connection)) if free is None else free.unblock
            brought += end_waits(some, unblock, self.connections.timeout)
        return any(each is not None for each in brought)

    def _connection(self, name: str) -> Blocked:
        if name not in self._blocked:
            self._blocked[name] = Blocked(self.connections.new_connection(name), name)
        return self._blocked[name]

    def _disconnect(self) -> None:
        blocked, self._blocked = self._blocked, {}
        for connection in blocked.values():
            connection.close()


class _Mine(threading.local):
    """What a thread knows of itself."""

    #: Its worker's identity.
    worker = ""
    #: The queues of its last wait, and what that has brought.
    queues: Sequence[str] = ()
    brought: Brought | None = None


def _is_plain(delivery: Delivery) -> bool:
    """Whether a message can be begun without the ledger's word: all that it may know besides is asked for later."""
    return delivery.error is None and not delivery.redelivered and delivery.message.eta is None


def _unblock(client: Any, waiting: Sequence[Blocked]) -> list[int]:
    return [client.client_unblock(each.client_id) for each in waiting]
