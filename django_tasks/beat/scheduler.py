"""The scheduler: which entries are due, and a claim for each of them.

``tick(now)`` does what is to be done at an instant and answers how long to wait; the loop (``service.py``) only repeats
it. Everything in memory here is a guess that may be old: the store says what holds, and refuses what was decided from
an old state.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from django_tasks import publishing
from django_tasks.beat import policies, slots
from django_tasks.beat.agenda import Agenda
from django_tasks.beat.catalogue import Catalogue
from django_tasks.beat.entry import Entry
from django_tasks.beat.messages import after_claim, make_claim
from django_tasks.beat.policies import Plan
from django_tasks.beat.running import still_running
from django_tasks.beat.telling import guarded, shown, tell_claimed
from django_tasks.brokers.beat import Claim, ClaimStore, EntryState
from django_tasks.exceptions import OperationalError

if TYPE_CHECKING:
    from django_tasks.app import App

logger = logging.getLogger("django_tasks.beat")

#: Entries from which on Python's search for garbage would take longer than a tick may.
MANY = 10_000
#: Entries that one tick sees to at most, so that none takes long.
BATCH = 100
#: Messages after which it takes no more entries: each may have up to a hundred.
MESSAGES = 1000
#: Seconds between looks for changes of entries.
CHANGES = 1.0
#: Seconds between looks for what other beats have claimed and not sent.
LEFT = 2.0
#: Seconds after which an entry whose state is locked is tried again.
LOCKED = 0.25
#: Seconds between warnings of beats with other settings.
WARN = 60.0


class Scheduler:
    """Fires entries.

    Args:
        app: sends the messages.
        catalogue: the entries.
        store: decides which of several beats sends a slot.
        max_interval: seconds that ``tick`` tells to wait at most.
    """

    def __init__(self, app: App, catalogue: Catalogue, store: ClaimStore, max_interval: float = 1.0) -> None:
        self.app = app
        self.catalogue = catalogue
        self.store = store
        self.max_interval = max_interval
        self.agenda = Agenda()
        #: Entries that have changed, or whose state in the store may not be what we think.
        self._unsure: set[str] = set()
        self._loaded = False
        #: Since when we have the schedule of an entry, and its fingerprint.
        self._since: dict[str, tuple[str, float]] = {}
        #: Tasks of entries that were said to be not here.
        self._strange: set[str] = set()
        #: When calls of entries last ended a tick, as something is away: those of others come first then.
        self._ended_at: dict[str, float] = {}
        self._changes_at = self._left_at = self._warned_at = self._reported_at = float("-inf")

    def load(self, now: float) -> None:
        """Read all entries, and what has become of them.

        Raises:
            OperationalError: a server is away; to be tried again.
        """
        with _collecting_nothing():
            self.catalogue.load()
            names = self.catalogue.names()
            self._adopt(names, now)
            if len(names) > MANY:
                gc.freeze()  # else some ticks would take 0.4 s longer, to go over all of it
        self._loaded = True
        self._changes_at = now

    def tick(self, now: float) -> float:
        """Send what is due; return the seconds until something may be to do.

        Args:
            now: the server's time (``store.now()``).

        Raises:
            OperationalError: a server is away; the next tick goes on where this one stopped.
        """
        if not self._loaded:
            self.load(now)
        if abs(now - self._changes_at) >= CHANGES:
            self._unsure |= self.catalogue.refresh()
            self._changes_at = now
        if abs(now - self._left_at) >= LEFT:
            self._left_at = now
            self._send_left(now)
        if self._unsure:
            self._adopt(sorted(self._unsure), now)
        if due := self.agenda.due(now, BATCH):
            self._unsure.update(due)  # for good if an error ends this: claims may have been made, and the answer lost
            self._see_to(due, now)
        return self._wait(now)

    def _send_left(self, now: float) -> None:
        """Send what other beats have left; what cannot be sent must not hold up the rest."""
        try:
            if sent := self.store.send_left():
                logger.warning("%d entries were claimed by a beat that did not send them in time: sent now.", sent)
        except OperationalError as exc:
            if abs(now - self._reported_at) >= WARN:
                self._reported_at = now
                logger.error("Messages that were claimed cannot be sent yet, and wait: %s", exc)

    def _wait(self, now: float) -> float:
        if self._unsure:
            return 0.0
        at = self.agenda.next()
        soonest = min(self._changes_at + CHANGES, self._left_at + LEFT, now + self.max_interval)
        return max(0.0, (soonest if at is None else min(at, soonest)) - now)

    # -- states

    def _adopt(self, names: Sequence[str], now: float) -> None:
        """Take entries as their sources have them now, with their states; have those begin that have none yet."""
        self._unsure.update(names)
        entries = {name: entry for name in names if (entry := self.catalogue.get(name)) is not None}
        states = self.store.states(list(entries))
        if new := [slots.begin(entry, now) for name, entry in entries.items() if name not in states]:
            self.store.add(new)
            states |= self.store.states([state.name for state in new])  # another beat may have been first
        states |= self._adapt(entries, states, now)
        for name in names:
            if name in states:
                entry, state = entries[name], states[name]
                self.agenda.note(state, guarded(entry, now, partial(policies.next_look, entry, state, now)))
            else:
                self.agenda.drop(name)
                self._since.pop(name, None)
        self._unsure.difference_update(names)

    def _adapt(self, entries: dict[str, Entry], states: dict[str, EntryState], now: float) -> dict[str, EntryState]:
        """Return states as they are for entries whose schedules are not those that the states belong to.

        A schedule that is new to us is written down: what was due before it is not caught up. What we have known for a
        while is another schedule only to another beat, one that was started with other settings: then both go on.
        """
        claims, rivals = [], {}
        for name, state in states.items():
            known, since = self._since.get(name, ("", now))
            definition = entries[name].definition
            if known != definition:
                since = now
                self._since[name] = (definition, since)
            if state.definition != definition:
                adapted = slots.adapt(entries[name], state, since)
                if known == definition:
                    rivals[name] = adapted
                else:
                    claims.append(Claim(state, adapted._replace(claimed_at=now, version=state.version + 1)))
        if rivals:
            self._warn_of_rivals(sorted(rivals), now)
        won = self.store.claim(claims) if claims else set()
        for claim in claims:
            if claim.before.name in won:
                rivals[claim.before.name] = claim.after
        lost = [claim.before.name for claim in claims if claim.before.name not in won]
        for name, state in (self.store.states(lost) if lost else {}).items():
            rivals[name] = slots.adapt(entries[name], state, self._since[name][1])
        return rivals

    def _warn_of_rivals(self, names: Sequence[str], now: float) -> None:
        if abs(now - self._warned_at) >= WARN:
            self._warned_at = now
            logger.warning("Another beat has other schedules for %s: both are heeded until one of them stops. Stop "
                           "those that were started with old settings.", ", ".join(names[:5]))  # fmt: skip

    # -- firing

    def _see_to(self, names: Sequence[str], now: float) -> None:
        """Decide about entries, claim what is due, and send it."""
        changed, away = self.catalogue.confirm(names)
        if changed:
            self._adopt(sorted(changed), now)
        for name in away:  # they are decided about when their source is there to ask
            item = self.agenda[name]
            self.agenda.note(item.state, Plan(next=now + CHANGES, first=item.first))
        self._unsure -= away
        names = [name for name in names if name not in changed and name not in away]
        entries = {name: entry for name in names if (entry := self.catalogue.get(name)) is not None}
        running = self._running(entries.values(), now)
        claims: list[Claim] = []
        plans: dict[str, Plan] = {}
        count = 0
        for name, entry in entries.items():
            if count >= MESSAGES:
                break  # the others are still on the agenda
            item = self.agenda[name]
            decide = partial(policies.plan, entry, item.state, now, running=name in running, first=item.first)
            plan = plans[name] = guarded(entry, now, decide)
            if plan.upto is None:
                self.agenda.note(item.state, plan)
            else:
                claims.append(self._claim(entry, item.state, plan, now))
                count += len(plan.fire)
        self._unsure.difference_update(set(names).difference(claim.before.name for claim in claims))
        if plain := [claim for claim in claims if not claim.calls]:
            self._make(plain, plans, now)
        for claim in sorted((c for c in claims if c.calls), key=lambda c: self._ended_at.get(c.before.name, 0.0)):
            self._ended_at[claim.before.name] = now
            self._make([claim], plans, now)  # each by itself: none is made again for another
            del self._ended_at[claim.before.name]

    def _running(self, entries: Iterable[Entry], now: float) -> Collection[str]:
        """Return the names of those entries whose last run matters to them and has not ended."""
        asking = [self.agenda[entry.name].state for entry in entries if policies.asks_whether_running(entry)]
        return still_running(self.app, self.store, asking, now) if asking else ()

    def _claim(self, entry: Entry, state: EntryState, plan: Plan, now: float) -> Claim:
        """Make a claim; one without messages where these cannot be made, as they could not be at any later time."""
        assert plan.upto is not None
        if entry.task not in self.app.tasks and entry.task not in self._strange:
            self._strange.add(entry.task)
            logger.warning("Entry %r: there is no task %r here. It is sent all the same, as workers may know it.",
                           entry.name, entry.task)  # fmt: skip
        try:
            return make_claim(self.app, self.store, entry, state, plan.fire, plan.upto, now)
        except OperationalError:
            raise
        except Exception as exc:
            logger.error("Entry %r cannot be sent, its run of %s is left out: %s", entry.name, shown(plan.fire), exc,
                         exc_info=not isinstance(exc, (ValueError, TypeError)))  # fmt: skip
            return Claim(state, after_claim(state, plan.upto, now))

    def _make(self, claims: Sequence[Claim], plans: dict[str, Plan], now: float) -> None:
        """Make claims, and tell of what has been sent."""
        won = self._won(claims)
        fired = []
        for claim in claims:
            name = claim.before.name
            if name not in won:
                continue
            self._unsure.discard(name)
            self.agenda.note(claim.after, plans[name])
            if claim.messages or claim.calls:
                fired.append(name)
            tell_claimed(claim, plans[name], now)
        if lost := [claim for claim in claims if claim.before.name not in won]:
            self._go_on_after(lost, now)
        publishing.tell_sent(message for claim in claims if claim.before.name in won for message in claim.messages)
        if fired:
            self.catalogue.tell_fired(fired)

    def _go_on_after(self, lost: Sequence[Claim], now: float) -> None:
        """Read what those that were first have left to do; where none was, somebody holds the row: try again soon."""
        self._adopt([claim.before.name for claim in lost], now)
        for claim in lost:
            name = claim.before.name
            if name in self.agenda and (item := self.agenda[name]).state.version == claim.before.version:
                self.agenda.note(item.state, Plan(next=now + LOCKED, first=item.first))

    def _won(self, claims: Sequence[Claim]) -> set[str]:
        """Make claims; if that fails for what is in one of them, each by itself."""
        try:
            return self.store.claim(claims)
        except OperationalError:
            raise
        except Exception as exc:
            if len(claims) > 1:
                return set().union(*(self._won([claim]) for claim in claims))
            (claim,) = claims
            logger.error("Entry %r cannot be sent, its run of %s is left out: %s", claim.before.name,
                         shown([*claim.slots, *(call.slot for call in claim.calls)]), exc,
                         exc_info=bool(claim.calls))  # fmt: skip
            claim.messages, claim.slots, claim.calls, claim.written = (), (), (), []
            claim.after = after_claim(claim.before, claim.after.done, claim.after.claimed_at)
            return self.store.claim(claims)


@contextmanager
def _collecting_nothing() -> Iterator[None]:
    """Keep Python from looking for garbage while all that is made is to stay: that would take a third of the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
