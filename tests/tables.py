"""A mark for tests that need our tables and real transactions, which others see."""

from __future__ import annotations

import pytest

#: The package's tables are emptied after the test; those of other apps, which it has no use for, are left alone.
our_tables = pytest.mark.django_db(transaction=True, available_apps=["django_tasks"])
