"""``manage.py import_celery_beat``: periodic tasks from django-celery-beat's tables."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS

from django_tasks.management.tables import printable
from django_tasks.periodic.celery_beat import NoTables, Report, import_rows


class Command(BaseCommand):
    """Import django-celery-beat's periodic tasks; its tables stay as they are, and the package need not be there."""

    help = "Import the periodic tasks that are in django-celery-beat's tables."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, help="the alias of the database with the tables")
        parser.add_argument("--replace", action="store_true", help="change periodic tasks that are there already")
        parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        """Import, and say what came of it; exit with 1 where something had to be left out that may be needed."""
        try:
            report = import_rows(options["database"], replace=options["replace"], dry_run=options["dry_run"])
        except NoTables as exc:
            raise CommandError(str(exc)) from exc
        self._tell(report, dry_run=options["dry_run"])

    def _tell(self, report: Report, *, dry_run: bool) -> None:
        for name in report.created:
            self.stdout.write(printable(f"{name}: imported"))
        for name in report.replaced:
            self.stdout.write(printable(f"{name}: replaced"))
        for name, why in report.left_out.items():
            self.stderr.write(printable(f"{name}: left out. {why}"))
        count = len(report.created) + len(report.replaced)
        would = "would be " if dry_run else ""
        self.stdout.write(f"{count:,} periodic tasks {would}imported, {len(report.left_out):,} left out.")
