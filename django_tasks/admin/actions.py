"""What can be done with periodic tasks in the admin: the operations of ``manage.py tasks schedule``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest

from django_tasks.current import get_current_app
from django_tasks.exceptions import CeleriacError
from django_tasks.models import PeriodicTask
from django_tasks.operations import schedules


def run_now(rows: Iterable[PeriodicTask]) -> int:
    """Call the tasks of rows."""
    return len(schedules.run_now(get_current_app(), rows))


def override(rows: Iterable[PeriodicTask]) -> int:
    """Let rows of the settings be changed."""
    return len(schedules.override(get_current_app(), rows))


def restore(rows: Iterable[PeriodicTask]) -> int:
    """Let the settings count again."""
    return len(schedules.restore(get_current_app(), rows))


def attempt(
    request: HttpRequest, operation: Callable[[Iterable[PeriodicTask]], Any], rows: Iterable[PeriodicTask], done: str
) -> bool:
    """Do something and tell how it went; return whether it went well.

    Args:
        done: what has been done, after a number of tasks.
    """
    try:
        count = operation(rows)
    except (CeleriacError, ValidationError, TypeError, ValueError) as exc:
        text = " ".join(exc.messages) if isinstance(exc, ValidationError) else str(exc)
        messages.error(request, text)
        return False
    count = count if isinstance(count, int) else len(count)
    messages.success(request, f"{count} periodic task{'' if count == 1 else 's'} {done}.")
    return True


class Actions:
    """The actions of the list; all of them need the right to change."""

    @admin.action(description="Run selected periodic tasks now", permissions=["change"])
    def run_now(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        """Call the tasks, beside their schedules."""
        rows, app = list(queryset), get_current_app()
        if attempt(request, run_now, rows, "called"):
            for text in sorted({schedules.unknown_task(app, row.task) for row in rows} - {""}):
                messages.warning(request, text)

    @admin.action(description="Enable selected periodic tasks", permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        """Let them fire again."""
        attempt(request, schedules.resume, queryset, "enabled")

    @admin.action(description="Disable selected periodic tasks", permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        """Pause them."""
        attempt(request, schedules.pause, queryset, "disabled")

    @admin.action(description="Override the settings with selected periodic tasks", permissions=["change"])
    def override(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        """Let entries of the settings be changed here."""
        attempt(request, override, queryset, "can be changed here now; the settings do not count for them any more")

    @admin.action(description="Go back to the settings for selected periodic tasks", permissions=["change"])
    def back_to_settings(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        """Let the settings count again."""
        attempt(request, restore, queryset, "back to what the settings say")
