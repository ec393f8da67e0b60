"""Results on Redis, as Celery stores them, so that clients of either read what workers of either have written."""

from __future__ import annotations

import asyncio
import math
import queue
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from django_tasks import exceptions, serialization, states
from django_tasks.backends.base import ResultBackend
from django_tasks.backends.celery_meta import decode_meta, encode_meta, type_of
from django_tasks.backends.redis_listener import Arrival, Listeners, LoopArrivals
from django_tasks.chunks import chunked
from django_tasks.conf import suggestion
from django_tasks.errors import exception_to_dict
from django_tasks.exceptions import DecodeError, ImproperlyConfigured, RequestRefused, TimeoutError
from django_tasks.outcome import TaskMeta
from django_tasks.redis_cluster import connections_to
from django_tasks.redis_connections import Script
from django_tasks.redis_urls import CONNECTION_OPTIONS
from django_tasks.serialization import Encoded

KEY_PREFIX = "celery-task-meta-"
#: Metas, and bytes of them, that one script stores; and keys that one command reads or deletes.
CHUNK_METAS, CHUNK_SIZE, CHUNK_KEYS = 500, 4 * 1024 * 1024, 5000
#: Seconds of one wait at most: an exception that somebody raises in a thread gets there only in between.
WAIT = 1.0
_DIRECTORY = Path(__file__).with_name("lua")
#: Functions in Lua that store a meta, for scripts that do.
META = str(_DIRECTORY / "meta")
STORE = Script(_DIRECTORY, "meta", "store")
#: What of ``RESULT_BACKEND_TRANSPORT_OPTIONS`` is heeded, beside ``CONNECTION_OPTIONS``.
OPTIONS = frozenset({"global_keyprefix"})
#: What is read by Celery alone: its retries and time-outs, and how it keeps chords.
_CELERYS = frozenset({"health_check_interval", "result_chord_ordered", "retry_on_timeout", "retry_policy",
                      "socket_connect_timeout", "socket_timeout", "visibility_timeout"})  # fmt: skip
_KOMBUS_ERRORS = {"OperationalError", "SerializationError", "EncodeError", "DecodeError", "ContentDisallowed"}
_CELERYS_ERRORS = {
    "AlreadyRegistered", "ChordError", "Ignore", "ImproperlyConfigured", "MaxRetriesExceededError", "NotRegistered",
    "Reject", "Retry", "SecurityError", "SoftTimeLimitExceeded", "TaskError", "TaskPredicate", "TaskRevokedError",
    "TimeLimitExceeded", "TimeoutError", "WorkerLostError",
}  # fmt: skip


class Entry(NamedTuple):
    """What is stored of a meta; ``milliseconds`` to keep it are empty for ever."""

    key: bytes
    milliseconds: int | str
    data: bytes


class RedisBackend(ResultBackend):
    """Results on Redis or Valkey (``redis://host:port/number``; ``redis_urls`` has the other forms)."""

    owns_connections: ClassVar[bool] = True

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        _check_options(self.options)
        common: dict[str, Any] = {"timeout": self.timeout, "options": self.options, "tls": self.tls}
        self.connections = connections_to("RESULT_BACKEND", url, **common)
        prefix: str = self.options.get("global_keyprefix") or ""
        if prefix and prefix[-1] not in ":_-.":
            prefix += "_"  # as Celery does it
        self.prefix = f"{prefix}{KEY_PREFIX}".encode()
        #: Milliseconds for which a state is kept that is an end, and one that is none.
        self._lifetimes = {True: _milliseconds(self.expires), False: _milliseconds(self.expires_unfinished)}
        self.listeners = Listeners(self.connections, lambda keys: self._look(keys))

    def _key(self, task_id: str) -> bytes:
        return self.prefix + task_id.encode("utf-8", "surrogatepass")

    # -- storing

    def store(self, metas: Sequence[TaskMeta]) -> list[TaskMeta]:
        """Set and publish in one script a chunk; tasks that have ended are left alone and returned."""
        written = [self.entry(meta) for meta in metas]
        winners = list(metas)
        #: What each of these may overwrite though the script cannot tell whether it is an end.
        todo = dict.fromkeys(range(len(metas)), b"")
        while todo:
            kept: dict[int, bytes] = {}
            for places in _chunks(list(todo), written):
                kept |= self._store(places, written, todo)
            todo = {}
            for place, value in kept.items():
                earlier = self._read(metas[place].task_id, value)
                if earlier is not None and earlier.ready:
                    winners[place] = earlier
                else:
                    todo[place] = b"=" + value
        return winners

    def entry(self, meta: TaskMeta) -> Entry:
        """Return what is stored of a meta.

        Raises:
            EncodeError: it cannot be written.
        """
        return Entry(self._key(meta.task_id), self._lifetimes[meta.ready], encode_meta(meta, self.extended))

    def _store(self, places: list[int], written: list[Entry], unclear: Mapping[int, bytes]) -> dict[int, bytes]:
        """Store some of the metas; return what stayed in place of which."""
        # In a cluster each key has a slot of its own, and each a script.
        parts = [[place] for place in places] if self.connections.is_cluster else [places]
        calls = []
        for part in parts:
            arguments: list[Any] = []
            for place in part:
                arguments += [written[place].milliseconds, unclear[place], written[place].data]
            calls.append(([written[place].key for place in part], arguments))
        answers = zip(parts, self.connections.execute_each(STORE, calls), strict=True)
        return {
            part[place - 1]: value for part, kept in answers for place, value in zip(kept[::2], kept[1::2], strict=True)
        }

    def forget(self, task_ids: Sequence[str]) -> None:
        """Delete ids."""
        keys = [self._key(task_id) for task_id in task_ids]
        for some in chunked(keys, CHUNK_KEYS):
            self.connections.delete(some)

    # -- reading

    def get(self, task_ids: Sequence[str]) -> dict[str, TaskMeta]:
        """Read ids in one command."""
        ids = {self._key(task_id): task_id for task_id in task_ids}
        found: dict[str, TaskMeta] = {}
        for key, value in self._look(list(ids)).items():
            meta = self._shown(ids[key], value)
            if meta is not None:
                found[ids[key]] = meta
        return found

    def _look(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return what is stored under some keys."""
        found: dict[bytes, bytes] = {}
        for some in chunked(keys, CHUNK_KEYS):
            values = self.connections.mget(some)
            found |= {key: value for key, value in zip(some, values, strict=True) if value is not None}
        return found

    def _read(self, task_id: str, value: bytes) -> TaskMeta | None:
        """Return a meta; None for what nobody here can read."""
        try:
            return decode_meta(task_id, value, self.accept)
        except DecodeError:
            return None

    def _shown(self, task_id: str, value: bytes) -> TaskMeta | None:
        """Return a meta; for one that cannot be read, a failure whose value raises the reason when it is asked for."""
        try:
            return decode_meta(task_id, value, self.accept)
        except DecodeError:
            return TaskMeta(task_id, states.FAILURE, Encoded(type_of(value), "binary", value))

    # -- waiting

    def wait(self, task_ids: Sequence[str], timeout: float | None, interval: float | None) -> Iterator[TaskMeta]:
        """Yield the metas of ended tasks as they are published; once it waits, it outwaits an outage.

        Args:
            timeout: seconds to wait in all; None for ever.
            interval: has no effect: nobody asks again and again.

        Raises:
            OperationalError: the server is away.
            RequestRefused: it does not let us subscribe.
            TimeoutError: not all had ended by then.
        """
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        missing = dict.fromkeys(task_ids)
        for meta in self.get(list(missing)).values():
            if meta.ready:
                del missing[meta.task_id]
                yield meta
        if missing:
            yield from self._listen({self._key(task_id): task_id for task_id in missing}, deadline)

    def _listen(self, missing: dict[bytes, str], deadline: float) -> Iterator[TaskMeta]:
        arrivals: queue.SimpleQueue[Arrival] = queue.SimpleQueue()
        with self.listeners.listening(list(missing), arrivals):
            while missing:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError("The operation timed out.")
                try:
                    arrival = arrivals.get(timeout=min(left, WAIT))
                except queue.Empty:
                    continue
                if (meta := _end(self._shown, missing, arrival)) is not None:
                    yield meta

    async def wait_async(self, task_ids: Sequence[str], timeout: float | None) -> AsyncIterator[TaskMeta]:
        """As ``wait``; the same listener tells coroutines and threads."""
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        missing = {self._key(task_id): task_id for task_id in task_ids}
        for meta in (await asyncio.to_thread(self.get, list(task_ids))).values():
            if meta.ready:
                del missing[self._key(meta.task_id)]
                yield meta
        arrivals = LoopArrivals()
        with self.listeners.listening(list(missing), arrivals) if missing else nullcontext():
            while missing:
                ended = _end(self._shown, missing, await arrivals.get(deadline - time.monotonic()))
                if ended is not None:
                    yield ended

    def close(self) -> None:
        """Drop this process's connections; whoever waits keeps the one that it waits on."""
        self.listeners.close()
        self.connections.close()

    # -- values

    def encode(self, value: Any, state: str) -> Encoded:
        """As for all backends, but errors of ours bear the names that their namesakes have in Celery."""
        if state in states.EXCEPTION_STATES and isinstance(value, BaseException) and self.serializer != "pickle":
            value = exception_to_dict(value, self.serializer)
            if value["exc_module"] == exceptions.__name__:
                value["exc_module"] = _celerys_module(value["exc_type"])
        return serialization.dumps(value, self.serializer)


def _end(
    shown: Callable[[str, bytes], TaskMeta | None], missing: dict[bytes, str], arrival: Arrival
) -> TaskMeta | None:
    """Return the end that has arrived, if it was missing until now."""
    key, value = arrival
    if key not in missing:
        return None
    if isinstance(value, RequestRefused):
        raise value
    meta = shown(missing[key], value)
    if meta is None or not meta.ready:
        return None
    del missing[key]
    return meta


def _milliseconds(seconds: float | None) -> int | str:
    return "" if seconds is None else max(1, round(seconds * 1000))


def _celerys_module(name: str) -> str:
    if name in _KOMBUS_ERRORS:
        return "kombu.exceptions"
    return "celery.exceptions" if name in _CELERYS_ERRORS else exceptions.__name__


def _chunks(places: list[int], written: list[Entry]) -> Iterator[list[int]]:
    chunk: list[int] = []
    size = 0
    for place in places:
        if chunk and (len(chunk) == CHUNK_METAS or size + len(written[place].data) > CHUNK_SIZE):
            yield chunk
            chunk, size = [], 0
        chunk.append(place)
        size += len(written[place].data)
    if chunk:
        yield chunk


def _check_options(options: Mapping[str, Any]) -> None:
    """Refuse options that mean nothing, neither here nor to Celery."""
    known = OPTIONS | CONNECTION_OPTIONS
    for name in options:
        if name not in known | _CELERYS:
            raise ImproperlyConfigured(
                f"RESULT_BACKEND_TRANSPORT_OPTIONS: there is no option {name!r}.{suggestion(name, known)} "
                f"It takes {', '.join(sorted(known))}."
            )
