"""The statements of the ORM broker. Layout version 1: table ``django_tasks_message`` (``models.QueuedMessage``).

``status``: 0 ready, 1 ready but to be reserved alone, 2 delayed until ``due_at``, 3 reserved by ``worker`` under
``lease`` since ``reserved_at``, 4 dead letter, 5 in the outbox of another broker (``outbox.py``).
Order within a queue: ``ranking`` (the negated priority), then ``id``. ``cause``: what follows from something has a
number from it, which keeps it from being there twice; a dead letter has none.
A reserve looks at one queue and one status, so that the index (status, queue, ranking, id) gives rows in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from django_tasks.databases import rows_of

TABLE = "django_tasks_message"
#: What a new message is given, with the types that PostgreSQL calls them.
COLUMNS = {"task_id": "text", "task": "text", "queue": "text", "status": "smallint", "ranking": "smallint",
           "sent_at": "float8", "due_at": "float8", "cause": "bigint", "payload": "text"}  # fmt: skip
#: What every new message has.
_LITERALS = {"deaths": "0", "refusals": "0", "alone": "FALSE", "redelivered": "FALSE", "admitted": "FALSE",
             "reason": "''"}  # fmt: skip
#: What a reserve reads, in this order.
RESERVED_COLUMNS = "id, queue, deaths, refusals, alone, redelivered, admitted, ranking, payload"


def listed(ids: Sequence[int]) -> str:
    """Return keys as a list; written out, since a placeholder for each would take longer than the statement."""
    return f"({','.join(map(str, map(int, ids)))})"


@lru_cache(maxsize=16)
def insert(vendor: str, rows: int, notify: bool = False) -> str:
    """Insert that many messages (``Database.write``); with ``notify``, wake listening workers, too (PostgreSQL)."""
    statement = f"INSERT INTO {TABLE} ({', '.join((*COLUMNS, *_LITERALS))}) {rows_of(vendor, COLUMNS, rows, _LITERALS)}"
    return _and_notify(statement) if notify else statement


@lru_cache(maxsize=16)
def insert_once(vendor: str, rows: int, notify: bool = False) -> str:
    """As ``insert``, but pass over those of an id and cause that are there already."""
    # INSERT IGNORE would also take what does not fit.
    conflict = "ON DUPLICATE KEY UPDATE id = id" if vendor == "mysql" else "ON CONFLICT DO NOTHING"
    statement = f"{insert(vendor, rows)} {conflict}"
    return _and_notify(statement) if notify else statement


def _and_notify(insert: str) -> str:
    # It is sent when the transaction commits. One statement is one round trip.
    return f"WITH sent AS ({insert}) SELECT pg_notify('{CHANNEL}', '')"


CHANNEL = "django_tasks"
NOTIFY = f"SELECT pg_notify('{CHANNEL}', '')"
LISTEN = f"LISTEN {CHANNEL}"

_MARK = f"UPDATE {TABLE} SET status = 3, worker = %s, lease = %s, reserved_at = %s WHERE"


def _candidates(part: str = "") -> str:
    """Parameters: status, queue, those of the part, limit."""
    return f"SELECT id FROM {TABLE} WHERE status = %s AND queue = %s {part}ORDER BY ranking, id LIMIT %s"


def _claim_on_postgresql(part: str = "") -> str:
    # The array keeps PostgreSQL from running the locking subquery more than once, which would exceed the limit.
    return f"{_MARK} id = ANY(ARRAY({_candidates(part)} FOR UPDATE SKIP LOCKED)) RETURNING {RESERVED_COLUMNS}"


#: Claim in one statement. Parameters: worker, lease, now, status, queue, limit.
CLAIM = {
    "postgresql": _claim_on_postgresql(),
    "sqlite": f"{_MARK} id IN ({_candidates()}) RETURNING {RESERVED_COLUMNS}",
}
#: Claim what is more urgent than a ranking, and what comes from a place on (``orm_frontier.py``). Parameters before
#: the limit: ranking; ranking and id.
CLAIM_BEFORE = _claim_on_postgresql("AND ranking < %s ")
CLAIM_FROM = _claim_on_postgresql("AND (ranking, id) >= (%s, %s) ")
#: Claim in two statements, for databases whose UPDATE returns nothing: this one locks, then comes ``mark_claimed``.
#: Parameters: status, queue, limit.
SELECT_FOR_CLAIM = (
    f"SELECT {RESERVED_COLUMNS} FROM {TABLE} WHERE status = %s AND queue = %s ORDER BY ranking, id LIMIT %s"
)


def mark_claimed(ids: Sequence[int]) -> str:
    """Mark selected rows. Parameters: worker, lease, now."""
    return f"{_MARK} id IN {listed(ids)}"


#: Whether a queue has something, read without a lock. Parameters: status, queue.
ANY_READY = f"SELECT 1 FROM {TABLE} WHERE status = %s AND queue = %s LIMIT 1"


def acknowledge(ids: Sequence[int]) -> str:
    """Delete what ended under one lease. Parameter: lease."""
    return f"DELETE FROM {TABLE} WHERE id IN {listed(ids)} AND lease = %s"


def give_back(ids: Sequence[int]) -> str:
    """Release rows. Parameters: status, due_at, deaths, refusals, alone, redelivered, admitted, lease."""
    return (
        f"UPDATE {TABLE} SET status = %s, due_at = %s, deaths = %s, refusals = %s, "
        f"alone = %s, redelivered = redelivered OR %s, admitted = %s, worker = NULL, lease = NULL, reserved_at = NULL "
        f"WHERE id IN {listed(ids)} AND lease = %s"
    )


#: Parameters: reason, id, lease.
BURY = (
    f"UPDATE {TABLE} SET status = 4, reason = %s, worker = NULL, lease = NULL, cause = NULL "
    "WHERE id = %s AND lease = %s"
)


def held(ids: Sequence[int]) -> str:
    """Read who holds rows that are reserved."""
    return f"SELECT id, lease FROM {TABLE} WHERE status = 3 AND id IN {listed(ids)}"


# The plus keeps databases from looking through all delayed messages in the index of claims.
_DUE = "+status = 2 AND due_at <= %s"
#: Whether a delayed message is due. Parameters: now. Without the order, and before it has statistics, PostgreSQL would
#: read all delayed rows, in the hope of soon meeting one that is due.
ANY_DUE = f"SELECT 1 FROM {TABLE} WHERE {_DUE} ORDER BY due_at LIMIT 1"
#: Rows that ``PROMOTE`` brings to their queues at a time.
PROMOTED = 1000
#: Parameters: now.
SELECT_DUE = f"SELECT id FROM {TABLE} WHERE {_DUE} ORDER BY due_at LIMIT {PROMOTED}"
_READY = f"UPDATE {TABLE} SET status = CASE WHEN alone THEN 1 ELSE 0 END, due_at = NULL WHERE id"
#: Bring due messages to their queues in one statement. Parameters: now.
PROMOTE = {
    "postgresql": f"{_READY} = ANY(ARRAY({SELECT_DUE} FOR UPDATE SKIP LOCKED))",
    "sqlite": f"{_READY} IN ({SELECT_DUE})",
}


def mark_ready(ids: Sequence[int]) -> str:
    """Bring locked rows to their queues (MariaDB would read the whole table for a subquery)."""
    return f"{_READY} IN {listed(ids)}"


def names(ids: Sequence[int]) -> str:
    """Read what messages are that cannot be decoded."""
    return f"SELECT id, task, task_id FROM {TABLE} WHERE id IN {listed(ids)}"


#: The server's clock in seconds since the epoch; SQLite has no other clock than this machine's.
CLOCK = {
    "postgresql": "SELECT EXTRACT(EPOCH FROM clock_timestamp())::float8",
    # Both of the moment that the statement began; UNIX_TIMESTAMP(NOW(6)) would be an hour off when summer time ends.
    "mysql": "SELECT UNIX_TIMESTAMP() + MICROSECOND(NOW(6)) / 1000000",
}
