"""The command line: ``python -m benchmarks [profile] [OPTIONS]``."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import beat, machine
from benchmarks.catalogue import DATABASES, OURS, SYSTEMS
from benchmarks.measures import MEASURES
from benchmarks.parts import profile_report
from benchmarks.plan import QUICK, Plan
from benchmarks.report import BEGIN, END, has_place, report, write
from benchmarks.runner import run
from benchmarks.session import Session
from benchmarks.storage import open_storage

#: Tasks of a profile: enough for batches to reach their full size early.
PROFILE_TASKS = 20_000
#: Where a profile is of use: the disk is none of its parts.
PROFILED = ("sqlite", "postgresql", "redis")


def main() -> None:
    """Do what the command line says."""
    if sys.argv[1:2] == ["beat"]:
        _beat(sys.argv[2:])
        return
    parser = _parser()
    options = parser.parse_args()
    # Servers, workers and files are ours to remove, however this ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if options.quick:
        if options.write:
            parser.error("--quick shows that everything runs; its numbers mean nothing and are not written anywhere")
        options.systems, options.databases = options.systems or [OURS], options.databases or ["sqlite"]
    if options.write and not has_place(options.write):
        parser.error(f"{options.write} has no place for results between the lines\n{BEGIN}\n{END}")
    databases = options.databases or (PROFILED if options.command == "profile" else DATABASES)
    if options.command == "profile" and not set(databases) <= set(PROFILED):
        parser.error(f"a profile can be taken on {', '.join(PROFILED)} only")
    with tempfile.TemporaryDirectory(prefix="celeriac-bench-") as directory:
        if options.command == "profile":
            _profile(Path(directory), databases, options.tasks or PROFILE_TASKS)
        else:
            _run(Path(directory), databases, options)


def _beat(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks beat", description=beat.__doc__)
    beat.add_arguments(parser)
    with tempfile.TemporaryDirectory(prefix="celeriac-bench-") as directory:
        print(beat.measure(Path(directory), parser.parse_args(arguments)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure this project and others.")
    add = parser.add_argument
    add("command", nargs="?", choices=("run", "profile"), default="run", help="profile: where a task's time goes")
    add("--systems", type=_names(SYSTEMS), metavar="A,B", help=f"of {', '.join(SYSTEMS)} (all)")
    add("--databases", type=_names(DATABASES), metavar="A,B", help=f"of {', '.join(DATABASES)} (all)")
    add("--measures", type=_names(MEASURES), metavar="A,B", help=f"of {', '.join(MEASURES)} (all)")
    add("--rounds", type=_positive, metavar="N", help=f"how often everything is measured ({Plan.rounds})")
    add(
        "--tasks",
        type=_positive,
        metavar="N",
        help=f"how many to drain ({Plan.tasks}), or to profile ({PROFILE_TASKS})",
    )
    add("--quick", action="store_true", help="show in less than a minute that it works, with our system on SQLite")
    add("--write", type=Path, metavar="FILE", help="put the report between the markers of this file, too")
    return parser


def _names(known: Collection[str]) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        given = text.split(",")
        if unknown := [name for name in given if name not in known]:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)} is not one of {', '.join(known)}")
        return given

    return names


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above 0")
    return int(text)


def _run(directory: Path, databases: Sequence[str], options: argparse.Namespace) -> None:
    given = {name: value for name in ("rounds", "tasks") if (value := getattr(options, name)) is not None}
    plan = replace(QUICK if options.quick else Plan(), **given)
    entries = [SYSTEMS[name] for name in options.systems or SYSTEMS]
    facts = machine.facts(directory)
    results = {}
    with open_storage(directory, databases) as storage:
        storages = {database: storage.facts(database) for database in databases}
        for database in databases:
            able = [entry for entry in entries if database in entry.databases]
            results[database] = run(plan, storage, database, able, options.measures or list(MEASURES))
    text = report(plan, facts, storages, results)
    print(text)
    if options.write:
        write(options.write, text)


def _profile(directory: Path, databases: Sequence[str], tasks: int) -> None:
    with open_storage(directory, databases) as storage:
        for database in databases:
            with (
                tempfile.TemporaryDirectory() as own,
                Session(SYSTEMS[OURS], storage.new(database, 1)[0], Path(own)) as session,
            ):
                print(f"{storage.facts(database)}\n\n{profile_report(tasks, session.ask('profile', tasks))}\n")


if __name__ == "__main__":
    main()
