"""The workers of the ORM broker, and what they are told to do."""

from __future__ import annotations

from django.db import models


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
