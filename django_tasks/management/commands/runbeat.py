"""``manage.py runbeat``."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from django_tasks.beat.run import add_arguments, run_beat
from django_tasks.current import get_current_app
from django_tasks.exceptions import AlreadyRegistered, CeleriacError
from django_tasks.worker.stop import StopSignals


class Command(BaseCommand):
    """Send periodic tasks until stopped."""

    help = "Send the periodic tasks of this project when they are due, until SIGTERM or Ctrl-C. Any number may run."

    def run_from_argv(self, argv: list[str]) -> None:
        """Run as all that this process does: Ctrl-C ends it quietly, while it starts and at the very end too."""
        with StopSignals(ends_process=True):
            super().run_from_argv(argv)

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options, under Celery's names where it has them."""
        add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the beat; exit with its code."""
        try:
            code = run_beat(get_current_app(), options)
        except (CeleriacError, AlreadyRegistered, ValueError) as exc:
            raise CommandError(str(exc)) from exc
        if code:
            sys.exit(code)
