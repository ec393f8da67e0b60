"""Rules that brokers have in common: what can be stored, whose lease holds, and when silence means death."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from django_tasks.exceptions import EncodeError
from django_tasks.message import Message, encode_compact

if TYPE_CHECKING:
    from django_tasks.brokers.base import Broker
    from django_tasks.outcome import Outcome

#: Characters that a task's name, its id and its queue's name may have.
NAME_LENGTH = 255


def stored_envelope(message: Message, max_size: int | None, encode: Callable[..., str] = encode_compact) -> str:
    """Return the envelope that a broker of ours stores.

    Args:
        encode: how it is written.

    Raises:
        EncodeError: the message cannot be written, or its name, id or queue cannot be stored in a column.
        MessageTooLarge: it has more than ``max_size`` bytes.
    """
    names = (message.task, message.id, message.queue)
    if not all(names) or not (joined := _joined(names)).isascii() or len(joined) > NAME_LENGTH or "\0" in joined:
        for what, name in zip(("name", "id", "queue"), names, strict=True):
            _check_name(message, what, name)
    return encode(message, max_size=max_size)


def _joined(names: tuple[Any, ...]) -> str:
    """Return names as one text, which is quicker to check; what is no text leaves none that would do."""
    try:
        return "".join(names)
    except TypeError:
        return "\0"


def _check_name(message: Message, what: str, name: str) -> None:
    if not isinstance(name, str) or not name:
        raise EncodeError(f"Task {message.task!r:.100}: the {what} of a message must be a text, not {name!r:.100}.")
    if len(name) > NAME_LENGTH:
        raise EncodeError(
            f"Task {message.task!r:.100}: the {what} {name[:40]!r}... has {len(name)} characters, more than the "
            f"{NAME_LENGTH} that can be stored. Use a shorter one."
        )
    if not name.isascii():
        try:
            name.encode()
        except UnicodeEncodeError as exc:
            raise EncodeError(f"Task {message.task!r:.100}: the {what} {name!r:.100} is not valid Unicode.") from exc
    if "\0" in name:
        raise EncodeError(f"Task {message.task!r:.100}: the {what} {name!r:.100} has a NUL character. Leave it out.")


def still_held(broker: Broker, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return the outcomes whose lease holds, and those that have none."""
    confirmed = {id(s) for s in broker.confirm([o.settlement for o in outcomes if o.settlement])}
    return [o for o in outcomes if o.settlement is None or id(o.settlement) in confirmed]


class Vigil:
    """Says when a janitor may take silence for death.

    One that was silent itself (its machine slept, the server was away, somebody moved a clock) cannot tell who else
    died: first all the others get the time of one lease to show that they live.

    Args:
        lease: seconds of silence after which a worker is taken for dead.
    """

    def __init__(self, lease: float) -> None:
        self.lease = lease
        self._beat_at: float | None = None
        self._not_before = 0.0

    def beat(self, now: float) -> None:
        """Note a heartbeat of the janitor's own."""
        self._not_before = now + self.lease if self._has_gap(now) else min(self._not_before, now + self.lease)
        self._beat_at = now

    def may_judge(self, now: float) -> bool:
        """Whether those who are silent now are dead."""
        return now >= self._not_before and not self._has_gap(now)

    def _has_gap(self, now: float) -> bool:
        return self._beat_at is not None and abs(now - self._beat_at) > self.lease
