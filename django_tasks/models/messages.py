"""The messages of the ORM broker and of outboxes."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage
from django.db import models


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
