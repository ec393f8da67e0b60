"""``@shared_task``: making a task of a function."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.registry import gen_task_name, tasks
from django_tasks.task import Task

if TYPE_CHECKING:
    from typing import Concatenate

    from typing_extensions import ParamSpec

    from django_tasks.app import App

    P = ParamSpec("P")

R = TypeVar("R")

#: Options of Celery's that other brokers or later features need; accepted as plain attributes.
_OPTIONS = {name for name in vars(Task) if not name.startswith("_")} | {"exchange", "routing_key", "trail", "abstract"}


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

    Raises:
        AlreadyRegistered: another function has the name.
        ImproperlyConfigured: an option looks like a misspelt one.
    """
    return make_task(None, function, options)


def make_task(app: App | None, function: Any, options: dict[str, Any]) -> Any:
    """Make a task of ``function`` for an app (None: for all), or a decorator that does."""
    if function is None:
        return lambda each: make_task(app, each, options)
    base = options.pop("base", None) or (app.task_cls if app is not None else None) or Task
    _check_options(base, options)
    name = options.pop("name", None) or gen_task_name(function.__module__, function.__name__, app.main if app else None)
    attributes = {
        **options,
        "name": name,
        "run": function if options.get("bind") else staticmethod(function),
        "__doc__": function.__doc__,
        "__module__": function.__module__,
        "__qualname__": function.__qualname__,
        "_app": app,
    }
    task = type(function.__name__, (base,), attributes)()
    functools.update_wrapper(task, function, updated=())
    return tasks.register(task)


def _check_options(base: type, options: dict[str, Any]) -> None:
    """Refuse what is most likely a typing error; other names are attributes for the task's own use, as in Celery."""
    for option in options:
        close = difflib.get_close_matches(option, _OPTIONS, n=1, cutoff=0.85)
        if option not in _OPTIONS and not hasattr(base, option) and close:
            raise ImproperlyConfigured(f"A task has no option {option!r}. Did you mean {close[0]!r}?")
