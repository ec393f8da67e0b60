"""A pool's connections that nobody uses, and who is next."""

from __future__ import annotations

from collections import deque
from queue import Empty, Full, LifoQueue, SimpleQueue
from typing import Any

from redis.exceptions import MaxConnectionsError


class FairQueue(LifoQueue[Any]):
    """As ``LifoQueue``, but who has waited longest is next.

    Others let a thread that has just put a connection back take it again at once, and so those that wait may wait for
    as long as there is much to do.
    """

    def __init__(self, maxsize: int = 0) -> None:
        super().__init__(maxsize)
        self._line: deque[SimpleQueue[Any]] = deque()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take a connection.

        Raises:
            MaxConnectionsError: none has become free in ``timeout`` seconds.
        """
        with self.mutex:
            if self.queue:
                return self._get()
            place: SimpleQueue[Any] = SimpleQueue()
            self._line.append(place)
        try:
            return place.get(block, timeout)
        except BaseException as exc:  # a time limit, too, that is raised in the waiting thread
            self._leave(place)
            if isinstance(exc, Empty):
                raise MaxConnectionsError(f"none of {self.maxsize} connections has become free") from None
            raise

    def _leave(self, place: SimpleQueue[Any]) -> None:
        with self.mutex:
            if place in self._line:
                self._line.remove(place)
                return
        self.put(place.get())  # it came at the last moment

    def idle(self) -> list[Any]:
        """Return the connections that nobody uses."""
        with self.mutex:
            return [connection for connection in self.queue if connection is not None]

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Give a connection to the first in the line, or keep it."""
        with self.mutex:
            if self._line:
                self._line.popleft().put(item)
            elif len(self.queue) >= self.maxsize:
                raise Full
            else:
                self._put(item)
