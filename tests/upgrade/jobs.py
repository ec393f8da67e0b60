"""The tasks of the recorded calls. Only add to them: the calls of all versions are to run with these."""

from __future__ import annotations

from typing import Any

from django_tasks import shared_task
from django_tasks.exceptions import Reject


@shared_task(bind=True)
def describe(self: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Return what has arrived."""
    return seen(self.request, args, kwargs)


@shared_task(bind=True)
def retry_once(self: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    if not self.request.retries:
        raise self.retry(countdown=1)
    return seen(self.request, args, kwargs)


@shared_task(bind=True)
def reject_once(self: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Become a dead letter, unless it has been one."""
    if not self.request.delivery_info["redelivered"]:
        raise Reject("not at first")
    return seen(self.request, args, kwargs)


@shared_task
def fail(*args: Any, **kwargs: Any) -> None:
    raise ValueError("as always")


def seen(request: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    return {"args": repr(args), "kwargs": repr(kwargs), "headers": request.headers, "retries": request.retries}
