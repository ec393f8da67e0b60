"""The systems that are measured. Each has a module of the same name in ``systems``."""

from __future__ import annotations

from dataclasses import dataclass

SQL = ("sqlite", "sqlite-full", "postgresql")
DATABASES = (*SQL, "redis")
REDIS = ("redis",)
OURS = "celeriac"


@dataclass(frozen=True)
class Entry:
    """One system, as the measuring process knows it.

    Args:
        name: what the command line calls it.
        package: its distribution, installed as ``requirements/<module>.txt`` (and ``.json``, from npm) says;
            None for this project.
        databases: the ones of ``DATABASES`` that it can work on.
        variant: which of several ways to run it; a part of the name.
    """

    name: str
    package: str | None
    databases: tuple[str, ...] = SQL
    variant: str = ""

    @property
    def module(self) -> str:
        """Its module in ``systems``."""
        return self.name.removesuffix(f"-{self.variant}")

    @property
    def title(self) -> str:
        """What the report calls it."""
        return f"{self.package or 'django-celeriac'} {self.variant}".strip()


SYSTEMS = {
    entry.name: entry
    for entry in (
        Entry(OURS, None, DATABASES),
        Entry("huey", "huey", DATABASES),
        Entry("django_q2", "django-q2"),
        Entry("django_tasks_db", "django-tasks-db"),
        Entry("procrastinate", "procrastinate", ("postgresql",)),
        Entry("celery-prefork", "celery", REDIS, "prefork"),
        Entry("celery-threads", "celery", REDIS, "threads"),
        Entry("celery-solo", "celery", REDIS, "solo"),
        Entry("dramatiq", "dramatiq", REDIS),
        Entry("rq", "rq", REDIS),
        Entry("taskiq", "taskiq", REDIS),
        Entry("arq", "arq", REDIS),
        Entry("bullmq", "bullmq", REDIS),
    )
}
