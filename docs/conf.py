"""Sphinx settings: ``make docs``. The table of settings is written into its page here, from the one in the code."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from django_tasks import __version__  # noqa: E402 - only found after the line above
from django_tasks.conf import settings_table  # noqa: E402

project = "django-celeriac"
author = "django-celeriac contributors"
copyright = "django-celeriac contributors"
version = release = __version__

extensions = ["myst_parser"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["deflist"]
# Headings can be linked to from other pages, as in worker.md#exit-codes; links that lead nowhere are warnings.
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"django-celeriac {version}"
html_static_path = ["_static"]
html_css_files = ["custom.css"]

#: What stands in a page for the table of all settings.
MARKER = "<!-- the table of all settings -->"


def insert_settings(app: Any, page: str, source: list[str]) -> None:
    """Replace the marker in a page (a receiver of Sphinx's ``source-read``)."""
    source[0] = source[0].replace(MARKER, settings_table())


def setup(app: Any) -> None:
    """Connect the function above."""
    app.connect("source-read", insert_settings)
