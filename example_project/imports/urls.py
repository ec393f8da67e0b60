"""The addresses of the pages."""

from __future__ import annotations

from django.urls import path

from example_project.imports import views

urlpatterns = [
    path("", views.index, name="index"),
    path("sample/", views.sample, name="sample"),
    path("imports/<int:pk>/", views.detail, name="import"),
    path("imports/<int:pk>/status.json", views.status, name="status"),
]
