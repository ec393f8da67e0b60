"""What the pages of periodic tasks show beside their columns in the database."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Any

from django.contrib import admin
from django.utils.html import format_html, format_html_join

from django_tasks import states
from django_tasks.admin.preview import COUNT, in_zone, told, zone_of_row
from django_tasks.beat.sources import definitions
from django_tasks.current import get_current_app
from django_tasks.exceptions import CeleriacError
from django_tasks.management.tables import distance
from django_tasks.models import PeriodicTask
from django_tasks.operations import schedules
from django_tasks.operations.schedules import Scheduled

#: How states look; all others are neutral.
_LOOKS = {states.FAILURE: "bad", states.REVOKED: "bad", "dead": "bad"}
_NOTHING = "-"


def scheduled(row: PeriodicTask) -> Scheduled:
    """Return what became of a row, looked up once."""
    known: Scheduled | None = getattr(row, "scheduled", None)
    if known is None:
        try:
            (known,) = schedules.described(get_current_app(), [row])
        except CeleriacError:  # the broker is away
            (known,) = schedules.described(get_current_app(), [row], known=False)
        row.scheduled = known
    return known


def instant(when: datetime | None, row: PeriodicTask) -> Any:
    """Return an instant in the zone of its row; its distance shows when one points at it."""
    if when is None:
        return _NOTHING
    away = distance((when - datetime.now(timezone.utc)).total_seconds())
    local = in_zone(when, zone_of_row(row.timezone))
    return format_html('<time datetime="{}" title="{}"><span>{}</span> <span>{}</span></time>', when.isoformat(), away,
                       f"{local:%Y-%m-%d}", f"{local:%H:%M:%S %Z}")  # fmt: skip


def in_settings(row: PeriodicTask) -> bool:
    """Return whether the settings have an entry of a row's name, looked up once."""
    known: bool | None = getattr(row, "in_settings", None)
    if known is None:
        known = row.in_settings = row.name in definitions(get_current_app())
    return known


def _state(row: PeriodicTask) -> Any:
    found = scheduled(row)
    state = found.last_state or "unknown"
    return format_html('<span class="periodic-state {}" title="{}">{}</span>', _LOOKS.get(state, ""),
                       f"task id {found.last_id}", state)  # fmt: skip


class Columns(admin.ModelAdmin):
    """Columns of the list and read-only fields of the form."""

    @admin.display(description="task", ordering="task")
    def task_and_origin(self, row: PeriodicTask) -> Any:
        """What it calls, and whether the settings have it."""
        origin = "from the settings" if row.origin == PeriodicTask.SETTINGS else ""
        origin = origin or ("overrides the settings" if in_settings(row) else "")
        parts = ((part,) for part in re.split(r"(?<=\.)", row.task))
        return format_html("{} <small>{}</small>", format_html_join("", "{}<wbr>", parts), origin)

    @admin.display(description="schedule", ordering="kind")
    def schedule_words(self, row: PeriodicTask) -> str:
        """The schedule as people say it."""
        return row.schedule_text

    @admin.display(description="last run")
    def last_run(self, row: PeriodicTask) -> Any:
        """When it fired last."""
        return instant(scheduled(row).last_run, row) if row.pk else _NOTHING

    @admin.display(description="last run")
    def last_run_and_result(self, row: PeriodicTask) -> Any:
        """When it fired last and what that came to; the id of the call shows when one points at it."""
        return format_html("{} {}", self.last_run(row), _state(row)) if scheduled(row).last_id else self.last_run(row)

    @admin.display(description="last result")
    def last_result(self, row: PeriodicTask) -> Any:
        """What its last run came to, and the id of that call."""
        if not row.pk or not scheduled(row).last_id:
            return _NOTHING
        return format_html("{} <small>(task id {})</small>", _state(row), scheduled(row).last_id)

    @admin.display(description="next run")
    def next_run(self, row: PeriodicTask) -> Any:
        """When it fires next, or why it does not."""
        found = scheduled(row)
        if runs := found.next_runs():
            return instant(runs[0], row)
        return format_html('<span title="{}">{}</span>', found.problem, found.condition)

    @admin.display(description="from", ordering="origin")
    def origin_text(self, row: PeriodicTask) -> str:
        """Where it is from, and what that means for who wants to change it."""
        if row.origin == PeriodicTask.DATABASE:
            instead = ", in place of the entry of this name in the settings; that counts again once you go back to it"
            return "database" + (instead if row.pk and in_settings(row) else "")
        if not in_settings(row):
            return "settings, which do not have it any more: delete it to be rid of it"
        return "settings: read-only here but for Enabled" + (
            "" if row.kind == PeriodicTask.CUSTOM else "; override them to change it here"
        )

    @admin.display(description="next five runs")
    def next_five(self, row: PeriodicTask) -> Any:
        """The next runs, which a script of the page writes anew while somebody types."""
        runs, problem = [], ""
        if row.pk:
            found = scheduled(row)
            runs = told(found.next_runs(COUNT), row.timezone)
            problem = found.problem or ("" if runs else f"None: it is {found.condition}.")
        items = format_html_join(
            "", "<li>{} <small>({})</small></li>", ((run["text"], run["distance"]) for run in runs)
        )
        return format_html(
            '<div class="periodic-preview" data-url="preview/" aria-live="polite"><ol>{}</ol><p>{}</p></div>',
            items,
            problem,
        )

    @admin.display(description="runs so far")
    def runs(self, row: PeriodicTask) -> int:
        """How many messages it has sent."""
        state = scheduled(row).state if row.pk else None
        return state.runs if state else 0
