"""Django settings of all processes of a scenario."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.databases import settings_of

SECRET_KEY = "chaos keeps no secrets"
INSTALLED_APPS = ["django_tasks", "chaos"]
DATABASES = {"default": settings_of(os.environ["CHAOS_DATABASE_URL"])}
if "CHAOS_SETTINGS_OF_DEMO" in os.environ:
    os.environ["EXAMPLE_VAR"] = str(Path(os.environ["CHAOS_RECORD"]).parent)
    from example_project.settings import SQLITE_OPTIONS

    DATABASES["default"]["OPTIONS"] = SQLITE_OPTIONS
if "CHAOS_BROKER_URL" in os.environ:
    BROKER_URL = RESULT_BACKEND = os.environ["CHAOS_BROKER_URL"]
    TASK_OUTBOX = True
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
#: Short, so that a run of a minute sees many of them end.
WORKER_LEASE = float(os.environ.get("CHAOS_LEASE", "3"))
TASK_MAX_DELIVERIES = 3
WORKER_SHUTDOWN_TIMEOUT = 5
BEAT_SCHEDULE = json.loads(os.environ.get("CHAOS_BEAT_SCHEDULE", "{}"))
