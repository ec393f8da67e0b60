"""Which app is the current one: the last made, else one made from Django's settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django_tasks.context import innermost_request
from django_tasks.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from django_tasks.app import App

_app: App | None = None
_make_default: Callable[[], App] | None = None


def set_current_app(app: App | None) -> None:
    """Make ``app`` the one that shared tasks use."""
    global _app
    _app = app


def find_current_app() -> App | None:
    """Return the current app if there is one already."""
    return _app


def set_default_factory(factory: Callable[[], App]) -> None:
    """Say how the default app is made (``app.py`` does, so that nothing here imports it)."""
    global _make_default
    _make_default = factory


def get_current_app() -> App:
    """Return the current app, made from Django's settings if there is none yet.

    Raises:
        ImproperlyConfigured: neither an ``App`` nor a configured Django is there.
    """
    global _app
    if _app is None:
        if _make_default is None:
            raise ImproperlyConfigured(
                "No app is set up: call django.setup() with 'django_tasks' in INSTALLED_APPS, "
                "or make one with django_tasks.App('name')."
            )
        _app = _make_default()
    return _app


class Proxy:
    """A stand-in for what a function returns at the moment (``current_app``, ``current_task``)."""

    __slots__ = ("_find",)

    def __init__(self, find: Callable[[], Any]) -> None:
        object.__setattr__(self, "_find", find)

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "_find")(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(object.__getattribute__(self, "_find")(), name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return object.__getattribute__(self, "_find")()(*args, **kwargs)

    def __bool__(self) -> bool:
        return object.__getattribute__(self, "_find")() is not None

    def __repr__(self) -> str:
        return repr(object.__getattribute__(self, "_find")())

    def __eq__(self, other: object) -> bool:
        return bool(object.__getattribute__(self, "_find")() == other)

    def __hash__(self) -> int:
        return hash(object.__getattribute__(self, "_find")())


def _find_task() -> Any:
    request = innermost_request()
    return None if request is None else request.owner


#: The current app (Celery's name).
current_app: Any = Proxy(get_current_app)
#: The task that runs here now; false outside a task (Celery's name).
current_task: Any = Proxy(_find_task)
