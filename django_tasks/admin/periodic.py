"""Periodic tasks in the admin: a list with what became of each, and a form that shows the next runs as you type."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect, JsonResponse
from django.urls import URLPattern, path

from django_tasks.admin import actions
from django_tasks.admin.columns import Columns
from django_tasks.admin.forms import PeriodicTaskForm
from django_tasks.admin.preview import preview
from django_tasks.beat.sources import definitions
from django_tasks.current import get_current_app
from django_tasks.exceptions import CeleriacError
from django_tasks.models import PeriodicTask
from django_tasks.operations import schedules
from django_tasks.periodic.meaning import doubts_of
from django_tasks.periodic.mirror import synchronise

#: Buttons of the form: name, what is done, what is said of it.
_BUTTONS = {
    "_run_now": (actions.run_now, actions.RUN_NOW),
    "_override": (actions.override, actions.OVERRIDE),
    "_restore": (actions.restore, actions.RESTORE),
}


class PeriodicTaskChangeList(ChangeList):
    """The list, which asks what became of all tasks of its page at once."""

    def get_results(self, request: HttpRequest) -> None:
        """Fetch one page."""
        super().get_results(request)
        page: Any = self
        page.result_list = rows = list(page.result_list)
        try:
            found = schedules.described(get_current_app(), rows)
        except CeleriacError as exc:
            messages.warning(request, f"Last runs and results are not known: {exc}")
            found = schedules.described(get_current_app(), rows, known=False)
        settings = definitions(get_current_app())
        for each in found:
            each.row.scheduled = each
            each.row.in_settings = each.row.name in settings


@admin.register(PeriodicTask)
class PeriodicTaskAdmin(actions.Actions, Columns):
    """List, form and actions."""

    form = PeriodicTaskForm
    list_display = ("name", "enabled", "schedule_words", "next_run", "last_run_and_result", "task_and_origin")
    list_filter = ("enabled", "origin", "kind")
    search_fields = ("name", "task", "description")
    # Counting all rows a second time is slow where there are many.
    show_full_result_count = False
    actions = ("run_now", "enable", "disable", "override", "back_to_settings", "delete_selected")
    change_form_template = "admin/django_tasks/periodictask/change_form.html"
    fieldsets = (
        (None, {"fields": ("name", "task", "enabled", "origin_text", "description")}),
        ("Schedule", {"fields": ("kind", "schedule", "timezone", "relative", "next_five")}),
        ("Arguments", {"fields": ("args", "kwargs", "options")}),
        ("From when to when", {"fields": ("start_time", "end_time", "one_off", "expires")}),
        ("What if", {"fields": ("catch_up", "catch_up_max", "grace", "overlap", "jitter")}),
        ("So far", {"fields": ("last_run", "last_result", "runs")}),
    )
    _told = ("origin_text", "next_five", "last_run", "last_result", "runs")

    class Media:
        css = {"all": ("django_tasks/periodic.css",)}
        js = ("django_tasks/periodic.js",)

    # -- the list

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return our list."""
        return PeriodicTaskChangeList

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Show the list, once it has all entries of the settings."""
        try:
            synchronise(get_current_app())
        except CeleriacError as exc:
            messages.warning(request, f"The entries of the settings may be missing here: {exc}")
        response: HttpResponse = super().changelist_view(request, extra_context)
        return response

    # -- the form

    def get_readonly_fields(self, request: HttpRequest, obj: PeriodicTask | None = None) -> tuple[str, ...]:
        """Of an entry of the settings only ``enabled`` can be changed."""
        if obj is None or obj.origin == PeriodicTask.DATABASE:
            return self._told
        fields = [field for _, group in self.fieldsets for field in group["fields"]]
        return tuple(field for field in fields if field != "enabled")

    def has_delete_permission(self, request: HttpRequest, obj: PeriodicTask | None = None) -> bool:
        """An entry that the settings have would only come back."""
        allowed: bool = super().has_delete_permission(request, obj)
        if not allowed or obj is None or obj.origin == PeriodicTask.DATABASE:
            return allowed
        return obj.name not in definitions(get_current_app())

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Add what decides about the buttons."""
        obj = kwargs.get("obj")
        if obj is not None and self.has_change_permission(request, obj):
            mirror = obj.origin == PeriodicTask.SETTINGS
            context |= {
                "can_run": True,
                "can_override": mirror and obj.kind != PeriodicTask.CUSTOM,
                "can_restore": not mirror and obj.name in definitions(get_current_app()),
            }
        return super().render_change_form(request, context, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: PeriodicTask, form: Any, change: bool) -> None:
        """Save, and say so if nobody here knows the task: it may be another project's, or misspelt."""
        super().save_model(request, obj, form, change)
        warning = schedules.unknown_task(get_current_app(), obj.task)
        if obj.origin == PeriodicTask.DATABASE and warning:
            messages.warning(request, warning)
        if "name" in form.changed_data and obj.name in definitions(get_current_app()):
            messages.warning(
                request,
                f"It takes the place of the entry {obj.name!r} of the settings, which does not run any more. "
                '"Go back to the settings" in its form lets that count again.',
            )
        if change and obj.origin == PeriodicTask.DATABASE:  # of a new row these are errors
            for column, problem in doubts_of(obj):
                messages.warning(request, f"{obj._meta.get_field(column).verbose_name.capitalize()}: {problem}")

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Note what was changed; what a button does beside that is noted as that."""
        if message or not any(button in request.POST for button in _BUTTONS):
            return super().log_change(request, obj, message)
        return None

    def response_change(self, request: HttpRequest, obj: PeriodicTask) -> HttpResponse:
        """Do what the button that was pressed is for, once the form is saved."""
        for button, (operation, said) in _BUTTONS.items():
            if button in request.POST:
                actions.attempt(request, operation, [obj], *said)
                return HttpResponseRedirect(request.path)
        response: HttpResponse = super().response_change(request, obj)
        return response

    # -- the next runs while somebody types

    def get_urls(self) -> list[URLPattern]:
        """Add the view that the form's script asks, below the form of a new task and below that of each."""
        name = "django_tasks_periodictask_preview"
        ours = [
            path("add/preview/", self.admin_site.admin_view(self.preview_view), name=name),
            path("<path:object_id>/change/preview/", self.admin_site.admin_view(self.preview_view), name=name),
        ]
        return ours + list(super().get_urls())

    def preview_view(self, request: HttpRequest, object_id: str | None = None) -> HttpResponse:
        """Answer the next runs of what stands in the form; nothing is saved."""
        obj = self.get_object(request, object_id) if object_id else None
        allowed = self.has_change_permission(request, obj) if object_id else self.has_add_permission(request)
        if not allowed or (object_id and obj is None):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        form = self.get_form(request, obj, change=obj is not None)(request.POST, instance=obj)
        saved = self.get_object(request, object_id) if object_id else None  # the form has changed the other one
        return JsonResponse(preview(form.instance, form.errors, saved))
