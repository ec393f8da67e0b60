"""Several beats on one broker in an invented time: they take turns, and may die or stand still at any step."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

from django_tasks import App
from django_tasks.beat.catalogue import Catalogue
from django_tasks.beat.entry import Entry
from django_tasks.beat.messages import run_id
from django_tasks.beat.scheduler import Scheduler
from django_tasks.beat.sources import SettingsSource, Source
from django_tasks.brokers.beat import EntryState
from django_tasks.brokers.browse import Wanted
from django_tasks.exceptions import OperationalError
from django_tasks.message import Message
from django_tasks.registry import tasks
from tests.running import waiting

#: Where the invented time begins: a Monday, midnight.
START = datetime(2027, 1, 4, tzinfo=timezone.utc).timestamp()
#: The places where something is asked of a server, by the kind of broker.
STEPS: dict[str, Callable[[Any], list[tuple[Any, str]]]] = {
    "memory": lambda broker: [(broker.claim_store, each) for each in ("states", "add", "claim")],
    "orm": lambda broker: [(broker.database, each) for each in ("query", "change", "write")],
    "redis": lambda broker: [(broker.connections, each) for each in ("execute", "run", "run_each")],
}


class Died(BaseException):
    """A beat is gone: nothing that it would do for an error is done."""


class Beat:
    """One beat of a world.

    Attributes:
        next_at: when it looks again; None while it stands still.
    """

    def __init__(self, world: World, app: App, sources: Sequence[Source] | None) -> None:
        self.world = world
        self.app = app
        self.sources = sources
        self.next_at: float | None = world.now
        self.start()

    def start(self) -> None:
        """Begin anew, with nothing in memory."""
        sources = self.sources or [SettingsSource(self.app)]
        store = self.app.broker.claim_store
        assert store is not None
        self.scheduler = Scheduler(self.app, Catalogue(sources), store, 3600.0)

    def turn(self) -> None:
        """Look once; die or wait as it comes."""
        self.next_at = None
        try:
            wait = self.scheduler.tick(self.world.now)
        except Died:
            self.start()
            wait = self.world.faults.uniform(0, 90)
        except OperationalError:
            wait = 1.0
        self.next_at = self.world.now + max(wait, 0.001)

    def state(self, name: str) -> EntryState:
        """Return the state of an entry as the store has it."""
        found: EntryState = self.scheduler.store.states([name])[name]
        return found


class World:
    """A broker, its time, and its beats.

    Args:
        url: of the broker.
        kind: ``memory``, ``orm`` or ``redis``: where its steps are.
    """

    def __init__(self, url: str, kind: str) -> None:
        self.url = url
        self.kind = kind
        self.now = self.start = START
        self.beats: list[Beat] = []
        self.faults = random.Random(1)
        #: How likely a beat is to die, or to stand still, at each step.
        self.deadly = self.freezing = 0.0
        self.deaths = self.stops = 0
        self._app: App | None = None

    def app(self, skew: float = 0.0, **settings: Any) -> App:
        """Return an app of a beat of its own; those in memory share their broker."""
        app = App("beats", broker=self.url, backend="memory://", set_as_current=False, **settings)
        broker: Any = app.broker
        if self.kind == "memory":
            if self._app is not None:
                app._parts.made["broker"] = self._app._parts.made["broker"]
            broker = app.broker
        broker.clock = lambda: self.now + skew
        if self.kind != "memory":
            # What asking the server would come to, if it had this time.
            broker.server_clock.offset, broker.server_clock._asked_at = -skew, float("inf")
        self._app = self._app or app
        return app

    def beat(self, schedule: dict[str, Any] | None = None, *, sources: Sequence[Source] | None = None,
             skew: float = 0.0, **settings: Any) -> Beat:  # fmt: skip
        """Start a beat."""
        beat = Beat(self, self.app(skew, beat_schedule=schedule or {}, **settings), sources)
        self.beats.append(beat)
        self._watch(beat)
        return beat

    def _watch(self, beat: Beat) -> None:
        """Let the beat's steps be those of this world."""
        if self.kind == "memory" and len(self.beats) > 1:
            return
        for owner, name in STEPS[self.kind](beat.app.broker):
            setattr(owner, name, self._stepping(beat, getattr(owner, name)))

    def _stepping(self, beat: Beat, work: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            self._fault(beat)
            answer = work(*args, **kwargs)
            self._fault(beat)
            return answer

        return step

    def _fault(self, beat: Beat) -> None:
        if self.faults.random() < self.deadly:
            self.deaths += 1
            raise Died
        if self.faults.random() < self.freezing and not self._in_transaction(beat):
            self.stops += 1
            self.run(self.faults.choice((0.5, 3, 8, 40, 400, 4000)))  # the others go on meanwhile

    def _in_transaction(self, beat: Beat) -> bool:
        database = getattr(beat.app.broker, "database", None)  # all beats have one connection here
        return database is not None and bool(database.connection.savepoint_ids)

    def run(self, seconds: float) -> None:
        """Let time go by; each beat looks when it wants to."""
        end = self.now + seconds
        while True:
            awake = [beat for beat in self.beats if beat.next_at is not None and beat.next_at <= end]
            if not awake:
                break
            beat = min(awake, key=lambda each: each.next_at or 0.0)
            self.now = max(self.now, beat.next_at or 0.0)
            beat.turn()
        self.now = max(self.now, end)

    def stop(self) -> None:
        """Stop all beats."""
        self.beats = []

    def sent(self, name: str | None = None) -> list[Message]:
        """Return the messages that wait, of one entry or of all."""
        assert self._app is not None
        found = waiting(self._app)
        return [each for each in found if name is None or each.headers["periodic_task_name"] == name]

    def slots(self, name: str, *candidates: float) -> list[float]:
        """Return the slots of an entry's messages, in seconds from the beginning, the earliest first.

        Args:
            candidates: what they may be; all whole seconds until now by default.
        """
        seconds = candidates or range(int(self.now - START) + 1)
        by_id = {run_id(name, START + each): float(each) for each in seconds}
        return sorted(by_id[message.id] for message in self.sent(name))

    def slots_of_all(self, names: Sequence[str]) -> dict[str, list[float]]:
        """As ``slots``, of several entries that have all the messages there are, however many.

        Raises:
            KeyError: there is a message of another slot.
        """
        seconds = range(int(self.now - START) + 1)
        by_id = {run_id(name, START + each): (name, float(each)) for name in names for each in seconds}
        found: dict[str, list[float]] = {name: [] for name in names}
        for number in self._ids():
            name, slot = by_id[number]
            found[name].append(slot)
        return {name: sorted(each) for name, each in found.items()}

    def _ids(self) -> Iterator[str]:
        assert self._app is not None
        browser: Any = self._app.broker.browser
        page = browser.messages(Wanted(), 1000)
        while page:
            yield from (each.id for each in page)
            page = browser.messages(Wanted(), 1000, page[-1])


@contextmanager
def known_task(name: str = "tests.job") -> Iterator[Any]:
    """Let there be a task of that name."""
    app = App("tasks", broker="memory://", backend="memory://", set_as_current=False)
    task = app.task(name=name)(lambda *args, **kwargs: None)
    try:
        yield task
    finally:
        tasks.pop(name, None)


def every(seconds: Any, **more: Any) -> dict[str, Any]:
    """Return the definition of an entry."""
    return {"task": "tests.job", "schedule": seconds, **more}


def entry(app: App, definition: dict[str, Any], name: str = "entry", since: datetime | None = None) -> Entry:
    """Return an entry."""
    return Entry.from_definition(name, definition, app, since)
