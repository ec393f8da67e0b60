"""Parts of a worker as the tests put them together: no processes, and a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import connections

from django_tasks import App
from django_tasks.exceptions import OperationalError
from django_tasks.executor import Executor
from django_tasks.worker.process import take_seat
from django_tasks.worker.shared import Page
from django_tasks.worker.slot import Slot

NODE = "worker@test"


class Clock:
    """Seconds that pass only when the test says so."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> float:
        self.now += seconds
        return self.now


class Away:
    """While it is on, methods of a broker or a backend fail as they do when their server is away."""

    def __init__(self, part: Any, *methods: str) -> None:
        self.on = True
        self.failures = 0
        for name in methods:
            setattr(part, name, self._wrap(getattr(part, name)))

    def _wrap(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self.on:
                self.failures += 1
                raise OperationalError("the server is away")
            return real(*args, **kwargs)

        return call


class Stop:
    """What a slot asks: whether it is stopping."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self) -> bool:
        return self.asked


def make_slot(app: App, clock: Callable[[], float] | None = None, page: Page | None = None, **options: Any) -> Slot:
    """Return a slot with the first seat of a page, or with a page of its own."""
    connections.close_all()  # one that an earlier test left would be looked at after each task
    page = page or Page(1)
    take_seat(page.seats[0], NODE, 1)
    stop = Stop()
    facts: dict[str, Any] = {"stopping": stop, "giving_up": stop, **options}
    if clock is not None:
        facts["clock"] = clock
    slot = Slot(app, page.seats[0], Executor(app, hostname=NODE), ("celery",), **facts)
    slot.stop = stop  # type: ignore[attr-defined]
    return slot
