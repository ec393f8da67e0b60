"""What is kept: each uploaded file, the airports read from it, and the rows that were refused."""

from __future__ import annotations

from django.db import models
from django.db.models import UniqueConstraint
from django.urls import reverse


class CsvImport(models.Model):
    """One uploaded file and how far its import and its e-mail have come."""

    file = models.FileField(upload_to="%Y/%m")
    file_name = models.CharField(max_length=200)
    email = models.EmailField("e-mail address for the report")
    created_at = models.DateTimeField(auto_now_add=True)
    task_id = models.CharField(max_length=64, blank=True)
    mail_task_id = models.CharField(max_length=64, blank=True)
    # The marks that make both tasks safe to run twice: what is marked is not done again.
    finished_at = models.DateTimeField(null=True, blank=True)
    mailed_at = models.DateTimeField(null=True, blank=True)
    failure = models.TextField(blank=True)
    rows_imported = models.PositiveIntegerField(default=0)
    rows_refused = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ("-pk",)
        verbose_name = "import"

    def __str__(self) -> str:
        return f"{self.file_name} (import {self.pk})"

    def get_absolute_url(self) -> str:
        """Return the address of the page that shows progress, then the report."""
        return reverse("import", args=[self.pk])

    @property
    def rows(self) -> int:
        """How many rows the file has, once it is finished."""
        return self.rows_imported + self.rows_refused


class Airport(models.Model):
    """A good row. The constraint is what keeps a second run of the same import from doubling rows."""

    csv_import = models.ForeignKey(CsvImport, on_delete=models.CASCADE, related_name="airports")
    code = models.CharField(max_length=4)
    name = models.CharField(max_length=100)
    city = models.CharField(max_length=100)
    state = models.CharField(max_length=100)
    country = models.CharField(max_length=100)
    latitude = models.FloatField(help_text="degrees, north is positive")
    longitude = models.FloatField(help_text="degrees, east is positive")

    class Meta:
        ordering = ("code",)
        constraints = (UniqueConstraint(fields=["csv_import", "code"], name="airport_once_per_import"),)

    def __str__(self) -> str:
        return f"{self.code} {self.name}"


class RefusedRow(models.Model):
    """A bad row: its line in the file, why it was refused, what it said."""

    csv_import = models.ForeignKey(CsvImport, on_delete=models.CASCADE, related_name="refused_rows")
    line = models.PositiveIntegerField()
    reason = models.TextField()
    content = models.TextField()

    class Meta:
        ordering = ("line",)
        constraints = (UniqueConstraint(fields=["csv_import", "line"], name="refusal_once_per_line"),)

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"
