"""What type checkers must accept, and know; this file is read by them and never run."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from typing_extensions import assert_type

from django_tasks import App, AsyncResult, Signature, Task, allow_join_result, shared_task, signature
from django_tasks.result import EagerResult

app = App("proj")


@shared_task
def add(x: int, y: int) -> int:
    return x + y


@shared_task()
def called(x: int) -> int:
    return x


@shared_task(
    name="shop.bill", queue="q", max_retries=3, autoretry_for=(OSError,), retry_backoff=True, ignore_result=True
)
def with_options(name: str, *, times: int = 1) -> list[str]:
    return [name] * times


@shared_task(bind=True)
def bound(self: Task[..., Any], x: int) -> str:
    self.update_state(state="PROGRESS", meta={"done": x})
    if self.request.retries:
        raise self.retry(exc=ValueError(), countdown=3)
    return str(x)


@shared_task(bind=True, max_retries=5, name="other")
def bound_with_options(self: Any, x: int = 0, /, *more: int, key: str = "") -> None: ...


@app.task
def of_app(x: int) -> float:
    return x / 2


@app.task(bind=True, queue="q")
def bound_of_app(self: Any, x: int) -> float:
    return x / 2


@app.task(queue="q")
def of_app_with_options(x: int) -> float:
    return x / 2


@shared_task
async def fetch(url: str) -> bytes:
    return url.encode()


@shared_task(bind=True, queue="q")
async def bound_fetch(self: Any, url: str) -> bytes:
    return url.encode()


@app.task
async def fetch_of_app(url: str) -> bytes:
    return url.encode()


@shared_task
def anything(x: int) -> Any:
    return x


class Fetch(Task[[str], Coroutine[Any, Any, bytes]]):
    name = "fetch"

    async def run(self, url: str) -> bytes:
        return url.encode()


class Greet(Task[[str], str]):
    name = "greet"

    def run(self, whom: str) -> str:
        return f"Hello {whom}"

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None: ...


class Plain(Task):
    name = "plain"

    def run(self, x: int) -> int:
        return x


result = AsyncResult("id")
assert_type(result.get(), Any)
assert_type(result.children, list[AsyncResult[Any]])


def takes_any(task: Task, result: AsyncResult) -> None:
    task.delay(1, "two")
    result.get()


greet: Greet = app.register_task(Greet())

takes_any(add, add.delay(1, 2))
assert_type(add(1, 2), int)
assert_type(add.delay(1, 2), AsyncResult[int])
assert_type(add.delay(x=1, y=2).get(), int)
assert_type(add.delay(1, y=2).get(timeout=5, propagate=False), int)
assert_type(add.delay_on_commit(1, 2).get(), int)
assert_type(add.apply_async((1, 2), countdown=5), AsyncResult[int])
assert_type(add.apply((1, 2)), EagerResult[int])
assert_type(add.apply((1, 2)).get(), int)
assert_type(add.delay_many([(1, 2), add.s(3, 4)]), list[AsyncResult[int]])
assert_type(add.s(1), Signature)
assert_type(add.AsyncResult("id").get(), int)
assert_type(add.name, str)
assert_type(called.delay(1).get(), int)
assert_type(with_options.delay("a", times=2).get(), list[str])
assert_type(bound(1), str)
assert_type(bound.delay(1).get(), str)
assert_type(bound_with_options.delay(1, 2, 3, key="k"), AsyncResult[None])
assert_type(of_app.delay(1).get(), float)
assert_type(bound_of_app.delay(1).get(), float)
assert_type(of_app_with_options.delay(1).get(), float)
assert_type(greet.delay("you").get(), str)
assert_type(add.delay(1, 2).state, str)
assert_type(add.delay(1, 2).ready(), bool)
assert_type(add.delay(1, 2).then(print), AsyncResult[int])
assert_type(AsyncResult("id").get(), Any)
assert_type(AsyncResult[int]("id").get(), int)
assert_type(signature("name", args=(1,)).delay(), AsyncResult[Any])
assert_type(app.send_task("name", (1,)), AsyncResult[Any])

assert_type(fetch.delay("u").get(), bytes)
assert_type(fetch.delay("u").get(timeout=5, propagate=False), bytes)
assert_type(fetch.apply_async(("u",), countdown=5).wait(), bytes)
assert_type(fetch.apply(("u",)).get(), bytes)
assert_type(fetch.delay_many([("u",)])[0].get(), bytes)
assert_type(bound_fetch.delay("u").get(), bytes)
assert_type(fetch_of_app.delay("u").get(), bytes)
assert_type(Fetch().delay("u").get(), bytes)
assert_type(anything.delay(1).get(), Any)
wider: AsyncResult[object] = add.delay(1, 2)

with allow_join_result():
    pass


async def coroutine() -> None:
    assert_type(await add.delay(1, 2), int)
    assert_type(await add.delay(1, 2).aget(timeout=3), int)
    result = await add.adelay(1, 2)
    assert_type(result, AsyncResult[int])
    assert_type(await result, int)
    assert_type(await (await bound.aapply_async((1,))).aget(), str)
    await result.aforget()
    assert_type(await fetch("u"), bytes)
    assert_type(await fetch.delay("u"), bytes)
    assert_type(await fetch.delay("u").aget(timeout=3), bytes)
    assert_type(await (await fetch.adelay("u")), bytes)
