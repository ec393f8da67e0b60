"""Calls that wait for a commit which never comes: ``TestCase`` wraps each test in a transaction and rolls it back.

Its blocks do not count. A call made in a block of the code under test is as good as committed once that block and all
blocks around it, up to those of the ``TestCase``, have ended well; Django forgets what was rolled back. Other callbacks
of the transaction are left alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from django_tasks.publishing import Publication

if TYPE_CHECKING:
    from django_tasks.app import App


class Commits:
    """What an app's calls in this thread's transactions come to.

    Calls that wait already when this is made are not its business.

    Args:
        app: the app.
    """

    def __init__(self, app: App) -> None:
        self.app = app
        self._earlier = {publication for publication, _ in self._waiting()}

    def send(self) -> None:
        """Send what the code under test has committed, in the order of the calls."""
        for publication, committed in list(self._waiting()):
            if committed and publication not in self._earlier:
                publication()

    def uncommitted(self) -> int:
        """Return how many calls wait for a block that is open here."""
        waiting = [p for p, committed in self._waiting() if not committed and p not in self._earlier]
        return sum(len(publication.messages) for publication in waiting)

    def _waiting(self) -> Iterator[tuple[Publication, bool]]:
        """Return publications that are not sent, and whether the code under test has committed them."""
        for connection in connections.all(initialized_only=True):
            for savepoints, callback, *_ in connection.run_on_commit:
                if isinstance(callback, Publication) and callback.app is self.app and not callback.sent:
                    yield callback, _is_committed(connection, savepoints)


def _is_committed(connection: BaseDatabaseWrapper, savepoints: set[str | None]) -> bool:
    """Whether a callback registered under these savepoints waits for nothing but the end of the ``TestCase``."""
    blocks = connection.atomic_blocks
    if connection.needs_rollback or not (blocks and _is_of_testcase(blocks[0])):
        return False
    # Each block has a savepoint (or None) but for the outermost, which has the transaction: they pair from the end.
    pairs = zip(reversed(blocks), reversed(connection.savepoint_ids), strict=False)
    still_open = {savepoint for block, savepoint in pairs if not _is_of_testcase(block)}
    return still_open.isdisjoint(savepoints)


def _is_of_testcase(block: object) -> bool:
    return bool(getattr(block, "_from_testcase", False))
