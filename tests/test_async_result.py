"""Results in coroutines and in threads: ``aget``, ``await``, ``then`` and the asynchronous calls."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import transaction

from django_tasks import App, AsyncResult, allow_join_result, shared_task, states
from django_tasks.exceptions import TimeoutError
from tests.running import app_of_test, drain
from tests.testapp.tasks import add, fail
from tests.waiting import wait_for


@pytest.fixture
def app(database_app: App) -> App:
    return database_app


def test_await_a_result(app: App) -> None:
    async def main() -> list[Any]:
        result = await add.adelay(2, 3)
        other = await add.aapply_async((4, 5), queue="other")
        looking = asyncio.ensure_future(result.aget(timeout=30))
        await asyncio.sleep(0)
        await sync_to_async(drain)(app)
        return [await looking, await other, await other.aget(), other.id == AsyncResult(other.id).id]

    assert async_to_sync(main)() == [5, 9, 9, True]


def test_an_error(app: App) -> None:
    async def main() -> Any:
        result = await fail.adelay("bad")
        await sync_to_async(drain)(app)
        with pytest.raises(ValueError, match="bad"):
            await result
        return await result.aget(propagate=False)

    assert repr(async_to_sync(main)()) == "ValueError('bad')"


def test_timeout(app: App) -> None:
    async def main() -> None:
        result = await add.adelay(2, 3)
        with pytest.raises(TimeoutError, match=r"had not ended after 0\.05 s"):
            await result.aget(timeout=0.05)

    async_to_sync(main)()


def test_others_run_while_one_waits(app: App) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.001)

    async def main() -> None:
        result = await add.adelay(2, 3)
        counting = asyncio.ensure_future(count())
        with pytest.raises(TimeoutError):
            await result.aget(timeout=0.2)
        counting.cancel()

    async_to_sync(main)()
    assert turns > 1


def test_aforget_and_arevoke(app: App) -> None:
    async def main() -> list[str]:
        result, revoked = await add.adelay(2, 3), await add.adelay(2, 3)
        await revoked.arevoke()
        await sync_to_async(drain)(app)
        seen = [await sync_to_async(lambda: result.state)(), await sync_to_async(lambda: revoked.state)()]
        await result.aforget()
        return [*seen, await sync_to_async(lambda: result.state)()]

    assert async_to_sync(main)() == [states.SUCCESS, states.REVOKED, states.PENDING]


def test_aget_inside_a_task(memory_app: App) -> None:
    first = add.delay(1, 2)

    @shared_task
    async def job() -> list[Any]:
        seen: list[Any] = []
        try:
            await first.aget(timeout=1)
        except RuntimeError as exc:
            seen.append(str(exc)[:28])
        with allow_join_result():
            seen.append(await first.aget(timeout=1))
        return seen

    result = job.delay()
    drain(memory_app)
    assert AsyncResult(result.id).get() == ["Never call result.get() with", 3]


def test_aget_of_what_the_transaction_has_not_sent(app: App) -> None:
    with transaction.atomic():
        result = add.delay(1, 2)
        with pytest.raises(RuntimeError, match="is sent when the transaction"):
            async_to_sync(result.aget)(timeout=1)


def test_an_ignored_result_is_not_waited_for(memory_app: App) -> None:
    result = add.apply_async((1, 2), ignore_result=True)
    assert async_to_sync(result.aget)() is None


def test_a_coroutine_task_sends_others(memory_app: App) -> None:
    @shared_task
    async def parent() -> str:
        return (await add.adelay(1, 2)).id

    result = parent.delay()
    first, second = drain(memory_app)
    assert second.message.id == first.value
    assert second.message.parent_id == result.id
    assert [child.id for child in result.children] == [second.message.id]


def test_then(app: App) -> None:
    seen: list[tuple[str, Any, int]] = []

    def note(how: str) -> Any:
        return lambda result: seen.append((how, result.get(propagate=False), threading.get_ident()))

    good, bad = add.delay(1, 2), fail.delay("bad")
    assert good.then(note("good")) is good
    bad.then(note("never"), on_error=note("bad"))
    bad.then(note("never"))
    drain(app)
    wait_for(lambda: len(seen) == 2)
    wait_for(lambda: not [each for each in threading.enumerate() if each.name.startswith("then-")])
    assert sorted((how, repr(value)) for how, value, _ in seen) == [("bad", "ValueError('bad')"), ("good", "3")]
    assert threading.get_ident() not in [thread for _, _, thread in seen]


def test_then_of_what_has_ended() -> None:
    seen: list[int] = []
    with app_of_test() as app:
        result = add.delay(1, 2)
        drain(app)
        result.then(lambda ended: seen.append(ended.get()))
        wait_for(lambda: seen == [3])
