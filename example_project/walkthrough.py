"""What the demo does once Django is set up: prepare the database, send a sample through, show what became of it."""

from __future__ import annotations

import time
from pathlib import Path

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from django_tasks.current import get_current_app
from django_tasks.operations.schedules import listed
from example_project.imports.mail import find_report
from example_project.imports.models import CsvImport
from example_project.imports.status import Status, status_of
from example_project.processes import DemoFailed, Program, pause, shown

SAMPLE = "airports.csv"
USER = PASSWORD = "demo"
MAX_REFUSED_PRINTED = 12


def prepare() -> None:
    """Bring the database up to date and make an account for the admin."""
    call_command("migrate", verbosity=0, interactive=False)
    users = get_user_model().objects
    if not users.filter(username=USER).exists():
        users.create_superuser(USER, "demo@example.org", PASSWORD)


def send_sample() -> CsvImport:
    """Post the sample to the site as its page does, and return the import that this started."""
    answer = browser().post(reverse("sample"), {"name": SAMPLE})
    if answer.status_code != 302:
        raise DemoFailed(f"The page refused the sample: HTTP status {answer.status_code}.")
    return CsvImport.objects.latest("pk")


def follow(csv_import: CsvImport, worker: Program, seconds: float) -> CsvImport:
    """Print how the import gets on until nothing can change any more.

    Raises:
        DemoFailed: the import or its e-mail failed, the worker stopped, or ``seconds`` passed.
        Interrupted: the demo is to stop.
    """
    deadline = time.monotonic() + seconds
    printer = Printer()
    while True:
        csv_import.refresh_from_db()
        status = status_of(csv_import)
        printer.show(status)
        if status.settled:
            break
        worker.check()
        if time.monotonic() > deadline:
            raise DemoFailed(f"Not finished after {seconds:.0f} s. {worker.end_of_log()}")
        pause(0.1)
    if csv_import.mailed_at is None:
        raise DemoFailed(f"{status.mail_text or status.text}\n{worker.end_of_log()}")
    return csv_import


class Printer:
    """Prints progress in few lines: every quarter, and each new piece of news."""

    def __init__(self) -> None:
        self.quarter = 0
        self.news: set[str] = set()

    def show(self, status: Status) -> None:
        """Print what is new since the last call."""
        quarter = 4 * status.done // status.total if status.total else 0
        if status.phase == "running" and quarter > self.quarter:
            self.quarter = quarter
            print(f"    {status.text}", flush=True)
        self.tell(status.hint.split(":")[0])
        self.tell(status.mail_text)

    def tell(self, text: str) -> None:
        """Print a text unless it is empty or printed already."""
        if text and text not in self.news:
            self.news.add(text)
            print(f"    {text}", flush=True)


def print_result(csv_import: CsvImport) -> None:
    """Print what was imported, what was refused and why, and where the e-mail is."""
    mail = find_report(csv_import.task_id)
    if mail is None:
        raise DemoFailed(f"The report's e-mail is not in {shown(Path(settings.MAIL_DIR))}, though marked as sent.")
    print(f"\n{csv_import.rows_imported:,} rows imported, {csv_import.rows_refused:,} refused:")
    for row in csv_import.refused_rows.all()[:MAX_REFUSED_PRINTED]:
        print(f"    line {row.line}: {row.reason}")
    if csv_import.rows_refused > MAX_REFUSED_PRINTED:
        print(f"    and {csv_import.rows_refused - MAX_REFUSED_PRINTED:,} more")
    print(f"\nThe report's e-mail: {shown(mail)}", flush=True)


def print_schedule(worker: Program, seconds: float) -> None:
    """Print the periodic tasks, once the one of every few seconds has run.

    Raises:
        DemoFailed: it did not, or the worker stopped.
        Interrupted: the demo is to stop.
    """
    deadline = time.monotonic() + seconds
    while not all(each.last_state == "SUCCESS" for each in listed(get_current_app(), name="tidy up")):
        worker.check()
        if time.monotonic() > deadline:
            raise DemoFailed(f"No periodic task has run after {seconds:.0f} s. {worker.end_of_log()}")
        pause(0.1)
    print("\nThe worker sends periodic tasks, too (manage.py tasks schedule; in the admin: Tasks, Periodic tasks):")
    call_command("tasks", "schedule")


def check_pages(csv_import: CsvImport) -> None:
    """Ask the site for the list, the report and the status; raise ``DemoFailed`` unless they show the import."""
    expected = {
        reverse("index"): csv_import.get_absolute_url(),
        csv_import.get_absolute_url(): f"{csv_import.rows_imported:,} of {csv_import.rows:,} rows imported",
        reverse("status", args=[csv_import.pk]): '"phase": "finished"',
    }
    for address, text in expected.items():
        answer = browser().get(address)
        if answer.status_code != 200 or text not in answer.content.decode():
            raise DemoFailed(f"The page {address} (HTTP status {answer.status_code}) does not show {text!r}.")
    print(f"Checked {len(expected)} pages of the site: all show the import.")


def browser() -> Client:
    """Return a client that asks the site without a web server in between."""
    return Client(SERVER_NAME="localhost")
