"""What django-celery-beat keeps in its tables, as rows of ours. The package itself need not be installed any more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.apps.registry import Apps
from django.core.exceptions import ValidationError
from django.db import connections, models, router, transaction

from django_tasks.exceptions import CeleriacError
from django_tasks.models import PeriodicTask
from django_tasks.periodic.texts import of_interval
from django_tasks.serialization import json_loads

PREFIX = "django_celery_beat_"
#: Tasks of Celery's own that django-celery-beat adds, and why they are not needed.
NOT_NEEDED = {"celery.backend_cleanup": "workers delete old results by themselves"}
#: Columns of call options, by what apply_async calls them.
_OPTIONS = ("queue", "exchange", "routing_key", "priority")


class NoTables(CeleriacError):
    """There is nothing to import from."""


@dataclass
class Report:
    """What an import did.

    Attributes:
        created: names of new rows.
        replaced: names of rows that were there and say now what django-celery-beat says.
        left_out: names of what was not imported, and why.
    """

    created: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def import_rows(using: str = "default", *, replace: bool = False, dry_run: bool = False) -> Report:
    """Make a row of each of django-celery-beat's periodic tasks; its own tables stay as they are.

    Args:
        using: the database that has its tables; ours may be in another one, as the project's routers say.
        replace: rows of the same name are changed; without, they are left as they are.
        dry_run: change nothing.

    Raises:
        NoTables: the database has none of its tables.
    """
    tables = _Tables(using)
    report = Report()
    ours = router.db_for_write(PeriodicTask)
    with transaction.atomic(using=ours):
        there = {row.name: row for row in PeriodicTask.objects.using(ours)}
        for old in tables.rows("periodictask"):
            _import(old, tables, there.get(old["name"]), report, replace=replace, dry_run=dry_run)
    return report


def _import(
    old: dict[str, Any],
    tables: _Tables,
    there: PeriodicTask | None,
    report: Report,
    *,
    replace: bool,
    dry_run: bool,
) -> None:
    name = old["name"]
    if old["task"] in NOT_NEEDED:
        report.left_out[name] = f"{old['task']} is not needed: {NOT_NEEDED[old['task']]}."
        return
    if there is not None and not replace:
        report.left_out[name] = "There is a periodic task of this name already; --replace changes it."
        return
    row = there or PeriodicTask(name=name)
    try:
        _fill(row, old, tables)
        row.full_clean(validate_unique=False)
    except (ValidationError, ValueError) as exc:
        report.left_out[name] = " ".join(exc.messages) if isinstance(exc, ValidationError) else str(exc)
        return
    if not dry_run:
        row.save(using=router.db_for_write(PeriodicTask))
    (report.created if there is None else report.replaced).append(name)


def _fill(row: PeriodicTask, old: dict[str, Any], tables: _Tables) -> None:
    """Let a row say what one of django-celery-beat's says.

    Raises:
        ValueError: that has no schedule, or something in it cannot be read.
    """
    row.origin, row.task, row.enabled = PeriodicTask.DATABASE, old["task"], old["enabled"]
    row.kind, row.schedule, row.timezone = tables.schedule_of(old)
    row.args, row.kwargs = _json(old, "args", list), _json(old, "kwargs", dict)
    row.options = {key: old[key] for key in _OPTIONS if old[key] not in (None, "")}
    if headers := _json(old, "headers", dict):
        row.options["headers"] = headers
    row.one_off = old["one_off"] or row.kind == PeriodicTask.CLOCKED
    row.start_time, row.end_time = old["start_time"], old["expires"]
    if old["expires"] is not None:  # there it is both the end of the schedule and of calls that wait
        row.options["expires"] = old["expires"].isoformat()
    row.expires = old["expire_seconds"]
    row.description = old["description"]


def _json(old: dict[str, Any], key: str, kind: type) -> Any:
    text = old[key] or json.dumps(kind())
    try:
        json_loads(text)
        value = json.loads(text)
    except (ValueError, CeleriacError) as exc:
        raise ValueError(f"{key} = {text!r:.100} cannot be read as JSON: {exc}") from exc
    if not isinstance(value, kind):
        raise ValueError(f"{key} = {text!r:.100} is not a {kind.__name__}.")
    return value


class _Tables:
    """The tables, as far as they are there, with the columns that they have.

    Args:
        using: the alias of their database.
    """

    def __init__(self, using: str) -> None:
        self.using = using
        connection = connections[using]
        with connection.cursor() as cursor:
            names = connection.introspection.table_names(cursor)
            self._columns = {
                name: {column.name for column in connection.introspection.get_table_description(cursor, name)}
                for name in names
                if name.startswith(PREFIX)
            }
        if f"{PREFIX}periodictask" not in self._columns:
            raise NoTables(
                f"Database {using!r} has no table {PREFIX}periodictask: there is nothing of django-celery-beat's to "
                "import. --database names another one."
            )
        self._schedules: dict[str, dict[int, dict[str, Any]]] = {}

    def rows(self, table: str) -> Iterator[dict[str, Any]]:
        """Yield the rows of a table; columns that an older version of the package did not have yet are None."""
        fields = _FIELDS[table]
        known = {name: kind for name, kind in fields.items() if name in self._columns.get(PREFIX + table, ())}
        model = _model(table, known)
        for values in model.objects.using(self.using).order_by("pk").values("pk", *known):
            yield {**dict.fromkeys(fields), **values}

    def schedule_of(self, old: dict[str, Any]) -> tuple[str, str, str]:
        """Return kind, text and time zone of a periodic task's schedule.

        Raises:
            ValueError: it has none.
        """
        for kind, table in _SCHEDULES.items():
            if old[f"{kind}_id"] is not None:
                if table not in self._schedules:
                    self._schedules[table] = {row["pk"]: row for row in self.rows(table)}
                return _TEXTS[kind](self._schedules[table][old[f"{kind}_id"]])
        raise ValueError("It has no schedule. Give it one there, or here once it is imported.")


def _interval(row: dict[str, Any]) -> tuple[str, str, str]:
    return PeriodicTask.INTERVAL, of_interval(timedelta(**{row["period"]: row["every"]})), ""


def _crontab(row: dict[str, Any]) -> tuple[str, str, str]:
    columns = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
    fields = [str(row[column]).replace(" ", "") for column in columns]
    return PeriodicTask.CRONTAB, " ".join(fields), row["timezone"] or "UTC"


def _solar(row: dict[str, Any]) -> tuple[str, str, str]:
    return PeriodicTask.SOLAR, f"{row['event']} {float(row['latitude'])} {float(row['longitude'])}", ""


def _clocked(row: dict[str, Any]) -> tuple[str, str, str]:
    instant: datetime = row["clocked_time"]
    return PeriodicTask.CLOCKED, instant.isoformat(" "), ""


_TEXTS = {"interval": _interval, "crontab": _crontab, "solar": _solar, "clocked": _clocked}
_SCHEDULES = {kind: f"{kind}schedule" for kind in ("interval", "crontab", "solar", "clocked")}
_TEXT, _NUMBER, _INSTANT = models.TextField, models.IntegerField, models.DateTimeField
#: The columns that we read, by table.
_FIELDS: dict[str, dict[str, type[models.Field[Any, Any]]]] = {
    "periodictask": {
        **dict.fromkeys(("name", "task", "args", "kwargs", "queue", "exchange", "routing_key", "headers"), _TEXT),
        **dict.fromkeys(("priority", "expire_seconds", "interval_id", "crontab_id", "solar_id", "clocked_id"), _NUMBER),
        **dict.fromkeys(("expires", "start_time"), _INSTANT),
        **dict.fromkeys(("one_off", "enabled"), models.BooleanField),
        "description": _TEXT,
    },
    "intervalschedule": {"every": _NUMBER, "period": _TEXT},
    "crontabschedule": dict.fromkeys(
        ("minute", "hour", "day_of_month", "month_of_year", "day_of_week", "timezone"), _TEXT
    ),
    "solarschedule": {"event": _TEXT, "latitude": models.FloatField, "longitude": models.FloatField},
    "clockedschedule": {"clocked_time": _INSTANT},
}


def _model(table: str, columns: dict[str, type[models.Field[Any, Any]]]) -> Any:
    """Return a model of a table, in a registry of its own, since the package's may be there too."""
    meta = type("Meta", (), {"apps": Apps(), "app_label": "django_tasks", "db_table": PREFIX + table, "managed": False})
    fields = {name: kind(null=True) for name, kind in columns.items()}
    return type(models.Model)(f"Old{table}", (models.Model,), {"__module__": __name__, "Meta": meta, **fields})
