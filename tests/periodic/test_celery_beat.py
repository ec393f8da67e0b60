"""Periodic tasks from the tables of the real django-celery-beat, which this project's own environment does not have."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.celery_environment import ROOT, python_with_celery
from tests.databases import settings_of
from tests.processes import environment

SIDE = Path(__file__).with_name("celery_beat_side.py")
#: What is asked of the rows once they are imported.
QUESTION = """
import django, json, sys
django.setup()
from django.core.serializers.json import DjangoJSONEncoder
from django_tasks.models import PeriodicTask
rows = {row["name"]: row for row in PeriodicTask.objects.values()}
for row in PeriodicTask.objects.all():
    row.full_clean()
    rows[row.name]["words"] = row.schedule_text
json.dump(rows, sys.stdout, cls=DjangoJSONEncoder)
"""


@pytest.fixture
def old_tables(tmp_path: Path) -> dict[str, str]:
    """A database with django-celery-beat's tables and ours; return the environment that has it."""
    file = tmp_path / "old.sqlite3"
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "DJANGO_SETTINGS_MODULE")}
    subprocess.run([python_with_celery("beat"), SIDE, file], env=clean, check=True, timeout=60)
    found = {**environment({}), "TEST_DATABASE_URL": f"sqlite:///{file}"}
    manage(found, "migrate", "--verbosity=0")
    return found


def manage(variables: dict[str, str], *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "django", *arguments],
        env=variables,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done


def rows(variables: dict[str, str]) -> dict[str, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-c", QUESTION],
        env=variables,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return found


def test_everything_that_it_keeps_is_imported(old_tables: dict[str, str]) -> None:
    done = manage(old_tables, "import_celery_beat", "--dry-run")
    assert "5 periodic tasks would be imported, 3 left out." in done.stdout
    assert rows(old_tables) == {}

    done = manage(old_tables, "import_celery_beat")
    assert "5 periodic tasks imported, 3 left out." in done.stdout
    assert "celery.backend_cleanup: left out. celery.backend_cleanup is not needed" in done.stderr
    assert "broken: left out. args = '[1,' cannot be read as JSON" in done.stderr
    assert "over: left out. it never runs any more: 'once at 2020-01-31 08:00:00 UTC', its only run" in done.stderr
    found = rows(old_tables)
    assert set(found) == {"interval", "crontab", "solar", "clocked", "once"}
    expected: dict[str, dict[str, Any]] = {
        "interval": {
            "words": "every 90 seconds", "args": [1, 2], "kwargs": {"a": {"b": None}}, "expires": 60,
            "options": {"queue": "slow", "priority": 7, "headers": {"who": "me"}}, "one_off": False, "enabled": True,
            "start_time": "2026-01-01T00:00:00Z", "end_time": None, "description": "every now and then",
        },
        "crontab": {
            "kind": "crontab", "schedule": "30 7 1-7 * mon", "timezone": "Europe/Berlin", "enabled": False,
            "end_time": "2028-01-01T00:00:00Z", "options": {"expires": "2028-01-01T00:00:00+00:00"}, "expires": None,
        },
        "solar": {
            "kind": "solar", "schedule": "sunset 52.52 -13.4", "options": {"exchange": "x", "routing_key": "slow.rate"},
        },
        "clocked": {"words": "once at 2999-01-31 08:00:00 UTC", "one_off": True},
        "once": {"words": "every hour", "one_off": True},
    }  # fmt: skip
    for name, values in expected.items():
        assert {key: found[name][key] for key in values} == values


def test_what_is_there_stays_unless_it_is_to_be_replaced(old_tables: dict[str, str]) -> None:
    manage(old_tables, "import_celery_beat")
    done = manage(old_tables, "import_celery_beat")
    assert "0 periodic tasks imported, 8 left out." in done.stdout
    assert "interval: left out. There is a periodic task of this name already; --replace changes it." in done.stderr
    assert "interval: replaced" in manage(old_tables, "import_celery_beat", "--replace").stdout
    assert len(rows(old_tables)) == 5


def test_from_another_database(old_tables: dict[str, str], tmp_path: Path) -> None:
    databases = {
        "default": settings_of(f"sqlite:///{tmp_path}/new.sqlite3"),
        "old": settings_of(old_tables["TEST_DATABASE_URL"]),
    }
    found = json.loads(old_tables["TEST_SETTINGS"])
    both = {**old_tables, "TEST_SETTINGS": json.dumps({**found, "DATABASES": databases})}
    manage(both, "migrate", "--verbosity=0")
    assert "5 periodic tasks imported" in manage(both, "import_celery_beat", "--database", "old").stdout
    assert len(rows(both)) == 5
    assert rows(old_tables) == {}


def test_where_there_is_nothing_to_import_it_says_so(tmp_path: Path) -> None:
    variables = {**environment({}), "TEST_DATABASE_URL": f"sqlite:///{tmp_path}/empty.sqlite3"}
    manage(variables, "migrate", "--verbosity=0")
    done = manage(variables, "import_celery_beat", code=1)
    assert "Database 'default' has no table django_celery_beat_periodictask" in done.stderr
