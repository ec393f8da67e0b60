"""What errors of Redis mean, in words of ours."""

from __future__ import annotations

import redis.exceptions as errors

from django_tasks.exceptions import OperationalError, RequestRefused

#: What redis-py raises; RedisClusterException is no RedisError, and OSError may come from a socket.
REDIS_ERRORS = (errors.RedisError, errors.RedisClusterException, OSError)

#: What the servers say first in an error, and what to tell people. Most are waits: the worker tries again and again,
#: and a caller gets the error after ``BROKER_CONNECTION_TIMEOUT``.
_MEANINGS = {
    "OOM": "is out of memory (maxmemory) and takes nothing new: let workers empty its queues, or give it more",
    "READONLY": "is a read-only replica: give the address of the master, or sentinel:// to be told which one it is",
    "LOADING": "is reading its data from disk",
    "MASTERDOWN": "is a replica whose master is away",
    "MISCONF": "cannot write its data to disk and takes nothing new (see its log)",
    "NOREPLICAS": "has fewer replicas than min-replicas-to-write and takes nothing new",
    "BUSY": "is busy with somebody's long script",
    "MOVED": "is a node of a cluster: use redis+cluster://",
    "ASK": "is a node of a cluster: use redis+cluster://",
    "CROSSSLOT": "is a node of a cluster: use redis+cluster://",
    "CLUSTERDOWN": "is a cluster that has lost nodes: some slots are not served",
    "TRYAGAIN": "is moving these keys to another node",
    "WRONGPASS": "refuses the user name or the password",
    "NOAUTH": "wants a password: redis://user:password@host",
    "NOPERM": "does not let this user do that (ACL)",
    "WRONGTYPE": "has something else under the name of a queue or of our own keys: use another number of database, "
    "or a global_keyprefix",
}  # fmt: skip
#: Those that no time mends, for one command or for all; so it is with answers that begin with none of these words.
_REFUSALS = ("NOPERM", "WRONGTYPE")
#: Where redis-py takes the first word away.
_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (errors.BusyLoadingError, "LOADING"),
    (errors.OutOfMemoryError, "OOM"),
    (errors.ReadOnlyError, "READONLY"),
    (errors.MasterDownError, "MASTERDOWN"),
    (errors.NoPermissionError, "NOPERM"),
    (errors.MovedError, "MOVED"),
    (errors.AskError, "ASK"),
    (errors.ClusterDownError, "CLUSTERDOWN"),
    (errors.ClusterCrossSlotError, "CROSSSLOT"),
    (errors.SlotNotCoveredError, "CLUSTERDOWN"),
    (errors.TryAgainError, "TRYAGAIN"),
    (errors.ClusterError, "TRYAGAIN"),  # redis-py's word for many of these
)


def code_of(exc: BaseException) -> str:
    """Return the first word of a server's error: ``OOM``, ``READONLY``, ...; empty when no server has spoken."""
    for kind, word in _WORDS:
        if isinstance(exc, kind):
            return word
    text = str(exc)
    if isinstance(exc, errors.AuthenticationError):
        # Servers before 6 do not begin with a word of their own.
        return "NOAUTH" if "required" in text or "NOAUTH" in text else "WRONGPASS"
    # Errors inside scripts come with the script's name around them in some versions.
    return next((word for word in _MEANINGS if f"{word} " in text), "") if _is_answer(exc) else ""


def _is_answer(exc: BaseException) -> bool:
    return isinstance(exc, errors.ResponseError)


def breaks_connection(exc: BaseException) -> bool:
    """Whether another server, or a new connection, may do better."""
    if isinstance(exc, errors.MaxConnectionsError):
        return False
    return not _is_answer(exc) or code_of(exc) in ("READONLY", "MASTERDOWN", "CLUSTERDOWN", "MOVED")


def is_silence(exc: OperationalError) -> bool:
    """Whether a translated error is that a server could not be reached, rather than what it said."""
    return isinstance(exc.__cause__, errors.ConnectionError | errors.TimeoutError | OSError)


def translated(exc: BaseException, place: str) -> OperationalError:
    """Return the error to raise: ``RequestRefused`` where the same command would be refused again.

    Args:
        place: the URL without its password.
    """
    code = code_of(exc)
    if code:
        kind = RequestRefused if code in _REFUSALS else OperationalError
        return kind(f"Redis at {place} {_MEANINGS[code]}. ({exc})")
    if isinstance(exc, errors.MaxConnectionsError):
        return OperationalError(f"Redis at {place} is kept busy by this process: {exc}. Raise max_connections.")
    if "cluster support disabled" in str(exc):
        return OperationalError(f"Redis at {place} is no cluster: use redis://. ({exc})")
    if isinstance(exc, errors.InvalidResponse):
        return OperationalError(f"What answers at {place} is no Redis. ({exc})")
    if isinstance(exc, errors.TimeoutError | TimeoutError):
        return OperationalError(f"Redis at {place} does not answer. ({exc})")
    if isinstance(exc, errors.ConnectionError | OSError):
        return OperationalError(f"Redis at {place} cannot be reached. ({exc})")
    kind = RequestRefused if _is_answer(exc) else OperationalError
    return kind(f"Redis at {place} refuses a command. ({exc})")
