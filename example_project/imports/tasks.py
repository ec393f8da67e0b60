"""The background work: import a file, then mail its report; tidy up, and mail what happened in a day.

Each task may run twice for one call: when a worker dies in the middle, another takes its message up again. Both are
written so that this does no harm. It is the one habit that background tasks ask of you.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from smtplib import SMTPException
from typing import TypedDict

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from django_tasks import Task, shared_task
from example_project.imports.mail import digest_message, report_message
from example_project.imports.models import Airport, CsvImport, RefusedRow
from example_project.imports.validation import Refusal, Row, UnreadableFile, read_rows

#: Rows written in one transaction; progress is told after each.
BATCH = 100


class Summary(TypedDict):
    """What the import returns."""

    imported: int
    refused: int


# `throws`: a bad file is its sender's mistake, not ours: the log gets a line instead of a traceback.
@shared_task(bind=True, throws=(UnreadableFile,))
def import_csv(self: Task[[int], Summary], import_id: int) -> Summary:
    """Read the uploaded file, keep the good rows, list the bad ones, then queue the report's e-mail.

    Args:
        import_id: primary key of the ``CsvImport``.

    Raises:
        UnreadableFile: the file is not a CSV file of airports; the import's ``failure`` says so, too.
    """
    csv_import = CsvImport.objects.get(pk=import_id)
    if csv_import.finished_at is None:
        try:
            rows = read_file(csv_import)
        except UnreadableFile as error:
            finish(csv_import, failure=str(error))
        else:
            for done, errors in store(csv_import, rows):
                self.update_state(state="PROGRESS", meta={"done": done, "total": len(rows), "errors": errors})
                time.sleep(settings.IMPORT_PAUSE)
            finish(csv_import)
        csv_import.refresh_from_db()
    if csv_import.failure:
        raise UnreadableFile(csv_import.failure)
    return {"imported": csv_import.rows_imported, "refused": csv_import.rows_refused}


# A mail server that is away for a moment is no reason to lose the report: try again after 2, 4, 8, 16 and 32 seconds.
@shared_task(autoretry_for=(OSError, SMTPException), retry_backoff=2, retry_jitter=False, max_retries=5)
def send_report(import_id: int) -> str:
    """Mail the report of a finished import, unless that is done already; return the address.

    Args:
        import_id: primary key of the ``CsvImport``.
    """
    csv_import = CsvImport.objects.get(pk=import_id)
    if csv_import.mailed_at is None:
        report_message(csv_import).send()
        # A worker that dies just here sends the e-mail a second time: with e-mails, twice is better than never.
        CsvImport.objects.filter(pk=import_id).update(mailed_at=timezone.now())
    return csv_import.email


@shared_task
def tidy_up() -> int:
    """Delete imports that were finished long ago, with their files; return how many."""
    old = CsvImport.objects.filter(finished_at__lt=timezone.now() - timedelta(days=settings.KEEP_DAYS))
    count = 0
    for csv_import in old[:BATCH]:
        # The file first: a run that breaks off here finds the row again, and a file that is gone is no error.
        csv_import.file.delete(save=False)
        csv_import.delete()
        count += 1
    return count


@shared_task(autoretry_for=(OSError, SMTPException), retry_backoff=2, retry_jitter=False, max_retries=5)
def send_digest() -> str:
    """Mail how the imports of the last 24 hours went; return the address. Without any there is no e-mail."""
    imports = CsvImport.objects.filter(created_at__gte=timezone.now() - timedelta(days=1)).order_by("pk")
    if not imports:
        return ""
    digest_message(list(imports)).send()
    return str(settings.DIGEST_TO)


def read_file(csv_import: CsvImport) -> list[Row | Refusal]:
    """Return all rows of the uploaded file, so that a file that breaks off in the middle imports nothing."""
    with Path(csv_import.file.path).open(encoding="utf-8-sig", newline="") as lines:
        return list(read_rows(lines))


def store(csv_import: CsvImport, rows: list[Row | Refusal]) -> Iterator[tuple[int, int]]:
    """Write the rows in batches; after each, yield how many are done and how many of them were refused.

    What an earlier run has written stays as it is: the unique constraints tell, ``ignore_conflicts`` skips it.
    """
    errors = 0
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        good = [airport(csv_import, row) for row in batch if isinstance(row, Row)]
        bad = [refused(csv_import, row) for row in batch if isinstance(row, Refusal)]
        errors += len(bad)
        with transaction.atomic():
            Airport.objects.bulk_create(good, ignore_conflicts=True)
            RefusedRow.objects.bulk_create(bad, ignore_conflicts=True)
        yield start + len(batch), errors


def airport(csv_import: CsvImport, row: Row) -> Airport:
    """Return the model of a good row."""
    return Airport(
        csv_import=csv_import,
        code=row.code,
        name=row.name,
        city=row.city,
        state=row.state,
        country=row.country,
        latitude=row.latitude,
        longitude=row.longitude,
    )


def refused(csv_import: CsvImport, refusal: Refusal) -> RefusedRow:
    """Return the model of a bad row."""
    return RefusedRow(csv_import=csv_import, line=refusal.line, reason=refusal.reason, content=refusal.content)


def finish(csv_import: CsvImport, failure: str = "") -> None:
    """Mark the import as finished and queue its e-mail: both or neither, and only the first time.

    The message is sent when the transaction commits, so an e-mail never goes out for an import that is not marked.
    """
    mark = {
        "finished_at": timezone.now(),
        "failure": failure,
        "rows_imported": csv_import.airports.count(),
        "rows_refused": csv_import.refused_rows.count(),
    }
    with transaction.atomic():
        marked_now = CsvImport.objects.filter(pk=csv_import.pk, finished_at=None).update(**mark)
        if marked_now and not failure:
            mail = send_report.delay(csv_import.pk)
            CsvImport.objects.filter(pk=csv_import.pk).update(mail_task_id=mail.id)
