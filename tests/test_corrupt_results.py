"""Stored results that cannot be read: they are an error for whoever asks for them, and no trouble for workers."""

from __future__ import annotations

from typing import Any

import pytest

from django_tasks import App, states
from django_tasks.brokers.base import Settlement, Verb
from django_tasks.brokers.browse import DEAD, StoredMessage, Wanted
from django_tasks.exceptions import DecodeError
from django_tasks.executor import Executor
from django_tasks.models import TaskResult
from tests.running import drain, reserve
from tests.testapp.tasks import add, echo, fail

VALUE = [
    {"result": '{"half'},
    {"result": "%%%", "content_encoding": "binary"},
    {"content_type": "application/x-nothing-we-know"},
    {"content_encoding": "rot13"},
    {"content_encoding": "no-such-encoding"},
]
FACTS = [{"meta": "{"}, {"meta": "[1]"}, {"args": "{"}, {"kwargs": "\x80"}]


@pytest.fixture
def app(database_app: App) -> App:
    return database_app


def dead_letters(app: App) -> list[StoredMessage]:
    """Return them; no other messages are left."""
    assert app.broker.browser is not None
    found = app.broker.browser.messages(Wanted(), 10)
    assert {letter.state for letter in found} <= {DEAD}
    return found


@pytest.mark.parametrize("damage", VALUE, ids=str)
@pytest.mark.parametrize("redelivered", [True, False])
def test_a_worker_goes_on(app: App, damage: dict[str, Any], redelivered: bool) -> None:
    """Whether it finds the damage before it would run the task, or when it stores what its run came to."""
    result = add.apply_async((1, 2), link=echo.s())
    (delivery,) = reserve(app)
    outcome = Executor(app).run(delivery)
    assert outcome.meta is not None
    app.backend.store([outcome.meta])  # and then the worker dies
    delivery.redelivered = redelivered
    app.broker.settle([Settlement(delivery, Verb.RETURN)])
    TaskResult.objects.update(**damage)
    other = add.delay(3, 4)
    assert [outcome.message.task for outcome in drain(app)] == [add.name, add.name]  # and nothing follows
    assert other.get() == 7
    letters = {letter.id: letter.reason for letter in dead_letters(app)}
    if redelivered:
        assert letters.keys() == {result.id}
        assert "Its stored result cannot be read: " in letters[result.id]
    else:
        assert letters == {}
    with pytest.raises(DecodeError):
        result.get(timeout=0)
    assert result.state == states.SUCCESS


@pytest.mark.parametrize("damage", FACTS, ids=str)
def test_facts_for_people_are_left_out(app: App, damage: dict[str, Any]) -> None:
    result = add.delay(1, y=2)
    drain(app)
    TaskResult.objects.update(**damage)
    assert result.get(timeout=0) == 3
    assert result.children == []
    assert result.args == (None if "args" in damage else [1])
    assert result.kwargs == (None if "kwargs" in damage else {"y": 2})


def test_an_error_of_no_known_form(app: App) -> None:
    """Such as one whose module is no name: the worker that meets it goes on."""
    result = fail.apply_async(link_error=echo.s())
    (delivery,) = reserve(app)
    outcome = Executor(app).run(delivery)
    assert outcome.meta is not None
    app.backend.store([outcome.meta])
    delivery.redelivered = True
    app.broker.settle([Settlement(delivery, Verb.RETURN)])
    TaskResult.objects.update(result='{"exc_type": "E", "exc_module": 5, "exc_message": 7}')
    assert [outcome.state for outcome in drain(app)] == [states.FAILURE]
    assert [letter.id for letter in dead_letters(app)] == [result.id]
    assert result.failed()
