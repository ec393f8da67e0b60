"""What a task has to say about the calls of its entries.

One with an ``apply_async`` of its own, which locks or adds headers, has that called, as by Celery's beat.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from django_tasks.brokers.beat import Call
from django_tasks.task import Task

if TYPE_CHECKING:
    from django_tasks.app import App
    from django_tasks.beat.entry import Entry
    from django_tasks.message import Message

#: Options that a message of a slot has worked out.
_INSTANTS = ("countdown", "eta", "expires")


def task_with_its_own(app: App, name: str) -> Task[Any, Any] | None:
    """Return the task of that name if it is known here and its class, or itself, has another ``apply_async``."""
    task: Task[Any, Any] | None = app.tasks.get(name)
    if task is None or getattr(task.apply_async, "__func__", None) is Task.apply_async:
        return None
    return task


def misfit(app: App, entry: Entry) -> str:
    """Return why the task of an entry does not take its arguments; empty if it does, or nobody here can tell."""
    task = app.tasks.get(entry.task)
    if task is None or task_with_its_own(app, entry.task) is not None:  # which may add arguments
        return ""
    try:
        task.check_arguments(entry.args, entry.kwargs)
    except TypeError as exc:
        return f"{entry.task} does not take args = {list(entry.args)!r:.100} and kwargs = {entry.kwargs!r:.100}: {exc}."
    return ""


def call_of(task: Task[Any, Any], entry: Entry, slot: float, message: Message) -> Call:
    """Return the call that a slot stands for, with the id and the instants of the message that it would have been."""
    options = {key: value for key, value in entry.options.items() if key not in _INSTANTS}
    instants = {"eta": message.eta, "expires": message.expires}
    options |= {key: value for key, value in instants.items() if value is not None}
    options |= {"task_id": message.id, "headers": dict(message.headers)}
    make = partial(task.apply_async, entry.args, dict(entry.kwargs), **options)
    return Call(slot, message.task, message.id, make)
