"""Repeats the measures: in each round every measure goes once over all systems, each time in another order."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.catalogue import Entry
from benchmarks.environments import CannotInstall, python_of
from benchmarks.measures import MEASURES
from benchmarks.plan import Plan
from benchmarks.session import Failed, Session
from benchmarks.storage import Storage


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
    results = [Result(entry) for entry in _installed(entries)]
    for number in range(plan.rounds):
        for measure in measures:
            # Whoever comes first in one round comes last in another.
            shift = number % max(1, len(results))
            for result in results[shift:] + results[:shift]:
                if measure != "mixed" or result.entry.package is None:
                    _say(f"{database}, round {number + 1} of {plan.rounds}: {measure} of {result.entry.title}")
                    _measure(plan, storage.new(database), measure, result)
    return results


def _installed(entries: Sequence[Entry]) -> Iterator[Entry]:
    for entry in entries:
        try:
            python_of(entry)
        except CannotInstall as exc:
            _say(f"{entry.title} is left out. {exc}")
        else:
            yield entry


def _measure(plan: Plan, url: str, measure: str, result: Result) -> None:
    with tempfile.TemporaryDirectory(prefix="celeriac-bench-") as directory:
        try:
            with Session(result.entry, url, Path(directory)) as session:
                result.versions = session.ask("versions", result.entry.package)
                for key, value in MEASURES[measure](session, plan).items():
                    result.numbers.setdefault(key, []).append(value)
        except Failed as exc:
            _say(f"{exc.details}\n{measure} of {result.entry.title} failed: {exc}")
            result.failures.append(f"{measure}: {exc}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
