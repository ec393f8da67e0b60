"""The report's e-mail, and a mail backend that fails on purpose so that a retry can be watched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from smtplib import SMTPServerDisconnected

from django.conf import settings
from django.core.mail import EmailMessage
from django.core.mail.backends.filebased import EmailBackend
from django.template.loader import render_to_string
from django.utils import timezone

from example_project.imports.models import CsvImport

#: A header of our own: by it the report of one import is told from the others in the folder of e-mails.
REPORT_HEADER = "X-Import-Task"

#: How many refused rows an e-mail lists; the page has them all.
MAX_LISTED = 20


def report_message(csv_import: CsvImport) -> EmailMessage:
    """Return the e-mail that reports a finished import."""
    refused = list(csv_import.refused_rows.all()[:MAX_LISTED])
    context = {
        "import": csv_import,
        "refused": refused,
        "unlisted": csv_import.rows_refused - len(refused),
        "url": settings.SITE_URL + csv_import.get_absolute_url(),
    }
    return EmailMessage(
        subject=f"{csv_import.file_name}: {csv_import.rows_imported:,} of {csv_import.rows:,} rows imported",
        body=render_to_string("imports/report.txt", context),
        to=[csv_import.email],
        headers={REPORT_HEADER: csv_import.task_id},
    )


def digest_message(imports: Sequence[CsvImport]) -> EmailMessage:
    """Return the e-mail that tells of a day's imports."""
    today = timezone.localdate()
    context = {"imports": imports, "url": settings.SITE_URL, "rows": sum(each.rows_imported for each in imports)}
    return EmailMessage(
        subject=f"{len(imports)} import{'' if len(imports) == 1 else 's'} until {today}",
        body=render_to_string("imports/digest.txt", context),
        to=[settings.DIGEST_TO],
        headers={REPORT_HEADER: f"digest-{today}"},
    )


def find_report(task_id: str) -> Path | None:
    """Return the file that holds the report of one import, written by Django's file-based mail backend."""
    for path in sorted(Path(settings.MAIL_DIR).glob("*.log")):
        if f"{REPORT_HEADER}: {task_id}\n" in path.read_text(encoding="utf-8"):
            return path
    return None


class FirstAttemptFails(EmailBackend):
    """Writes e-mails to files, but fails at the first attempt of each, as a mail server does on a bad day."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        """Send as usual, unless one of the messages is tried for the first time.

        Raises:
            SMTPServerDisconnected: at the first attempt. An empty file per message remembers it across processes.
        """
        attempts = Path(settings.VAR_DIR) / "mail-attempts"
        attempts.mkdir(exist_ok=True)
        for message in email_messages:
            try:
                (attempts / message.extra_headers[REPORT_HEADER]).touch(exist_ok=False)
            except FileExistsError:
                continue
            raise SMTPServerDisconnected("the demo lets every first attempt fail, EXAMPLE_FLAKY_MAIL=1")
        return super().send_messages(email_messages) or 0
