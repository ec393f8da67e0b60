"""What a subcommand answers, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.management.base import CommandError
from django.core.serializers.json import DjangoJSONEncoder

from django_tasks.utils.saferepr import saferepr

#: Exit codes.
FAILED, USAGE = 1, 2
#: Characters of a value that JSON cannot hold.
LONGEST_REPR = 20_000


@dataclass(slots=True)
class Answer:
    """What to print and how to exit.

    Attributes:
        data: the document that ``--json`` prints.
        text: what people read; as a function, it is given the width of the terminal (None: print in full).
        notes: said on the side, to standard error.
        problem: why the exit code is 1, to standard error; empty if it is 0.
    """

    data: Any
    text: str | Callable[[int | None], str]
    notes: Sequence[str] = ()
    problem: str = ""

    def for_people(self, width: int | None) -> str:
        """Return the text."""
        return self.text if isinstance(self.text, str) else self.text(width)

    def for_programs(self) -> str:
        """Return one JSON document in ASCII."""
        return json.dumps(self.data, cls=_Encoder, indent=2)


class _Encoder(DjangoJSONEncoder):
    def default(self, o: Any) -> Any:
        try:
            return super().default(o)
        except (TypeError, ValueError):
            return saferepr(o)


def plain(value: Any) -> Any:
    """Return a value if JSON can hold it, else its repr."""
    try:
        json.dumps(value, cls=_Encoder, allow_nan=False)
    except (TypeError, ValueError, RecursionError):  # a key that is no text, a number that is not finite, a circle
        return saferepr(value, LONGEST_REPR)
    return value


def usage_error(message: str) -> CommandError:
    """Return the error for arguments that cannot be."""
    return CommandError(message, returncode=USAGE)
