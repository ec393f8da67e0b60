"""``manage.py runworker``."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from django_tasks.current import get_current_app
from django_tasks.exceptions import AlreadyRegistered, ImproperlyConfigured
from django_tasks.worker.arguments import add_arguments
from django_tasks.worker.run import restart_on_change, run_worker
from django_tasks.worker.stop import StopSignals


class Command(BaseCommand):
    """Run tasks until stopped."""

    help = "Run tasks of this project until SIGTERM or Ctrl-C."

    def run_from_argv(self, argv: list[str]) -> None:
        """Run as all that this process does: Ctrl-C ends it quietly, while it starts and at the very end too."""
        with StopSignals(ends_process=True):
            super().run_from_argv(argv)

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options, under Celery's names where it has them."""
        add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the worker; exit with its code."""
        if options.pop("reload"):
            sys.exit(restart_on_change())
        try:
            code = run_worker(get_current_app(), options)
        except (ImproperlyConfigured, AlreadyRegistered, ValueError) as exc:
            raise CommandError(str(exc)) from exc
        if code:
            sys.exit(code)
