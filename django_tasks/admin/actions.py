"""What can be done with periodic tasks in the admin: the operations of ``manage.py tasks schedule``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.actions import delete_selected
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest

from django_tasks.beat.sources import definitions
from django_tasks.current import get_current_app
from django_tasks.exceptions import CeleriacError
from django_tasks.models import PeriodicTask
from django_tasks.operations import schedules

#: Lines of history that are written at a time.
_PAGE = 500
#: What is said of an operation after a number of tasks, and in the history of one.
RUN_NOW = "called", "Called now."
OVERRIDE = (
    "can be changed here now; the settings do not count any more",
    "Overridden: the settings do not count any more.",
)
RESTORE = "back to what the settings say", "Given back: what the settings say counts again."

Operation = Callable[[Sequence[PeriodicTask]], Sequence[PeriodicTask]]


def run_now(rows: Sequence[PeriodicTask]) -> Sequence[PeriodicTask]:
    """Call the tasks of rows; return these."""
    schedules.run_now(get_current_app(), rows)
    return rows


def override(rows: Sequence[PeriodicTask]) -> Sequence[PeriodicTask]:
    """Let rows of the settings be changed; return these."""
    return schedules.override(get_current_app(), rows)


def restore(rows: Sequence[PeriodicTask]) -> Sequence[PeriodicTask]:
    """Let the settings count again; return the rows that stood in their place."""
    return schedules.restore(get_current_app(), rows)


def attempt(request: HttpRequest, operation: Operation, rows: Iterable[PeriodicTask], done: str, history: str) -> bool:
    """Do something, tell how it went, and note it in the history of each row; return whether it went well.

    Args:
        done: what has been done, after a number of tasks.
        history: the same, as a sentence.
    """
    try:
        changed = operation(list(rows))
    except (CeleriacError, ValidationError, TypeError, ValueError) as exc:
        text = " ".join(exc.messages) if isinstance(exc, ValidationError) else str(exc)
        messages.error(request, text)
        return False
    _note(request, changed, history)
    messages.success(request, f"{len(changed)} periodic task{'' if len(changed) == 1 else 's'} {done}.")
    return True


def _note(request: HttpRequest, rows: Iterable[PeriodicTask], history: str) -> None:
    """Write lines of history, without a statement for each, however many rows are selected."""
    kind = ContentType.objects.get_for_model(PeriodicTask).pk
    LogEntry.objects.bulk_create(
        [
            LogEntry(user_id=request.user.pk, content_type_id=kind, object_id=str(row.pk), object_repr=str(row)[:200],
                     action_flag=CHANGE, change_message=history)
            for row in rows
        ],
        batch_size=_PAGE,
    )  # fmt: skip


class Actions:
    """The actions of the list; all but one of them need the right to change."""

    @admin.action(description="Run selected periodic tasks now", permissions=["change"])
    def run_now(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        """Call the tasks, beside their schedules."""
        rows, app = list(queryset), get_current_app()
        if attempt(request, run_now, rows, *RUN_NOW):
            for text in sorted({schedules.unknown_task(app, row.task) for row in rows} - {""}):
                messages.warning(request, text)

    @admin.action(description="Enable selected periodic tasks", permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        """Let them fire again."""
        attempt(request, schedules.resume, queryset, "enabled", "Enabled.")

    @admin.action(description="Disable selected periodic tasks", permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        """Pause them."""
        attempt(request, schedules.pause, queryset, "disabled", "Disabled.")

    @admin.action(description="Override the settings with selected periodic tasks", permissions=["change"])
    def override(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        """Let entries of the settings be changed here."""
        attempt(request, override, queryset, *OVERRIDE)

    @admin.action(description="Go back to the settings for selected periodic tasks", permissions=["change"])
    def back_to_settings(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        """Let the settings count again."""
        attempt(request, restore, queryset, *RESTORE)

    @admin.action(description="Delete selected %(verbose_name_plural)s", permissions=["delete"])
    def delete_selected(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> Any:
        """Delete what the settings do not have: that would only come back."""
        names = queryset.filter(origin=PeriodicTask.SETTINGS).values_list("name", flat=True)
        there = definitions(get_current_app())
        if kept := [name for name in names if name in there]:
            text = ", ".join(map(repr, kept[:3])) + (" and others" if len(kept) > 3 else "")
            messages.error(
                request,
                f"Nothing was deleted: {text} would come back, as the settings have it. Take it out of these, or "
                "disable it here.",
            )
            return None
        return delete_selected(self, request, queryset)
