"""What the pages of periodic tasks show beside their columns in the database."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from django.contrib import admin
from django.utils.html import format_html, format_html_join
from django.utils.timezone import get_current_timezone

from django_tasks import states
from django_tasks.admin.preview import COUNT, in_zone, told
from django_tasks.current import get_current_app
from django_tasks.exceptions import CeleriacError
from django_tasks.management.tables import distance
from django_tasks.models import PeriodicTask
from django_tasks.operations import schedules
from django_tasks.operations.schedules import Scheduled

#: How states look; all others are neutral.
_LOOKS = {states.SUCCESS: "good", states.FAILURE: "bad", states.REVOKED: "bad", "dead": "bad"}
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


def instant(when: datetime | None) -> Any:
    """Return an instant in the zone of the page; its distance shows when one points at it."""
    if when is None:
        return _NOTHING
    away = distance((when - datetime.now(timezone.utc)).total_seconds())
    return format_html('<time datetime="{}" title="{}">{}</time>', when.isoformat(), away,
                       f"{in_zone(when, get_current_timezone()):%Y-%m-%d %H:%M:%S}")  # fmt: skip


class Columns(admin.ModelAdmin):
    """Columns of the list and read-only fields of the form."""

    @admin.display(description="schedule", ordering="kind")
    def schedule_words(self, row: PeriodicTask) -> str:
        """The schedule as people say it."""
        return row.schedule_text

    @admin.display(description="last run")
    def last_run(self, row: PeriodicTask) -> Any:
        """When it fired last."""
        return instant(scheduled(row).last_run) if row.pk else _NOTHING

    @admin.display(description="last result")
    def last_result(self, row: PeriodicTask) -> Any:
        """What that came to; the id of the call shows when one points at it."""
        if not row.pk or not scheduled(row).last_id:
            return _NOTHING
        found = scheduled(row)
        state = found.last_state or "unknown"
        return format_html('<span class="periodic-state {}" title="{}">{}</span>', _LOOKS.get(state, ""),
                           f"task id {found.last_id}", state)  # fmt: skip

    @admin.display(description="next run")
    def next_run(self, row: PeriodicTask) -> Any:
        """When it fires next, or why it does not."""
        found = scheduled(row)
        if runs := found.next_runs():
            return instant(runs[0])
        return format_html('<span title="{}">{}</span>', found.problem, found.condition)

    @admin.display(description="from", ordering="origin")
    def origin_text(self, row: PeriodicTask) -> str:
        """Where it is from."""
        return str(row.get_origin_display())

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
