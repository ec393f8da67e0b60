"""Django settings of every system that is measured; the environment says which one runs here.

All of them get the same database with the same options. What a system has to be told stands below under its name, and
is what its documentation recommends for throughput; polling intervals are the defaults.
"""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import django
from django.db.backends.signals import connection_created

from tests.databases import settings_of
from tests.testapp.apps import use_wal

SYSTEM = os.environ["BENCH_SYSTEM"]
DATABASE_URL = os.environ["BENCH_DATABASE_URL"]
#: Worker processes, for systems that take their number from the settings.
PROCESSES = int(os.environ.get("BENCH_PROCESSES", "1"))

SECRET_KEY = "measured, not kept"
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# SQLite: WAL, immediate transactions. Without CONN_MAX_AGE some systems would connect anew for
# each task.
ON_REDIS = DATABASE_URL.startswith("redis:")
DATABASES = {"default": settings_of("sqlite:///:memory:" if ON_REDIS else DATABASE_URL) | {"CONN_MAX_AGE": 600}}
if django.VERSION < (5, 1):
    connection_created.connect(use_wal)
#: How SQLite waits for the disk: NORMAL or FULL.
SYNCHRONOUS = dict(parse_qsl(urlsplit(DATABASE_URL).query)).get("synchronous", "NORMAL")


def synchronise(connection: Any, **_: Any) -> None:
    """Have each new connection to SQLite wait for the disk as told."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA synchronous={SYNCHRONOUS}")


connection_created.connect(synchronise)

APPS = {
    "celeriac": ["django_tasks"],
    "huey": ["huey.contrib.djhuey"],
    "django_q2": ["django_q"],
    "django_tasks_db": ["django_tasks_db"],
    "procrastinate": ["procrastinate.contrib.django"],
}
# Whoever looks for the tasks of installed apps finds systems/tasks.py.
INSTALLED_APPS = [*APPS.get(SYSTEM, ()), "benchmarks.systems"]

if ON_REDIS:  # read by django-celeriac only
    BROKER_URL = RESULT_BACKEND = DATABASE_URL

Q_CLUSTER: dict[str, Any] = {  # read by django-q2 only
    "name": "benchmarks",
    "orm": "default",
    "workers": PROCESSES,
    "recycle": 1_000_000,
    "queue_limit": 50,
    "bulk": 10,
    "timeout": 300,
    "retry": 600,
    "save_limit": 0,  # keep all results
    "log_level": "WARNING",
}

if SYSTEM == "django_tasks_db":
    TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}

if SYSTEM == "huey":
    from benchmarks.systems.huey_store import make_huey

    HUEY = make_huey(DATABASE_URL, SYNCHRONOUS)
