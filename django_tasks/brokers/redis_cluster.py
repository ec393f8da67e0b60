"""The ledger on a Redis Cluster, where a script may only touch lists of one slot.

Each list is in a slot of its own, with all that belongs to it, unless names of queues have braces: ``{mail}`` and
``{mail}.urgent`` share one. What concerns several slots is done one after another, also while some cannot be reached.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

from redis.crc import key_slot

from django_tasks.brokers.base import Delivery, Follow, Settlement, new_lease
from django_tasks.brokers.redis_cluster_common import Reporting
from django_tasks.brokers.redis_finish import Ending, Finisher
from django_tasks.brokers.redis_ledger import SIZES, Held, Ledger, Outgoing
from django_tasks.brokers.redis_lists import Group, Lists, group_of, own_prefix
from django_tasks.exceptions import ImproperlyConfigured, OperationalError, ReplicationError
from django_tasks.message import Message
from django_tasks.redis_cluster import ClusterConnections
from django_tasks.redis_connections import Script
from django_tasks.redis_errors import is_silence

if TYPE_CHECKING:
    from django_tasks.backends.base import ResultBackend
    from django_tasks.brokers.redis import RedisBroker
    from django_tasks.outcome import Outcome

T = TypeVar("T")


class ClusterLists(Lists):
    """As ``Lists``, without names whose own keys would be in another slot."""

    def _name(self, queue: str, step: int) -> str:
        name = super()._name(queue, step)
        if "}" in name and key_slot(name.encode()) != key_slot(own_prefix(name).encode()):
            raise ImproperlyConfigured(
                f"Queue {queue!r} cannot be in a cluster, since its list {name!r} has a brace that ends no pair with "
                "something in between. Use another name, or one such as {mail}.urgent."
            )
        return name


class ClusterLedger(Reporting, Ledger):
    """As ``Ledger``, with a script for each slot, one after another: what concerns several is not done all at once."""

    connections: ClusterConnections

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        #: When lists could last not be reached.
        self._away_at: dict[str, float] = {}

    def each_slot(
        self, items: Sequence[T], list_of: Callable[[T], str], work: Callable[[list[T]], object]
    ) -> tuple[list[T], OperationalError | None]:
        """Do something for the items of each slot, whatever comes of the others.

        A node that does not answer is not asked again for each of its slots, so that this takes the time of one answer
        for each such node.

        Returns:
            Those for which it is done, and why it is not for the rest; None if there is no rest.
        """
        done: list[T] = []
        failure = None
        silent: set[str] = set()
        for some in by_slot(items, list_of):
            try:
                node = self.connections.node_of(list_of(some[0]))
            except OperationalError as exc:  # no node answers, or none serves anything while others are away
                failure = exc
                break
            if node in silent:
                continue
            try:
                work(some)
                done += some
            except OperationalError as exc:
                failure = exc
                if is_silence(exc):
                    silent.add(node)
        if failure is not None:
            away = set(map(list_of, items)).difference(map(list_of, done))
            self._away_at.update(dict.fromkeys(away, self.now()))
        return done, failure

    def run(self, script: Script, group: Group, *arguments: Any) -> Any:
        """Run a script on some lists, on those of living nodes also when another one is away."""
        answers, done, failure = self._run_on_each(script, group, arguments)
        if failure is not None:
            raise failure
        if script is SIZES:
            sizes = dict(zip(done, chain.from_iterable(answers), strict=True))
            return [sizes[name] for name in group.lists]
        return answers[0] if len(answers) == 1 else None

    def run_where_possible(self, script: Script, group: Group, *arguments: Any, needed: bool = True) -> list[Any]:
        """Run a script on the lists of living nodes, and log that there are others; return each answer."""
        answers, done, failure = self._run_on_each(script, group, arguments)
        if failure is not None:
            if needed and not done:
                raise failure
            self.report(failure)
        return answers

    def _run_on_each(
        self, script: Script, group: Group, arguments: Sequence[Any]
    ) -> tuple[list[Any], list[str], OperationalError | None]:
        """Return the answers for each slot, the lists in their order, and why others are missing, if any are."""
        run, answers = super().run, []
        done, failure = self.each_slot(
            group.lists, str, lambda names: answers.append(run(script, group_of(names), *arguments))
        )
        return answers, done, failure

    def keys_and_arguments(self, group: Group, arguments: Sequence[Any]) -> tuple[Sequence[str], Sequence[Any]]:
        """Return what a script is given: one key more, which never exists.

        While a slot moves to another node, a script fails at its first new key, and what it has done until then stays
        done. With this one it is refused before it begins, until the slot has moved.
        """
        return [*group.lists, f"{group.own[0]}nothing"], (*group.own, "", *arguments)

    def send(self, messages: Sequence[Outgoing], replicas: int = 0) -> None:
        """Send messages; all of a slot or none, and those of living nodes also when another one is away.

        Raises:
            ReplicationError: all are sent, but so many replicas do not have them.
            OperationalError: some are not sent; says how many of which queues.
        """
        unsent, failure = self.send_reachable(messages, replicas)
        if failure is None:
            return
        if len(unsent) in (0, len(messages)):
            raise failure
        left = Counter(self.lists.queue_of(each.list) for each in unsent)
        raise type(failure)(
            f"{len(messages) - len(unsent)} of {len(messages)} messages are sent, but not "
            f"{', '.join(f'{number} for {queue!r}' for queue, number in left.items())}. {failure}"
        ) from failure

    def send_reachable(
        self, messages: Sequence[Outgoing], replicas: int = 0
    ) -> tuple[Sequence[Outgoing], OperationalError | None]:
        """Send what can be sent; return the rest, and why, which may also be that replicas are missing."""
        short: list[ReplicationError] = []

        def send(some: Sequence[Outgoing]) -> None:
            try:  # one wait in vain is enough
                self.send_by_script(some, 0 if short else replicas)
            except ReplicationError as exc:
                short.append(exc)

        done, failure = self.each_slot(messages, lambda each: each.list, send)
        if failure is not None:
            sent = {id(each) for each in done}
            return [each for each in messages if id(each) not in sent], failure
        return (), ReplicationError(f"All {len(messages)} messages are sent. {short[0]}") if short else None

    def reserve(self, worker: str, group: Group, limit: int, lease: int, first: int, beside: int = 0) -> list[Delivery]:
        """Take messages, of the first list first; from those of living nodes also when another one is away."""
        found: list[Delivery] = []
        reserve = super().reserve

        def take(names: list[str]) -> None:
            if len(found) < limit and not (found and found[-1].alone):
                number, left = first + len(found), limit - len(found)
                found.extend(reserve(worker, group_of(names), left, lease, number, beside + len(found)))

        _, failure = self.each_slot(group.lists, str, take)
        if failure is not None and not found:
            raise failure
        return found

    def rescue(
        self, group: Group, silence: float | None, dead: Sequence[str], janitor: str, lease: int, limit: int
    ) -> list[Delivery]:
        """Take over what dead workers hold; from the lists of living nodes also when another one is away."""
        found: list[Delivery] = []
        rescue = super().rescue

        def take_over(names: list[str]) -> None:
            if len(found) < limit:
                judged = None if self._was_away(names) else silence
                found.extend(rescue(group_of(names), judged, dead, janitor, lease, limit - len(found)))

        done, failure = self.each_slot(group.lists, str, take_over)
        if failure is not None:
            # Who is known to be dead is named until all that he held has been found.
            if not found and (dead or not done):
                raise failure
            self.report(failure)
        return found

    def _was_away(self, names: Iterable[str]) -> bool:
        """Whether living workers may have been silent only since lists could not be reached (see ``rules.Vigil``)."""
        return any(self.now() - self._away_at.get(name, -math.inf) <= self.lease for name in names)


class ClusterFinisher(Finisher):
    """As ``Finisher``, in three steps: results, what follows, and the deliveries each have slots of their own."""

    ledger: ClusterLedger

    def __init__(self, broker: RedisBroker) -> None:
        super().__init__(broker)
        #: Deliveries that have ended while others of their call could not: the caller tries all of them again.
        self._ended: set[Held] = set()

    def confirm(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        """Return those whose lease holds."""
        confirm = super().confirm
        asked = [each for each in settlements if each.delivery.handle not in self._ended]
        held = {id(each) for some in by_slot(asked, _list_of) for each in confirm(some)}
        return [each for each in settlements if id(each) in held or each.delivery.handle in self._ended]

    def finish(self, backend: ResultBackend, outcomes: Sequence[Outcome], follow: Follow) -> list[Outcome]:
        """Store, send what follows, and settle; return the outcomes that count."""
        return self._finish_stored(backend, outcomes, follow)

    def _run(self, endings: Sequence[Ending]) -> tuple[list[int], list[int]]:
        """Send what follows from those whose lease holds; then end those whose messages are all sent.

        So nothing is forgotten in between, and what is tried again since a node is away is not done again elsewhere.
        """
        places = {id(each.settlement): place for place, each in enumerate(endings, 1)}
        left = [each for each in endings if not (each.settlement and each.settlement.delivery.handle in self._ended)]
        following = [each.settlement for each in left if each.settlement and each.follow]
        lost = {id(each) for each in following}.difference(id(each) for each in self.confirm(following))
        left = [each for each in left if id(each.settlement) not in lost]
        unsent, failure = self.ledger.send_reachable([message for each in left for message in each.follow])
        missing = {id(message) for message in unsent}
        ending = [Ending(each.settlement, (), each.entry) for each in left
                  if each.settlement and missing.isdisjoint(id(message) for message in each.follow)]  # fmt: skip
        end = super()._run

        def settle(some: list[Ending]) -> None:
            gone, _ = end(some)
            lost.update(id(some[place - 1].settlement) for place in gone)

        done, unsettled = self.ledger.each_slot(ending, lambda each: _list_of(each.settlement), settle)
        if failure := failure or unsettled:
            self._ended.update(s.delivery.handle for s, *_ in done if s is not None and id(s) not in lost)
            raise failure
        self._ended.difference_update(each.settlement.delivery.handle for each in endings if each.settlement)
        return sorted(places[each] for each in lost), []


def make_repeatable(messages: Sequence[Message], lists: Lists) -> None:
    """Give messages of several slots a cause, so that a send that was done in part can be tried again as a whole."""
    names = {lists.list_for(message.queue, message.priority) for message in messages}
    if len(by_slot(names, str)) > 1:
        for message in messages:
            message.cause = message.cause or f"send/{new_lease():x}"


def _list_of(settlement: Settlement | None) -> str:
    assert settlement is not None
    return str(settlement.delivery.handle.list)


def by_slot(items: Iterable[T], list_of: Callable[[T], str]) -> list[list[T]]:
    """Return items whose lists are in one slot together, in their order."""
    parts: dict[int, list[T]] = {}
    for each in items:
        parts.setdefault(key_slot(list_of(each).encode()), []).append(each)
    return list(parts.values())
