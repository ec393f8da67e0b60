"""Messages and results as facts by name: what ``--json`` prints and what people read are made of the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django_tasks import states
from django_tasks.brokers.browse import DEAD, DELAYED, RUNNING, SeenWorker, StoredMessage
from django_tasks.exceptions import CeleriacError, DecodeError
from django_tasks.management.cli.answer import plain
from django_tasks.management.tables import in_words, instant
from django_tasks.operations.act import read
from django_tasks.operations.look import Call
from django_tasks.operations.unpublished import UNPUBLISHED

if TYPE_CHECKING:
    from django_tasks.app import App
    from django_tasks.outcome import TaskMeta


def call_facts(app: App, call: Call, now: float, workers: Mapping[str, SeenWorker]) -> dict[str, Any]:
    """Return one line of a list of calls; ``workers`` are those that have a heartbeat, by identity."""
    return {
        "id": call.id,
        "task": call.task,
        "queue": call.queue,
        "state": call.state,
        "since": instant(call.since),
        "note": _note(app, call, now, workers),
    }


def _note(app: App, call: Call, now: float, workers: Mapping[str, SeenWorker]) -> str:
    """Return the one thing that matters most about a call in its state."""
    message, meta = call.message, call.meta
    if message is None:
        failed = meta is not None and meta.status in states.EXCEPTION_STATES
        return str(result_facts(app, meta)["error"] or "") if meta is not None and failed else ""
    if message.state == DELAYED and message.due_at is not None:
        due = in_words(message.due_at - now)
        return f"{refused(message)}, tried again in {due}" if message.refusals else f"due in {due}"
    if message.state == RUNNING:
        return f"{holder(message.worker, workers.get(message.worker))}{f' ({meta.status})' if meta else ''}"
    if message.state in (DEAD, UNPUBLISHED):
        return message.reason
    return refused(message) or ("alone, since a worker died with it" if message.alone else "")


def refused(message: StoredMessage) -> str:
    """Return that no worker knew a message's task; empty if none has said so."""
    times = f"{message.refusals} time{'' if message.refusals == 1 else 's'}"
    return f"unknown to the worker (refused {times})" if message.refusals else ""


def holder(identity: str, worker: SeenWorker | None) -> str:
    """Return who holds a message: by node and process, and whether it has fallen silent."""
    if worker is None:
        return identity
    silence = f", silent for {in_words(worker.age)}" if worker.late else ""
    return f"{worker.node}, process {worker.pid}{silence}"


def message_facts(app: App, stored: StoredMessage) -> dict[str, Any]:
    """Return everything a stored message says."""
    facts = {
        "state": stored.state,
        "reason": stored.reason or refused(stored),
        "task": stored.task,
        "queue": stored.queue,
        "priority": stored.priority,
        "sent": instant(stored.sent_at),
        "due": instant(stored.due_at),
        "worker": stored.worker,
        "taken": instant(stored.reserved_at),
        "deaths": stored.deaths,
        "refusals": stored.refusals,
        "alone": stored.alone,
        "redelivered": stored.redelivered,
    }
    try:
        return {**facts, **_content_facts(app, stored)}
    except DecodeError as exc:
        return {**facts, "unreadable": str(exc)}


def _content_facts(app: App, stored: StoredMessage) -> dict[str, Any]:
    message = read(app, stored)
    names = ("args", "kwargs", "retries", "eta", "expires", "root_id", "parent_id", "group", "shadow", "origin",
             "reply_to", "ignore_result", "headers", "stamps", "content_type")  # fmt: skip
    hard, soft = message.timelimit
    embed = {key: value for key, value in (message.embed or {}).items() if value}
    return {
        **{name: plain(getattr(message, name)) for name in names},
        "time_limit": hard,
        "soft_time_limit": soft,
        "linked": plain(embed),
    }


def result_facts(app: App, meta: TaskMeta) -> dict[str, Any]:
    """Return everything a stored result says."""
    try:
        value = app.backend.decode(meta)
    except CeleriacError as exc:
        value = exc
    return {
        **outcome_facts(meta.status, value, meta.traceback),
        "task": meta.name,
        "queue": meta.queue,
        "worker": meta.worker,
        "retries": meta.retries,
        "started": meta.date_started,
        "ended": meta.date_done,
        "args": plain(meta.args),
        "kwargs": plain(meta.kwargs),
        "parent_id": None if meta.parent_id == meta.task_id else meta.parent_id,  # as after a retry
        "group": meta.group_id,
        "children": [child[0][0] for child in meta.children],
    }


def outcome_facts(state: str, value: Any, traceback: str | None = None) -> dict[str, Any]:
    """Return what a task came to: its value under ``result``, or its exception in words under ``error``."""
    error = None
    if isinstance(value, BaseException):
        value, error = None, f"{type(value).__name__}: {value}"
    return {"state": state, "result": plain(value), "error": error, "traceback": traceback}
