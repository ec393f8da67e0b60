"""A connection to Redis on which the server is waited for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from redis.exceptions import ResponseError

from django_tasks.pipes import readable
from django_tasks.redis_pool import without_errors

#: Seconds between two tries to end a wait.
AGAIN = 0.001


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
        timeout = max(0.001, round(seconds, 3))  # 0 would mean for ever
        self.connection.send_command("BLMOVE", self.name, inbox, "RIGHT", "LEFT", repr(timeout))

    @property
    def server(self) -> tuple[Any, Any]:
        """Where it goes."""
        return getattr(self.connection, "host", None), getattr(self.connection, "port", None)

    @property
    def descriptor(self) -> int:
        """What becomes readable when the wait ends."""
        return int(self.connection._sock.fileno())

    def end(self) -> bytes | None:
        """Read the answer; return the message that was moved."""
        moved: bytes | None = self.connection.read_response()
        return moved

    @property
    def unblocking(self) -> tuple[Any, ...]:
        """The command that ends this wait, over another connection."""
        return ("CLIENT", "UNBLOCK", self.client_id)

    def unblock(self, others: Sequence[Blocked]) -> list[int]:
        """End the waits of other connections; this one has ended. Returns 1 for those that it has ended."""
        self.write([each.unblocking for each in others])
        return without_errors(self.answers(len(others)))

    def write(self, commands: Sequence[Sequence[Any]]) -> None:
        """Send commands; this wait has ended."""
        self.connection.send_packed_command(self.connection.pack_commands(commands))

    def answers(self, number: int) -> list[Any]:
        """Read the answers to commands, errors of the server among them."""
        return [self._answer() for _ in range(number)]

    def _answer(self) -> Any:
        try:
            return self.connection.read_response()
        except ResponseError as exc:
            return exc

    def close(self) -> None:
        """Close the connection."""
        self.connection.disconnect()


def end_waits(
    waiting: Sequence[Blocked], unblock: Callable[[Sequence[Blocked]], Sequence[int]], patience: float
) -> list[bytes | None]:
    """End waits; return what each has brought.

    What ends a wait comes to the server over another connection than what has begun it, and may be read before that.
    So whoever was not waiting is told again, until there is an answer.

    Args:
        unblock: tells the server of some; returns 1 for those that it has ended.
        patience: seconds.

    Raises:
        TimeoutError: a wait has not ended in that time.
        one of REDIS_ERRORS: a connection is lost.
    """
    left, until = list(waiting), time.monotonic() + patience
    while left:
        ended = unblock(left)
        left = [each for each, answer in zip(left, ended, strict=True) if not answer]
        if left:
            ready = readable([each.descriptor for each in left], AGAIN)
            left = [each for each in left if each.descriptor not in ready]
        if left and time.monotonic() > until:
            raise TimeoutError("a blocking command cannot be ended")
    return [each.end() for each in waiting]
