"""``tasks schedule``: periodic tasks, what became of them, and what can be done with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from django_tasks.beat.entry import EntryError
from django_tasks.management.cli.answer import Answer, usage_error
from django_tasks.management.cli.reports import tabled
from django_tasks.management.tables import Column, distance, facts
from django_tasks.operations import choice, schedules
from django_tasks.operations.schedules import Scheduled

if TYPE_CHECKING:
    from django_tasks.app import App
    from django_tasks.models import PeriodicTask

#: Periodic tasks that are listed unless --limit says otherwise.
LIMIT = 100
#: Next runs that ``show`` tells of.
RUNS = 5
COLUMNS = [Column("NAME", least=16), Column("SCHEDULE", least=16), Column("TASK", least=16, keep_end=True),
           Column("LAST", right=True), Column("RESULT"), Column("NEXT", right=True),
           Column("FROM", optional=True)]  # fmt: skip


def listed(app: App, options: dict[str, Any]) -> Answer:
    """``tasks schedule``."""
    name, task, limit = options["name"] or "", options["task"] or "", options["limit"]
    errors: list[EntryError] = []
    found = schedules.listed(app, name=name, task=task, limit=limit + 1, on_error=errors.append)
    now = datetime.now(timezone.utc)
    said = [f"These are the first {limit}; --limit N shows more."] if len(found) > limit else []
    found = found[:limit]
    rows = [_cells(each, now) for each in found]
    there = {each.row.name for each in found}
    said += [f"{error} It is left out." for error in errors if error.entry not in there and not task
             and name.lower() in error.entry.lower()]  # fmt: skip
    said += [f"{each.row.name} never runs: {each.problem}" for each in found if each.problem]
    said += [f"{each.row.name}: {each.warning}" for each in found if each.warning and not each.problem]
    nothing = "No periodic tasks: BEAT_SCHEDULE is empty, and there are none in the database."
    if name or task:
        wanted = [f"with {name!r} in its name"] * bool(name) + [f"of the task {task!r}"] * bool(task)
        nothing = f"There is no periodic task {' and '.join(wanted)}. `tasks schedule` lists them all."
    return Answer([_facts(each) for each in found], tabled(COLUMNS, rows, nothing), said)


def _cells(each: Scheduled, now: datetime) -> tuple[Any, ...]:
    runs = each.next_runs(1, now)
    upcoming = distance((runs[0] - now).total_seconds()) if runs else each.condition
    last = distance((each.last_run - now).total_seconds()) if each.last_run else None
    return (each.row.name, each.row.schedule_text, each.row.task, last, each.last_state or None, upcoming,
            each.row.get_origin_display())  # fmt: skip


def _facts(each: Scheduled, runs: int = 1) -> dict[str, Any]:
    row = each.row
    upcoming = each.next_runs(runs)
    return {
        "name": row.name, "task": row.task, "schedule": row.schedule_text, "kind": row.kind, "text": row.schedule,
        "timezone": row.timezone, "enabled": row.enabled, "condition": each.condition, "from": row.origin,
        "last_run": each.last_run, "last_id": each.last_id or None, "last_state": each.last_state or None,
        "runs": each.state.runs if each.state else 0, "next_run": upcoming[0] if upcoming else None,
        "problem": each.problem or None, "warning": each.warning or None,
    }  # fmt: skip


def show(app: App, options: dict[str, Any]) -> Answer:
    """``tasks schedule show NAME``."""
    (each,) = schedules.described(app, [*choice.find_all(app, [options["name"]])])
    row = each.row
    now = datetime.now(timezone.utc)
    runs = each.next_runs(options["count"], now)
    data = {
        **_facts(each), "args": row.args, "kwargs": row.kwargs, "options": row.options, "catch_up": row.catch_up,
        "grace": row.grace, "overlap": row.overlap, "jitter": row.jitter, "start_time": row.start_time,
        "end_time": row.end_time, "one_off": row.one_off, "expires": row.expires, "description": row.description,
        "next_runs": runs,
    }  # fmt: skip
    told = {**data, "next_run": None, "next_runs": None, "kind": None, "text": None, "enabled": None}
    text = facts(told, now.timestamp())
    if runs:
        text += "\nNext runs\n" + "\n".join(facts({str(n): run}, now.timestamp(), indent="  ")
                                            for n, run in enumerate(runs, 1))  # fmt: skip
    return Answer(data, text)


# -- doing


def run(app: App, options: dict[str, Any]) -> Answer:
    """``tasks schedule run NAME``."""
    chosen = _chosen(app, options)
    results = schedules.run_now(app, chosen)
    lines = [f"{name}: {result.id}" for name, result in results.items()]
    told = [f"{row.name}: {why}" for row in chosen if (why := schedules.unknown_task(app, row.task))]
    return Answer([{"name": name, "id": result.id} for name, result in results.items()], "\n".join(lines), told)


def act(app: App, options: dict[str, Any]) -> Answer:
    """``tasks schedule pause``, ``resume``, ``override`` and ``restore``."""
    verb = options["verb"]
    operation, done = _VERBS[verb]
    choice.need_tables(app, verb)
    chosen = _chosen(app, options)
    changed = operation(app, chosen)
    silent = _silent(app, chosen if options["names"] else changed) if verb == "resume" else {}
    names = [row.name for row in changed if row.name not in silent]
    text = "\n".join(f"{name} {done}." for name in names)
    if not (names or silent):
        text = f"Nothing to {verb}: all of them are as asked already."
    problem = "\n".join(f"{name} does not fire: {why}" for name, why in silent.items())
    return Answer({"verb": verb, "names": names}, text, problem=problem)


def _silent(app: App, rows: Sequence[PeriodicTask]) -> dict[str, str]:
    """Return which of these do not fire though nobody has paused them, and what to do about it."""
    return {each.row.name: why for each in schedules.described(app, rows) if (why := each.remedy)}


_VERBS: dict[str, tuple[Callable[[Any, Sequence[Any]], list[Any]], str]] = {
    "pause": (lambda app, rows: schedules.pause(rows), "is paused; beats heed it within 2 s"),
    "resume": (lambda app, rows: schedules.resume(rows), "fires again; what was missed meanwhile is not made up for"),
    "override": (schedules.override, "can be changed in the database now; the settings do not count for it any more"),
    "restore": (schedules.restore, "is what the settings say again"),
}


def _chosen(app: App, options: dict[str, Any]) -> list[PeriodicTask]:
    """Return the rows that are meant: those named, or all that an operation can be for."""
    if bool(options["names"]) == options["all"]:
        raise usage_error("Give the names of periodic tasks, or --all; `tasks schedule` lists them.")
    if options["names"]:
        return choice.find_all(app, options["names"])
    return choice.all_for(app, options["verb"])
