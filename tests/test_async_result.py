"""Results in coroutines and in threads: ``aget``, ``await``, ``then`` and the asynchronous calls."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.management import call_command
from django.db import connection, connections, transaction

from django_tasks import App, AsyncResult, allow_join_result, shared_task, states
from django_tasks.exceptions import ImproperlyConfigured, TimeoutError
from django_tasks.outcome import TaskMeta
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


def test_then_of_an_ignored_one(app: App) -> None:
    """Nobody will ever know how it ended."""
    seen: list[str] = []
    result = add.apply_async((1, 2), ignore_result=True)
    drain(app)
    result.then(lambda _: seen.append("good"), on_error=lambda _: seen.append("bad"))
    wait_for(lambda: not [each for each in threading.enumerate() if each.name.startswith("then-")])
    assert seen == []


def test_then_without_results() -> None:
    with app_of_test(backend="disabled://") as app, pytest.raises(ImproperlyConfigured, match="No result backend"):
        app.AsyncResult("x").then(print)


def test_then_outwaits_a_backend_that_is_away(
    django_db_blocker: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory, seen = tmp_path / "disk", list[int]()
    address = {**connection.settings_dict, "ENGINE": "django.db.backends.sqlite3", "NAME": str(directory / "db"),
               "OPTIONS": {}, "HOST": "", "PORT": ""}  # fmt: skip
    connections.settings["away"] = address
    try:
        with django_db_blocker.unblock(), app_of_test(backend="django-db://away") as app:
            directory.mkdir()
            call_command("migrate", "django_tasks", database="away", verbosity=0)
            app.backend.store([TaskMeta("id", states.SUCCESS, app.backend.encode(3, states.SUCCESS))])
            connections["away"].close()
            unmounted = directory.rename(tmp_path / "unmounted")
            app.AsyncResult("id").then(lambda result: seen.append(result.get()))
            wait_for(lambda: "cannot be asked for now" in caplog.text)
            unmounted.rename(directory)
            wait_for(lambda: seen == [3])
    finally:
        connections["away"].close()
        del connections["away"]
        del connections.settings["away"]


def test_on_interval(app: App) -> None:
    calls: list[int] = []
    result = add.delay(1, 2)

    def run_at_the_third() -> None:
        calls.append(1)
        if len(calls) == 3:
            drain(app)

    assert result.get(timeout=30, interval=0.01, on_interval=run_at_the_third) == 3
    assert len(calls) == 3
    with pytest.raises(TimeoutError, match=r"had not ended after 0\.05 s"):
        add.delay(1, 2).get(timeout=0.05, interval=0.01, on_interval=lambda: calls.append(1))
    assert len(calls) > 3

    def stop() -> None:
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        add.delay(1, 2).get(interval=0.01, on_interval=stop)


def test_what_only_celerys_brokers_and_chains_use(app: App) -> None:
    result = add.delay(1, 2)
    drain(app)
    assert result.get(no_ack=False, follow_parents=False, on_message=print) == 3
    result.revoke(wait=True, timeout=1, connection=None)
    add.apply((1, 2)).revoke(wait=True, timeout=1)


def test_another_backend(app: App) -> None:
    """``AsyncResult(id, backend=...)``, for results that somebody else's app stores."""
    with app_of_test() as other:
        result = add.delay(1, 2)
        drain(other)
    assert AsyncResult(result.id, app=app).state == states.PENDING
    elsewhere = AsyncResult(result.id, app=app, backend=other.backend)
    assert (elsewhere.state, elsewhere.get(timeout=0), elsewhere.backend) == (states.SUCCESS, 3, other.backend)
