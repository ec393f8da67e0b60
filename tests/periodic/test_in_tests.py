"""What the page on testing says of periodic tasks."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.core.management import call_command
from django.core.management.base import SystemCheckError

from django_tasks import App
from django_tasks.models import PeriodicTask
from django_tasks.schedules import clocked, crontab
from django_tasks.testing import TaskQueue

ADD = "tests.testapp.tasks.add"
DIGEST: dict[str, Any] = {
    "task": ADD, "schedule": crontab(minute=30, hour=6), "timezone": "Europe/Berlin", "args": [20, 22]
}  # fmt: skip


def test_an_entry_is_run_by_its_name(database_app: App, task_queue: TaskQueue, capsys: Any) -> None:
    database_app.conf.beat_schedule = {"nightly digest": DIGEST}
    call_command("tasks", "schedule", "run", "nightly digest")
    task_queue.assert_sent(ADD, args=(20, 22))
    [outcome] = task_queue.run()
    assert outcome.value == 42


def test_a_row_is_run(database_app: App, task_queue: TaskQueue) -> None:
    row = PeriodicTask.objects.create(name="sums", task=ADD, schedule="1 day", args=[1, 2])
    result = row.run_now()
    task_queue.run()
    assert result.get() == 3


def test_when_it_runs_is_asked_of_a_row(database_app: App) -> None:
    row = PeriodicTask(name="sums", task=ADD, kind="crontab", schedule="30 6 * * *", timezone="Europe/Berlin")
    saturday = datetime(2027, 3, 27, 12, tzinfo=timezone.utc)
    assert row.next_runs(1, now=saturday) == [datetime(2027, 3, 28, 6, 30, tzinfo=ZoneInfo("Europe/Berlin"))]


@pytest.mark.parametrize("wrong", [{"tsak": ADD}, {"args": [1]}, {"task": "shop.tasks.digset"},
                                   {"schedule": clocked(datetime(2020, 1, 1))}])  # fmt: skip
def test_check_finds_mistakes(database_app: App, wrong: dict[str, Any], capsys: Any) -> None:
    database_app.conf.beat_schedule = {"good": DIGEST, "nightly digest": {**DIGEST, **wrong}}
    with pytest.raises(SystemCheckError, match="'nightly digest'") as caught:
        call_command("check", fail_level="WARNING")
    assert "'good'" not in str(caught.value)
