"""What a test can assert about calls, and what it is told when they are others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django_tasks import serialization
from django_tasks.exceptions import EncodeError
from django_tasks.message import Message
from django_tasks.utils.saferepr import saferepr


class Assertions:
    """Assertions about the calls in ``sent``; none of them cares whether a call has run yet."""

    @property
    def sent(self) -> list[Message]:
        """The calls."""
        raise NotImplementedError

    def assert_sent(
        self,
        task: Any,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        queue: str | None = None,
        times: int | None = None,
    ) -> Message:
        """Fail unless such a call was sent, and return the first one.

        Args:
            task: the task or its name.
            args: its positional arguments; any by default. ``unittest.mock.ANY`` stands for any one.
            kwargs: its keyword arguments; any by default.
            queue: the queue it went to; any by default.
            times: how many such calls there are, 1 or more; at least one by default.

        Raises:
            AssertionError: it was not sent, or not that often; says what was.
        """
        wanted = Wanted(task, args, kwargs, queue)
        found = [message for message in self.sent if wanted.matches(message)]
        if found and (times is None or len(found) == times):
            return found[0]
        often = f"was sent {len(found)} times, not {times}" if found else "was not sent"
        raise AssertionError(f"{wanted} {often}. {self._told()}")

    def assert_not_sent(
        self,
        task: Any,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        queue: str | None = None,
    ) -> None:
        """Fail if such a call was sent; the arguments are those of ``assert_sent``.

        Raises:
            AssertionError: it was.
        """
        wanted = Wanted(task, args, kwargs, queue)
        if any(wanted.matches(message) for message in self.sent):
            raise AssertionError(f"{wanted} should not have been sent. {self._told()}")

    def assert_nothing_sent(self) -> None:
        """Fail if any call was sent.

        Raises:
            AssertionError: something was; says what.
        """
        if self.sent:
            raise AssertionError(f"Nothing should have been sent. {self._told()}")

    def uncommitted(self) -> int:
        """Return how many calls wait for a transaction that is open here."""
        raise NotImplementedError

    def _told(self) -> str:
        lines = [f"\n  {describe(message)}" for message in self.sent]
        told = f"Sent were:{''.join(lines)}" if lines else "Nothing was sent."
        if waiting := self.uncommitted():
            told += f"\nNot sent yet, as they wait for a transaction that is open here to commit: {waiting}."
        return told


class Wanted:
    """A call that a test asks for; what is None may be anything."""

    def __init__(
        self, task: Any, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None, queue: str | None
    ) -> None:
        self.name: str = task if isinstance(task, str) else task.name
        self.args = args
        self.kwargs = kwargs
        self.queue = queue

    def matches(self, message: Message) -> bool:
        """Whether a message is such a call, by the arguments that the task gets."""
        return (
            message.task == self.name
            and (self.queue is None or message.queue == self.queue)
            and (self.args is None or list(message.args) == [_received(each, message) for each in self.args])
            and (self.kwargs is None or message.kwargs == {k: _received(v, message) for k, v in self.kwargs.items()})
        )

    def __str__(self) -> str:
        arguments = [] if self.args is None and self.kwargs is None else [_arguments(self.args, self.kwargs)]
        return f"{self.name}{''.join(f'({each})' for each in arguments)}{_to(self.queue)}"


def describe(message: Message) -> str:
    """Return a message in words: the call, its queue, and when it is due if not at once."""
    due = f", due {message.eta.isoformat()}" if message.eta else ""
    return f"{message.task}({_arguments(message.args, message.kwargs)}){_to(message.queue)}{due}"


def _to(queue: str | None) -> str:
    return "" if queue is None else f" to queue {queue!r}"


def _arguments(args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None) -> str:
    """Return arguments as in a call, with ``...`` for what may be anything."""
    positional = ["..."] if args is None else [saferepr(each, 100) for each in args]
    named = ["**..."] if kwargs is None else [f"{name}={saferepr(each, 100)}" for name, each in kwargs.items()]
    return ", ".join(positional + named)


def _received(value: Any, message: Message) -> Any:
    """Return a value as it is after its way through a message: a tuple becomes a list in JSON."""
    try:
        encoded = serialization.dumps(value, message.serializer)
    except EncodeError:
        return value  # such as mock.ANY, which compares by itself
    content_type = encoded.content_type
    return serialization.loads(encoded.data, content_type, encoded.content_encoding, frozenset({content_type}))
