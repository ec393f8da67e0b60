"""What a result backend is: three methods to write, and defaults for the rest."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, ClassVar

from asgiref.sync import sync_to_async

from django_tasks import serialization, states
from django_tasks.errors import exception_from_dict, exception_to_dict
from django_tasks.exceptions import TimeoutError
from django_tasks.outcome import TaskMeta
from django_tasks.serialization import Encoded

if TYPE_CHECKING:
    from django_tasks.outcome import Outcome

logger = logging.getLogger("django_tasks.worker")

#: Seconds for which a state that is no end (STARTED, RETRY, one of the task's own) is kept after it was last written,
#: unless ends are kept longer. Its task may still wait or run; but what a lost task left must go some day.
UNFINISHED_AGE = 30 * 86400.0
#: Seconds between two looks at a result that is waited for: the first, and the longest.
FIRST_LOOK, LONGEST_LOOK = 0.005, 0.25


class ResultBackend:
    """Base of all result backends.

    Args:
        url: the whole backend URL.
        serializer: how values are written.
        accept: content types that may be decoded.
        expires: seconds for which an ended task's result is kept; None for ever.
        extended: keep the task's name, arguments, queue and worker too, where that is a choice.
        options: ``RESULT_BACKEND_TRANSPORT_OPTIONS``.
        timeout: seconds that a server has to take a connection, and to answer.
        tls: ``REDIS_BACKEND_USE_SSL``.
    """

    #: Whether anything is stored at all.
    stores: ClassVar[bool] = True
    #: Whether ``close`` closes what nobody else uses: then it is called when the settings come to name another backend.
    owns_connections: ClassVar[bool] = False
    #: Attributes with what is kept in this process alone: another backend of the same class and URL goes on with them.
    kept_here: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        url: str,
        *,
        serializer: str = "json",
        accept: frozenset[str],
        expires: float | None = 86400.0,
        extended: bool = False,
        options: dict[str, Any] | None = None,
        timeout: float = 2.0,
        tls: dict[str, Any] | None = None,
    ) -> None:
        self.url = url
        self.serializer = serializer
        self.accept = accept
        self.expires = expires
        #: The same for a state that is no end.
        self.expires_unfinished = None if expires is None else max(expires, UNFINISHED_AGE)
        self.extended = extended
        self.options = options or {}
        self.timeout = timeout
        self.tls = tls

    # -- required

    def store(self, metas: Sequence[TaskMeta]) -> list[TaskMeta]:
        """Store each unless its task has ended; return what holds now: it, or the earlier end, in the same order."""
        raise NotImplementedError

    def get(self, task_ids: Sequence[str]) -> dict[str, TaskMeta]:
        """Return what is known of these ids."""
        raise NotImplementedError

    def forget(self, task_ids: Sequence[str]) -> None:
        """Remove what is known of these ids."""
        raise NotImplementedError

    # -- defaults

    def check(self) -> None:
        """Make sure that results can be kept, or raise what to do about it."""

    def in_transaction_of(self, alias: str) -> bool:
        """Whether results are written in the transactions of this database."""
        return False

    def prune(self, limit: int) -> int:
        """Remove up to ``limit`` expired results, where they do not expire by themselves; return how many."""
        return 0

    def latest(self, *, state: str = "", queue: str = "", task: str = "", limit: int) -> list[TaskMeta] | None:
        """Return what was stored last, newest first; None where results cannot be listed.

        Args:
            state, queue, task: only what has these; empty for any.
            limit: how many at most.
        """
        return None

    def check_wait(self) -> None:
        """Raise if waiting here cannot end."""

    def close(self) -> None:
        """Drop this process's connections."""

    def wait(self, task_ids: Sequence[str], timeout: float | None, interval: float | None) -> Iterator[TaskMeta]:
        """Yield the metas of ended tasks as they end.

        Args:
            timeout: seconds to wait in all; None for ever.
            interval: seconds between looks; None to begin with short pauses that grow.

        Raises:
            TimeoutError: not all had ended by then.
        """
        self.check_wait()
        deadline = None if timeout is None else time.monotonic() + timeout
        missing = dict.fromkeys(task_ids)
        pause = interval or FIRST_LOOK
        while True:
            for meta in self.get(list(missing)).values():
                if meta.ready:
                    del missing[meta.task_id]
                    yield meta
            if not missing:
                return
            if deadline is not None and time.monotonic() + pause > deadline:
                pause = max(0.0, deadline - time.monotonic())
                if pause == 0.0:
                    raise TimeoutError("The operation timed out.")
            time.sleep(pause)
            pause = interval or min(max(pause, FIRST_LOOK) * 1.3, LONGEST_LOOK)

    async def wait_async(self, task_ids: Sequence[str], timeout: float | None) -> AsyncIterator[TaskMeta]:
        """As ``wait``, for coroutines: nothing blocks while it waits."""
        deadline = None if timeout is None else time.monotonic() + timeout
        missing = dict.fromkeys(task_ids)
        pause = FIRST_LOOK
        while True:
            for meta in (await sync_to_async(self.get)(list(missing))).values():
                if meta.ready:
                    del missing[meta.task_id]
                    yield meta
            if not missing:
                return
            if pause == FIRST_LOOK:
                await sync_to_async(self.check_wait)()
            left = math.inf if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("The operation timed out.")
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 1.3, LONGEST_LOOK)

    # -- values

    def encode(self, value: Any, state: str) -> Encoded:
        """Serialise a return value, or the exception of a state that carries one.

        Raises:
            EncodeError: the serializer cannot write it.
        """
        if state in states.EXCEPTION_STATES and isinstance(value, BaseException) and self.serializer != "pickle":
            value = exception_to_dict(value, self.serializer)
        return serialization.dumps(value, self.serializer)

    def decode(self, meta: TaskMeta) -> Any:
        """Return the value or the exception that a meta holds."""
        if meta.result is None:
            return None
        encoded = meta.result
        value = serialization.loads(encoded.data, encoded.content_type, encoded.content_encoding, self.accept)
        return exception_from_dict(value) if meta.status in states.EXCEPTION_STATES and value is not None else value

    def settle_winners(self, outcomes: Sequence[Outcome]) -> None:
        """Store the outcomes' metas, and let each outcome be what holds: an earlier end of the task stays."""
        storing = [outcome for outcome in outcomes if outcome.meta is not None]
        winners = self.store([outcome.meta for outcome in storing if outcome.meta]) if storing else []
        for outcome, winner in zip(storing, winners, strict=True):
            if winner is not outcome.meta:
                outcome.meta = winner
                outcome.discarded = f"it had ended as {winner.status}"
                outcome.state = winner.status
                outcome.traceback = winner.traceback
                outcome.next_run = None
                outcome.follow = outcome.follow and winner.retries == outcome.message.retries  # else another run's
                decode_into(outcome, winner, self)


def decode_into(outcome: Outcome, winner: TaskMeta, backend: ResultBackend) -> bool:
    """Give an outcome the value that is stored; if that cannot be read, the error, and then nothing follows.

    Returns:
        Whether it could be read.
    """
    try:
        outcome.value = backend.decode(winner)
    except Exception as exc:  # whatever somebody wrote there, it stops no worker
        logger.error("The result of task %s[%s] cannot be read: %s", outcome.message.task, winner.task_id, exc)
        outcome.value, outcome.follow = exc, False
        return False
    return True


def utc_now(seconds: float) -> datetime:
    """Return seconds since the epoch as an aware instant in UTC."""
    return datetime.fromtimestamp(seconds, timezone.utc)
