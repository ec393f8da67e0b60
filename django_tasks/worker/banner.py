"""What a worker prints when it starts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from django_tasks.conf import mask_url

# A celeriac: leaves, root, hairs.
ART = r"""
    \ | | /
     \\|//
   .-'---'-.
  /  ~   ~  \
 |  ~  ~  ~  |
  \_  ~  ~ _/
   /'-----'\
  '  /   \  '
"""


@dataclass(frozen=True)
class Facts:
    """What the banner tells.

    Args:
        node: the worker's name, such as ``celery@host``.
        version: this package's version.
        platform: the machine, Python and Django, on one line.
        app: the app's name.
        broker: the broker's URL; passwords are masked.
        results: the result backend's URL; passwords are masked.
        concurrency: how many tasks run at once, at most.
        pool: what runs them (``prefork``, ``threads``, ``solo``).
        queues: names of the queues that the worker takes tasks from, the first first.
        tasks: names of the tasks that it knows.
        least: how many run at once at least, for a worker that scales itself; 0 for others.
    """

    node: str
    version: str
    platform: str
    app: str
    broker: str
    results: str
    concurrency: int
    pool: str
    queues: Sequence[str]
    tasks: Iterable[str]
    least: int = 0


def banner(facts: Facts) -> str:
    """Return the text that a worker prints when it starts: who it is, what it is connected to and what it can run."""
    concurrency = f"{{min={facts.least}, max={facts.concurrency}}}" if facts.least else facts.concurrency
    head = [
        "",
        f"{facts.node}  django-celeriac {facts.version}",
        facts.platform,
        "",
        "[config]",
        f"  app:          {facts.app}",
        f"  broker:       {mask_url(facts.broker)}",
        f"  results:      {mask_url(facts.results)}",
        f"  concurrency:  {concurrency} ({facts.pool})",
    ]
    sections = [*_section("queues", facts.queues), *_section("tasks", sorted(facts.tasks))]
    return "\n".join([*_beside(ART.strip("\n").splitlines(), head), *sections, ""])


def _beside(left: Sequence[str], right: Sequence[str]) -> list[str]:
    width = max(map(len, left)) + 3
    return [f"{a:{width}}{b}".rstrip() for a, b in zip_longest(left, right, fillvalue="")]


def _section(title: str, names: Iterable[str]) -> list[str]:
    return ["", f"[{title}]", *([f"  {name}" for name in names] or ["  (none)"])]
