"""What operators ask and do about periodic tasks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from django.db import transaction

from django_tasks import states
from django_tasks.async_result import AsyncResult
from django_tasks.beat.calls import misfit
from django_tasks.beat.entry import Entry, EntryError
from django_tasks.beat.sources import definitions
from django_tasks.brokers.browse import Wanted
from django_tasks.chunks import chunked
from django_tasks.models import PeriodicTask
from django_tasks.operations import choice
from django_tasks.operations.look import OperationFailed, suggestion
from django_tasks.periodic import meaning
from django_tasks.periodic.calling import call_now
from django_tasks.periodic.mirror import mirror_of, settings_entries
from django_tasks.periodic.rows import CONTENT, row_of

if TYPE_CHECKING:
    from django_tasks.app import App
    from django_tasks.brokers.beat import EntryState
    from django_tasks.outcome import TaskMeta


@dataclass(slots=True)
class Scheduled:
    """A periodic task with what has become of it.

    Attributes:
        row: the row in the database.
        entry: what it means to a beat; None if it cannot be used.
        problem: why it cannot.
        gone: it is shown for the settings, and they do not have it any more.
        warning: why its calls are not going to run as they are, as far as can be told here.
        state: what the beats have done about it; None if that is nothing.
        last_state: where its last call is (``waiting``, ``running``), or what that came to (``SUCCESS``); empty if it
            has not fired, or nothing is known of that call any more.
    """

    row: PeriodicTask
    entry: Entry | None
    problem: str = ""
    warning: str = ""
    gone: bool = False
    state: EntryState | None = None
    last_state: str = ""

    @property
    def last_id(self) -> str:
        """The task id of its last call."""
        return self.state.last_id if self.state else ""

    @property
    def last_run(self) -> datetime | None:
        """The slot that it fired for last, in UTC."""
        if self.state is None or self.state.fired is None:
            return None
        return datetime.fromtimestamp(self.state.fired, timezone.utc)

    def next_runs(self, n: int = 1, now: datetime | None = None) -> list[datetime]:
        """Return when it fires next (UTC); none if it is off or over."""
        if self.entry is None:
            return []
        try:
            return self.entry.next_runs(self.state, now or datetime.now(timezone.utc), n)
        except Exception as exc:  # a schedule of the project's own
            self.problem = f"its schedule fails: {exc!r}."
            return []

    @property
    def condition(self) -> str:
        """``on``, or why it does not fire: ``off``, ``off in the settings``, ``over``, ``never``, ``broken``, ``gone``.

        What is ``gone`` is shown for the settings, and they have no such entry any more.
        """
        if self.entry is None:
            return "gone" if self.gone else "broken"
        if not self.row.enabled:
            return "off"
        if not self.entry.enabled:
            return "off in the settings"
        if self.next_runs():
            return "on"
        if self.problem:
            return "broken"
        return "over" if self.last_run else "never"

    @property
    def remedy(self) -> str:
        """Why it does not fire, and what to do about it; empty if it does."""
        condition, name = self.condition, self.row.name
        if condition == "on":
            return ""
        if condition == "off":
            return f"it is paused. `tasks schedule resume {name!r}` lets it fire again."
        if condition == "off in the settings":
            return (
                'it is off in the settings. Take "enabled": False out of its entry there, or '
                f"`tasks schedule override {name!r}` and resume it then."
            )
        if condition in ("broken", "gone"):
            return self.problem + (" The next beat that starts takes it off the list." if self.gone else "")
        if self.entry is not None and self.entry.one_off and self.state is not None and self.state.has_fired:
            return (
                "it was to fire once, and has. To start it again, pause it while a beat runs, and resume it 2 s later; "
                f"`tasks schedule run {name!r}` calls it at once."
            )
        return "it has no runs any more. Change its schedule, or its end."


# -- looking


def listed(
    app: App, *, name: str = "", task: str = "", limit: int | None = None, on_error: choice.OnError = bool
) -> list[Scheduled]:
    """Return periodic tasks by name, the settings' entries included.

    Args:
        name: only those with this in their name.
        task: only those of this task.
        limit: how many at most.
        on_error: is given what is wrong with entries of the settings that cannot be used.
    """
    return described(app, choice.rows(app, name, task, limit, on_error))


def described(app: App, rows: Sequence[PeriodicTask], known: bool = True) -> list[Scheduled]:
    """Return rows with what has become of them, by a number of queries that does not depend on how many they are.

    Args:
        known: whether to ask the broker and the result backend; without, what became of them is left open.
    """
    settings = definitions(app)
    told = _states(app, [row.name for row in rows]) if known else {}
    calls = _call_states(app, [state.last_id for state in told.values() if state.last_id])
    found = []
    for row in rows:
        entry, problem = None, ""
        try:
            entry = meaning.entry_of(row, app, settings)
        except EntryError as exc:
            problem = exc.problem
        except Exception as exc:  # whatever else a row may say: the others are to be seen
            problem = f"{exc!r}."
        state = told.get(row.name)
        warning = unknown_task(app, row.task) or (misfit(app, entry) if entry is not None else "")
        gone = row.origin == PeriodicTask.SETTINGS and row.name not in settings
        call = calls.get(state.last_id, "") if state else ""
        found.append(Scheduled(row, entry, problem, warning, gone, state, call))
    return found


def unknown_task(app: App, name: str) -> str:
    """Return a sentence about a task that is not known here, and which may be meant; empty if it is known."""
    if name in app.tasks:
        return ""
    return f"No task {name!r} is known here; a worker must know it.{suggestion(name, app.tasks)}"


def _states(app: App, names: Sequence[str]) -> dict[str, EntryState]:
    store = app.broker.claim_store
    return store.states(names) if store is not None and names else {}


def _call_states(app: App, ids: Sequence[str]) -> dict[str, str]:
    """Return where calls are or what they came to, those of which nothing is known left out."""
    if not ids:
        return {}
    metas: dict[str, TaskMeta] = app.backend.get(ids) if app.backend.stores else {}
    found = {task_id: meta.status for task_id, meta in metas.items()}
    left = [task_id for task_id in ids if found.get(task_id) not in states.READY_STATES]
    if app.broker.browser is not None and left:
        for message in app.broker.browser.messages(Wanted(ids=left), len(left)):
            found[message.id] = message.state
    return found


# -- doing


def pause(rows: Iterable[PeriodicTask]) -> list[PeriodicTask]:
    """Let nothing of these fire until ``resume``; return those that were on."""
    return _switch(rows, on=False)


def resume(rows: Iterable[PeriodicTask]) -> list[PeriodicTask]:
    """Let these fire again, without what was missed meanwhile; return those that were off."""
    return _switch(rows, on=True)


def _switch(rows: Iterable[PeriodicTask], *, on: bool) -> list[PeriodicTask]:
    changed = [row for row in rows if row.enabled != on]
    with transaction.atomic():
        for some in chunked(changed, choice.PAGE):
            PeriodicTask.objects.filter(pk__in=[row.pk for row in some]).update(enabled=on)
    for row in changed:
        row.enabled = on
    return changed


def run_now(app: App, rows: Iterable[PeriodicTask]) -> dict[str, AsyncResult[Any]]:
    """Call the tasks of rows now, beside their schedules; return the results by the rows' names.

    Raises:
        OperationFailed: one of them cannot be used, or its task does not take its arguments; then none is called.
    """
    chosen = list(rows)
    entries = [_usable(app, scheduled) for scheduled in described(app, chosen, known=False)]
    return dict(zip([entry.name for entry in entries], call_now(entries), strict=True))


def _usable(app: App, scheduled: Scheduled) -> Entry:
    entry = scheduled.entry
    if entry is not None and not (why := misfit(app, entry)):
        return entry
    problem = scheduled.problem if entry is None else why
    raise OperationFailed(f"Periodic task {scheduled.row.name!r} cannot be run: {problem} Nothing was called.")


def override(app: App, rows: Iterable[PeriodicTask]) -> list[PeriodicTask]:
    """Let rows of the settings' entries be changed: from now on they count, not the settings.

    Raises:
        OperationFailed: a row is not one of those, or its entry cannot be written down; then nothing is changed.
    """
    entries = settings_entries(app)
    chosen = list(rows)
    with transaction.atomic():
        for row in chosen:
            entry = entries.get(row.name)
            if row.origin != PeriodicTask.SETTINGS:
                raise OperationFailed(
                    f"Periodic task {row.name!r} is not of the settings: it can be changed as it is. Nothing was done."
                )
            if entry is None:
                raise OperationFailed(f"The settings have no {row.name!r} that can be used. Nothing was changed.")
            try:
                _become(row, row_of(entry, app), PeriodicTask.DATABASE, row.enabled and entry.enabled)
            except EntryError as exc:
                raise OperationFailed(
                    f"Periodic task {row.name!r} cannot be kept in the database: {exc.problem} Nothing was changed."
                ) from exc
    return chosen


def restore(app: App, rows: Iterable[PeriodicTask]) -> list[PeriodicTask]:
    """Let entries of the settings count again, and not the rows that stand in their place; return those that did.

    Raises:
        OperationFailed: the settings have no entry of a row's name; then nothing is changed.
    """
    entries = settings_entries(app)
    changed: list[PeriodicTask] = []
    with transaction.atomic():
        for row in rows:
            if row.name not in entries:
                raise OperationFailed(
                    f"The settings have no entry {row.name!r}.{suggestion(row.name, entries)} Nothing was changed."
                )
            if row.origin == PeriodicTask.DATABASE:
                changed.append(row)
                _become(row, mirror_of(entries[row.name], app), PeriodicTask.SETTINGS, True)
    return changed


def _become(row: PeriodicTask, other: PeriodicTask, origin: str, enabled: bool) -> None:
    """Take over what another row says."""
    for key in CONTENT:
        setattr(row, key, getattr(other, key))
    row.origin, row.enabled = origin, enabled
    row.save()
