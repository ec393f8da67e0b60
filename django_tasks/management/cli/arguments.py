"""The command line of ``manage.py tasks``."""

from __future__ import annotations

from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from typing import Any

from django.core.management.base import CommandParser

from django_tasks.management.cli import actions, reports, schedules
from django_tasks.operations import act

#: Options of every Django command, which may stand after the subcommand too: name, whether it takes a value.
_DJANGO = {"--settings": True, "--pythonpath": True, "--traceback": False, "--no-color": False, "--force-color": False}


class Subparser(CommandParser):
    """The parser of a subcommand, which shows its own usage for an option that there is not."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; what is left over is an error here, not in the parser above."""
        found, rest = super().parse_known_args(args, namespace)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return found, rest


class Subcommands:
    """Adds subcommands to a parser, which works without, too; each is answered by a function of ``(app, options)``."""

    def __init__(self, parser: ArgumentParser, dest: str) -> None:
        self.parsers = parser.add_subparsers(dest=dest, parser_class=Subparser)

    def add(self, name: str, answer: Callable[..., Any], text: str) -> ArgumentParser:
        """Add one, with ``text`` as its help."""
        description = f"{text[0].upper()}{text[1:]}."
        parser: ArgumentParser = self.parsers.add_parser(name, help=text, description=description)
        parser.set_defaults(answer=answer)
        # A default would take the place of what was given before the subcommand.
        parser.add_argument("--json", action="store_true", default=SUPPRESS, help="print one JSON document")
        for option, takes_value in _DJANGO.items():
            extra: dict[str, Any] = {} if takes_value else {"action": "store_true"}
            parser.add_argument(option, default=SUPPRESS, help=SUPPRESS, **extra)
        return parser


def add_arguments(parser: ArgumentParser) -> None:
    """Declare all subcommands, and what is answered without one."""
    parser.set_defaults(answer=reports.overview)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.epilog = "Exit codes: 0 done, 1 not found or failed, 2 misuse."
    subcommands = Subcommands(parser, "subcommand")
    _add_looking(subcommands)
    _add_dead(subcommands)
    _add_calls(subcommands)
    _add_orders(subcommands)
    _add_schedule(subcommands)


def _add_looking(subcommands: Subcommands) -> None:
    subcommands.add("queues", reports.queues, "count messages by queue")
    subcommands.add("workers", reports.workers, "list workers and their processes")
    add = subcommands.add("list", reports.calls, "list calls, newest first").add_argument
    add(
        "--state",
        metavar="STATE",
        help="waiting, delayed, running, dead, unpublished, or a stored state (FAILURE)",
    )
    add("--queue", metavar="QUEUE", help="only of this queue")
    add("--task", metavar="NAME", help="only of this task")
    add("--limit", type=_positive, default=reports.LIMIT, metavar="N", help="how many at most (20)")
    subcommands.add("show", reports.show, "show everything known of a call").add_argument("id", metavar="ID")
    subcommands.add("registered", reports.registered, "list tasks and their options that are not the defaults")
    add = subcommands.add("result", reports.result, "show what a call came to").add_argument
    add("id", metavar="ID")
    _add_wait(add)


def _add_dead(subcommands: Subcommands) -> None:
    parser = subcommands.add("dead", reports.dead, "list dead letters; resend or drop them")
    parser.add_argument("--task", metavar="NAME", help="only of this task")
    parser.add_argument("--limit", type=_positive, metavar="N", help="how many at most (20)")
    verbs = Subcommands(parser, "verb")
    drop = verbs.add("drop", actions.drop, "delete dead letters; their results stay")
    _add_yes(drop.add_argument)
    for parser in (
        verbs.add("resend", actions.resend, "let dead letters run after all, their old outcome forgotten"),
        drop,
    ):
        parser.add_argument("ids", nargs="*", metavar="ID")
        parser.add_argument("--all", action="store_true", help="all there are")
        parser.add_argument("--task", metavar="NAME", default=SUPPRESS, help="only of this task")


def _add_calls(subcommands: Subcommands) -> None:
    add = subcommands.add("purge", actions.purge, "revoke everything that waits").add_argument
    add("queue", nargs="?", metavar="QUEUE", help="on this queue (all)")
    _add_yes(add)
    add = subcommands.add("revoke", actions.revoke, "cancel calls").add_argument
    add("ids", nargs="+", metavar="ID")
    add("--terminate", action="store_true", help="also stop the process that runs it")
    add("--signal", metavar="NAME", help="by this signal (SIGTERM)")
    subcommands.add("rerun", actions.rerun, "make a call again, under a new id").add_argument("id", metavar="ID")
    add = subcommands.add("call", actions.call, "call a task by name").add_argument
    add("name", metavar="NAME")
    # Django keeps the name `args` for itself.
    add("--args", metavar="JSON", dest="task_args", help="positional arguments: a list")
    add("--kwargs", metavar="JSON", dest="task_kwargs", help="keyword arguments: an object")
    add("--queue", metavar="QUEUE", help="queue to send it to (the task's own)")
    add("--countdown", type=_seconds, metavar="SECONDS", help="run it that much later")
    _add_wait(add)


def _add_yes(add: Callable[..., Any]) -> None:
    add("--yes", "--no-input", "--noinput", action="store_true", dest="yes", help="do not ask")


def _add_wait(add: Callable[..., Any]) -> None:
    add("--wait", type=_seconds, metavar="SECONDS", help="wait that long for its end")


def _add_orders(subcommands: Subcommands) -> None:
    texts = {
        act.PAUSE: "let workers finish what they run and take nothing more",
        act.RESUME: "let paused workers go on",
        act.GROW: "add N processes to each worker",
        act.SHRINK: "remove N processes of each worker once they are idle",
        act.SHUTDOWN: "stop workers as SIGTERM does",
    }
    for order, text in texts.items():
        parser = subcommands.add(order, actions.tell, text)
        if order in (act.GROW, act.SHRINK):
            parser.add_argument("n", type=_positive, metavar="N")
        parser.add_argument("--destination", action="append", metavar="NODE", help="only this worker (name@host)")


def _add_schedule(subcommands: Subcommands) -> None:
    parser = subcommands.add("schedule", schedules.listed, "list periodic tasks with last and next run; steer them")
    parser.add_argument("--name", metavar="TEXT", help="only those with this in their name")
    parser.add_argument("--task", metavar="NAME", help="only of this task")
    parser.add_argument("--limit", type=_positive, default=schedules.LIMIT, metavar="N", help="how many at most (100)")
    verbs = Subcommands(parser, "verb")
    add = verbs.add("show", schedules.show, "show everything known of one, and its next runs").add_argument
    add("name", metavar="NAME")
    add("-n", type=_positive, default=schedules.RUNS, dest="count", metavar="N", help="how many next runs (5)")
    texts = {
        "run": "call tasks now, beside their schedules",
        "pause": "let nothing of these fire until `resume`",
        "resume": "let these fire again, without what was missed meanwhile",
        "override": "keep entries of the settings in the database, where they can be changed",
        "restore": "let the settings count again instead of the database",
    }
    for verb, text in texts.items():
        parser = verbs.add(verb, schedules.run if verb == "run" else schedules.act, text)
        parser.add_argument("names", nargs="*", metavar="NAME")
        parser.add_argument("--all", action="store_true", help="all there are" if verb != "run" else SUPPRESS)


def _positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return number


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds
