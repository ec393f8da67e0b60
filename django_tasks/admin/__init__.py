"""Pages of Django's admin; it finds them here."""

from __future__ import annotations

from django_tasks.admin.periodic import PeriodicTaskAdmin

__all__ = ["PeriodicTaskAdmin"]
