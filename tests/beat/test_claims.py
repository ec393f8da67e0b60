"""What every store of claims does."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest

from django_tasks.brokers.base import Settlement, Verb
from django_tasks.brokers.beat import Claim, EntryState
from django_tasks.message import Message
from tests.beat.simulation import START, World, every
from tests.tables import our_tables

pytestmark = our_tables


def state(name: str = "a", **fields: Any) -> EntryState:
    return EntryState(name, START, START, definition="d", **fields)


def claim(before: EntryState, slot: float, *ids: str) -> Claim:
    after = before._replace(slot=slot, fired=slot, version=before.version + 1, runs=before.runs + len(ids))
    messages = [Message("tests.job", each, headers={"periodic_task_name": before.name}) for each in ids]
    return Claim(before, after, messages, [slot + n / 1000 for n in range(len(ids))])


def test_states_are_kept_as_they_are(world: World) -> None:
    store = world.beat().scheduler.store
    first, second = state("a", slot=START + 0.001, last_id="x", runs=3), state("zwölf '\"%s \U0001f389")
    store.add([first, second])
    store.add([state("a", runs=99)])  # it has one
    assert store.states(["a", "zwölf '\"%s \U0001f389", "none"]) == {"a": first, second.name: second}
    assert store.states() == {"a": first, second.name: second}
    store.forget(["a", "none"])
    assert store.states() == {second.name: second}


def test_one_of_several_claims_wins(world: World) -> None:
    one, two = world.beat().scheduler.store, world.beat().scheduler.store
    before = state()
    one.add([before])
    claims = [claim(before, START + 10, "first"), claim(before, START + 20, "second")]
    for store, each in zip((one, two), claims, strict=True):
        store.prepare(each)
    assert one.claim(claims[:1]) == {"a"}
    assert two.claim(claims[1:]) == set()
    assert [each.id for each in world.sent()] == ["first"]
    assert two.states(["a"]) == {"a": claims[0].after}


def test_claims_of_a_batch_are_decided_singly(world: World) -> None:
    store = world.beat().scheduler.store
    befores = [state(f"entry {number}") for number in range(30)]
    store.add(befores)
    claims = [claim(each, START + 10, f"id {each.name}", f"id {each.name} again") for each in befores]
    for each in claims[::2]:
        store.claim([claim(each.before, START + 5)])
    for each in claims:
        store.prepare(each)
    assert store.claim(claims) == {each.before.name for each in claims[1::2]}
    wanted = [message.id for each in claims[1::2] for message in each.messages]
    assert sorted(message.id for message in world.sent()) == sorted(wanted)


def test_a_state_that_is_gone_cannot_be_claimed(world: World) -> None:
    store = world.beat().scheduler.store
    before = state()
    store.add([before])
    store.forget(["a"])
    each = claim(before, START + 10, "first")
    store.prepare(each)
    assert store.claim([each]) == set()
    assert world.sent() == []
    assert store.states() == {}


def test_more_states_than_one_statement_takes(world: World) -> None:
    store = world.beat().scheduler.store
    befores = [state(f"entry {number}") for number in range(2500)]
    store.add(befores)
    names = [each.name for each in befores]
    assert store.states(names) == {each.name: each for each in befores}
    assert store.claim([claim(each, START + 1) for each in befores]) == set(names)
    assert {each.version for each in store.states(names).values()} == {2}


def test_what_is_running(world: World) -> None:
    store = world.beat().scheduler.store
    before = state()
    store.add([before])
    each = claim(before, START + 10, "first")
    store.prepare(each)
    store.claim([each])
    assert store.running(["first", "second"]) == {"first"}
    broker = world.beats[0].app.broker
    (delivery,) = broker.reserve("worker", ["celery"], 1, 17)
    assert store.running(["first", "second"]) == {"first"}
    broker.settle([Settlement(delivery, Verb.ACK)])
    assert store.running(["first", "second"]) == set()


@pytest.mark.parametrize("skew", [-5.0, 0.0, 5.0])
def test_time_is_the_servers(world: World, skew: float) -> None:
    if world.kind == "memory":
        pytest.skip("there is no server")
    store = world.beat().scheduler.store
    broker: Any = world.beats[0].app.broker
    broker.server_clock._asked_at = None
    if broker.transaction_alias and broker.database.vendor == "sqlite":
        pytest.skip("SQLite has no clock of its own")
    broker.clock = lambda: time.time() + skew
    assert abs(store.now() - time.time()) < 0.5


def test_a_claim_stays_the_entrys_own(world: World) -> None:
    one, two = world.beat(every_second := {"a": every(1)}), world.beat(every_second, skew=5)
    world.run(timedelta(minutes=1).total_seconds())
    assert world.slots("a") == [float(each) for each in range(1, 61)]
    assert one.state("a") == two.state("a")
