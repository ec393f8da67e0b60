"""``python -m django_tasks -A module worker``: a worker for an app in a plain module."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import Any

import django
from django.conf import settings

from django_tasks.app import App
from django_tasks.current import get_current_app
from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.standalone import made_here, migrate
from django_tasks.worker.arguments import add_arguments
from django_tasks.worker.run import restart_on_change, run_worker


def find_app(name: str) -> App:
    """Return the app that ``-A`` names: ``module``, ``module:attribute``, or a package with an ``app`` or ``celery``.

    Raises:
        ImproperlyConfigured: there is none.
    """
    module_name, _, attribute = name.partition(":")
    module = importlib.import_module(module_name)
    if not attribute and hasattr(module, "__path__") and not hasattr(module, "app"):
        try:
            module = importlib.import_module(f"{module_name}.celery")
        except ModuleNotFoundError as exc:
            if exc.name != f"{module_name}.celery":
                raise
    candidates: list[Any] = [getattr(module, each, None) for each in ([attribute] if attribute else ("app", "celery"))]
    candidates += [] if attribute else list(vars(module).values())
    for candidate in candidates:
        if isinstance(candidate, App):
            return candidate
    raise ImproperlyConfigured(f"-A {name}: no django_tasks.App was found in {module.__name__}.")


def main(argv: list[str]) -> int:
    """Parse the command line and run the command."""
    parser = argparse.ArgumentParser(prog="python -m django_tasks")
    parser.add_argument("-A", "--app", metavar="MODULE", help="where the app is: module or module:attribute")
    commands = parser.add_subparsers(dest="command", required=True)
    add_arguments(commands.add_parser("worker", help="run tasks until stopped"))
    options = vars(parser.parse_args(argv))
    sys.path.insert(0, os.getcwd())
    reload = options.pop("reload")
    try:
        app = find_app(options["app"]) if options["app"] else None
        if not settings.configured and "DJANGO_SETTINGS_MODULE" not in os.environ:
            parser.error("-A MODULE is missing, and there are no Django settings either")
        django.setup()
        app = app or get_current_app()
        app.start()
        if reload:
            return restart_on_change()
        if made_here():
            migrate()
        return run_worker(app, options)
    except ImproperlyConfigured as exc:
        print(f"Error: {exc}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
