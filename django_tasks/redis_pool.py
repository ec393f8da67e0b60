"""Which connection a command takes, who is next when all are in use, and how it is run without detours."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from queue import Empty, Full, LifoQueue, SimpleQueue
from typing import Any, cast

import redis
from redis.connection import BlockingConnectionPool
from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import MaxConnectionsError, ResponseError


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
        place: SimpleQueue[Any] = SimpleQueue()
        try:
            with self.mutex:
                self._line.append(place)
                self._serve()
            try:
                return place.get(block, timeout)
            except Empty:
                raise MaxConnectionsError(f"none of {self.maxsize} connections has become free") from None
        except BaseException:  # a time limit, too, which may be raised in this thread between any two steps
            self._leave(place)
            raise

    def _serve(self) -> None:
        while self._line and self.queue:
            self._line.popleft().put(self.queue.pop())

    def _leave(self, place: SimpleQueue[Any]) -> None:
        with self.mutex:
            if place in self._line:
                self._line.remove(place)
                return
        try:
            connection = place.get_nowait()  # it came at the last moment
        except Empty:
            connection = None  # it was taken already, and is lost; another one may be made
        self.put(connection)

    def take_idle(self) -> list[Any]:
        """Take the connections that nobody uses, and leave their places to new ones."""
        with self.mutex:
            idle = [connection for connection in self.queue if connection is not None]
            self.queue[:] = [None] * len(self.queue)
        return idle

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Give a connection to the first in the line, or keep it.

        Raises:
            Full: there is no place for it, and ``block`` is false: so pools find out when they are filled.
        """
        with self.mutex:
            if len(self.queue) < self.maxsize:
                self._put(item)
                self._serve()
            elif not block:
                raise Full
            # Else it is one too many, as may be after an interruption, and not kept.


class Pool(BlockingConnectionPool):
    """As redis-py's, without the statistics that it keeps of itself, which cost more than packing a command.

    It is for one process: who forks makes another one.
    """

    def get_connection(self, *_: Any, **options: Any) -> Any:
        """Take a connection that is open, and on which nothing has been left unread.

        Raises:
            MaxConnectionsError: none has become free in time.
            ConnectionError, TimeoutError, OSError: the server cannot be reached.
        """
        connection = self.pool.get(timeout=self.timeout)
        try:
            if connection is None:
                connection = cast(Any, self).make_connection()
            elif connection._sock is not None and _is_stale(connection):
                connection.disconnect()
            if connection._sock is None:
                connection.connect()
        except BaseException:
            if connection is not None:  # it may have said who we are, but not yet which database is meant
                connection.disconnect()
            self.release(connection)
            raise
        return connection

    def release(self, connection: Any) -> None:
        """Put a connection back; None stands for one that could not be made."""
        self.pool.put(connection)


def _is_stale(connection: Any) -> bool:
    """Whether the server has closed an open connection, or nobody has read an answer."""
    try:
        return bool(connection.can_read())
    except (LostConnection, OSError):
        return True


class DirectClient(redis.Redis):
    """As redis-py's client, without what it does around a command to try it again, and to tell how long it took."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command and return the answer, once."""
        client: Any = self
        pool = client.connection_pool
        connection = pool.get_connection()
        try:
            connection.send_packed_command(connection.pack_command(*args))
            return client.parse_response(connection, args[0], **options)
        except ResponseError:
            raise
        except BaseException:  # its answer must not be taken for that to the next command
            connection.disconnect()
            raise
        finally:
            pool.release(connection)


def together(client: Any, commands: Sequence[Sequence[Any]]) -> list[Any]:
    """Send commands in one round trip, each once; return their answers, errors of the server among them.

    redis-py's pipelines, interrupted between two answers, leave the second one to whoever uses the connection next.

    Args:
        client: of one server, whose pool is a ``Pool``.
    """
    pool = client.connection_pool
    connection = pool.get_connection()
    try:
        connection.send_packed_command(connection.pack_commands(commands))
        return [_answer(client, connection, command[0]) for command in commands]
    except BaseException:
        connection.disconnect()
        raise
    finally:
        pool.release(connection)


def _answer(client: Any, connection: Any, name: str) -> Any:
    try:
        return client.parse_response(connection, name)
    except ResponseError as exc:
        return exc


def without_errors(answers: Iterable[Any]) -> list[Any]:
    """Return answers; raise the first error among them."""
    found = list(answers)
    for answer in found:
        if isinstance(answer, Exception):
            raise answer
    return found
