"""Runs with Celery alone: what its schedules answer to the cases on standard input, one JSON document each way."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timedelta
from typing import Any

from celery import Celery
from celery.schedules import crontab, schedule, solar


def answer(case: dict[str, Any], apps: dict[str, Celery]) -> list[Any]:
    """Return whether it is due, seconds until the next look, and seconds remaining."""
    if case["zone"] not in apps:
        apps[case["zone"]] = Celery(case["zone"], set_as_current=False)
        apps[case["zone"]].conf.timezone = case["zone"]
    now, last = datetime.fromisoformat(case["now"]), datetime.fromisoformat(case["last"])
    try:
        each = made(case, {"nowfun": lambda: now, "app": apps[case["zone"]]})
        due, following = each.is_due(last)
        return [due, following, each.remaining_estimate(last).total_seconds()]
    except Exception as exc:
        return [type(exc).__name__, str(exc), None]


def made(case: dict[str, Any], options: dict[str, Any]) -> Any:
    """Return the schedule of a case."""
    if "every" in case:
        return schedule(timedelta(seconds=case["every"]), case["relative"], **options)
    if "sun" in case:
        return solar(*case["sun"], **options)
    fields = {name: set(spec) if isinstance(spec, list) else spec for name, spec in case["fields"].items()}
    return crontab(**fields, **options)


if __name__ == "__main__":
    known: dict[str, Celery] = {}
    json.dump([answer(case, known) for case in json.load(sys.stdin)], sys.stdout)
