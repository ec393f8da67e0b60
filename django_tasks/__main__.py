"""``python -m django_tasks -A module worker``, or ``beat``: for an app in a plain module."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from types import ModuleType

import django
from django.conf import settings
from django.core.management.base import BaseCommand, SystemCheckError

from django_tasks.app import App
from django_tasks.beat.run import add_arguments as add_beat_arguments
from django_tasks.beat.run import run_beat
from django_tasks.current import get_current_app
from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.standalone import made_here, migrate
from django_tasks.worker.arguments import add_arguments
from django_tasks.worker.run import restart_on_change, run_worker
from django_tasks.worker.stop import StopSignals


def find_app(name: str) -> App:
    """Return the app that ``-A`` names: ``module``, ``module:attribute``, ``module.attribute``, or a package.

    Without an attribute it is the one called ``app`` or ``celery``, or the only one there; for a package that has none,
    that of its module ``celery``.

    Raises:
        ImproperlyConfigured: there is no such module, no app in it, or more than one.
        Exception: what importing the module raised.
    """
    module, attribute = _find_module(name)
    apps = _apps_in(module)
    if not apps and not attribute and hasattr(module, "__path__"):
        module = _import(f"{module.__name__}.celery") or module
        apps = _apps_in(module)
    if attribute and attribute not in apps:
        there = f"It has {', '.join(apps)}." if apps else "It has none."
        raise ImproperlyConfigured(
            f"-A {name}: no django_tasks.App called {attribute} was found in {module.__name__}. {there}"
        )
    for wanted in (attribute, "app", "celery"):
        if wanted in apps:
            return apps[wanted]
    if not apps:
        raise ImproperlyConfigured(f"-A {name}: no django_tasks.App was found in {module.__name__}.")
    first, *others = apps
    if any(apps[other] is not apps[first] for other in others):
        raise ImproperlyConfigured(
            f"-A {name}: {module.__name__} has several apps: {', '.join(apps)}. Name one, as in "
            f"-A {module.__name__}:{first}"
        )
    return apps[first]


def _find_module(name: str) -> tuple[ModuleType, str]:
    """Return the module that is meant, and the attribute of it that is named, if any."""
    path, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in path.split(".")):
        raise ImproperlyConfigured(
            f"-A {name}: write the module as in an import, such as proj.celery or proj.celery:app."
        )
    if module := _import(path):
        return module, attribute
    parent, _, last = path.rpartition(".")
    if parent and not attribute and (module := _import(parent)) and hasattr(module, last):
        return module, last
    raise ImproperlyConfigured(
        f"-A {name}: there is no module {path!r}, neither in this directory ({os.getcwd()}) nor elsewhere on Python's "
        "path."
    )


def _import(path: str) -> ModuleType | None:
    """Import a module; None if there is no such module, but what it raises itself is raised."""
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as exc:
        if exc.name is None or not f"{path}.".startswith(f"{exc.name}."):
            raise  # it is there, and wants something that is not
        return None


def _apps_in(module: ModuleType) -> dict[str, App]:
    return {name: value for name, value in vars(module).items() if isinstance(value, App)}


def main(argv: list[str], app: App | None = None) -> int:
    """Parse the command line and run the command; return the exit code.

    Args:
        app: whose, if ``-A`` does not say it.
    """
    with StopSignals(ends_process=True):
        return _main(argv, app)
    return 0


def _main(argv: list[str], app: App | None) -> int:
    parser = argparse.ArgumentParser(prog="python -m django_tasks")
    parser.add_argument("-A", "--app", metavar="MODULE", help="where the app is: module or module:attribute")
    commands = parser.add_subparsers(dest="command", required=True)
    add_arguments(commands.add_parser("worker", help="run tasks until stopped"))
    add_beat_arguments(commands.add_parser("beat", help="send periodic tasks until stopped"))
    options = vars(parser.parse_args(argv))
    sys.path.insert(0, os.getcwd())
    reload = options.pop("reload", False)
    if reload and argv != sys.argv[1:]:
        parser.error("--reload runs the program again, so it has to stand on the program's own command line")
    try:
        app = find_app(options["app"]) if options["app"] else app
        if app is None and not settings.configured and "DJANGO_SETTINGS_MODULE" not in os.environ:
            parser.error("-A MODULE is missing, and there are no Django settings either")
        django.setup()
        app = app or get_current_app()
        app.finalize()
        if reload:
            return restart_on_change()
        if made_here():
            migrate()
        BaseCommand().check()
        return (run_beat if options["command"] == "beat" else run_worker)(app, options)
    except (ImproperlyConfigured, SystemCheckError) as exc:
        print(f"Error: {exc}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
