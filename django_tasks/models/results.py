"""What the ORM result backend keeps."""

from __future__ import annotations

from django.db import models


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
