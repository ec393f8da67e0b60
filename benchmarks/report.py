"""Writes results as Markdown, which the terminal and ``docs/benchmarks.md`` both show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.measures import ROWS, Row
from benchmarks.plan import Plan
from benchmarks.runner import Result

BEGIN, END = "<!-- results: written by `python -m benchmarks --write` -->", "<!-- end of results -->"


def report(
    plan: Plan, machine: Mapping[str, str], storages: Mapping[str, str], results: Mapping[str, Sequence[Result]]
) -> str:
    """Return the whole report.

    Args:
        machine: facts of the machine, by name.
        storages: facts of each database, by its name.
        results: by database.
    """
    facts = [*machine.items(), *_versions([result for each in results.values() for result in each])]
    tasks = f"{plan.tasks:,} tasks ({plan.on('redis').tasks:,} on Redis)"
    rounds = f"medians of {plan.rounds} rounds" if plan.rounds > 1 else "one round"
    parts = [
        "\n".join(f"- {name}: {value}" for name, value in facts),
        f"{tasks}, {rounds}. In brackets: how many times as good django-celeriac is.",
    ]
    for database, found in results.items():
        parts += [f"### {storages[database]}", _table(found), _remarks(found)]
    return "\n\n".join(part for part in parts if part)


def _versions(results: Sequence[Result]) -> list[tuple[str, str]]:
    """Return a line for each system, with Python and Django."""
    lines = {}
    for result in results:
        if result.versions:  # it has started at least once
            lines[result.entry.title] = ", ".join(
                f"{name} {version}".strip() for name, version in result.versions.items()
            )
    return list(lines.items())


def _table(results: Sequence[Result]) -> str:
    rows = [["", *(result.entry.title for result in results)]]
    for key, row in ROWS.items():
        if any(key in result.numbers for result in results):
            rows.append([f"{row.title} ({row.unit})", *_cells(key, row, results)])
    return markdown(rows)


def _cells(key: str, row: Row, results: Sequence[Result]) -> list[str]:
    ours = next((result.median(key) for result in results if result.entry.package is None), None)
    cells = []
    for result in results:
        value = result.median(key)
        if value is None:
            cells.append("-")
            continue
        text = f"{value:,.{row.digits}f}"
        if ours and value and result.entry.package is not None:
            text += f" ({ours / value if row.more_is_better else value / ours:.1f})"
        cells.append(text)
    return cells


def _remarks(results: Sequence[Result]) -> str:
    """Return what keeps the numbers from being trusted: failures, and rounds far apart."""
    remarks = [f"- {result.entry.title} failed: {failure}" for result in results for failure in result.failures]
    spreads = [(result.spread(key), result, key) for result in results for key in result.numbers]
    if any(len(result.numbers[key]) > 1 for _, result, key in spreads):
        spread, result, key = max(spreads, key=lambda each: each[0])
        remarks.append(f"- Rounds lay furthest apart for {result.entry.title}, {ROWS[key].title}: {spread:.0%}.")
    return "\n".join(remarks)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose first row is the heading; all columns but the first are numbers."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]

    def line(cells: Sequence[str]) -> str:
        first, *rest = zip(cells, widths, strict=True)
        return " | ".join([f"| {first[0]:{first[1]}}", *(f"{cell:>{width}}" for cell, width in rest)]) + " |"

    rule = "|".join(["", "-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:]), ""])
    return "\n".join([line(rows[0]), rule, *map(line, rows[1:])])


def has_place(path: Path) -> bool:
    """Return whether a file has the two markers."""
    return path.is_file() and END in path.read_text(encoding="utf-8").partition(BEGIN)[2]


def write(path: Path, text: str) -> None:
    """Replace what stands between the two markers of a file."""
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")
