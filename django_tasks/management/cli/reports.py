"""The subcommands that only look: queues, workers, list, show, dead, registered, result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from django_tasks import states
from django_tasks.brokers.browse import DEAD, SeenWorker
from django_tasks.exceptions import OperationalError, TimeoutError
from django_tasks.management.cli import notes
from django_tasks.management.cli.answer import LONGEST_REPR, Answer, plain
from django_tasks.management.cli.facts import call_facts, message_facts, outcome_facts, result_facts
from django_tasks.management.tables import Column, distance, facts, in_words, printable, table
from django_tasks.operations import look, unpublished
from django_tasks.operations.look import Call
from django_tasks.utils.saferepr import saferepr

if TYPE_CHECKING:
    from django_tasks.app import App
    from django_tasks.async_result import AsyncResult

#: Calls that are listed unless --limit says otherwise.
LIMIT = 20

QUEUES = [Column("QUEUE", least=12), *(Column(name, right=True) for name in ("WAITING", "DELAYED", "RUNNING", "DEAD")),
          Column("OLDEST", right=True), Column("WORKERS", right=True)]  # fmt: skip
WORKERS = [Column("NODE", least=16), Column("PID", right=True), Column("PROCESSED", right=True), Column("SEEN"),
           Column("STATE"), Column("QUEUES", least=10)]  # fmt: skip
CALLS = [Column("ID"), Column("STATE"), Column("AGE", right=True), Column("TASK", least=20, keep_end=True),
         Column("QUEUE", least=8, optional=True), Column("NOTE", least=60, most=120, below=True)]  # fmt: skip
LETTERS = [Column("ID"), Column("AGE", right=True), Column("TASK", least=16, keep_end=True),
           Column("QUEUE", least=8, optional=True), Column("REASON", least=40, most=120, below=True)]  # fmt: skip
TASKS = [Column("TASK"), Column("OPTIONS", least=30)]


def tabled(columns: Sequence[Column], rows: Sequence[Sequence[Any]], otherwise: str) -> Any:
    """Return the text of a table; ``otherwise`` is what to say without rows."""
    return partial(table, columns, rows) if rows else otherwise


def queues(app: App, options: dict[str, Any]) -> Answer:
    """``tasks queues``."""
    try:
        found = look.queues(app)
    except OperationalError as exc:
        left = unpublished.by_queue(app)
        return Answer([{"queue": name, "unpublished": left[name]} for name in sorted(left)], "The broker is away.",
                      list(notes.of_outboxes(app)), problem=str(exc))  # fmt: skip
    data = [
        {"queue": each.name, "waiting": each.size.waiting, "delayed": each.size.delayed, "running": each.size.reserved,
         "dead": each.size.dead, "unpublished": each.unpublished,
         "oldest": round(each.size.oldest, 1) if each.size.waiting else None,
         "workers": each.workers}
        for each in found
    ]  # fmt: skip
    rows = [
        (each.name, each.size.waiting, each.size.delayed, each.size.reserved, each.size.dead,
         in_words(each.size.oldest) if each.size.waiting else None, each.workers)
        for each in found
    ]  # fmt: skip
    seen = look.workers(app) if app.broker.browser else []
    said = [*notes.of_queues(app, found), *notes.of_workers(app, seen)]
    return Answer(data, tabled(QUEUES, rows, "No queues."), said)


def workers(app: App, options: dict[str, Any]) -> Answer:
    """``tasks workers``."""
    found = look.workers(app)
    data = [
        {"node": each.node, "process": each.identity, "pid": each.pid, "queues": list(each.queues),
         "seen": round(each.age, 1), "alive": each.alive, "paused": each.paused, "processed": each.processed}
        for each in found
    ]  # fmt: skip
    slots = [each for each in found if not each.janitor]
    rows = [
        (each.node, str(each.pid), each.processed, distance(-each.age), _condition(each), ",".join(each.queues))
        for each in slots
    ]
    said = list(notes.of_workers(app, found))
    counts = Counter(each.node for each in slots if each.alive)
    if not counts:
        starting = sorted({each.node for each in found if each.alive})
        nobody = f"{', '.join(starting)} starts." if starting else "No worker is running."
        return Answer(data, tabled(WORKERS, rows, nobody), said)
    sums = "\n\nTasks at once: " + ", ".join(f"{count} ({node})" for node, count in counts.items())
    return Answer(data, lambda width: table(WORKERS, rows, width) + sums, said)


def _condition(worker: SeenWorker) -> str:
    if worker.late or not worker.alive:
        return "silent"
    return "paused" if worker.paused else "ready"


def overview(app: App, options: dict[str, Any]) -> Answer:
    """``tasks`` alone."""
    parts = {"queues": queues(app, options)}
    if app.broker.browser is not None and not parts["queues"].problem:
        parts["workers"] = workers(app, options)

    def text(width: int | None) -> str:
        return "\n\n".join(
            [*(part.for_people(width) for part in parts.values()), "`tasks --help` lists what else there is."]
        )

    first = parts["queues"]
    return Answer({name: part.data for name, part in parts.items()}, text, first.notes, first.problem)


def calls(app: App, options: dict[str, Any]) -> Answer:
    """``tasks list``."""
    state, queue, task = (options[key] or "" for key in ("state", "queue", "task"))
    limit = options["limit"]
    found = look.calls(app, state=state, queue=queue, task=task, limit=limit)
    said = _more(found, limit)
    if not state and not look.lists_results(app):
        said.append("Calls that have ended are left out: only RESULT_BACKEND = 'django-db://' can list its results.")
    if not found and task and task not in app.tasks:
        said.append(f"There is no task {task!r} here.{look.suggestion(task, app.tasks)}")
    if not found and state and not {state.lower(), state.upper()}.intersection(look.KNOWN_STATES):
        said.append(f"States are {', '.join(look.KNOWN_STATES)}, and those that tasks give themselves.")
    return _listed(app, found, CALLS, "No calls.", said)


def dead(app: App, options: dict[str, Any]) -> Answer:
    """``tasks dead``."""
    limit = options["limit"] or LIMIT
    found = look.calls(app, state=DEAD, task=options["task"] or "", limit=limit)
    return _listed(app, found, LETTERS, "No dead letters.", _more(found, limit))


def _more(found: Sequence[Call], limit: int) -> list[str]:
    return [f"These are the newest {limit}; --limit N shows more."] if len(found) == limit else []


def _listed(app: App, found: Sequence[Call], columns: Sequence[Column], otherwise: str, said: list[str]) -> Answer:
    """Return the answer that lists calls; the columns' titles in lower case are names of their facts."""
    now = app.broker.now()
    workers = {each.identity: each for each in look.workers(app)} if app.broker.browser and found else {}
    data = [call_facts(app, call, now, workers) for call in found]
    shown = [{**each, "age": _age(call, now), "reason": each["note"]} for call, each in zip(found, data, strict=True)]
    rows = [[each[column.title.lower()] for column in columns] for each in shown]
    return Answer(data, tabled(columns, rows, otherwise), said)


def _age(call: Call, now: float) -> str | None:
    return None if call.since is None else in_words(now - call.since)


def show(app: App, options: dict[str, Any]) -> Answer:
    """``tasks show ID``."""
    call = look.find(app, options["id"])
    now = app.broker.now()
    messages = [message_facts(app, message) for message in call.messages]
    result = result_facts(app, call.meta) if call.meta else None
    head = {"id": call.id, "task": call.task, "state": call.state}
    parts = [facts(head, now)]
    for each in messages:
        root = each.get("root_id") if each.get("root_id") != call.id else None
        parts.append("Message\n" + facts({**each, "task": None, "root_id": root}, now, indent="  "))
    if result is not None:
        parts.append("Result\n" + _result_text({**result, "task": None}, now, "  "))
    return Answer({**head, "messages": messages, "result": result}, "\n\n".join(parts))


def _result_text(result: dict[str, Any], now: float, indent: str = "") -> str:
    """Return a result's facts, its value as its repr, and its traceback below."""
    told = {**result, "children": ", ".join(result.get("children", ())), "traceback": None}
    if result["state"] == states.SUCCESS or result["result"] is not None:
        told["result"] = saferepr(result["result"], LONGEST_REPR)
    text = facts(told, now, indent=indent)
    if result["traceback"]:
        text += f"\n\n{printable(result['traceback'], lines=True)}"
    return text


def registered(app: App, options: dict[str, Any]) -> Answer:
    """``tasks registered``."""
    found = look.registered(app)
    data = [
        {"task": name, "options": {key: _option(value) for key, value in own.items()}} for name, own in found.items()
    ]
    rows = [
        (name, " ".join(f"{key}={_option_text(value)}" for key, value in own.items())) for name, own in found.items()
    ]
    return Answer(data, tabled(TASKS, rows, "No tasks: they are found in the `tasks` modules of installed apps."))


def _option(value: Any) -> Any:
    """Return the value of an option for JSON: a class as its name."""
    if isinstance(value, type):
        return value.__name__
    return [_option(each) for each in value] if isinstance(value, (list, tuple)) else plain(value)


def _option_text(value: Any) -> str:
    value = _option(value)
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def result(app: App, options: dict[str, Any]) -> Answer:
    """``tasks result ID``."""
    answer = ended(app, app.AsyncResult(options["id"]), options["wait"])
    if answer.problem:
        look.find(app, options["id"])  # which says so if nothing at all is known
    return answer


def ended(app: App, handle: AsyncResult[Any], wait: float | None) -> Answer:
    """Return the answer for one result: exit code 0 if its task has ended well.

    Args:
        wait: seconds to wait for the end; None to look once.
    """
    problem = ""
    if wait is not None:
        try:
            handle.get(timeout=wait, propagate=False)
        except TimeoutError as exc:
            problem = str(exc)
    call = look.known(app, handle.id) or Call(handle.id)
    state = call.state if call.messages else handle.state
    told = result_facts(app, call.meta) if call.meta else outcome_facts(state, handle.result, handle.traceback)
    if not problem and told["state"] != states.SUCCESS:
        has = "ended as" if told["state"] in states.READY_STATES else "not ended; it is"
        problem = f"Task {handle.id} has {has} {told['state']}{': ' + told['error'] if told['error'] else '.'}"
    data = {"id": handle.id, **told, "task": call.task or handle.name}
    return Answer(data, _result_text(data, app.broker.now()), problem=problem)
