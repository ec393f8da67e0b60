"""Settings of the example. What concerns background tasks stands at the end and is short."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import django

from django_tasks.schedules import crontab

BASE_DIR = Path(__file__).resolve().parent
DATA_DIR = BASE_DIR / "data"

# Everything that the example writes goes here: remove the folder to start afresh.
VAR_DIR = Path(os.environ.get("EXAMPLE_VAR", BASE_DIR / "var")).resolve()
VAR_DIR.mkdir(parents=True, exist_ok=True)

# For your own machine only: a real site keeps its key secret and runs with DEBUG = False.
SECRET_KEY = "the-example-is-not-a-secret-and-not-for-the-internet"
DEBUG = True
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_tasks",
    "example_project.imports",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

ROOT_URLCONF = "example_project.urls"
WSGI_APPLICATION = "example_project.wsgi.application"
ASGI_APPLICATION = "example_project.asgi.application"

# Web server and workers write to one SQLite file at the same time. Three settings make that safe: wait for a lock
# (timeout, in seconds), take the write lock when a transaction begins rather than in its middle (IMMEDIATE), and let
# readers go on while somebody writes (WAL).
SQLITE_OPTIONS: dict[str, Any] = {"timeout": 20}
if django.VERSION >= (5, 1):
    SQLITE_OPTIONS |= {
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
# Django 4.2 and 5.0 know neither option: imports/apps.py switches WAL on there.

DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": VAR_DIR / "example.sqlite3",
        "OPTIONS": SQLITE_OPTIONS,
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
USE_THOUSAND_SEPARATOR = True

STATIC_URL = "static/"

# The web process writes uploads here and a worker reads them: on two machines, both need to see this folder.
MEDIA_ROOT = VAR_DIR / "uploads"

# E-mails become files. With EXAMPLE_FLAKY_MAIL=1 (the demo sets it) the first attempt at each e-mail fails on purpose,
# so that a retry can be watched.
FLAKY_MAIL = os.environ.get("EXAMPLE_FLAKY_MAIL") == "1"
MAIL_DIR = VAR_DIR / "mail"
MAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
if FLAKY_MAIL:
    MAIL_BACKEND = "example_project.imports.mail.FirstAttemptFails"
if django.VERSION >= (6, 1):
    MAILERS = {"default": {"BACKEND": MAIL_BACKEND, "OPTIONS": {"file_path": MAIL_DIR}}}
else:
    EMAIL_BACKEND = MAIL_BACKEND
    EMAIL_FILE_PATH = MAIL_DIR
DEFAULT_FROM_EMAIL = "airport-register@example.org"

# Where the report in an e-mail links to.
SITE_URL = os.environ.get("EXAMPLE_SITE_URL", "http://127.0.0.1:8000")

# The sample is small and a computer is fast: a pause after each hundred rows (in seconds) lets a person see the
# progress bar move. Set EXAMPLE_PAUSE=0 to see the real speed.
IMPORT_PAUSE = float(os.environ.get("EXAMPLE_PAUSE", "0.1"))

# --- Background tasks -------------------------------------------------------------------------------------------------
# Nothing more is needed: messages and results live in the database above (BROKER_URL and RESULT_BACKEND default to
# "django-db://"). One rule shows routing: e-mails have a queue of their own, so that a long import never delays them
# where a worker is started for that queue alone (runworker -Q mail).
TASK_ROUTES = {"example_project.imports.tasks.send_*": {"queue": "mail"}}

# Sent by any worker with --beat. In the admin (Tasks, Periodic tasks) they can be paused, overridden and run at once.
BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    "tidy up": {"task": "example_project.imports.tasks.tidy_up", "schedule": 5.0},
    "nightly digest": {
        "task": "example_project.imports.tasks.send_digest",
        "schedule": crontab(hour=6, minute=0),
        "timezone": "Europe/Berlin",
        "expires": 3600,
    },
}
DIGEST_TO = "operations@example.org"
# Uploads that were finished longer ago than that many days are deleted.
KEEP_DAYS = 30

# On Redis instead (make demo BROKER=redis). The prefix keeps the example apart from whatever else is there.
if redis_url := os.environ.get("EXAMPLE_REDIS_URL"):
    BROKER_URL = RESULT_BACKEND = redis_url
    BROKER_TRANSPORT_OPTIONS = RESULT_BACKEND_TRANSPORT_OPTIONS = {"global_keyprefix": "celeriac-example:"}
