"""The tables of the ORM broker and the ORM result backend.

Instants that machines compare (due, reserved, seen) are seconds since the epoch on the database server's clock, so that
no time zone setting changes them; instants that people read are ``DateTimeField``.
"""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage
from django.db import models

from django_tasks.databases import Database


class QueuedMessage(models.Model):
    """One call of a task between ``.delay()`` and its end, or a dead letter.

    A row is READY (or ALONE: ready, but to be reserved by itself because a worker died holding it), DELAYED until
    ``due_at``, RESERVED by ``worker`` under ``lease``, or DEAD with a ``reason``. When its task has ended it is
    deleted. OUTBOX is for a broker elsewhere (``outbox.py``).
    """

    READY, ALONE, DELAYED, RESERVED, DEAD, OUTBOX = range(6)
    STATUSES = [
        (READY, "waiting"),
        (ALONE, "waiting, to run alone"),
        (DELAYED, "delayed"),
        (RESERVED, "reserved"),
        (DEAD, "dead letter"),
        (OUTBOX, "to be published"),
    ]

    id = models.BigAutoField(primary_key=True)
    task_id = models.CharField(max_length=255)
    task = models.CharField(max_length=255)
    queue = models.CharField(max_length=255)
    status = models.SmallIntegerField(choices=STATUSES, default=READY)
    #: The negated priority, so that one ascending index gives the order of reserving on every database.
    ranking = models.SmallIntegerField(default=0)
    sent_at = models.FloatField()
    due_at = models.FloatField(null=True)
    worker = models.CharField(max_length=255, null=True)
    lease = models.BigIntegerField(null=True)
    reserved_at = models.FloatField(null=True)
    #: How often a worker died while it held this message and no other.
    deaths = models.SmallIntegerField(default=0)
    #: How often workers that do not know the task gave it back.
    refusals = models.SmallIntegerField(default=0)
    alone = models.BooleanField(default=False)
    redelivered = models.BooleanField(default=False)
    #: Whether the rate limit has let it through already.
    admitted = models.BooleanField(default=False)
    reason = models.TextField(default="")
    #: What follows from something has a number from it, so that it is sent once (``Message.cause``).
    cause = models.BigIntegerField(null=True)
    #: The message in Celery's envelope (JSON), as ``django_tasks.message`` writes it.
    payload = models.TextField()

    class Meta:
        db_table = "django_tasks_message"
        verbose_name = "message"
        indexes = [
            models.Index(fields=["status", "queue", "ranking", "id"], name="django_tasks_msg_claim"),
            models.Index(fields=["due_at"], name="django_tasks_msg_due", condition=models.Q(due_at__isnull=False)),
        ]
        # Also the index of task ids. Rows without a cause are as many as they like, as NULLs differ from each other.
        constraints = [models.UniqueConstraint(fields=["task_id", "cause"], name="django_tasks_msg_cause")]

    def __str__(self) -> str:
        return f"{self.task}[{self.task_id}]"

    @classmethod
    def check(cls, **kwargs: Any) -> list[CheckMessage]:
        """Leave out that MariaDB has no conditions on indexes: it has all rows in them, which costs it a little."""
        return [message for message in super().check(**kwargs) if message.id != "models.W037"]


class TaskResult(models.Model):
    """The last known state of one task id, kept ``RESULT_EXPIRES`` seconds after it ended."""

    id = models.BigAutoField(primary_key=True)
    task_id = models.CharField(max_length=255)
    status = models.CharField(max_length=50)
    task_name = models.CharField(max_length=255, default="")
    args = models.TextField(default="")
    kwargs = models.TextField(default="")
    queue = models.CharField(max_length=255, default="")
    worker = models.CharField(max_length=255, default="")
    retries = models.IntegerField(default=0)
    content_type = models.CharField(max_length=128, default="application/json")
    content_encoding = models.CharField(max_length=64, default="utf-8")
    #: The return value or the exception, serialised; base64 where the serializer gives bytes.
    result = models.TextField(null=True)
    traceback = models.TextField(null=True)
    #: JSON: children, group, parent.
    meta = models.TextField(default="{}")
    date_started = models.DateTimeField(null=True)
    #: When the row was last written: the end of the task once ``status`` is a ready state.
    date_done = models.DateTimeField()

    class Meta:
        db_table = "django_tasks_result"
        verbose_name = "task result"
        # Not as ``unique=True``, for which Django makes two indexes on PostgreSQL, the other one for LIKE.
        constraints = [models.UniqueConstraint(fields=["task_id"], name="django_tasks_res_task_id")]
        indexes = [models.Index(fields=["date_done"], name="django_tasks_res_done")]

    def __str__(self) -> str:
        return f"{self.task_name}[{self.task_id}] {self.status}"


class WorkerProcess(models.Model):
    """One slot of a running worker, alive as long as its heartbeat (``seen_at``) is recent."""

    id = models.BigAutoField(primary_key=True)
    identity = models.CharField(max_length=255, unique=True)
    #: ``name@host`` of the worker that this slot belongs to.
    node = models.CharField(max_length=255)
    pid = models.IntegerField()
    queues = models.TextField(default="")
    started_at = models.FloatField()
    seen_at = models.FloatField()
    processed = models.BigIntegerField(default=0)
    #: Whether it was told to take nothing more.
    paused = models.BooleanField(default=False)

    class Meta:
        db_table = "django_tasks_worker"
        verbose_name = "worker process"
        verbose_name_plural = "worker processes"

    def __str__(self) -> str:
        return str(self.identity)


class WorkerOrder(models.Model):
    """Something a worker is told to do, read by its janitor (see ``control.py``)."""

    id = models.BigAutoField(primary_key=True)
    kind = models.CharField(max_length=32)
    #: ``name@host``; empty for every worker.
    node = models.CharField(max_length=255, default="")
    arguments = models.TextField(default="{}")
    created_at = models.FloatField()

    class Meta:
        db_table = "django_tasks_order"
        verbose_name = "worker order"

    def __str__(self) -> str:
        return f"{self.kind} {self.arguments}"


def check_tables(database: Database, *tables: type[models.Model]) -> None:
    """Make sure that tables have all the columns that we name; further ones, of a later version, do no harm.

    Raises:
        ImproperlyConfigured: they have not, since the database is not migrated.
        OperationalError: the database is away.
    """
    for table in tables:
        database.run(table.objects.using(database.alias).filter(pk=0).first)
