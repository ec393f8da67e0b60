"""The systems that are measured. Each has a module of the same name in ``systems``."""

from __future__ import annotations

from dataclasses import dataclass

DATABASES = ("sqlite", "sqlite-full", "postgresql")
OURS = "celeriac"


@dataclass(frozen=True)
class Entry:
    """One system, as the measuring process knows it.

    Args:
        name: of its module in ``systems``.
        package: its distribution, installed as ``requirements/<name>.txt`` says; None for this project.
        databases: the ones of ``DATABASES`` that it can work on.
    """

    name: str
    package: str | None
    databases: tuple[str, ...] = DATABASES

    @property
    def title(self) -> str:
        """What the report calls it."""
        return self.package or "django-celeriac"


SYSTEMS = {
    entry.name: entry
    for entry in (
        Entry(OURS, None),
        Entry("huey", "huey"),
        Entry("django_q2", "django-q2"),
        Entry("django_tasks_db", "django-tasks-db"),
        Entry("procrastinate", "procrastinate", ("postgresql",)),
    )
}
