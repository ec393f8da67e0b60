"""One small model, for tests of what a task sees of its caller's transaction."""

from __future__ import annotations

from django.db import models


class Note(models.Model):
    title = models.CharField(max_length=100)

    def __str__(self) -> str:
        return self.title
