"""``manage.py tasks``: what operators need, without a browser."""

from __future__ import annotations

import os
import shutil
import sys
from argparse import ArgumentParser
from typing import Any, ClassVar

from django.core.management.base import BaseCommand, CommandError

from django_tasks.current import get_current_app
from django_tasks.exceptions import CeleriacError
from django_tasks.management.cli.answer import FAILED
from django_tasks.management.cli.arguments import add_arguments
from django_tasks.management.tables import printable


class Command(BaseCommand):
    """Look at queues, workers and calls, and act on them. Exit codes: 0 done, 1 not found or failed, 2 misuse."""

    help = "Look at queues, workers and calls, and act on them."
    #: A finding of `manage.py check` must not keep anybody from looking at what happens.
    requires_system_checks: ClassVar[list[str]] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the subcommands."""
        add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Answer one subcommand."""
        app = get_current_app()
        try:
            answer = options["answer"](app, options)
        except CeleriacError as exc:
            raise _error(str(exc)) from exc
        except KeyboardInterrupt:
            raise _error("Interrupted.") from None
        text = answer.for_programs() if options["json"] else answer.for_people(self._width())
        # A terminal that cannot show a character must not hide the rest.
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        self.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        if not app.broker.shared and options["subcommand"] != "registered":
            self.stderr.write("Note: BROKER_URL = 'memory://' keeps messages in each process; these are of this one.")
        for note in answer.notes:
            self.stderr.write(printable(f"Note: {note}"))
        if answer.problem:
            raise _error(answer.problem)

    def _width(self) -> int | None:
        """Return the width of the terminal; None where the output goes elsewhere, and nothing has to be cut."""
        if self.stdout.isatty() or os.environ.get("COLUMNS"):
            return shutil.get_terminal_size().columns
        return None


def _error(text: str) -> CommandError:
    return CommandError(printable(text, lines=True), returncode=FAILED)
