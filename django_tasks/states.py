"""Task states, with the names and the grouping that Celery gives them."""

from __future__ import annotations

#: The state is unknown: not sent, waiting in a queue, or forgotten. Never stored.
PENDING = "PENDING"
#: A worker holds the message (events only).
RECEIVED = "RECEIVED"
#: A worker runs the task (stored with ``track_started``).
STARTED = "STARTED"
SUCCESS = "SUCCESS"
FAILURE = "FAILURE"
#: The task was cancelled, or its ``expires`` passed, before it ended.
REVOKED = "REVOKED"
#: The task raised ``Reject`` (events only).
REJECTED = "REJECTED"
#: The task failed and is going to run again.
RETRY = "RETRY"
#: The task raised ``Ignore`` (events only).
IGNORED = "IGNORED"

#: A task in one of these has ended; the first of them to be stored stays.
READY_STATES = frozenset({SUCCESS, FAILURE, REVOKED})
UNREADY_STATES = frozenset({PENDING, RECEIVED, STARTED, REJECTED, RETRY})
#: The stored result is an exception.
EXCEPTION_STATES = frozenset({RETRY, FAILURE, REVOKED})
#: ``AsyncResult.get()`` raises the stored exception.
PROPAGATE_STATES = frozenset({FAILURE, REVOKED})
ALL_STATES = READY_STATES | UNREADY_STATES | {IGNORED}
