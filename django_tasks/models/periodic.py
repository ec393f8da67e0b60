"""Schedules that are kept in the database, and the settings' ones as they are shown beside them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.db import models, router, transaction
from django.db.models.signals import pre_save
from django.utils.module_loading import import_string

from django_tasks.exceptions import EncodeError
from django_tasks.models.periodic_version import PeriodicVersion
from django_tasks.serialization import json_dumps

if TYPE_CHECKING:
    from django_tasks.async_result import AsyncResult

#: By name: what a row means is known to the beat, which stands on these tables.
_MEANING = "django_tasks.periodic.meaning"
#: Columns that a row which shows an entry of the settings has of its own.
_SHOWN_BESIDE = {"enabled", "description", "version", "changed_at"}


class TypedEncoder(json.JSONEncoder):
    """Writes what JSON does not know, such as a date, as messages have it (``{"__type__": ..., "__value__": ...}``)."""

    def default(self, o: Any) -> Any:
        """Return a value in a form that JSON knows.

        Raises:
            TypeError: there is none; this is what ``JSONField`` expects.
        """
        try:
            return json.loads(json_dumps(o))
        except EncodeError as exc:
            raise TypeError(str(exc)) from exc


class PeriodicTaskQuerySet(models.QuerySet["PeriodicTask"]):
    """Rows, with every way of changing many of them told to the beats."""

    def update(self, **values: Any) -> int:
        """Change rows; running beats learn of it as of any change.

        Raises:
            ValidationError: a row among them shows an entry of the settings, and would go on to count as they say.
        """
        self._for_write = True
        if "origin" not in values and values.keys() - _SHOWN_BESIDE:
            self._refuse_mirrors()
        with transaction.atomic(using=self.db):
            number, at = PeriodicVersion.count(self.db)
            changed: int = super().update(**{"changed_at": at, **values, "version": number})
            return changed

    def _refuse_mirrors(self) -> None:
        name = self.filter(origin=PeriodicTask.SETTINGS).values_list("name", flat=True).first()
        if name is not None:
            raise ValidationError(
                f"{name!r} shows an entry of the settings, which this would not change. Override it first "
                f"(`manage.py tasks schedule override {shlex.quote(name)}`), or leave such rows out with "
                "filter(origin=PeriodicTask.DATABASE). Nothing was changed."
            )

    def bulk_create(self, objs: Iterable[PeriodicTask], *args: Any, **kwargs: Any) -> list[PeriodicTask]:
        """Add rows; as in Django, ``clean`` is the caller's to call."""
        rows = list(objs)
        if kwargs.get("update_conflicts") and kwargs.get("update_fields"):
            kwargs["update_fields"] = list({*kwargs["update_fields"], "origin", "version", "changed_at"})
        self._for_write = True
        with transaction.atomic(using=self.db):
            number, at = PeriodicVersion.count(self.db)
            for row in rows:
                row.version, row.changed_at = number, at
            created: list[PeriodicTask] = super().bulk_create(rows, *args, **kwargs)
            return created

    def delete(self) -> tuple[int, dict[str, int]]:
        """Delete rows."""
        self._for_write = True
        using = self.db
        with transaction.atomic(using=using):
            named = self.values_list("name", "origin")
            names = [name for name, origin in named if origin == PeriodicTask.DATABASE]
            PeriodicVersion.count(using)
            deleted: tuple[int, dict[str, int]] = super().delete()
            transaction.on_commit(partial(_meant("forget"), names), using=using)
        return deleted

    # Django's own marks: no template may call it, and the manager does not have it.
    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]

    def get_by_natural_key(self, name: str) -> PeriodicTask:
        """Return the row of a name, for fixtures."""
        row: PeriodicTask = self.get(name=name)
        return row

    # -- what operators do, without a query for each row

    def pause(self) -> int:
        """Let nothing of these fire until ``resume``; return how many there are."""
        return self.update(enabled=False)

    def resume(self) -> int:
        """Let these fire again; nothing of the time between is caught up. Return how many there are."""
        return self.update(enabled=True)


class PeriodicTask(models.Model):
    """A task that the beat calls by a schedule.

    Rows of the origin ``settings`` show what the settings say: a beat writes them, and they can only be paused. A row
    of the origin ``database`` with the name of a settings' entry stands in its place.
    """

    INTERVAL, CRON, CRONTAB, SOLAR, CLOCKED, CUSTOM = "interval", "cron", "crontab", "solar", "clocked", "custom"
    KINDS = [
        (INTERVAL, "interval"),
        (CRON, "cron"),
        (CRONTAB, "crontab (as in Celery)"),
        (SOLAR, "solar"),
        (CLOCKED, "clocked"),
        (CUSTOM, "of the project's own"),
    ]
    SETTINGS, DATABASE = "settings", "database"
    ORIGINS = [(SETTINGS, "settings"), (DATABASE, "database")]
    NONE, ONCE, ALL = "none", "once", "all"
    CATCH_UP = [(NONE, "none"), (ONCE, "once, however many were missed"), (ALL, "each one")]
    ALLOW, SKIP, QUEUE = "allow", "skip", "queue"
    OVERLAP = [
        (ALLOW, "run beside the one before"),
        (SKIP, "leave out while the one before has not ended"),
        (QUEUE, "wait until the one before has ended"),
    ]

    id = models.BigAutoField(primary_key=True)
    name = models.CharField(max_length=200)
    task = models.CharField(max_length=255)
    kind = models.CharField(max_length=16, choices=KINDS, default=INTERVAL)
    #: As ``periodic.texts`` reads it; for CUSTOM a repr to look at.
    schedule = models.TextField()
    timezone = models.CharField("time zone", max_length=64, blank=True, default="")
    args = models.JSONField("arguments", blank=True, default=list, encoder=TypedEncoder)
    kwargs = models.JSONField("keyword arguments", blank=True, default=dict, encoder=TypedEncoder)
    #: Options of ``apply_async``.
    options = models.JSONField(blank=True, default=dict, encoder=TypedEncoder)
    enabled = models.BooleanField(default=True)
    relative = models.BooleanField(default=False)
    catch_up = models.CharField(max_length=8, choices=CATCH_UP, default=ONCE)
    catch_up_max = models.PositiveIntegerField("catch up at most", default=100)
    #: Seconds; so are ``jitter`` and ``expires``.
    grace = models.FloatField(null=True, blank=True)
    overlap = models.CharField(max_length=8, choices=OVERLAP, default=ALLOW)
    jitter = models.FloatField(default=0)
    start_time = models.DateTimeField(null=True, blank=True)
    end_time = models.DateTimeField(null=True, blank=True)
    one_off = models.BooleanField("only once", default=False)
    expires = models.FloatField(null=True, blank=True)
    description = models.TextField(blank=True, default="")
    origin = models.CharField(max_length=8, choices=ORIGINS, default=DATABASE, editable=False)
    #: On the server's clock, see ``PeriodicVersion``.
    changed_at = models.DateTimeField(blank=True, editable=False)
    #: The number of its last change, see ``PeriodicVersion``.
    version = models.BigIntegerField(default=0, editable=False)

    objects = PeriodicTaskQuerySet.as_manager()

    class Meta:
        db_table = "django_tasks_periodic"
        verbose_name = "periodic task"
        ordering = ["name"]
        # Not as ``unique=True``, for which Django makes two indexes on PostgreSQL, the other one for LIKE.
        constraints = [models.UniqueConstraint(fields=["name"], name="django_tasks_per_name")]
        indexes = [models.Index(fields=["version"], name="django_tasks_per_version")]

    def __str__(self) -> str:
        return str(self.name)

    def natural_key(self) -> tuple[str]:
        """Return the name, by which fixtures find the row that they change."""
        return (str(self.name),)

    def clean(self) -> None:
        """Check everything that a beat would stumble over. A new row of a settings' entry's name takes its place.

        Raises:
            ValidationError: with a message at each field that cannot be used.
        """
        problems: dict[str, list[str]] = _meant("problems")(self)
        if "name" not in problems:
            self._replace_mirror(router.db_for_write(type(self), instance=self))
        if problems:
            raise ValidationError(problems)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Write the row and let running beats know.

        A new one of a settings' entry's name takes its place; so does the one that shows the entry, when more is
        changed of it than whether it is enabled.

        Raises:
            ValidationError: the rest of what that entry says cannot be kept in a row.
        """
        using = kwargs.get("using") or router.db_for_write(type(self), instance=self)
        if self.id is None and self._state.db is not None:  # a copy; of a row that shows an entry, too
            self.origin = self.DATABASE
        if self.origin == self.SETTINGS and not self._state.adding:
            changed = _meant("override_by")(self, using, kwargs.get("update_fields"))
            if changed and kwargs.get("update_fields") is not None:
                kwargs["update_fields"] = {*kwargs["update_fields"], *changed}
        if kwargs.get("update_fields") is not None:
            kwargs["update_fields"] = {*kwargs["update_fields"], "version", "changed_at"}
        with transaction.atomic(using=using):  # so that the number of the change is visible with the change, not before
            if self._replace_mirror(using):
                kwargs["force_insert"] = False
            super().save(*args, **kwargs)

    def _replace_mirror(self, using: str) -> bool:
        """Let a new row become that which shows the settings' entry of its name; return whether there is one."""
        if not self._state.adding or self.id is not None or self.origin == self.SETTINGS:
            return False
        mirrors = type(self).objects.using(using).filter(name=self.name, origin=self.SETTINGS)
        self.id = mirrors.values_list("id", flat=True).first()
        self._state.adding = self.id is None
        return not self._state.adding

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Delete the row."""
        using = kwargs.get("using") or router.db_for_write(type(self), instance=self)
        with transaction.atomic(using=using):
            PeriodicVersion.count(using)
            deleted: tuple[int, dict[str, int]] = super().delete(*args, **kwargs)
            if self.origin == self.DATABASE:
                transaction.on_commit(partial(_meant("forget"), [self.name]), using=using)
        return deleted

    # -- what operators do

    def run_now(self) -> AsyncResult[Any]:
        """Call the task now, with this row's arguments and options; its schedule goes on as if nothing had happened.

        Raises:
            ValidationError: the row cannot be used.
        """
        result: AsyncResult[Any] = _meant("run_now")(self)
        return result

    def pause(self) -> None:
        """Let nothing fire until ``resume``."""
        self.enabled = False
        self.save(update_fields=["enabled"])

    def resume(self) -> None:
        """Let it fire again; nothing of the time between is caught up."""
        self.enabled = True
        self.save(update_fields=["enabled"])

    def next_runs(self, n: int = 5, now: datetime | None = None) -> list[datetime]:
        """Return when it is going to fire next (UTC), at most ``n`` instants; none if it is paused or has ended.

        Raises:
            ValidationError: the row cannot be used.
        """
        runs: list[datetime] = _meant("next_runs")(self, n, now)
        return runs

    @property
    def schedule_text(self) -> str:
        """The schedule in words."""
        return str(_meant("in_words")(self))


def _meant(name: str) -> Callable[..., Any]:
    function: Callable[..., Any] = import_string(f"{_MEANING}.{name}")
    return function


def _number(sender: Any, instance: PeriodicTask, using: str, **_: Any) -> None:
    instance.version, instance.changed_at = PeriodicVersion.count(using)


# Fixtures are saved without save(), but not without this signal; loaddata has a transaction around it. What they say of
# when they were changed is about another database: beats would catch up from then on.
pre_save.connect(_number, sender=PeriodicTask, dispatch_uid="django_tasks.periodic.version")
