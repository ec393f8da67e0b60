"""Background jobs for Django with Celery's API.

Names are loaded at their first use, so that importing this package loads neither Django nor a client library: the
health probe of a worker has to be cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from django_tasks.version import __version__ as __version__

if TYPE_CHECKING:
    from django_tasks.app import App as App
    from django_tasks.canvas import Signature as Signature
    from django_tasks.canvas import signature as signature
    from django_tasks.current import current_app as current_app
    from django_tasks.current import current_task as current_task
    from django_tasks.decorators import shared_task as shared_task
    from django_tasks.result import AsyncResult as AsyncResult
    from django_tasks.result import allow_join_result as allow_join_result
    from django_tasks.schedules import crontab as crontab
    from django_tasks.task import Task as Task

_HOME = {
    "App": "app",
    "Signature": "canvas",
    "signature": "canvas",
    "current_app": "current",
    "current_task": "current",
    "shared_task": "decorators",
    "AsyncResult": "result",
    "allow_join_result": "result",
    "crontab": "schedules",
    "Task": "task",
}
# Celery's names that projects import, and that are not here yet.
_LATER = ("GroupResult", "ResultSet", "chain", "chord", "chunks", "group", "xmap", "xstarmap")
__all__ = [
    "App",
    "AsyncResult",
    "Signature",
    "Task",
    "allow_join_result",
    "crontab",
    "current_app",
    "current_task",
    "shared_task",
    "signature",
]


def __getattr__(name: str) -> Any:
    if name in _LATER:
        raise ImportError(f"django_tasks.{name} is not in this release; it comes with a later one.")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
