"""What type checkers must refuse: each line that ends in "error", and no other; this file is never run."""

from __future__ import annotations

from typing import Any

from django_tasks import App, Task, shared_task

app = App("proj")


@shared_task
def add(x: int, y: int) -> int:
    return x + y


@shared_task(queue="q", max_retries=3)
def with_options(name: str, *, times: int = 1) -> list[str]:
    return [name] * times


@shared_task(bind=True)
def bound(self: Task[..., Any], x: int) -> str:
    return str(x)


@shared_task(bind=True, max_retries=5)
def bound_with_options(self: Any, x: int) -> None: ...


@app.task
def of_app(x: int) -> float:
    return x / 2


@app.task(bind=True)
def bound_of_app(self: Any, x: int) -> float:
    return x / 2


@shared_task
async def fetch(url: str) -> bytes:
    return url.encode()


@shared_task
def anything(x: int) -> Any:
    return x


class Greet(Task[[str], str]):
    def run(self, whom: str) -> str:
        return f"Hello {whom}"


add.delay("x")  # error
add.delay(1)  # error
add.delay(1, 2, 3)  # error
add.delay(1, "2")  # error
add.delay(1, z=2)  # error
add("x", 2)  # error
add.delay_on_commit(1)  # error
with_options.delay("a", 2)  # error
with_options.delay(times=2)  # error
bound.delay()  # error
bound.delay("x")  # error
bound.delay(bound, 1)  # error
bound_with_options.delay("x")  # error
of_app.delay("x")  # error
bound_of_app.delay()  # error
Greet().delay(1)  # error
add.delay(1, 2).get(timeout="5")  # error
print(add.delay(1, 2).nothing)  # error
text: str = add.delay(1, 2).get()  # error
texts: list[str] = [each.get() for each in add.delay_many([(1, 2)])]  # error
number: int = bound.delay(1).get()  # error
add.delay(1, 2).get().upper()  # error
fetch.delay(1)  # error
fetch.delay("u").get(timeout="5")  # error
fetched: str = fetch.delay("u").get()  # error
anything.delay("x")  # error


async def coroutine() -> None:
    await add.adelay("x", 2)  # error
    text: str = await add.delay(1, 2)  # error
    other: str = await add.delay(1, 2).aget()  # error
    third: str = await fetch.delay("u").aget()  # error
    fourth: str = await fetch.delay("u")  # error
    print(text, other, third, fourth)
