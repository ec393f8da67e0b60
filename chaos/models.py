"""What the programs of a scenario write beside their tasks."""

from __future__ import annotations

from django.db import models


class Entry(models.Model):
    """Something that a producer wrote in the same transaction as it sent the task of that id."""

    task_id = models.CharField(max_length=36)
