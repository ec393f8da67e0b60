"""Which queue a call goes to, and which options the settings give to tasks by name.

Celery's rules: only the sender routes; the first route that matches wins; what ``apply_async`` was given wins over it.
"""

from __future__ import annotations

import fnmatch
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from django.utils.module_loading import import_string

from django_tasks.call_options import CALL_OPTIONS, check_values, misspelt
from django_tasks.exceptions import ImproperlyConfigured


@dataclass(frozen=True)
class Queue:
    """A queue as ``TASK_QUEUES`` declares it; the arguments are those of kombu's ``Queue`` that mean something here.

    Args:
        name: its name.
        exchange: the name of the exchange that it is bound to; the queue's own name if left out.
        routing_key: what calls that name no queue are matched with; ``*`` is one word and ``#`` any number of them.
        exchange_type: ``direct`` or ``topic``.
        max_priority: the highest priority, for brokers that must know it beforehand (RabbitMQ).
        queue_arguments: further arguments for the broker (RabbitMQ's ``x-...``).
    """

    name: str
    exchange: str = ""
    routing_key: str = ""
    exchange_type: str = "direct"
    max_priority: int | None = None
    queue_arguments: Mapping[str, Any] = field(default_factory=dict)

    def takes(self, routing_key: str, exchange: str = "") -> bool:
        """Return whether a call with this routing key (and exchange, if it names one) belongs here."""
        if exchange and exchange != (self.exchange or self.name):
            return False
        words = re.escape(self.routing_key or self.name).replace(r"\*", r"[^.]+")
        pattern = words.replace(r"\.\#", r"(\..+)?").replace(r"\#\.", r"(.+\.)?").replace(r"\#", ".*")
        return re.fullmatch(pattern, routing_key) is not None


def declared_queues(setting: Any) -> dict[str, Queue]:
    """Return ``TASK_QUEUES`` (None, a list of names and ``Queue`` objects, or a dict name -> options) as name -> queue.

    Raises:
        ImproperlyConfigured: it, or something in it, is none of these.
    """
    if isinstance(setting, str) or not isinstance(setting, Iterable | None):
        raise ImproperlyConfigured(f"TASK_QUEUES = {setting!r} is not a list or a dict: list the names of the queues.")
    if isinstance(setting, Mapping):
        setting = [{**(options or {}), "name": name} for name, options in setting.items()]
    return {queue.name: queue for queue in map(_queue, setting or ())}


def _queue(entry: Any) -> Queue:
    if isinstance(entry, Queue):
        return entry
    if isinstance(entry, str):
        return Queue(entry)
    fields = list(Queue.__dataclass_fields__)
    try:
        if not isinstance(entry, Mapping):  # kombu's, whose exchange is an object too
            exchange = entry.exchange
            facts = {key: getattr(entry, key, None) for key in fields}
            facts |= {"exchange": getattr(exchange, "name", exchange), "exchange_type": getattr(exchange, "type", None)}
            entry = {key: value for key, value in facts.items() if value is not None}
        return Queue(**{"routing_key" if key == "binding_key" else key: value for key, value in entry.items()})
    except (TypeError, AttributeError) as error:
        raise ImproperlyConfigured(
            f"TASK_QUEUES holds {entry!r}, which is no queue ({error}): use a name, django_tasks.routing.Queue(...), "
            f"or a dict of {', '.join(fields)}."
        ) from error


class Router:
    """Finds the options of a call.

    Args:
        task_routes: the setting ``TASK_ROUTES``: a dict of names, globs or compiled patterns -> routes; a function;
            an object with ``route_for_task``; its class; the dotted path of one; or a list of these, in order. A route
            is a dict of options or the name of a queue.
        queues: the setting ``TASK_QUEUES``; see ``declared_queues``.
        default_queue: the queue of calls that no route names one for.
        create_missing: whether a queue that is not declared may be used.
    """

    def __init__(
        self, task_routes: Any = None, queues: Any = None, default_queue: str = "celery", create_missing: bool = True
    ) -> None:
        self.queues = declared_queues(queues) or {default_queue: Queue(default_queue)}
        self.default_queue = default_queue
        self.create_missing = create_missing
        self._routes = [_route(entry) for entry in _listed(task_routes)]
        # Options by task name, once found: a map gives the same answer each time, a function may not.
        self._found: dict[str, dict[str, Any]] = {}
        self._only_maps = all(isinstance(route, _Map) for route in self._routes)

    def route(
        self, name: str, args: Any = (), kwargs: Any = None, options: Mapping[str, Any] | None = None, task: Any = None
    ) -> dict[str, Any]:
        """Return the options of a call, with a ``queue`` among them: those given, then those of the first route.

        Args:
            name: the task's name.
            args: its positional arguments, for functions that route by them.
            kwargs: its keyword arguments.
            options: what the caller gave; a value of None counts as not given.
            task: the task itself.

        Raises:
            ImproperlyConfigured: the queue is not declared and may not be created, or a route is not usable.
        """
        found = self._found.get(name)
        if found is None:
            found = self._find(name, args, kwargs, options, task)
        merged = self._merge(found, options) if options else found.copy()
        if not self.create_missing:
            self._check(name, merged["queue"])
        return merged

    def route_attributes(self, name: str) -> dict[str, Any]:
        """Return what the first route by name says about the task rather than the call, such as ``rate_limit``."""
        found = _first(route(name) for route in self._routes if isinstance(route, _Map))
        return {key: value for key, value in found.items() if key not in CALL_OPTIONS}

    def load(self) -> None:
        """Import what the settings name.

        Raises:
            ImproperlyConfigured: there is no such thing, or it cannot be asked for a route.
        """
        for route in self._routes:
            if isinstance(route, _Asked):
                route.load()

    @property
    def names(self) -> list[str]:
        """The names of tasks, not the patterns, that have routes."""
        return [name for route in self._routes if isinstance(route, _Map) for name in route.names]

    def _find(self, name: str, args: Any, kwargs: Any, options: Any, task: Any) -> dict[str, Any]:
        call = (name, args, kwargs or {}, options or {}, task)
        options = _first(route(*call) for route in self._routes)
        found = {key: value for key, value in options.items() if key in CALL_OPTIONS and value is not None}
        found["queue"] = self._named(found) or self.default_queue
        if self._only_maps:
            self._found[name] = found
        return found

    def _merge(self, found: dict[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
        given = {key: value for key, value in options.items() if value is not None}
        given["queue"] = self._named(given) or found["queue"]
        if given["queue"] != found["queue"]:
            # The route's exchange and key lead to the route's queue, not to the one that the caller wants.
            found = {key: found[key] for key in found.keys() - {"exchange", "exchange_type", "routing_key"}}
        return {**found, **given}

    def _named(self, options: Mapping[str, Any]) -> str | None:
        """Return the queue that options name or, by their routing key, mean."""
        if queue := options.get("queue"):
            return str(getattr(queue, "name", queue))
        key, exchange = options.get("routing_key"), options.get("exchange") or ""
        exchange = getattr(exchange, "name", exchange)
        return next((each.name for each in self.queues.values() if key and each.takes(key, exchange)), None)

    def _check(self, task: str, queue: str) -> None:
        if queue not in self.queues:
            raise ImproperlyConfigured(
                f"Task {task!r} is to go to the queue {queue!r}, which TASK_QUEUES does not declare; it declares "
                f"{', '.join(sorted(self.queues))}. Add the queue there, or set TASK_CREATE_MISSING_QUEUES = True."
            )


class _Map:
    """Routes by name: exact names first, then patterns in their order, as in Celery."""

    def __init__(self, entries: Iterable[tuple[Any, Any]]) -> None:
        self.names: dict[str, dict[str, Any]] = {}
        self.patterns: list[tuple[re.Pattern[str], dict[str, Any]]] = []
        for key, value in entries:
            options = _options(value)
            if isinstance(key, re.Pattern):
                self.patterns.append((key, options))
            elif any(character in key for character in "*?["):
                self.patterns.append((re.compile(fnmatch.translate(key)), options))
            else:
                self.names[key] = options

    def __call__(self, name: str, *call: Any) -> dict[str, Any] | None:
        if name in self.names:
            return self.names[name]
        return next((options for pattern, options in self.patterns if pattern.match(name)), None)


class _Asked:
    """A project's own router: loaded when it is first asked, since settings are read before apps are ready."""

    def __init__(self, router: Any) -> None:
        self.router = router
        self.loaded: Any = None

    def __call__(self, name: str, args: Any, kwargs: Any, options: Any, task: Any) -> dict[str, Any] | None:
        self.load()
        if hasattr(self.loaded, "route_for_task"):
            found = self.loaded.route_for_task(name, args, kwargs)
        else:
            found = self.loaded(name, args, kwargs, options, task=task)
        return None if found is None else _options(found)

    def load(self) -> None:
        """Import what is to be asked; not before it is needed, since it may import tasks itself."""
        if self.loaded is None:
            self.loaded = _load(self.router, "TASK_ROUTES")
        if not (hasattr(self.loaded, "route_for_task") or callable(self.loaded)):
            raise ImproperlyConfigured(f"TASK_ROUTES names {self.router!r}, which is neither a function nor a router.")


def _route(entry: Any) -> Callable[..., dict[str, Any] | None]:
    if isinstance(entry, str) or callable(entry) or hasattr(entry, "route_for_task"):
        return _Asked(entry)
    try:
        if isinstance(entry, Mapping):
            return _Map(entry.items())
        return _Map([entry] if isinstance(entry[0], str | re.Pattern) else entry)
    except (TypeError, ValueError, LookupError) as error:
        raise ImproperlyConfigured(
            f"TASK_ROUTES holds {entry!r} ({error}): use a dict of task names -> routes, pairs of both, "
            "a function, or the dotted path of one."
        ) from error


def _options(value: Any) -> dict[str, Any]:
    """Return a route as options: it may be the name of a queue. What is no option is an attribute for the task."""
    if isinstance(value, Mapping):
        if wrong := misspelt(value, CALL_OPTIONS - {"throw"}):  # "throws" is an attribute
            raise ImproperlyConfigured(f"TASK_ROUTES: the route {dict(value)!r} has no option {wrong}")
        try:
            check_values(value)
        except ValueError as error:
            raise ImproperlyConfigured(f"TASK_ROUTES: the route {dict(value)!r}: {error}") from None
        return dict(value)
    if isinstance(value, str) or hasattr(value, "name"):
        return {"queue": value}
    raise ImproperlyConfigured(f"{value!r} is no route for a task: use a dict of options or the name of a queue.")


def _listed(setting: Any) -> list[Any]:
    if setting is None:
        return []
    return list(setting) if isinstance(setting, list | tuple) else [setting]


def _first(answers: Iterable[Mapping[str, Any] | None]) -> Mapping[str, Any]:
    return next((each for each in answers if each is not None), {})


def _load(thing: Any, setting: str) -> Any:
    """Return the object meant by a setting that may be a dotted path (``a.b`` or ``a:b``), a class, or the object."""
    if isinstance(thing, str):
        try:
            thing = import_string(thing.replace(":", "."))
        except ImportError as error:
            raise ImproperlyConfigured(f"{setting} names {thing!r}, which cannot be imported: {error}") from error
    return thing() if inspect.isclass(thing) else thing


def resolve_annotations(annotations: Any, name: str, task: Any = None) -> dict[str, Any]:
    """Return the attributes that ``TASK_ANNOTATIONS`` gives to a task; what names it wins over what is for ``*``.

    Args:
        annotations: a dict of task names (or ``*``) -> attributes; an object with ``annotate(task)`` and
            ``annotate_any()``, its class or the dotted path of either; or a list of these, of which the first counts.
        name: the task's name.
        task: the task, for ``annotate``; without it, ``annotate`` gets an object that has just a ``name``.
    """
    subject = SimpleNamespace(name=name) if task is None else task
    answers = [_annotation(entry, name, subject) for entry in _listed(annotations)]
    return {**_first(shared for _, shared in answers), **_first(own for own, _ in answers)}


def _annotation(entry: Any, name: str, task: Any) -> tuple[Any, Any]:
    """Return what one entry says about this task, and what about all."""
    if isinstance(entry, Mapping):
        return entry.get(name), entry.get("*")
    thing = _load(entry, "TASK_ANNOTATIONS")
    return (
        thing.annotate(task) if hasattr(thing, "annotate") else None,
        thing.annotate_any() if hasattr(thing, "annotate_any") else None,
    )
