"""How far an import has come, in words and numbers: read from its row and from the results of its two tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.utils import timezone

from django_tasks import AsyncResult
from django_tasks.states import FAILURE, PENDING, READY_STATES, RECEIVED, RETRY, REVOKED
from example_project.imports.models import CsvImport

#: Seconds after which a job that nobody has taken is worth a hint.
PATIENCE = 5

HINT = (
    "No worker has taken this job for {seconds} seconds: none seems to be running. "
    "Open a second terminal and start one with: python manage.py runworker -Q celery,mail"
)


@dataclass(frozen=True)
class Status:
    """What the page shows while an import runs; the JSON view sends exactly these."""

    phase: str  # waiting, running, finished or failed
    text: str
    done: int = 0
    total: int = 0
    errors: int = 0
    hint: str = ""
    mail_text: str = ""
    settled: bool = False  # nothing will change any more: stop asking


def status_of(csv_import: CsvImport) -> Status:
    """Return how far an import has come."""
    if csv_import.failure:
        return Status("failed", csv_import.failure, settled=True)
    if csv_import.finished_at is not None:
        return finished(csv_import)
    result = AsyncResult(csv_import.task_id)
    state, info = result.state, result.info
    if state in (FAILURE, REVOKED):
        return Status("failed", f"The import stopped: {info}", settled=True)
    if state in (PENDING, RECEIVED):
        return Status("waiting", "Waiting for a worker.", hint=hint_for(csv_import))
    return running(info)


def running(info: Any) -> Status:
    """Return the status of an import whose task last told ``info``."""
    if not isinstance(info, dict) or "total" not in info:
        return Status("running", "Reading the file.")
    done, total, errors = info["done"], info["total"], info["errors"]
    return Status("running", f"{done:,} of {total:,} rows, {errors:,} refused.", done, total, errors)


def finished(csv_import: CsvImport) -> Status:
    """Return the status of an import whose rows are done and whose e-mail may still be under way."""
    imported, refused, rows = csv_import.rows_imported, csv_import.rows_refused, csv_import.rows
    text = f"{imported:,} of {rows:,} rows imported, {refused:,} refused."
    if csv_import.mailed_at is not None:
        mail_text, settled = f"The report was mailed to {csv_import.email}.", True
    else:
        mail_text, settled = mail_status(csv_import.mail_task_id)
    return Status("finished", text, rows, rows, refused, mail_text=mail_text, settled=settled)


def mail_status(task_id: str) -> tuple[str, bool]:
    """Return what to say about an e-mail that is not marked as sent, and whether that is final."""
    result = AsyncResult(task_id)
    state, info = result.state, result.info
    if state == RETRY:
        return f"The report's e-mail could not be sent yet: {info}. Next attempt in a moment.", False
    if state in READY_STATES - {"SUCCESS"}:
        return f"The report's e-mail could not be sent: {info}.", True
    return "The report's e-mail is on its way.", False


def hint_for(csv_import: CsvImport) -> str:
    """Return advice when a job has been waiting for long, else nothing."""
    seconds = int((timezone.now() - csv_import.created_at).total_seconds())
    return HINT.format(seconds=seconds) if seconds >= PATIENCE else ""
