"""The first tables of the example."""

from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="CsvImport",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("file", models.FileField(upload_to="%Y/%m")),
                ("file_name", models.CharField(max_length=200)),
                ("email", models.EmailField(max_length=254, verbose_name="e-mail address for the report")),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("task_id", models.CharField(blank=True, max_length=64)),
                ("mail_task_id", models.CharField(blank=True, max_length=64)),
                ("finished_at", models.DateTimeField(blank=True, null=True)),
                ("mailed_at", models.DateTimeField(blank=True, null=True)),
                ("failure", models.TextField(blank=True)),
                ("rows_imported", models.PositiveIntegerField(default=0)),
                ("rows_refused", models.PositiveIntegerField(default=0)),
            ],
            options={
                "verbose_name": "import",
                "ordering": ("-pk",),
            },
        ),
        migrations.CreateModel(
            name="RefusedRow",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("line", models.PositiveIntegerField()),
                ("reason", models.TextField()),
                ("content", models.TextField()),
                (
                    "csv_import",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="refused_rows", to="imports.csvimport"
                    ),
                ),
            ],
            options={
                "ordering": ("line",),
            },
        ),
        migrations.CreateModel(
            name="Airport",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("code", models.CharField(max_length=4)),
                ("name", models.CharField(max_length=100)),
                ("city", models.CharField(max_length=100)),
                ("state", models.CharField(max_length=100)),
                ("country", models.CharField(max_length=100)),
                ("latitude", models.FloatField(help_text="degrees, north is positive")),
                ("longitude", models.FloatField(help_text="degrees, east is positive")),
                (
                    "csv_import",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="airports", to="imports.csvimport"
                    ),
                ),
            ],
            options={
                "ordering": ("code",),
            },
        ),
        migrations.AddConstraint(
            model_name="refusedrow",
            constraint=models.UniqueConstraint(fields=("csv_import", "line"), name="refusal_once_per_line"),
        ),
        migrations.AddConstraint(
            model_name="airport",
            constraint=models.UniqueConstraint(fields=("csv_import", "code"), name="airport_once_per_import"),
        ),
    ]
