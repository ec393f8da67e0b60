"""What the agent wants of a system."""

from __future__ import annotations

import platform
import sys
from importlib import import_module
from importlib.metadata import version

import django
from django.core.management import call_command

#: How its workers start Django's commands.
DJANGO = [sys.executable, "-m", "django"]


class System:
    """Base of all systems."""

    #: How many tasks a call of ``enqueue_bulk`` is given; 0: there is no such call.
    bulk_size = 0
    #: Whether there is a call that waits for a result.
    has_get = False

    def versions(self, package: str | None) -> dict[str, str]:
        """Return the versions of a distribution (None: this project) and of what it stands on."""
        own = version(package) if package else import_module("django_tasks").__version__
        return {"": own, "Django": django.get_version(), "Python": platform.python_version()}

    def prepare(self) -> None:
        """Make the tables in an empty database."""
        call_command("migrate", verbosity=0)

    def enqueue(self) -> None:
        """Send one ``work.noop``."""
        raise NotImplementedError

    def enqueue_some(self, count: int) -> None:
        """Send ``work.noop`` one by one."""
        for _ in range(count):
            self.enqueue()

    def enqueue_bulk(self, count: int) -> None:
        """Send many ``work.noop`` in one call."""
        raise NotImplementedError

    def stamp(self, sent: float) -> None:
        """Send one ``work.stamp(sent)``."""
        raise NotImplementedError

    def get_stamp(self, sent: float) -> None:
        """Send one ``work.stamp(sent)`` and wait for its result, as the documentation shows."""
        raise NotImplementedError

    def finished(self) -> int:
        """Return how many tasks the store says have ended well."""
        raise NotImplementedError

    def server_seconds(self) -> float | None:
        """Return the CPU time that the store's server has used so far, where that is told (our system only)."""
        return None

    def worker(self, processes: int) -> list[list[str]]:
        """Return the commands that together are a worker of so many processes, logging warnings only."""
        raise NotImplementedError
