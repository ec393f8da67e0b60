"""What becomes of calls, under the name that Celery has for this module."""

from __future__ import annotations

from django_tasks.async_result import AsyncResult
from django_tasks.context import allow_join_result
from django_tasks.eager_result import EagerResult

__all__ = ["AsyncResult", "EagerResult", "allow_join_result"]
