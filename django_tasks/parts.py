"""The broker, the result backend and the router of an app: made at their first use, and again when settings change."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from django.utils.module_loading import import_string

from django_tasks import standalone
from django_tasks.backends.base import ResultBackend
from django_tasks.brokers.base import Broker
from django_tasks.conf import BACKEND_SCHEMES, BROKER_SCHEMES, find_scheme

T = TypeVar("T")

_STORES = (Broker, ResultBackend)


class Part(NamedTuple):
    """A broker, a result backend or a router of an app.

    Attributes:
        made: the part.
        values: what it was made from; None if it stays whatever the settings say.
        revision: that of the settings when they were last found to say the same.
    """

    made: Any
    values: dict[str, Any] | None = None
    revision: int = -1


class Parts:
    """The parts of one app.

    Attributes:
        made: those that have been used, by what they are.
    """

    def __init__(self) -> None:
        self.made: dict[str, Part] = {}
        #: The last broker and backend of each URL in memory, since what they keep is nowhere else.
        self._in_memory: dict[tuple[type[Any], str], Any] = {}
        self._making = threading.RLock()

    def get(self, what: str, revision: int, values_of: Callable[[], dict[str, Any]], make: Callable[..., T]) -> T:
        """Return a part; make it at its first use, and again when the settings that it was made from have changed.

        Args:
            what: its name.
            revision: that of the settings.
            values_of: returns what it is made from.
            make: makes it of that.
        """
        part = self.made.get(what)
        if part is None or part.revision != revision:
            # Two threads with a broker each would not see each other's messages if it is in memory.
            with self._making:
                part, values = self.made.get(what), values_of()
                if part is None or part.values not in (None, values):
                    part = self._renew(what, values, make, part)
                part = self.made[what] = part._replace(revision=revision)
        made: T = part.made
        return made

    def _renew(self, what: str, values: dict[str, Any], make: Callable[..., Any], before: Part | None) -> Part:
        """Make a part, and let go of the one that was there before."""
        made = make(**_copied(values))
        if isinstance(made, _STORES) and made.kept_here:
            key = (type(made), made.url)
            if (last := self._in_memory.get(key)) is not None:
                for name in made.kept_here:
                    setattr(made, name, getattr(last, name))
            self._in_memory[key] = made
        part = self.made[what] = Part(made, _copied(values))
        if before is not None and isinstance(before.made, _STORES) and before.made.owns_connections:
            before.made.close()
        return part

    def close(self) -> None:
        """Drop this process's connections to the broker and the result backend; they are made again when needed."""
        for name in ("broker", "backend"):
            if name in self.made:
                self.made[name].made.close()


def _copied(value: Any) -> Any:
    """Return dicts and lists, however deep, as they are now: whoever changes one later changes no copy."""
    if type(value) is dict:
        return {key: _copied(each) for key, each in value.items()}
    return [_copied(each) for each in value] if type(value) is list else value


def make_broker(url: str, **options: Any) -> Any:
    """Return the broker of a URL. Raises: ImproperlyConfigured: it cannot be."""
    standalone.prepare(url)
    return import_string(find_scheme("BROKER_URL", url, BROKER_SCHEMES).path)(url, **options)


def make_backend(url: str, **options: Any) -> Any:
    """Return the result backend of a URL. Raises: ImproperlyConfigured: it cannot be."""
    standalone.prepare(url)
    return import_string(find_scheme("RESULT_BACKEND", url, BACKEND_SCHEMES).path)(url, **options)
