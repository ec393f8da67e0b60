"""Schedules answer as Celery's do, but for what docs/schedules.md says of changes of the clocks."""

from __future__ import annotations

import json
import random
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from django_tasks.schedules import BaseSchedule, crontab, schedule, solar
from django_tasks.schedules.sun import EVENTS
from tests.celery_environment import python_with_celery

UTC = timezone.utc
PROGRAM = Path(__file__).with_name("celery_schedules.py")
ZONES = (
    "UTC", "Europe/Berlin", "America/New_York", "America/Havana", "America/Santiago", "Asia/Kolkata", "Asia/Kathmandu",
    "Australia/Lord_Howe",
)  # fmt: skip
WEEKDAYS = ("sun", "monday", "Tue", "wed", "thursday", "FRI", "sat")
MONTHS = ("jan", "feb", "March", "apr", "may", "jun", "jul", "aug", "sept", "oct", "nov", "december")
HOUR = timedelta(hours=1)


def celery_answers(cases: list[dict[str, Any]]) -> list[Any]:
    """Return what Celery 5.7 says: for each case whether it is due, seconds to the next look, seconds remaining."""
    command = [python_with_celery("5.7"), str(PROGRAM)]
    done = subprocess.run(command, input=json.dumps(cases), capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout)
    return found


def our_answer(case: dict[str, Any]) -> list[Any]:
    """Return the same of ours."""
    now, last = datetime.fromisoformat(case["now"]), datetime.fromisoformat(case["last"])
    app = SimpleNamespace(conf=SimpleNamespace(timezone=case["zone"]))
    try:
        each: BaseSchedule
        if "every" in case:
            each = schedule(timedelta(seconds=case["every"]), case["relative"], nowfun=lambda: now, app=app)
        elif "sun" in case:
            each = solar(*case["sun"], nowfun=lambda: now, app=app)
        else:
            fields = {name: set(spec) if isinstance(spec, list) else spec for name, spec in case["fields"].items()}
            each = crontab(**fields, nowfun=lambda: now, app=app)
        due, following = each.is_due(last)
        return [due, following, each.remaining_estimate(last).total_seconds()]
    except ValueError as exc:
        return ["ValueError", str(exc), None]


def random_spec(some: random.Random, first: int, last: int, names: tuple[str, ...] = ()) -> Any:
    """Return a field of a crontab in one of its forms."""
    form = some.random()
    if form < 0.3:
        return "*"
    if form < 0.45:
        return some.randint(first, last)
    if form < 0.6:
        return sorted(some.sample(range(first, last + 1), some.randint(1, 5)))
    if form < 0.75:
        return f"*/{some.randint(1, last)}"

    def number() -> str:
        value = some.randint(first, last)
        return names[value - first] if names and some.random() < 0.5 else str(value)

    parts = [number(), f"{number()}-{number()}", f"{number()}-{number()}/{some.randint(1, 5)}"]
    return ",".join(some.choices(parts, k=some.randint(1, 3)))


def random_times(some: random.Random) -> dict[str, Any]:
    """Return a zone, now, and a last run seconds to weeks before."""
    now = datetime(2015, 1, 1, tzinfo=UTC) + timedelta(seconds=some.randint(0, 15 * 365 * 86400))
    last = now - timedelta(seconds=some.randint(0, some.choice([120, 7200, 3 * 86400, 60 * 86400])))
    if some.random() < 0.3:
        now = now.replace(second=0)
    if some.random() < 0.3:
        last -= timedelta(microseconds=some.randint(0, 999_999))
    return {"zone": some.choice(ZONES), "now": now.isoformat(), "last": last.isoformat()}


def random_crontab(some: random.Random) -> dict[str, Any]:
    """Return a case with a crontab of all its fields or of some."""
    fields = {"minute": random_spec(some, 0, 59), "hour": random_spec(some, 0, 23)}
    for name, spec in (
        ("day_of_week", random_spec(some, 0, 6, WEEKDAYS)),
        ("day_of_month", random_spec(some, 1, some.choice([28, 31]))),
        ("month_of_year", random_spec(some, 1, 12, MONTHS)),
    ):
        if some.random() < 0.4:
            fields[name] = spec
    if some.random() < 0.02:  # mostly never due
        fields |= {
            "day_of_month": some.choice([31, "30-31", [30], "29,31"]),
            "month_of_year": some.choice([2, "feb", "*/9"]),
        }
    return {"fields": fields, **random_times(some)}


def random_interval(some: random.Random) -> dict[str, Any]:
    """Return a case with an interval from a second to days."""
    whole = some.choice([some.randint(1, 59), some.randint(60, 3599), 3600 * some.randint(1, 23), 86400])
    every = some.choice([whole, whole * some.randint(1, 9), whole + some.random()])
    return {"every": every, "relative": some.random() < 0.5, **random_times(some)}


def differ(theirs: list[Any], ours: list[Any]) -> bool:
    """Return whether two answers are not the same; the texts of errors may be."""
    if "ValueError" in (theirs[0], ours[0]):
        return bool(theirs[0] != ours[0])
    return ours[0] is not theirs[0] or ours[1:] != pytest.approx(theirs[1:], abs=1e-3)


def near_a_change(case: dict[str, Any], answers: list[list[Any]]) -> bool:
    """Return whether one of the instants that answers speak of is within three hours of a change of the clocks."""
    now, zone = datetime.fromisoformat(case["now"]), ZoneInfo(case["zone"])
    instants = [now, *(now + timedelta(seconds=number) for answer in answers for number in answer[1:])]
    return any(
        (each - 3 * HOUR).astimezone(zone).utcoffset() != (each + 3 * HOUR).astimezone(zone).utcoffset()
        for each in instants
    )


@pytest.mark.parametrize(("make", "count"), [(random_crontab, 2000), (random_interval, 1000)])
def test_random_ones_at_random_instants(make: Any, count: int) -> None:
    some = random.Random(count)
    cases = [make(some) for _ in range(count)]
    answers = [(case, theirs, our_answer(case)) for case, theirs in zip(cases, celery_answers(cases), strict=True)]
    different = [each for each in answers if differ(*each[1:])]
    assert [each for each in different if not near_a_change(each[0], list(each[1:]))] == []
    assert len(different) < count / 100
    # Some of all kinds were there: due and not, refused ones (31 February).
    kinds = [theirs[0] for _, theirs, _ in answers]
    assert min(kinds.count(True), kinds.count(False)) > count / 10
    assert make is random_interval or "ValueError" in kinds


def test_the_sun() -> None:
    some = random.Random(200)
    cases = [
        {"sun": [event, some.uniform(-60, 60), some.uniform(-180, 180)], **random_times(some)}
        for event in EVENTS
        for _ in range(25)
    ]
    for case, theirs in zip(cases, celery_answers(cases), strict=True):
        # Ours are full seconds. Some nights in summer are never dark, and both look for the next one that is.
        due, following, remaining = our_answer(case)
        assert due is theirs[0], case
        assert [following, remaining] == pytest.approx(theirs[1:], abs=1.5), case


#: Where the clocks are changed in Berlin: fields, last run and now (UTC), then the next run of Celery's and of ours.
CHANGES = [
    # What is skipped runs at the change, not as much after it as it is after the change's beginning.
    ({"minute": 30, "hour": 2}, "2026-03-29T00:00", "2026-03-29T01:30", "2026-03-29T01:00"),
    ({"minute": 30, "hour": "*/2"}, "2026-03-29T00:00", "2026-03-29T01:30", "2026-03-29T01:00"),
    ({"minute": "20,40", "hour": 2}, "2026-03-29T00:00", "2026-03-29T01:20", "2026-03-29T01:00"),
    # What names no hour has no hole of an hour when one comes twice.
    ({"minute": 0}, "2026-10-25T00:00", "2026-10-25T02:00", "2026-10-25T01:00"),
    ({"minute": 30}, "2026-10-25T00:30", "2026-10-25T02:30", "2026-10-25T01:30"),
    ({"minute": "*/15"}, "2026-10-25T00:45", "2026-10-25T02:00", "2026-10-25T01:00"),
    # The same on both sides: a time that comes twice, and what goes on over an hour that is left out.
    ({"minute": 30, "hour": 2}, "2026-10-24T12:00", "2026-10-25T00:30", "2026-10-25T00:30"),
    ({"minute": 30, "hour": 2}, "2026-10-25T00:30", "2026-10-26T01:30", "2026-10-26T01:30"),
    ({"minute": "*/15"}, "2026-03-29T00:45", "2026-03-29T01:00", "2026-03-29T01:00"),
    ({"minute": 30}, "2026-03-29T00:30", "2026-03-29T01:30", "2026-03-29T01:30"),
]


def test_all_that_differs() -> None:
    cases = [
        {"fields": fields, "zone": "Europe/Berlin", "now": f"{last}:00+00:00", "last": f"{last}:00+00:00"}
        for fields, last, _, _ in CHANGES
    ]
    for (fields, last, theirs, ours), case, answer in zip(CHANGES, cases, celery_answers(cases), strict=True):
        for next_run, [due, following, remaining] in ((theirs, answer), (ours, our_answer(case))):
            wanted = (datetime.fromisoformat(next_run) - datetime.fromisoformat(last)).total_seconds()
            assert [due, following, remaining] == [False, wanted, wanted], (fields, last)


def test_intervals_below_a_second_that_are_relative() -> None:
    # Celery rounds them to the second before, so that it is always due at once.
    case = {"every": 0.25, "relative": True, "zone": "UTC", "now": "2026-01-01T00:00:00+00:00"}
    case["last"] = case["now"]
    [theirs] = celery_answers([case])
    assert theirs[0] is True
    assert our_answer(case) == [False, 0.25, 0.25]


@pytest.mark.parametrize(
    "fields", [{"day_of_week": "mar"}, {"month_of_year": "fri"}, {"minute": "mon"}, {"minute": "1-5-9"}]
)
def test_nonsense_that_celery_takes(fields: dict[str, str]) -> None:
    [theirs] = celery_answers([{"fields": fields, **random_times(random.Random(1))}])
    assert theirs[0] in (True, False)
    with pytest.raises(ValueError, match=f"The crontab's {next(iter(fields))}"):
        crontab(**fields)
