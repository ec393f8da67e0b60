"""The subcommands that change something: dead letters, purge, revoke, rerun, call, orders to workers."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError

from django_tasks.brokers.browse import DELAYED, RUNNING, WAITING
from django_tasks.control import signal_number
from django_tasks.management.cli.answer import Answer, usage_error
from django_tasks.management.cli.reports import ended
from django_tasks.operations import act, look
from django_tasks.operations.unpublished import UNPUBLISHED
from django_tasks.worker.shared import SPARE

if TYPE_CHECKING:
    from django_tasks.app import App


def _count(number: int, what: str) -> str:
    """Return a number with its noun: ``1 message``, ``1,200 messages``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


# -- dead letters


def resend(app: App, options: dict[str, Any]) -> Answer:
    """``tasks dead resend``."""
    ids = act.resend(app, _chosen(options), options["task"] or "")
    return Answer({"resent": ids}, f"{_count(len(ids), 'dead letter')} sent back to the queues.")


def drop(app: App, options: dict[str, Any]) -> Answer:
    """``tasks dead drop``."""
    ids, task = _chosen(options), options["task"] or ""
    if ids is None and not options["yes"]:
        count = sum(each.size.dead for each in look.queues(app))
        if count:
            _confirm(f"Delete all dead letters of {task}?" if task else f"Delete {_count(count, 'dead letter')}?")
    count = act.drop(app, ids, task)
    return Answer({"dropped": count}, f"{_count(count, 'dead letter')} dropped.")


def _chosen(options: dict[str, Any]) -> list[str] | None:
    """Return the ids that were given; None for all."""
    if bool(options["ids"]) == options["all"]:
        raise usage_error("Give the ids of dead letters, or --all; `tasks dead` lists them.")
    if options["limit"] is not None:
        raise usage_error("--limit is for the list of dead letters; give the ids of those that are meant.")
    return options["ids"] or None


# -- calls


def purge(app: App, options: dict[str, Any]) -> Answer:
    """``tasks purge``."""
    queue = options["queue"] or ""
    sizes = {each.name: each.size.waiting + each.size.delayed + each.unpublished for each in look.queues(app)}
    if queue and queue not in sizes:
        raise CommandError(f"There is no queue {queue!r}.{look.suggestion(queue, sizes)}")
    sizes = {name: size for name, size in sizes.items() if size and queue in ("", name)}
    if not sizes:
        return Answer({"purged": 0}, "Nothing is waiting.")
    if not options["yes"]:
        each = ", ".join(f"{name}: {size:,}" for name, size in sizes.items())
        _confirm(f"Revoke {_count(sum(sizes.values()), 'waiting or delayed message')} ({each})?")
    count = act.purge(app, queue)
    return Answer({"purged": count}, f"{_count(count, 'message')} purged.")


def _confirm(question: str) -> None:
    """Ask on standard error, so that standard output holds nothing but the answer.

    Raises:
        CommandError: the reply is not yes, or nobody is there to reply.
    """
    print(f"{question} Type yes to go on: ", end="", file=sys.stderr, flush=True)
    try:
        reply = input()
    except EOFError:
        raise usage_error("Nobody is there to say yes. Nothing was changed; give --yes to go on unasked.") from None
    if reply.strip().lower() not in ("y", "yes"):
        raise CommandError("Nothing was changed.")


def revoke(app: App, options: dict[str, Any]) -> Answer:
    """``tasks revoke ID``."""
    if options["signal"] and not options["terminate"]:
        raise usage_error("--signal says how to stop a task that runs: give --terminate with it.")
    try:
        signal_number(options["signal"])
    except ValueError as exc:
        raise usage_error(f"{exc}.") from exc
    before = act.revoke(app, options["ids"], options["terminate"], options["signal"])
    lines = [f"{task_id} {_revoked(state, options['terminate'])}" for task_id, state in before.items()]
    return Answer([{"id": task_id, "was": state} for task_id, state in before.items()], "\n".join(lines))


def _revoked(state: str, terminate: bool) -> str:
    if state in (WAITING, DELAYED, UNPUBLISHED):
        return f"was {state} and is revoked."
    if terminate:
        return f"was {state} and is revoked; its worker stops it within 2 s."
    if state == RUNNING:
        return "is running and goes on, but keeps the state REVOKED; --terminate stops it."
    return f"was {state} and is revoked; if it runs, it goes on."


def rerun(app: App, options: dict[str, Any]) -> Answer:
    """``tasks rerun ID``."""
    result = act.rerun(app, options["id"])
    return Answer({"id": result.id, act.RERUN_OF: options["id"]}, result.id)


def call(app: App, options: dict[str, Any]) -> Answer:
    """``tasks call NAME``."""
    args = _json("--args", options["task_args"], list, "[1, 2]")
    kwargs = _json("--kwargs", options["task_kwargs"], dict, '{"size": 3}')
    name, wait = options["name"], options["wait"]
    if not (app.broker.shared or app.conf.task_always_eager):
        raise CommandError("The broker memory:// ends with this command, so that no worker would ever see the call.")
    if wait is not None and not app.backend.stores:
        raise usage_error("--wait needs results, and RESULT_BACKEND stores none.")
    try:
        result = act.call(app, name, args, kwargs, queue=options["queue"], countdown=options["countdown"])
    except (TypeError, ValueError) as exc:
        raise usage_error(f"Task {name} cannot be called like this: {exc}.") from exc
    if wait is None:
        return Answer({"id": result.id, "task": name}, result.id)
    if result.ignored:
        return Answer({"id": result.id, "task": name}, result.id, problem="The task stores no result to wait for.")
    return ended(app, result, wait)


def _json(option: str, text: str | None, kind: type, example: str) -> Any:
    """Return what an option holds as JSON.

    Raises:
        CommandError: it is no JSON, or not of this kind.
    """
    if text is None:
        return kind()
    try:
        value = json.loads(text)
    except json.JSONDecodeError as exc:
        lines = text.split("\n")
        line = lines[exc.lineno - 1] if exc.lineno <= len(lines) else ""
        where = f"line {exc.lineno}, column {exc.colno}" if len(lines) > 1 else f"column {exc.colno}"
        raise usage_error(
            f"{option} is not JSON: {exc.msg} at {where}:\n  {line}\n  {' ' * (exc.colno - 1)}^\n"
            f"Write it like {option} '{example}'."
        ) from exc
    if not isinstance(value, kind):
        what = "a list" if kind is list else "an object"
        raise usage_error(f"{option} must be {what}, such as '{example}', not {text}.")
    return value


# -- workers


def tell(app: App, options: dict[str, Any]) -> Answer:
    """``tasks pause``, ``resume``, ``grow``, ``shrink`` and ``shutdown``."""
    order = options["subcommand"]
    nodes = act.tell(app, order, options["destination"] or (), options.get("n") or 1)
    text = f"Told to {order}: {', '.join(nodes) or 'all workers'}. It takes up to 2 s."
    if order == act.PAUSE:
        text += " They stay paused until `tasks resume`."
    if order == act.GROW:
        text += (
            f" Each gets at most {SPARE} more than it began with; one with --autoscale, or in another pool than "
            "prefork, does not obey."
        )
    if order == act.SHRINK:
        text += " One process always stays; a worker with --autoscale, or in another pool than prefork, does not obey."
    return Answer({"order": order, "workers": nodes}, text)
