"""From a call to its message: options, routing, instants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from django.utils.timezone import get_default_timezone

from django_tasks import states
from django_tasks.context import Context, current_request
from django_tasks.message import Message
from django_tasks.serialization import parse_iso

if TYPE_CHECKING:
    from django_tasks.app import App

#: ``apply_async`` options that a message carries under the same name.
_CARRIED = ("group", "group_index", "shadow", "argsrepr", "kwargsrepr", "reply_to", "replaced_task_nesting",
            "stamped_headers", "stamps")  # fmt: skip
#: Those that an empty value leaves at what the settings, or the run that sends, say.
_DEFAULTED = ("root_id", "parent_id", "serializer", "compression")
#: Options of ``retry`` that the next run's message carries under the same name.
_RETRY_OPTIONS = ("serializer", "compression", "ignore_result", *_CARRIED)
#: Names of options, in the order of ``Message.timelimit``.
_LIMITS = ("time_limit", "soft_time_limit")


def build_message(
    app: App,
    name: str,
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    options: dict[str, Any],
    task: Any = None,
) -> Message:
    """Make the message of one call.

    Args:
        options: ``apply_async`` options; those of routes and of the task fill what is not given.
        task: the local task of that name, if there is one.

    Raises:
        ValueError: an option has a value that cannot be.
    """
    args, kwargs = tuple(args or ()), dict(kwargs or {})
    options = _complete(app, name, args, kwargs, options, task)
    parent = current_request()
    task_id = str(options.get("task_id") or Message.new_id())
    conf = app.conf
    message = Message(
        task=name,
        id=task_id,
        args=args,
        kwargs=kwargs,
        queue=options["queue"],
        priority=_priority(app, options, parent),
        root_id=(parent.root_id or parent.id if parent else None) or task_id,
        parent_id=parent.id if parent else None,
        serializer=conf.task_serializer,
        compression=conf.task_compression,
    )
    if len(options) > 1:
        _heed(app, options, message)
    return message


def _heed(app: App, options: dict[str, Any], message: Message) -> None:
    """Put into a message what the options say beside its queue and priority; most calls have no other."""
    message.eta = _instant(app, options.get("eta"), options.get("countdown"))
    message.expires = _expiry(app, options.get("expires"))
    message.timelimit = (options.get("time_limit"), options.get("soft_time_limit"))
    message.embed = _embed(options)
    message.headers = dict(options.get("headers") or {})
    for key in _DEFAULTED:
        if options.get(key):
            setattr(message, key, options[key])
    if stamped := options.get("stamped_headers"):
        message.stamps = {name: options[name] for name in stamped if name in options}
    for key in ("retries", "ignore_result", *_CARRIED):
        if options.get(key) is not None:
            setattr(message, key, options[key])
    if (group := options.get("group_id")) is not None:
        message.group = group


def _complete(
    app: App, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], options: dict[str, Any], task: Any
) -> dict[str, Any]:
    """Fill in what the caller left open: from the task first, then from the route (Celery's order)."""
    given = task.message_options() if task is not None else {}
    if options:
        given = {**given, **{key: value for key, value in options.items() if value is not None}}
    return app.router.route(name, args, kwargs, given, task)


def _embed(options: dict[str, Any]) -> dict[str, Any] | None:
    link, link_error = options.get("link"), options.get("link_error")
    chain, chord = options.get("chain"), options.get("chord")
    if not (link or link_error or chain or chord):
        return None
    return {"callbacks": _listed(link), "errbacks": _listed(link_error), "chain": chain or None, "chord": chord}


def _listed(value: Any) -> list[Any] | None:
    if not value:
        return None
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _priority(app: App, options: dict[str, Any], parent: Any) -> int | None:
    priority = options.get("priority")
    if priority is None and parent is not None and app.conf.task_inherit_parent_priority:
        priority = parent.priority
    if priority is None:
        priority = app.conf.task_default_priority
    return _checked_priority(priority)


def _checked_priority(priority: Any) -> int | None:
    if priority is None:
        return None
    # True is 1 where messages are put together, and something else where they are read.
    if isinstance(priority, int) and not isinstance(priority, bool) and -32768 < priority <= 32767:
        return priority
    raise ValueError(f"priority must be a whole number, usually 0 to 9, not {priority!r}")


def _instant(app: App, eta: Any, countdown: Any) -> datetime | None:
    if countdown is not None and not isinstance(countdown, (int, float, timedelta)):
        raise ValueError(f"countdown must be a number of seconds, not {countdown!r}")
    if countdown:
        return _after(app, countdown if isinstance(countdown, timedelta) else timedelta(seconds=countdown))
    if eta is None or countdown is not None:
        return None
    return _aware(app, eta, f"eta must be a datetime, not {eta!r}; for seconds from now use countdown")


def _aware(app: App, instant: Any, complaint: str) -> datetime:
    """Return a datetime, or the ISO 8601 text that a signature of Celery's has, as an instant."""
    if isinstance(instant, str):
        try:
            instant = parse_iso(instant)
        except ValueError:
            raise ValueError(complaint) from None
    if not isinstance(instant, datetime):
        raise ValueError(complaint)
    if instant.utcoffset() is not None:
        return instant
    return instant.replace(tzinfo=ZoneInfo(app.conf.timezone) if app.conf.timezone else get_default_timezone())


def _after(app: App, delay: timedelta) -> datetime:
    # By this process's clock, which needs no round trip to the broker's server.
    return datetime.fromtimestamp(app.broker.clock(), timezone.utc) + delay


def _expiry(app: App, expires: Any) -> datetime | None:
    if isinstance(expires, (int, float)) and not isinstance(expires, bool):
        expires = timedelta(seconds=expires)
    if isinstance(expires, timedelta):
        return _after(app, expires)
    if expires is None:
        return None
    return _aware(app, expires, f"expires must be seconds or a datetime, not {expires!r}")


def next_run(
    app: App,
    request: Context,
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    countdown: float | None,
    eta: datetime | None,
    options: Mapping[str, Any],
) -> Message:
    """Make the message of a retry: the same call under the same id, one run later (celery-wire, section 5.5).

    Args:
        options: of ``apply_async``; what is not given stays as it was. None is not given, but for what it takes away:
            ``expires``, limits and links.
    """
    message = request.message
    if message is None:
        raise ValueError(f"Task {request.task}[{request.id}] has no message to send again")
    changes: dict[str, Any] = {key: options[key] for key in _RETRY_OPTIONS if options.get(key) is not None}
    if options.get("priority") is not None:
        changes["priority"] = _checked_priority(options["priority"])
    if options.get("queue") or options.get("routing_key"):
        changes["queue"] = _queue_of_retry(app, message, options)
    if "link" in options or "link_error" in options:
        embed = {"callbacks": None, "errbacks": None, **(message.embed or {})}
        callbacks, errbacks = options.get("link", embed["callbacks"]), options.get("link_error", embed["errbacks"])
        changes["embed"] = {**embed, "callbacks": _listed(callbacks), "errbacks": _listed(errbacks)}
    if "expires" in options:
        changes["expires"] = _expiry(app, options["expires"])
    if args is not None or kwargs is not None:
        changes.update(argsrepr=None, kwargsrepr=None)
    return replace(
        message,
        args=message.args if args is None else tuple(args),
        kwargs=message.kwargs if kwargs is None else dict(kwargs),
        headers={**message.headers, **(options.get("headers") or {})},
        eta=_instant(app, eta, countdown),
        timelimit=tuple(options.get(name, old) for name, old in zip(_LIMITS, message.timelimit, strict=True)),
        retries=message.retries + 1,
        parent_id=message.id,
        redelivered=False,
        cause=f"{message.id}/{message.retries}/{states.RETRY}",
        **changes,
    )


def _queue_of_retry(app: App, message: Message, options: Mapping[str, Any]) -> str:
    asked = {key: options.get(key) for key in ("queue", "exchange", "routing_key")}
    queue: str = app.router.route(message.task, message.args, message.kwargs, asked)["queue"]
    return queue
