"""Waiting for results on Redis: one connection of a process listens for however many threads wait."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Protocol

from django_tasks.exceptions import RequestRefused, TimeoutError
from django_tasks.pipes import drain, open_pipe, readable
from django_tasks.redis_connections import RedisConnections
from django_tasks.redis_errors import REDIS_ERRORS, translated

logger = logging.getLogger("django_tasks.results")

#: A key and what was stored under it; or why the server does not let anybody wait for it.
Arrival = tuple[bytes, bytes | RequestRefused]
#: Seconds between questions whether the server is still there, each with a look at all that is waited for: what was
#: stored by somebody who does not publish, or while a connection was silently gone, is found then.
LOOK_AGAIN = 5.0
#: Seconds for which the connection is kept when nobody waits any more.
STAY = 10.0
#: Seconds before the next try when the server is away: the first pause, and the longest.
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0


class Arrivals(Protocol):
    """Where what was stored arrives."""

    def put(self, arrival: Arrival, /) -> None:
        """Take what was stored; called in the listener's thread."""


class LoopArrivals:
    """Arrivals for one coroutine."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Arrival] = asyncio.Queue()

    def put(self, arrival: Arrival, /) -> None:
        """Let the coroutine's event loop take it."""
        with contextlib.suppress(RuntimeError):  # it has been closed meanwhile
            self._loop.call_soon_threadsafe(self._queue.put_nowait, arrival)

    async def get(self, timeout: float) -> Arrival:
        """Return the next one.

        Raises:
            TimeoutError: there was none for ``timeout`` seconds.
        """
        try:
            return await asyncio.wait_for(self._queue.get(), None if timeout == math.inf else max(0.0, timeout))
        except asyncio.TimeoutError:
            raise TimeoutError("The operation timed out.") from None


class Listeners:
    """The listener of this process, made when somebody waits; what a parent had is left alone in its children.

    Args:
        connections, look: as ``Listener`` takes them.
    """

    def __init__(self, connections: RedisConnections, look: Callable[[Sequence[bytes]], Mapping[bytes, bytes]]) -> None:
        self._make = partial(Listener, connections, look)
        self._by_process: dict[int, Listener] = {}

    def listening(self, keys: Sequence[bytes], arrivals: Arrivals) -> AbstractContextManager[None]:
        """As ``Listener.listening``."""
        listener = self._by_process.get(os.getpid())
        if listener is None:
            listener = self._by_process.setdefault(os.getpid(), self._make())
        return listener.listening(keys, arrivals)

    def close(self) -> None:
        """As ``Listener.close``."""
        if (listener := self._by_process.get(os.getpid())) is not None:
            listener.close()


class Listener:
    """One subscription for all threads of a process; a thread of its own holds it while somebody waits.

    Args:
        connections: to the server.
        look: returns what is stored under some keys.
    """

    def __init__(self, connections: RedisConnections, look: Callable[[Sequence[bytes]], Mapping[bytes, bytes]]) -> None:
        self.connections = connections
        self._look = look
        self._lock = threading.Lock()
        self._waiting: dict[bytes, list[Arrivals]] = {}
        self._new: set[bytes] = set()
        self._gone: set[bytes] = set()
        self._leave_at = 0.0
        self._thread: threading.Thread | None = None
        self._wakeup, self._waker = open_pipe(self)
        for end in (self._wakeup, self._waker):
            os.set_blocking(end, False)

    @contextlib.contextmanager
    def listening(self, keys: Sequence[bytes], arrivals: Arrivals) -> Iterator[None]:
        """Let arrive what is stored under these keys already, and what is until the block ends."""
        with self._lock:
            for key in keys:
                self._waiting.setdefault(key, []).append(arrivals)
            # Those that others listen to already as well: the answer to it is what lets us look.
            self._new.update(keys)
            self._gone.difference_update(keys)
        try:
            self._be_there()
            self._wake()
            yield
        finally:
            with self._lock:
                self._leave(keys, arrivals)

    def _be_there(self) -> None:
        """Start the thread, if there is none."""
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="django-tasks-results", daemon=True)
                thread.start()  # or the next one who waits tries again
                self._thread = thread

    def _leave(self, keys: Sequence[bytes], arrivals: Arrivals) -> None:
        """Stop listening; the server is told when there is something else to say to it."""
        for key in keys:
            self._waiting[key].remove(arrivals)
            if not self._waiting[key]:
                del self._waiting[key]
                self._new.discard(key)
                self._gone.add(key)
        self._leave_at = time.monotonic() + STAY

    def close(self) -> None:
        """Drop the connection, unless somebody waits."""
        with self._lock:
            self._leave_at = 0.0
        self._wake()

    def _arrive(self, key: bytes, value: bytes) -> None:
        with self._lock:
            for arrivals in self._waiting.get(key, ()):
                arrivals.put((key, value))

    def _refuse(self, why: str) -> None:
        """Tell all who wait that the server does not let them."""
        with self._lock:
            for key, waiting in self._waiting.items():
                for arrivals in waiting:
                    arrivals.put((key, RequestRefused(why)))

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._waker, b".")

    # -- in the thread

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while not self._may_leave():
            began = time.monotonic()
            try:
                self._listen()
            except Exception as exc:  # whatever it is: others wait for this thread
                if time.monotonic() - began > LONGEST_PAUSE:
                    pause = FIRST_PAUSE
                error = translated(exc, self.connections.place) if isinstance(exc, REDIS_ERRORS) else exc
                logger.warning("Results cannot be waited for at the moment, it is tried again: %s", error)
                self._look_without_listening(error)
                time.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)

    def _look_without_listening(self, error: Exception) -> None:
        """Let arrive what is there; who waits for more is told if that is not only a matter of time."""
        with self._lock:
            waiting = list(self._waiting)
        try:
            for key, value in self._look(waiting).items() if waiting else ():
                self._arrive(key, value)
        except Exception as exc:  # the server is away altogether, or refuses this, too
            logger.debug("Nor can they be looked at: %s", exc)
        if isinstance(error, RequestRefused):
            self._refuse(f"Results cannot be waited for. {error}")

    def _may_leave(self) -> bool:
        """Whether the thread is to end; from then on the next one who waits starts another."""
        with self._lock:
            if self._waiting or time.monotonic() < self._leave_at:
                return False
            self._thread = None
            return True

    def _listen(self) -> None:
        """Listen on a new connection until nobody waits any more."""
        self.connections.run(lambda client: client.ping())  # or it stays with a server that has failed
        connection = self.connections.new_connection()
        try:
            connection.connect()
            with self._lock:
                self._new, self._gone = set(self._waiting), set()
            next_ping, unanswered = time.monotonic() + LOOK_AGAIN, False
            while self._waits_or_stays():
                self._say_changes(connection)
                ready = readable([connection._sock.fileno(), self._wakeup], max(0.0, next_ping - time.monotonic()))
                if self._wakeup in ready:
                    drain(self._wakeup)
                unanswered = not self._take(connection) and unanswered
                if time.monotonic() >= next_ping:
                    if unanswered and self._waits_or_stays():
                        raise TimeoutError(f"Redis at {self.connections.place} does not answer.")
                    connection.send_command("PING")
                    unanswered, next_ping = True, time.monotonic() + LOOK_AGAIN
        finally:
            connection.disconnect()

    def _waits_or_stays(self) -> bool:
        with self._lock:
            return bool(self._waiting) or time.monotonic() < self._leave_at

    def _say_changes(self, connection: Any) -> None:
        with self._lock:
            new, self._new = self._new, set()
            gone, self._gone = self._gone, set()
        changes = (("UNSUBSCRIBE", gone), ("SUBSCRIBE", new))
        commands = [(name, *keys) for name, keys in changes if keys]
        if commands:
            connection.send_packed_command(connection.pack_commands(commands))

    def _take(self, connection: Any) -> bool:
        """Take what the server has said; return whether it has answered PING."""
        subscribed: list[bytes] = []
        answered = False
        while connection.can_read():
            answer = connection.read_response()
            if answer == b"PONG":  # so it says when nothing is subscribed to
                answered = True
                continue
            kind, *rest = answer
            if kind == b"message":
                self._arrive(rest[0], rest[1])
            elif kind == b"subscribe":
                subscribed.append(rest[0])
            elif kind == b"pong":
                answered = True
        if answered:
            with self._lock:
                subscribed = list(self._waiting)
        for key, value in self._look(subscribed).items() if subscribed else ():
            self._arrive(key, value)
        return answered
