"""The tables of the ORM broker, the ORM result backend and the beat.

Instants that machines compare (due, reserved, seen) are seconds since the epoch on the database server's clock, so that
no time zone setting changes them; instants that people read are ``DateTimeField``.
"""

from __future__ import annotations

from django_tasks.models.beat import ScheduleState
from django_tasks.models.messages import QueuedMessage
from django_tasks.models.periodic import PeriodicTask
from django_tasks.models.periodic_version import PeriodicVersion
from django_tasks.models.results import TaskResult
from django_tasks.models.tables import check_tables
from django_tasks.models.workers import WorkerOrder, WorkerProcess

__all__ = [
    "PeriodicTask",
    "PeriodicVersion",
    "QueuedMessage",
    "ScheduleState",
    "TaskResult",
    "WorkerOrder",
    "WorkerProcess",
    "check_tables",
]
