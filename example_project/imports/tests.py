"""Tests of the example, as a project of yours would have them: ``python manage.py test example_project``.

A task is a function: most tests call it. No worker runs; what the pages queue is seen as messages that wait.
"""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path
from smtplib import SMTPServerDisconnected

from django.conf import settings
from django.core import mail
from django.core.files.base import ContentFile
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpResponse
from django.test import TestCase, override_settings
from django.urls import reverse
from django.utils import timezone

from example_project.imports.mail import FirstAttemptFails, find_report, report_message
from example_project.imports.models import CsvImport
from example_project.imports.status import PATIENCE, status_of
from example_project.imports.tasks import finish, import_csv, read_file, send_digest, send_report, store, tidy_up
from example_project.imports.validation import UnreadableFile

HEADER = "iata,name,city,state,country,latitude,longitude\n"
GOOD = HEADER + "ABC,One,Town,TX,USA,30.5,-95.25\nDEF,Two,Town,CA,USA,35,-120\n"
MIXED = GOOD + "GHI,Three,NA,TX,USA,31,-96\n"


class ExampleTestCase(TestCase):
    """Keeps what a test writes in a folder that is removed after it, and imports without pauses."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        var = Path(directory.name)
        (var / "mail").mkdir()
        changed = override_settings(VAR_DIR=var, MEDIA_ROOT=var / "uploads", MAIL_DIR=var / "mail", IMPORT_PAUSE=0)
        changed.enable()
        self.addCleanup(changed.disable)

    def uploaded(self, text: str) -> CsvImport:
        """Return an import that waits for its worker."""
        file = ContentFile(text.encode(), name="upload.csv")
        return CsvImport.objects.create(file=file, file_name="upload.csv", email="you@example.org", task_id="an-id")

    def imported(self, text: str) -> CsvImport:
        """Return an import that is finished."""
        csv_import = self.uploaded(text)
        import_csv(csv_import.pk)
        csv_import.refresh_from_db()
        return csv_import


class TaskTests(ExampleTestCase):
    """The two tasks, run once and run again."""

    def test_good_rows_are_kept_and_bad_ones_listed(self) -> None:
        csv_import = self.uploaded(MIXED)
        assert import_csv(csv_import.pk) == {"imported": 2, "refused": 1}
        assert [airport.code for airport in csv_import.airports.all()] == ["ABC", "DEF"]
        assert [str(row) for row in csv_import.refused_rows.all()] == ["line 4: city is missing ('NA')"]

    def test_a_run_that_broke_off_is_completed_without_doubling_rows(self) -> None:
        csv_import = self.uploaded(MIXED)
        for _ in store(csv_import, read_file(csv_import)):  # and here its worker dies: nothing marks it as finished
            pass
        assert import_csv(csv_import.pk) == {"imported": 2, "refused": 1}
        assert csv_import.airports.count() == 2

    def test_a_finished_import_is_not_done_again(self) -> None:
        csv_import = self.imported(MIXED)
        first_mail = csv_import.mail_task_id
        finish(csv_import)
        assert import_csv(csv_import.pk) == {"imported": 2, "refused": 1}
        csv_import.refresh_from_db()
        assert csv_import.mail_task_id == first_mail != ""

    def test_an_unreadable_file_fails_each_time_and_mails_nothing(self) -> None:
        csv_import = self.uploaded("not,airports\n1,2\n")
        for _ in range(2):
            with self.assertRaisesMessage(UnreadableFile, "The first line must be"):
                import_csv(csv_import.pk)
        csv_import.refresh_from_db()
        assert csv_import.failure.startswith("The first line must be")
        assert csv_import.mail_task_id == ""

    def test_the_report_is_mailed_once(self) -> None:
        csv_import = self.imported(MIXED)
        assert [send_report(csv_import.pk) for _ in range(2)] == ["you@example.org"] * 2
        (message,) = mail.outbox
        assert message.subject == "upload.csv: 2 of 3 rows imported"
        assert "line 4: city is missing ('NA')" in message.body
        assert f"{settings.SITE_URL}{csv_import.get_absolute_url()}" in message.body

    def test_old_imports_are_deleted_with_their_files(self) -> None:
        old, new = self.imported(GOOD), self.imported(GOOD)
        CsvImport.objects.filter(pk=old.pk).update(finished_at=timezone.now() - timedelta(days=31))
        assert tidy_up() == 1
        assert [each.pk for each in CsvImport.objects.all()] == [new.pk]
        assert not Path(old.file.path).exists()
        assert Path(new.file.path).exists()
        assert tidy_up() == 0

    def test_a_digest_tells_of_the_last_day(self) -> None:
        assert send_digest() == ""
        old, good, bad = self.imported(GOOD), self.imported(MIXED), self.uploaded("not,airports\n1,2\n")
        finish(bad, failure="Line 7 is not CSV.")
        self.uploaded(GOOD)
        CsvImport.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(hours=25))
        assert send_digest() == settings.DIGEST_TO
        message = mail.outbox[-1]
        assert message.to == [settings.DIGEST_TO]
        assert message.subject.startswith("3 imports until ")
        for text in ("2 rows imported", "2 imported, 1 refused", "Line 7 is not CSV.", "not finished yet"):
            assert text in message.body
        assert f"{settings.SITE_URL}{good.get_absolute_url()}" in message.body
        assert old.get_absolute_url() + "\n" not in message.body

    def test_the_staged_failure_happens_once_per_message(self) -> None:
        message = report_message(self.imported(GOOD))
        backend = FirstAttemptFails(file_path=settings.MAIL_DIR)
        with self.assertRaisesMessage(SMTPServerDisconnected, "EXAMPLE_FLAKY_MAIL"):
            backend.send_messages([message])
        assert find_report("an-id") is None
        assert backend.send_messages([message]) == 1
        assert find_report("an-id") is not None


class PageTests(ExampleTestCase):
    """The pages, from upload to report."""

    def upload(self, text: str) -> HttpResponse:
        """Post a file to the upload page."""
        file = SimpleUploadedFile("upload.csv", text.encode())
        return self.client.post(reverse("index"), {"file": file, "email": "you@example.org"})

    def test_an_upload_is_queued_and_waits_for_a_worker(self) -> None:
        answer = self.upload(GOOD)
        csv_import = CsvImport.objects.get()
        self.assertRedirects(answer, csv_import.get_absolute_url())
        assert csv_import.task_id
        assert status_of(csv_import).phase == "waiting"

    def test_a_file_with_the_wrong_header_is_refused_at_once(self) -> None:
        self.assertContains(self.upload("a,b\n1,2\n"), "The first line must be: iata, name")
        assert not CsvImport.objects.exists()

    def test_the_report_shows_charts_and_refused_rows(self) -> None:
        csv_import = self.imported(MIXED)
        page = self.client.get(csv_import.get_absolute_url())
        self.assertContains(page, "2 of 3 rows imported, 1 refused.")
        self.assertContains(page, "<svg", count=2)
        self.assertContains(page, "GHI,Three,NA,TX,USA,31,-96")

    def test_the_report_of_a_file_without_good_rows_has_no_charts(self) -> None:
        csv_import = self.imported(HEADER + "GHI,Three,NA,TX,USA,31,-96\n")
        self.assertNotContains(self.client.get(csv_import.get_absolute_url()), "<svg")

    def test_the_page_gives_advice_when_no_worker_comes(self) -> None:
        csv_import = self.uploaded(GOOD)
        address = reverse("status", args=[csv_import.pk])
        assert self.client.get(address).json()["hint"] == ""
        earlier = timezone.now() - timedelta(seconds=PATIENCE + 1)
        CsvImport.objects.filter(pk=csv_import.pk).update(created_at=earlier)
        assert "python manage.py runworker" in self.client.get(address).json()["hint"]

    def test_the_page_of_an_unreadable_file_says_why(self) -> None:
        csv_import = self.uploaded(GOOD)
        finish(csv_import, failure="Line 7 is not CSV.")
        self.assertContains(self.client.get(csv_import.get_absolute_url()), "Line 7 is not CSV.")

    def test_a_sample_can_be_imported_by_its_name_only(self) -> None:
        assert self.client.post(reverse("sample"), {"name": "../settings.py"}).status_code == 404
        answer = self.client.post(reverse("sample"), {"name": "airports_with_errors.csv"})
        csv_import = CsvImport.objects.get()
        self.assertRedirects(answer, csv_import.get_absolute_url())
        assert len(read_file(csv_import)) == 38
