"""The arguments of a call: whether they are any, and whether a function takes them, found out as fast as a call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any


def check_arguments(args: Any, kwargs: Any) -> None:
    """Make sure that nothing else is given for the arguments of a call: a text, or a dict, would be taken to pieces.

    Raises:
        TypeError: they are no list or tuple, and no dict (as in Celery).
    """
    if args and not isinstance(args, (tuple, list)):
        raise TypeError(
            f"args must be a list or tuple of positional arguments, not {args!r}; for one write ({args!r},)"
        )
    if kwargs and not isinstance(kwargs, (dict, Mapping)):
        raise TypeError(f"kwargs must be a dict of keyword arguments, not {kwargs!r}")


def argument_check(function: Callable[..., Any], *, skip_first: bool = False) -> Callable[..., None] | None:
    """Return a function that takes what ``function`` takes, does nothing, and raises TypeError for anything else.

    ``inspect.Signature.bind`` would do the same at many times the cost, on each ``.delay()``.

    Args:
        skip_first: leave out the first parameter (``self`` of a bound task).
    """
    try:
        # As Celery does it, a decorator counts as it is written: it may add arguments of its own.
        parameters = list(inspect.signature(function, follow_wrapped=False).parameters.values())
    except (TypeError, ValueError):
        return None  # built-in functions do not say what they take
    if skip_first and parameters and parameters[0].kind in (_POSITIONAL_ONLY, _POSITIONAL_OR_KEYWORD):
        parameters = parameters[1:]
    return _compile(getattr(function, "__name__", "task"), parameters)


_POSITIONAL_ONLY = inspect.Parameter.POSITIONAL_ONLY
_POSITIONAL_OR_KEYWORD = inspect.Parameter.POSITIONAL_OR_KEYWORD
_KEYWORD_ONLY = inspect.Parameter.KEYWORD_ONLY
_VAR_POSITIONAL = inspect.Parameter.VAR_POSITIONAL
_VAR_KEYWORD = inspect.Parameter.VAR_KEYWORD


def _compile(name: str, parameters: list[inspect.Parameter]) -> Callable[..., None]:
    written = []
    starred = False
    for position, parameter in enumerate(parameters):
        default = "" if parameter.default is inspect.Parameter.empty else "=None"
        if parameter.kind is _KEYWORD_ONLY and not starred:
            written.append("*")
            starred = True
        if parameter.kind is _VAR_POSITIONAL:
            starred = True
        prefix = "*" if parameter.kind is _VAR_POSITIONAL else "**" if parameter.kind is _VAR_KEYWORD else ""
        written.append(f"{prefix}{parameter.name}{default}")
        following = parameters[position + 1].kind if position + 1 < len(parameters) else None
        if parameter.kind is _POSITIONAL_ONLY and following is not _POSITIONAL_ONLY:
            written.append("/")
    # The function's own name, so that Python's TypeError names it. All of these are identifiers, not foreign text.
    safe = name if name.isidentifier() else "task"
    namespace: dict[str, Any] = {}
    exec(f"def {safe}({', '.join(written)}): pass", namespace)
    check: Callable[..., None] = namespace[safe]
    return check
