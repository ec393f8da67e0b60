"""The tasks of the system that runs here; named so that systems that look for tasks in installed apps find them."""

from __future__ import annotations

from importlib import import_module

from django.conf import settings

import_module(f"benchmarks.systems.{settings.SYSTEM}")
