"""An entry: a task, when it is due, and what becomes of slots that were missed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from django_tasks.beat import slots
from django_tasks.beat.fields import ALL, ALLOW, FIELDS, NONE, ONCE, QUEUE, SKIP, EntryError, Field, Raw, check_names
from django_tasks.brokers.beat import EntryState
from django_tasks.schedules import maybe_schedule, zone_of

if TYPE_CHECKING:
    from django_tasks.app import App

__all__ = ["ALL", "ALLOW", "NONE", "ONCE", "QUEUE", "SKIP", "Entry", "EntryError"]

#: The shortest interval.
LEAST = timedelta(milliseconds=10)
#: Seconds after which a missed slot is no longer run with ``catch_up="none"``, where ``grace`` says nothing else.
NONE_GRACE = 60.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One periodic task.

    Args:
        name: its name, which no other entry of this broker has.
        task: name of the task.
        schedule: an object of ``django_tasks.schedules``.
        args, kwargs: what the task is called with.
        options: of ``apply_async``.
        zone: the zone that the schedule's times of day are in.
        catch_up: ``"none"``, ``"once"`` or ``"all"``.
        most: with ``"all"``, how many missed slots are run at most.
        grace: seconds after which a missed slot is no longer run; None for no limit.
        overlap: ``"allow"``, ``"skip"`` or ``"queue"``.
        jitter: seconds over which the runs are spread, each by a part of it that depends on entry and slot.
        start_time, end_time: no slots before and after; in UTC. The slots of an interval begin with ``start_time``.
        one_off: whether it is over after one run.
        enabled: whether it has any slots.
        expires: seconds from a slot on after which its run is no longer begun.
        since: slots from then on count, also when no beat was running; by default from when a beat first saw it.
    """

    name: str
    task: str
    schedule: Any
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    zone: tzinfo = timezone.utc
    catch_up: str = ONCE
    most: int = 1
    grace: float | None = None
    overlap: str = ALLOW
    jitter: float = 0.0
    start_time: datetime | None = None
    end_time: datetime | None = None
    one_off: bool = False
    enabled: bool = True
    expires: float | None = None
    since: datetime | None = None

    @classmethod
    def from_definition(
        cls, name: str, definition: Mapping[str, Any], app: App, since: datetime | None = None
    ) -> Entry:
        """Make an entry of what ``BEAT_SCHEDULE`` has under a name.

        Args:
            definition: ``task`` and ``schedule``, and whatever else :data:`fields.FIELDS` has.
            app: gives the zone where the entry has none.
            since: as of the entry.

        Raises:
            EntryError: something in it cannot be; says what, and what it should be.
        """
        check_names(name, definition)
        values: dict[str, Any] = {}
        for key, value in definition.items():
            values[key] = _read(name, key, FIELDS[key], value)
        zone = values.pop("timezone", None) or zone_of(app)
        schedule = _schedule(name, values.pop("schedule"), values.pop("relative", False), app)
        catch_up, most = values.pop("catch_up", (ONCE, 1))
        grace = values.pop("grace", None)
        grace = NONE_GRACE if grace is None and catch_up == NONE else grace
        for key in ("start_time", "end_time"):
            if values.get(key) is not None:
                values[key] = _in_utc(name, key, values[key], zone)
        if values.get("start_time") and values.get("end_time") and values["end_time"] < values["start_time"]:
            raise EntryError(
                name,
                "end_time",
                f"{definition['end_time']} is before start_time = {definition['start_time']}. Exchange them.",
            )
        if values.get("expires") is not None and values.get("jitter", 0) > values["expires"]:
            problem = (
                f"{definition['jitter']!r} is more than expires = {definition['expires']!r}: some runs would have "
            )
            raise EntryError(name, "jitter", f"{problem}expired before they begin. Make it less.")
        return cls(name, schedule=schedule, zone=zone, catch_up=catch_up, most=most, grace=grace, since=since, **values)

    @property
    def definition(self) -> str:
        """A fingerprint of what its slots depend on: after a change, nothing from before it is caught up."""
        described = _described(self.schedule)
        return _fingerprint(described, str(self.zone), self.enabled, self.start_time, self.end_time, self.one_off)

    @property
    def words(self) -> str:
        """Its schedule in words, without its zone."""
        try:
            return str(self.schedule.human_readable)
        except Exception:  # a class of the project's own, which has not what its base shows
            return type(self.schedule).__name__

    def next_runs(self, state: EntryState | None, now: datetime, count: int) -> list[datetime]:
        """Return the next instants at which it is due, in UTC; fewer than ``count`` where there are no more.

        Args:
            state: what has become of it; None for an entry that begins now.
            now: an instant with a zone.
            count: how many; of a schedule that does not know its slots, only the next one can be told.
        """
        return slots.next_runs(self, state, now, count)


def _read(name: str, key: str, kind: Field, value: Any) -> Any:
    try:
        return kind.read(value)
    except (ValueError, TypeError, OverflowError) as exc:
        raise EntryError(
            name, key, f"{Raw(value)} should be {kind.expected}, for example {kind.example}.", exc
        ) from exc


def _schedule(name: str, value: Any, relative: bool, app: App) -> Any:
    try:
        schedule = maybe_schedule(value, relative, app=app)
    except (ValueError, TypeError, OverflowError) as exc:
        raise EntryError(name, "schedule", f"{Raw(value)} is no schedule: {exc}") from exc
    every = getattr(schedule, "run_every", None)
    if isinstance(every, timedelta) and every < LEAST:
        raise EntryError(name, "schedule", f"{Raw(value)} is too often: beat sends at most every 0.01 seconds.")
    return schedule


def _in_utc(name: str, key: str, instant: datetime, zone: tzinfo) -> datetime:
    try:
        aware = instant if instant.utcoffset() is not None else instant.replace(tzinfo=zone)
        return aware.astimezone(timezone.utc)
    except OverflowError as exc:
        raise EntryError(name, key, f"{instant!r} is beyond the years that there are. Leave it out.") from exc


@lru_cache(maxsize=16384)
def _fingerprint(*parts: Any) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=8).hexdigest()


def _described(schedule: Any) -> str:
    """Return what tells a schedule from others, the same in all processes."""
    kind = f"{type(schedule).__module__}.{type(schedule).__qualname__}"
    try:
        text = repr(schedule)
    except Exception:  # a class of somebody's own that has not what its base shows
        return kind
    return kind if " at 0x" in text else f"{kind} {text}"
