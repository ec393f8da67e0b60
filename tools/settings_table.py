"""Write the table of all settings into its page: ``python tools/settings_table.py``. A test wants it to be current."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from django_tasks.conf import settings_table  # noqa: E402 - only found after the line above

PAGE = ROOT / "docs" / "configuration.md"
#: What stands around the table.
BEFORE, AFTER = "## All settings\n\n", "\n## "


def with_table(page: str) -> str:
    """Return the page with the table as the code has it now."""
    head, _, rest = page.partition(BEFORE)
    return f"{head}{BEFORE}{settings_table()}{AFTER}{rest.partition(AFTER)[2]}"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
