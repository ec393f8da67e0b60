"""Signatures: calls written down, changed, linked and made later."""

from __future__ import annotations

import json
import pickle
from datetime import datetime, timezone
from typing import Any

import pytest

from django_tasks import App, Signature, shared_task, signature, states
from django_tasks.exceptions import NotRegistered
from tests.running import app_of_test, drain, message_of, waiting
from tests.testapp.tasks import add, echo, fail

pytestmark = pytest.mark.usefixtures("memory_app")


def test_its_form_is_celerys() -> None:
    """The six keys of celery-wire, section 5.1, so that it travels as it is."""
    sig = add.signature((1,), {"y": 2}, queue="q", priority=3)
    assert json.loads(json.dumps(sig)) == {
        "task": "tests.testapp.tasks.add", "args": [1], "kwargs": {"y": 2}, "options": {"queue": "q", "priority": 3},
        "subtask_type": None, "immutable": False,
    }  # fmt: skip
    assert (sig.task, sig.args, sig.kwargs, sig.immutable, sig.id) == (add.name, (1,), {"y": 2}, False, None)
    assert repr(sig) == "tests.testapp.tasks.add(1, y=2)"


@pytest.mark.parametrize(
    "made",
    [
        lambda: add.s(1, y=2),
        lambda: add.subtask((1,), {"y": 2}),
        lambda: signature(add, (1,), {"y": 2}),
        lambda: signature("tests.testapp.tasks.add", args=(1,), kwargs={"y": 2}),
        lambda: Signature("tests.testapp.tasks.add", (1,), {"y": 2}),
        lambda: signature(add.s(1, y=2)),
        lambda: signature(dict(add.s(1, y=2))),
        lambda: signature({"task": "tests.testapp.tasks.add", "args": [1], "kwargs": {"y": 2}, "chord_size": None}),
        lambda: pickle.loads(pickle.dumps(add.s(1, y=2))),
    ],
)
def test_ways_to_make_one(memory_app: App, made: Any) -> None:
    sig = made()
    assert isinstance(sig, Signature)
    assert {key: sig[key] for key in ("task", "args", "kwargs", "immutable")} == {
        "task": add.name, "args": (1,), "kwargs": {"y": 2}, "immutable": False,
    }  # fmt: skip
    result = sig.delay()
    drain(memory_app)
    assert result.get() == 3


def test_arguments_that_are_added_come_first(memory_app: App) -> None:
    results = [
        echo.s(1, x=1).delay(2, y=2),
        echo.s(1, x=1).apply_async((2,), {"x": 3}),
        echo.si(1, x=1).delay(2, y=2),
        echo.signature((1,), immutable=True).delay(2),
    ]
    drain(memory_app)
    assert [each.get() for each in results] == [
        [[2, 1], {"x": 1, "y": 2}],
        [[2, 1], {"x": 3}],
        [[1], {"x": 1}],
        [[1], {}],
    ]


def test_options(memory_app: App) -> None:
    sig = add.s(1, 2).set(queue="q", priority=2)
    sig.apply_async(priority=9)
    sig.delay()
    assert [(message.queue, message.priority) for message in waiting(memory_app)] == [("q", 9), ("q", 2)]


def test_set() -> None:
    sig = add.s(1)
    assert sig.set(immutable=True, countdown=5, queue="q") is sig
    assert sig.immutable
    assert sig.options == {"countdown": 5, "queue": "q"}


def test_clone() -> None:
    sig = echo.s(1, x=1).set(queue="q")
    clone = sig.clone((0,), {"y": 2}, priority=1)
    assert (clone.args, clone.kwargs, clone.options) == ((0, 1), {"x": 1, "y": 2}, {"queue": "q", "priority": 1})
    assert (sig.args, sig.kwargs, sig.options) == ((1,), {"x": 1}, {"queue": "q"})
    assert echo.si(1).clone((0,)).args == (1,)


def test_a_clone_has_links_of_its_own() -> None:
    sig = add.s(1, 2)
    sig.link(add.s(3))
    clone = sig.clone()
    clone.link(add.s(4))
    assert len(sig.options["link"]) == 1
    assert len(clone.options["link"]) == 2


def test_calling_it_here() -> None:
    sig = add.s(2)
    assert sig(1) == 3
    assert sig.apply((5,)).get() == 7
    with pytest.raises(NotRegistered):
        signature("elsewhere.job")()


def test_freeze(memory_app: App) -> None:
    sig = add.s(1, 2)
    result = sig.freeze()
    assert sig.id == result.id
    assert sig.freeze("other").id == result.id
    assert sig.delay() == result
    drain(memory_app)
    assert result.get() == 3
    assert add.s(1).freeze("mine").id == "mine"


def test_link(memory_app: App) -> None:
    sig = add.s(1, 2)
    callback = add.s(10)
    assert sig.link(callback) is callback
    sig.link(callback)  # twice is once
    sig.link(echo.si("done"))
    sig.delay()
    assert [(each.message.task, each.value) for each in drain(memory_app)] == [
        (add.name, 3), (add.name, 13), (echo.name, [["done"], {}]),
    ]  # fmt: skip


def test_links_beside_links_given_as_an_option(memory_app: App) -> None:
    sig = add.s(1, 2).set(link=add.s(10))
    sig.link(add.s(20))
    sig.delay()
    assert [outcome.value for outcome in drain(memory_app)] == [3, 13, 23]


def test_a_callback_of_a_callback(memory_app: App) -> None:
    second = add.s(100)
    first = add.s(10)
    first.link(second)
    result = add.apply_async((1, 2), link=first)
    outcomes = drain(memory_app)
    assert [outcome.value for outcome in outcomes] == [3, 13, 113]
    assert [outcome.message.parent_id for outcome in outcomes] == [None, result.id, outcomes[1].message.id]
    assert {outcome.message.root_id for outcome in outcomes} == {result.id}


def test_link_error(memory_app: App) -> None:
    failed: list[str] = []

    @shared_task
    def on_error(task_id: str) -> None:
        failed.append(task_id)

    sig = fail.s()
    errback = on_error.s()
    assert sig.link_error(errback) is errback
    result = sig.delay()
    drain(memory_app)
    assert failed == [result.id]
    result = fail.s().on_error(on_error.s()).delay()
    drain(memory_app)
    assert failed[1] == result.id


def test_a_callback_that_this_process_does_not_know(memory_app: App) -> None:
    add.apply_async((1, 2), link=signature("elsewhere.job", (5,), queue="theirs"))
    drain(memory_app)
    message = message_of(memory_app)
    assert (message.task, message.queue, message.args) == ("elsewhere.job", "theirs", [3, 5])


def test_a_signature_as_an_argument(memory_app: App) -> None:
    @shared_task
    def later(call: dict[str, Any]) -> str:
        return signature(call).delay().id

    later.delay(add.s(1, 2))
    assert [outcome.value for outcome in drain(memory_app)][1] == 3


def test_a_time_as_an_option_travels(memory_app: App) -> None:
    when = datetime(2100, 1, 1, tzinfo=timezone.utc)
    add.apply_async((1, 2), link=add.s(1).set(eta=when))
    drain(memory_app)
    assert message_of(memory_app).eta == when


def test_by_name_for_others(memory_app: App) -> None:
    result = signature("elsewhere.job").set(queue="theirs").delay(1)
    message = message_of(memory_app)
    assert (message.id, message.task, message.queue, message.args) == (result.id, "elsewhere.job", "theirs", [1])


def test_of_an_app(memory_app: App) -> None:
    sig = memory_app.signature("tests.testapp.tasks.add", (1, 2))
    with app_of_test() as other:
        result = sig.delay()
        assert result.app is memory_app
        assert waiting(other) == []
    assert message_of(memory_app).id == result.id


def test_a_task_of_an_app_is_sent_by_it(memory_app: App) -> None:
    @memory_app.task
    def job() -> int:
        return 1

    with app_of_test() as other:
        results = [job.delay(), job.s().delay(), signature(job).delay()]
        assert waiting(other) == []
    drain(memory_app)
    assert [(each.app, each.state, each.get()) for each in results] == [(memory_app, states.SUCCESS, 1)] * 3


def test_a_chain_is_not_silently_something_else() -> None:
    with pytest.raises(TypeError, match=r"chains \(a \| b\) come with a later release; a\.link\(b\)"):
        add.s(1, 2) | add.s(3)


def test_wrong_arguments() -> None:
    with pytest.raises(TypeError, match="'y'"):
        add.s(1).delay()
