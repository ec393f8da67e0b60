"""Sphinx settings: ``make docs``."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from django_tasks import __version__  # noqa: E402 - only found after the line above

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
