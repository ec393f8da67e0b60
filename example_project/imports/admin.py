"""The example's models in Django's admin, to look at."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest

from example_project.imports.models import Airport, CsvImport, RefusedRow


@admin.register(CsvImport)
class CsvImportAdmin(admin.ModelAdmin):
    """Uploaded files."""

    list_display = ("file_name", "created_at", "finished_at", "rows_imported", "rows_refused", "mailed_at")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Leave adding to the upload page, which queues the import as well."""
        return False


@admin.register(Airport)
class AirportAdmin(admin.ModelAdmin):
    """Imported airports."""

    list_display = ("code", "name", "city", "state", "country")
    list_filter = ("csv_import", "state")
    search_fields = ("code", "name", "city")


@admin.register(RefusedRow)
class RefusedRowAdmin(admin.ModelAdmin):
    """Refused rows."""

    list_display = ("csv_import", "line", "reason")
    list_filter = ("csv_import",)
