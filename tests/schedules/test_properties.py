"""Slots of random schedules, zones and times are those that somebody finds who looks at the clocks every minute."""

from __future__ import annotations

import itertools
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from django_tasks.schedules import BaseSchedule, cron, crontab, schedule
from tests.schedules.clocks import DAY, HOUR, MINUTE, UTC, ZONES, changes, shown, slots, walk

WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
SECOND = timedelta(seconds=1)


class Field(NamedTuple):
    """What is written, and the numbers that it means."""

    text: str
    numbers: frozenset[int]


@st.composite
def fields(draw: Any, first: int, last: int, names: tuple[str, ...] = ()) -> Field:
    """A field of a crontab in any of the forms that crontabs and cron strings share."""
    texts, numbers = [], set()
    for _ in range(draw(st.integers(1, 3))):
        low = draw(st.integers(first, last))
        high = draw(st.integers(low, last))
        step = draw(st.integers(1, last))
        form = draw(st.sampled_from(["number", "range", "steps", "all in steps", "name"]))
        if form == "number" or (form == "name" and not names):
            part = (str(low), {low})
        elif form == "name":
            part = (draw(st.sampled_from([str.lower, str.upper]))(names[low - first]), {low})
        elif form == "range":
            part = (f"{low}-{high}", set(range(low, high + 1)))
        elif form == "steps":
            part = (f"{low}-{high}/{step}", set(range(low, high + 1)[::step]))
        else:
            part = (f"*/{step}", set(range(first, last + 1)[::step]))
        texts.append(part[0])
        numbers |= part[1]
    # croniter does not count all days, written in another way, as days that are given.
    text = "*" if len(numbers) == last - first + 1 else ",".join(texts)
    return Field(text, frozenset(numbers))


def everything(first: int, last: int) -> st.SearchStrategy[Field]:
    return st.just(Field("*", frozenset(range(first, last + 1))))


class Expression(NamedTuple):
    """A whole one."""

    minute: Field
    hour: Field
    day: Field
    month: Field
    weekday: Field

    def text(self) -> str:
        return " ".join(field.text for field in self)

    def crontab(self) -> crontab:
        texts = {"minute": self.minute, "hour": self.hour, "day_of_week": self.weekday, "day_of_month": self.day,
                 "month_of_year": self.month}  # fmt: skip
        return crontab(**{name: field.text for name, field in texts.items()})

    def on(self, day: date, either: bool) -> bool:
        """Return whether a day fits: the day of the month and that of the week, or ``either`` where both are given."""
        fits = [day.day in self.day.numbers, day.isoweekday() % 7 in self.weekday.numbers]
        given_ = [self.day.text != "*", self.weekday.text != "*"]
        return day.month in self.month.numbers and (any(fits) if either and all(given_) else all(fits))

    def at(self, clock: datetime, either: bool) -> bool:
        return clock.minute in self.minute.numbers and clock.hour in self.hour.numbers and self.on(clock.date(), either)

    @property
    def names_hours(self) -> bool:
        return len(self.hour.numbers) < 24


expressions = st.builds(
    Expression,
    fields(0, 59),
    st.one_of(everything(0, 23), fields(0, 23)),
    st.one_of(everything(1, 31), fields(1, 31)),
    st.one_of(everything(1, 12), fields(1, 12, MONTHS)),
    st.one_of(everything(0, 6), fields(0, 6, WEEKDAYS)),
)


@st.composite
def places(draw: Any) -> tuple[str, datetime]:
    """A zone and a full minute, anywhere or some hours before the clocks are changed."""
    zone = draw(st.sampled_from(ZONES))
    if draw(st.booleans()):
        return zone, draw(st.sampled_from(changes(zone))) - draw(st.integers(4 * 60, 48 * 60)) * MINUTE
    return zone, datetime(1995, 1, 1, tzinfo=UTC) + draw(st.integers(0, 45 * 365 * 1440)) * MINUTE


def both_kinds(expression: Expression) -> list[tuple[BaseSchedule, bool]]:
    """Return the schedules that an expression makes, each with whether one of its two kinds of days is enough."""
    year = [date(2000, 1, 1) + number * DAY for number in range(366)]
    found: list[tuple[BaseSchedule, bool]] = []
    for make, either in ((expression.crontab, False), (lambda: cron(expression.text()), True)):
        # A date that there is falls on each day of the week in one year or another.
        every_weekday = expression._replace(weekday=Field("*", frozenset(range(7))))
        if any((expression if either else every_weekday).on(day, either) for day in year):
            found.append((make(), either))
        else:
            with pytest.raises(ValueError, match="never due"):
                make()
    return found


@settings(max_examples=100, deadline=None)
@given(expressions, places())
def test_every_minute_of_two_days(expression: Expression, place: tuple[str, datetime]) -> None:
    zone, start = place
    end = start + 2 * DAY
    for each, either in both_kinds(expression):
        # The walk begins before, so that it knows what the clocks have shown.
        walked = walk(
            lambda clock, either=either: expression.at(clock, either),
            expression.names_hours,
            zone,
            start - 26 * HOUR,
            end,
        )
        assert slots(each, zone, start, end) == [instant for instant in walked if instant >= start], (each, start)


@settings(max_examples=150, deadline=None)
@given(expressions, places(), st.integers(0, 59_999_999))
def test_the_next_one_however_far_away(expression: Expression, place: tuple[str, datetime], more: int) -> None:
    zone, start = place
    start += timedelta(microseconds=more)
    for each, either in both_kinds(expression):
        slot = each.next_slot(start, anchor=start, zone=ZoneInfo(zone))
        assert slot is not None
        # Days one after the other and, of those that fit, all minutes.
        today = shown(start, zone).date()
        days = (day for number in itertools.count() if expression.on(day := today + number * DAY, either))
        assert slot == next(
            instant
            for day in days
            for instant in walk(
                lambda clock, day=day, either=either: clock.date() == day and expression.at(clock, either),
                expression.names_hours, zone, midday(day, zone) - 16 * HOUR, midday(day, zone) + 16 * HOUR,
            )
            if instant > start
        ), (each, start)  # fmt: skip


def midday(day: date, zone: str) -> datetime:
    """Return an instant in the middle of a day, as far as there is one."""
    return datetime(day.year, day.month, day.day, 12, tzinfo=ZoneInfo(zone)).astimezone(UTC)


@settings(max_examples=100, deadline=None)
@given(fields(0, 59), fields(0, 59), st.integers(0, 10**9))
def test_seconds(minute: Field, second: Field, start: int) -> None:
    after = datetime(2000, 1, 1, tzinfo=UTC) + start * SECOND
    each = cron(f"{minute.text} * * * * {second.text}")
    for _ in range(3):
        found = each.next_slot(after, anchor=after, zone=UTC)
        instants = (after + number * SECOND for number in itertools.count(1))
        after = next(it for it in instants if it.minute in minute.numbers and it.second in second.numbers)
        assert found == after


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 10**12), st.integers(0, 10**15), st.integers(-(10**12), 10**15))
def test_intervals(microseconds: int, anchor: int, later: int) -> None:
    every = timedelta(microseconds=microseconds)
    base = datetime(2000, 1, 1, tzinfo=UTC) + timedelta(microseconds=anchor)
    after = base + timedelta(microseconds=later)
    slot = schedule(every).next_slot(after, anchor=base, zone=UTC)
    assert slot is not None
    assert slot > after
    assert (slot - base) % every == timedelta()
    assert slot == base or base < slot <= after + every


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 40 * 24 * 60), places(), st.integers(0, 40 * 86400))
def test_relative_intervals(minutes: int, place: tuple[str, datetime], later: int) -> None:
    zone, anchor = place
    every = minutes * MINUTE
    after = anchor + later * SECOND
    slot = schedule(every, relative=True).next_slot(after, anchor=anchor, zone=ZoneInfo(zone))
    assert slot is not None
    assert after < slot <= after + every + DAY + HOUR
    clock = shown(anchor, zone)
    if every >= DAY:
        # Dates count, and what the clocks show then.
        local = shown(slot, zone)
        rest = (local - clock.replace(hour=0, minute=0)) % every
        assert rest == timedelta() or local - shown(slot - MINUTE, zone) > MINUTE
    else:
        cut = clock.minute * MINUTE if every >= HOUR else timedelta()
        assert (slot - (anchor - cut)) % every == timedelta()
        assert slot <= after + every
