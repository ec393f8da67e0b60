"""The example's addresses: the pages of ``imports`` and Django's admin."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("", include("example_project.imports.urls")),
    path("admin/", admin.site.urls),
]
