"""``@shared_task``: making a task of a function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar, overload

from django_tasks.call_options import misspelt
from django_tasks.current import find_current_app
from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.registry import gen_task_name, tasks
from django_tasks.routing import resolve_annotations
from django_tasks.task import Task
from django_tasks.task_options import check_task_options

if TYPE_CHECKING:
    from django_tasks.app import App

P = ParamSpec("P")
R = TypeVar("R")

#: What ``Task`` knows, and what tasks written for Celery may say besides.
_OPTIONS = {name for name in vars(Task) if not name.startswith("_")} | {"abstract", "base"}


@overload
def shared_task(function: Callable[P, R], /) -> Task[P, R]: ...
@overload
def shared_task(*, bind: Literal[True], **options: Any) -> Callable[[Callable[Concatenate[Any, P], R]], Task[P, R]]: ...
@overload
def shared_task(**options: Any) -> Callable[[Callable[P, R]], Task[P, R]]: ...


def shared_task(function: Any = None, /, **options: Any) -> Any:
    """Make a task of a function, known to every app; with or without parentheses.

    Args:
        options: attributes of the task (see ``Task``), ``name``, ``bind`` and ``base`` (a subclass of ``Task``).
            Further ones become attributes too, for the task's own use.

    Raises:
        AlreadyRegistered: another function has the name.
        ImproperlyConfigured: an option looks like a misspelt one, or cannot have this value.
        TypeError: what is decorated is no function.
    """
    return make_task(None, function, options)


def make_task(app: App | None, function: Any, options: dict[str, Any]) -> Any:
    """Make a task of ``function`` for an app (None: for all), or a decorator that does."""
    if function is None:
        return lambda each: make_task(app, each, options)
    if not callable(function):
        raise TypeError(f"A task is made of a function, not of {function!r}; its name is given as name={function!r}.")
    own = dict(options)  # a decorator may be kept and used for many functions
    base = own.pop("base", None) or (app.Task if app is not None else Task)
    current = app or find_current_app()
    name = own.pop("name", None) or gen_task_name(
        function.__module__, function.__name__, current.main if current is not None else None
    )
    _check_options(f"Task {name}", base, own)
    attributes = {
        **own,
        "name": name,
        "run": function if own.get("bind") else staticmethod(function),
        "__doc__": function.__doc__,
        "__module__": function.__module__,
        "__qualname__": function.__qualname__,
        "_app": app,
    }
    task = type(function.__name__, (base,), attributes)()
    functools.update_wrapper(task, function, updated=())
    return register(current, task)


def register(app: App | None, task: Any) -> Any:
    """Add a task to the registry; once the app has started, with its annotations."""
    tasks.register(task)
    if app is not None and app.finalized:
        annotate(app, task)
    return task


def annotate(app: App, task: Any) -> None:
    """Give a task what ``TASK_ROUTES``, ``TASK_ANNOTATIONS`` and ``TASK_DEFAULT_RATE_LIMIT`` have for it."""
    attributes = {
        **app.router.route_attributes(task.name),
        **resolve_annotations(app.conf.task_annotations, task.name, task),
    }
    _check_options(f"TASK_ANNOTATIONS or TASK_ROUTES: the task {task.name}", type(task), attributes)
    if task.rate_limit is None and app.conf.task_default_rate_limit:
        attributes.setdefault("rate_limit", app.conf.task_default_rate_limit)
    for key, value in attributes.items():
        # Functions, such as an on_failure for every task, become methods.
        setattr(task, key, value.__get__(task) if inspect.isfunction(value) else value)


def check_annotations(annotations: Any) -> None:
    """Make sure that no dict in ``TASK_ANNOTATIONS`` has an attribute that looks misspelt.

    Raises:
        ImproperlyConfigured: one has.
    """
    for entry in annotations if isinstance(annotations, (list, tuple)) else [annotations]:
        for name, attributes in entry.items() if isinstance(entry, Mapping) else ():
            _check_options(f"TASK_ANNOTATIONS: what it says about {name!r}", Task, attributes)


def _check_options(where: str, base: type, options: Mapping[str, Any]) -> None:
    """Refuse values that are none of their option, and what is most likely a typing error.

    Other names are attributes for the task's own use, as in Celery.
    """
    if wrong := misspelt((option for option in options if not hasattr(base, option)), _OPTIONS):
        raise ImproperlyConfigured(f"{where} has no option {wrong}")
    check_task_options(where, options)
