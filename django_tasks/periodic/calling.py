"""Calling the tasks of entries beside their schedules."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django_tasks import publishing
from django_tasks.async_result import result_of
from django_tasks.beat.calls import task_with_its_own
from django_tasks.beat.entry import Entry
from django_tasks.beat.messages import NAME_HEADER
from django_tasks.current import get_current_app
from django_tasks.producer import build_message

if TYPE_CHECKING:
    from django_tasks.app import App
    from django_tasks.async_result import AsyncResult


def call_now(entries: Sequence[Entry]) -> list[AsyncResult[Any]]:
    """Call the tasks of entries, in few round trips; return their results in this order.

    Those with an ``apply_async`` of their own are called by that, one by one, after the others.
    """
    app = get_current_app()
    own = {n: task for n, entry in enumerate(entries) if (task := task_with_its_own(app, entry.task)) is not None}
    others = [n for n in range(len(entries)) if n not in own]
    results = dict(zip(others, _sent(app, [entries[n] for n in others]), strict=True))
    for n, task in own.items():
        results[n] = task.apply_async(entries[n].args, dict(entries[n].kwargs), **_call_options(entries[n]))
    return [results[n] for n in range(len(entries))]


def _sent(app: App, entries: Sequence[Entry]) -> list[AsyncResult[Any]]:
    given = [_call_options(entry) for entry in entries]
    messages = [
        build_message(app, entry.task, entry.args, entry.kwargs, options, app.tasks.get(entry.task))
        for entry, options in zip(entries, given, strict=True)
    ]
    ways = [{key: options.get(key) for key in publishing.PUBLISH_OPTIONS} for options in given]
    for way, group in itertools.groupby(zip(ways, messages, strict=True), key=lambda pair: pair[0]):
        publishing.publish(app, [message for _, message in group], way)
    return [result_of(message, app, app, options) for message, options in zip(messages, given, strict=True)]


def _call_options(entry: Entry) -> dict[str, Any]:
    options = dict(entry.options)
    if entry.expires is not None:
        options["expires"] = entry.expires
    options["headers"] = {**(options.get("headers") or {}), NAME_HEADER: entry.name}
    return options
