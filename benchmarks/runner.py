"""Repeats the measures: in each round every measure goes once over all systems, each time in another order."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.catalogue import Entry
from benchmarks.company import Company
from benchmarks.environments import CannotInstall, python_of
from benchmarks.measures import MEASURES, Measure
from benchmarks.plan import Plan
from benchmarks.session import Failed, Session
from benchmarks.storage import Database, Storage


@dataclass
class Result:
    """What came of one system on one database: for each key of ``ROWS`` the numbers of all rounds."""

    entry: Entry
    versions: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, list[float]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def median(self, key: str) -> float | None:
        """Return the median of the rounds; None where nothing was measured."""
        return median(self.numbers[key]) if key in self.numbers else None

    def spread(self, key: str) -> float:
        """Return how far apart the rounds lie, as a share of their median."""
        values = self.numbers[key]
        return (max(values) - min(values)) / median(values) if median(values) else 0.0


def run(plan: Plan, storage: Storage, database: str, entries: Sequence[Entry], measures: Sequence[str]) -> list[Result]:
    """Measure systems on one database.

    Args:
        measures: keys of ``MEASURES``.
    """
    plan = plan.on(database)
    results = [Result(entry) for entry in _installed(entries)]
    for number in range(plan.rounds):
        for measure in measures:
            # Whoever comes first in one round comes last in another.
            shift = number % max(1, len(results))
            for group in _groups(MEASURES[measure], database, results[shift:] + results[:shift]):
                titles = ", ".join(result.entry.title for result in group)
                _say(f"{database}, round {number + 1} of {plan.rounds}: {measure} of {titles}")
                _measure_group(plan, storage.new(database, len(group)), measure, group)
    return results


def _groups(measure: Measure, database: str, results: Sequence[Result]) -> list[list[Result]]:
    """Return who is measured one after another, and who at the same time."""
    if database not in measure.databases:
        return []
    entries = [result for result in results if result.entry.name not in measure.without]
    able = [result for result in entries if result.entry.package is None or not measure.ours_only]
    return [able] if measure.together else [[result] for result in able]


def _measure_group(plan: Plan, databases: Sequence[Database], measure: str, group: Sequence[Result]) -> None:
    """Measure some systems at the same time, each in a thread that does little but wait."""
    company = Company(len(group))
    with ThreadPoolExecutor(len(group)) as pool:
        pairs = zip(databases, group, strict=True)
        done = [pool.submit(_measure, plan, database, measure, result, company) for database, result in pairs]
        try:
            for each in done:
                each.result()
        except BaseException:
            company.interrupt()
            raise


def _installed(entries: Sequence[Entry]) -> Iterator[Entry]:
    for entry in entries:
        try:
            python_of(entry)
        except CannotInstall as exc:
            _say(f"{entry.title} is left out. {exc}")
        else:
            yield entry


def _measure(plan: Plan, database: Database, measure: str, result: Result, company: Company) -> None:
    with tempfile.TemporaryDirectory(prefix="celeriac-bench-") as directory:
        try:
            with Session(result.entry, database, Path(directory), company) as session:
                result.versions = session.ask("versions", result.entry.package)
                for key, value in MEASURES[measure].take(session, plan).items():
                    result.numbers.setdefault(key, []).append(value)
        except Failed as exc:
            _say(f"{exc.details}\n{measure} of {result.entry.title} failed: {exc}")
            result.failures.append(f"{measure}: {exc}")
        finally:
            company.leave()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
