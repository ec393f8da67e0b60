"""Tasks with an ``apply_async`` of their own: beat calls it, once for each slot."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from django.db import DatabaseError, connection

from django_tasks import Task
from django_tasks.exceptions import OperationalError
from django_tasks.models import QueuedMessage
from django_tasks.registry import tasks
from tests.beat.simulation import START, Died, World, every
from tests.tables import our_tables

pytestmark = our_tables

NAME = "tests.own"


class Tenanted(Task):  # type: ignore[type-arg]
    """Adds a header to what is sent, as packages for several tenants do."""

    calls: list[dict[str, Any]]
    before: Callable[[], object] = staticmethod(lambda: None)
    after: Callable[[], object] = staticmethod(lambda: None)

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        self.calls.append({"args": args, "kwargs": kwargs, **options})
        self.before()
        options["headers"] = {**(options.get("headers") or {}), "tenant": "blue"}
        result = super().apply_async(args, kwargs, **options)
        self.after()
        return result


@pytest.fixture
def task(world: World) -> Iterator[Any]:
    """Such a task, which sends to the world's broker."""
    task = world.app().task(name=NAME, base=Tenanted)(lambda *args, **kwargs: None)
    task.calls = []
    yield task
    tasks.pop(NAME, None)


def own(seconds: Any = 10, **more: Any) -> dict[str, Any]:
    return {**every(seconds, **more), "task": NAME}


def once(what: Callable[[], object]) -> Callable[[], object]:
    """Return a function that does something when it is first called."""
    left = [what]
    return lambda: left.pop()() if left else None


def die() -> None:
    raise Died


def fail() -> None:
    raise ValueError("locked")


def test_it_is_called_once_for_each_slot(world: World, task: Any) -> None:
    for _ in range(3):
        world.beat({"a": own(), "b": every(10)})
    world.run(35)
    assert world.slots("a") == world.slots("b") == [10, 20, 30]
    assert {message.headers.get("tenant") for message in world.sent("a")} == {"blue"}
    ids = [call["task_id"] for call in task.calls]
    assert sorted(ids) == sorted(message.id for message in world.sent("a"))
    assert world.beats[0].state("a").runs == 3


def test_it_is_given_what_the_entry_says(world: World, task: Any) -> None:
    options = {"queue": "slow", "headers": {"mine": 1}, "countdown": 5}
    world.beat({"a": own(args=[1], kwargs={"k": 2}, options=options, expires=60)})
    world.run(10)
    (call,) = task.calls
    assert (list(call["args"]), call["kwargs"], call["queue"]) == ([1], {"k": 2}, "slow")
    assert call["headers"] == {"mine": 1, "periodic_task_name": "a"}
    assert call["expires"].timestamp() == START + 70
    assert "countdown" not in call  # it was counted from the world's now
    assert call["eta"].timestamp() == pytest.approx(START + 15, abs=0.5)
    (message,) = world.sent("a")
    assert (message.id, message.queue, message.headers["tenant"]) == (call["task_id"], "slow", "blue")


def test_what_was_missed_is_called_too(world: World, task: Any) -> None:
    world.beat({"a": own(catch_up="all")})
    world.stop()
    world.beat({"a": own(catch_up="all")})
    world.run(5)
    world.beats[0].next_at = world.now + 30
    world.run(31)
    assert world.slots("a") == [10, 20, 30]
    assert len(task.calls) == 3


def test_one_that_fails_is_left_out_and_spoils_no_other(
    world: World, task: Any, caplog: pytest.LogCaptureFixture
) -> None:
    world.beat({"a": own(), "b": every(10), "c": own()})
    task.before = once(fail)
    world.run(25)
    assert world.slots("b") == [10, 20]
    assert [len(world.sent("a")), len(world.sent("c"))] in ([1, 2], [2, 1])
    assert len(task.calls) == 4  # none is made twice
    (error,) = (each.getMessage() for each in caplog.records if each.levelno == logging.ERROR)
    assert "cannot be sent, its run" in error
    assert "is left out" in error
    assert "locked" in error


@pytest.mark.parametrize("place", ["before", "after"])
def test_on_one_database_it_is_one_transaction_with_the_claim(world: World, task: Any, place: str) -> None:
    if world.kind != "orm":
        pytest.skip("elsewhere the claim comes first")
    world.beat({"a": own()})
    world.beat({"a": own()})
    setattr(task, place, once(die))
    world.run(25)
    assert world.slots("a") == [10, 20]
    assert QueuedMessage.objects.count() == 2
    assert len(task.calls) == 3


def test_a_transaction_that_was_spoilt_is_no_success(world: World, task: Any, caplog: pytest.LogCaptureFixture) -> None:
    """PostgreSQL would roll it back when it is told to commit, and say nothing."""
    if world.kind != "orm":
        pytest.skip("it is no transaction elsewhere")

    def ask() -> None:
        with suppress(DatabaseError), connection.cursor() as cursor:
            cursor.execute("SELECT nothing FROM nowhere")

    world.beat({"a": own()})
    task.after = once(ask)
    world.run(25)
    spoilt = connection.vendor == "postgresql"
    assert world.slots("a") == ([20] if spoilt else [10, 20])
    assert ("its run of 2027-01-04 00:00:10.000+00:00 is left out" in caplog.text) == spoilt


def test_one_that_needs_what_is_away_is_tried_again_and_holds_up_no_other(world: World, task: Any) -> None:
    if world.kind != "orm":
        pytest.skip("elsewhere it is left out")

    def ask_another_server() -> None:
        if task.calls[-1]["headers"]["periodic_task_name"] in needing:
            raise OperationalError("it is away")

    needing = {"a", "b"}
    world.beat({name: own(catch_up="all") for name in "abc"})
    task.before = ask_another_server
    world.run(35)
    assert world.slots("c") == [10, 20, 30]
    needing.discard("b")  # and this one does not wait for the other
    world.run(2)
    assert [world.slots(name) for name in "ab"] == [[], [10, 20, 30]]
    needing.clear()
    world.run(2)
    assert world.slots("a") == [10, 20, 30]


def test_where_it_is_none_a_call_that_fails_is_not_made_again(world: World, task: Any) -> None:
    if world.kind == "orm":
        pytest.skip("it is one transaction there")

    def away() -> None:
        raise OperationalError("it is away")

    world.beat({"a": own()})
    world.beat({"a": own()})
    task.before = once(away)
    world.run(25)
    assert world.slots("a") == [20]
    assert len(task.calls) == 2


def test_a_message_is_sent_as_ever_where_the_class_has_no_apply_async_of_its_own(memory_world: World) -> None:
    class Plain(Task):  # type: ignore[type-arg]
        """One with something else."""

        def delay(self, *args: Any, **kwargs: Any) -> Any:
            raise AssertionError("beat does not call this")

    memory_world.app().task(name=NAME, base=Plain)(lambda: None)
    try:
        memory_world.beat({"a": own()})
        memory_world.run(10)
        assert memory_world.slots("a") == [10]
    finally:
        tasks.pop(NAME, None)
