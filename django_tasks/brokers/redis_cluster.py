"""The ledger on a Redis Cluster, where a script may only touch lists of one slot.

Each list is in a slot of its own, with all that belongs to it, unless names of queues have braces: ``{mail}`` and
``{mail}.urgent`` share one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from redis.crc import key_slot

from django_tasks.brokers.base import Delivery, Follow, Settlement
from django_tasks.brokers.redis_finish import Ending, Finisher
from django_tasks.brokers.redis_ledger import DUE_SCRIPT, SIZES, Ledger, Outgoing
from django_tasks.brokers.redis_lists import Group, group_of
from django_tasks.exceptions import OperationalError
from django_tasks.redis_connections import Script

if TYPE_CHECKING:
    from django_tasks.backends.base import ResultBackend
    from django_tasks.outcome import Outcome

T = TypeVar("T")


class ClusterLedger(Ledger):
    """As ``Ledger``, with a script for each slot, one after another: what concerns several is not done all at once."""

    def run(self, script: Script, group: Group, *arguments: Any) -> Any:
        """Run a script on some lists, on those of living nodes also when another one is away."""
        groups = self._groups(group)
        if len(groups) == 1:
            return super().run(script, group, *arguments)
        answers, failure = [], None
        for each in groups:
            try:
                answers.append(super().run(script, each, *arguments))
            except OperationalError as exc:
                failure = exc
        if failure is not None:
            raise failure
        if script is SIZES:
            sizes = {name: size for each, found in zip(groups, answers, strict=True)
                     for name, size in zip(each.lists, found, strict=True)}  # fmt: skip
            return [sizes[name] for name in group.lists]
        return max(answers) if script is DUE_SCRIPT else None

    def keys_and_arguments(self, group: Group, arguments: Sequence[Any]) -> tuple[Sequence[str], Sequence[Any]]:
        """Return what a script is given: one key more, which never exists.

        While a slot moves to another node, a script fails at its first new key, and what it has done until then stays
        done. With this one it is refused before it begins, until the slot has moved.
        """
        return [*group.lists, f"{group.own[0]}nothing"], (*group.own, "", *arguments)

    def _groups(self, group: Group) -> list[Group]:
        return [group_of(names) for names in by_slot(group.lists, lambda name: name)]

    def send(self, messages: Sequence[Outgoing], replicas: int = 0) -> None:
        """Send messages; all of a list or none."""
        for some in by_slot(messages, lambda each: each.list):
            self.send_by_script(some, replicas)

    def reserve(self, worker: str, group: Group, limit: int, lease: int, first: int, beside: int = 0) -> list[Delivery]:
        """Take messages, of the first list first; from those of living nodes also when another one is away."""
        found: list[Delivery] = []
        failure = None
        for each in self._groups(group):
            if len(found) == limit or (found and found[-1].alone):
                break
            number, left = first + len(found), limit - len(found)
            try:
                found += super().reserve(worker, each, left, lease, number, beside + len(found))
            except OperationalError as exc:
                failure = exc
        if failure is not None and not found:
            raise failure
        return found

    def rescue(
        self, group: Group, silence: float | None, dead: Sequence[str], janitor: str, lease: int, limit: int
    ) -> list[Delivery]:
        """Take over what dead workers hold."""
        found: list[Delivery] = []
        for each in self._groups(group):
            if len(found) < limit:
                found += super().rescue(each, silence, dead, janitor, lease, limit - len(found))
        return found


class ClusterFinisher(Finisher):
    """As ``Finisher``, in three steps: results, what follows, and the deliveries each have slots of their own."""

    def confirm(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        """Return those whose lease holds."""
        held = {id(s) for some in by_slot(settlements, _list_of) for s in super(ClusterFinisher, self).confirm(some)}
        return [settlement for settlement in settlements if id(settlement) in held]

    def finish(self, backend: ResultBackend, outcomes: Sequence[Outcome], follow: Follow) -> list[Outcome]:
        """Store, send what follows, and settle; return the outcomes that count."""
        return self._finish_stored(backend, outcomes, follow)

    def _run(self, endings: Sequence[Ending]) -> tuple[list[int], list[int]]:
        """Send what follows from those whose lease holds; then end them, so that nothing is forgotten in between."""
        places = {id(each.settlement): place for place, each in enumerate(endings, 1)}
        following = [each.settlement for each in endings if each.settlement and each.follow]
        lost = {id(each) for each in following}.difference(id(each) for each in self.confirm(following))
        self.ledger.send([message for each in endings if id(each.settlement) not in lost for message in each.follow])
        ending = [each.settlement for each in endings if each.settlement and id(each.settlement) not in lost]
        for some in by_slot(ending, _list_of):
            gone, _ = super()._run([Ending(settlement) for settlement in some])
            lost |= {id(some[place - 1]) for place in gone}
        return sorted(places[each] for each in lost), []


def _list_of(settlement: Settlement) -> str:
    return str(settlement.delivery.handle.list)


def by_slot(items: Iterable[T], name_of: Callable[[T], str]) -> list[list[T]]:
    """Return items whose lists are in one slot together, in their order."""
    parts: dict[int, list[T]] = {}
    for each in items:
        parts.setdefault(key_slot(name_of(each).encode()), []).append(each)
    return list(parts.values())
