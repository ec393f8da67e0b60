"""What every result backend does, each in the same way; where they differ, an attribute of their ``Kind`` says so."""

from __future__ import annotations

import decimal
import threading
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest

from django_tasks import states
from django_tasks.backends.base import UNFINISHED_AGE, ResultBackend, utc_now
from django_tasks.backends.disabled import DisabledBackend
from django_tasks.exceptions import ContentDisallowed, EncodeError, ImproperlyConfigured, TimeoutError
from django_tasks.message import Message
from django_tasks.outcome import Outcome, TaskMeta
from django_tasks.states import FAILURE, RETRY, REVOKED, STARTED, SUCCESS
from tests.backends.conftest import ACCEPT, Kind
from tests.tables import our_tables
from tests.threads import meanwhile, together
from tests.waiting import wait_for

pytestmark = our_tables

NOW = datetime(2026, 11, 21, 12, 30, 15, 123456, tzinfo=timezone.utc)


def ended(backend: ResultBackend, task_id: str = "id", value: Any = 1, state: str = SUCCESS, **fields: Any) -> TaskMeta:
    return TaskMeta(task_id, state, backend.encode(value, state), date_done=utc_now(NOW.timestamp()), **fields)


def the(backend: ResultBackend, task_id: str = "id") -> TaskMeta:
    return backend.get([task_id])[task_id]


# -- storing and getting


def test_a_meta_comes_back_as_it_was_stored(backend: ResultBackend) -> None:
    meta = TaskMeta(
        "id", SUCCESS, backend.encode({"a": [1, None]}, SUCCESS), None, [["child", None], None], NOW,
        NOW - timedelta(seconds=2.5), "group", "parent", "app.task", [1, "ü"], {"k": 2.5}, "celery@host", 3, "queue",
    )  # fmt: skip
    assert backend.store([meta]) == [meta]
    stored = the(backend)
    assert stored == meta
    assert backend.decode(stored) == {"a": [1, None]}


def test_least_of_all(backend: ResultBackend) -> None:
    backend.store([TaskMeta("id", STARTED)])
    stored = the(backend)
    assert (stored.status, stored.date_done, stored.children) == (STARTED, None, [])
    assert backend.decode(stored) is None


def test_unknown_ids(backend: ResultBackend) -> None:
    assert backend.get([]) == {}
    assert backend.get(["unknown"]) == {}
    assert backend.store([]) == []
    backend.forget([])
    backend.forget(["unknown"])


def test_what_the_caller_changes_afterwards_is_not_stored(backend: ResultBackend) -> None:
    meta = TaskMeta("id", STARTED, worker="one")
    backend.store([meta])
    meta.status = SUCCESS
    the(backend).status = FAILURE
    assert the(backend).status == STARTED


def test_many_at_once(backend: ResultBackend) -> None:
    metas = [ended(backend, str(number), number) for number in range(1234)]
    assert backend.store(metas) == metas
    found = backend.get([meta.task_id for meta in metas] + ["unknown"])
    assert len(found) == len(metas)
    assert all(backend.decode(found[meta.task_id]) == int(meta.task_id) for meta in metas)
    backend.forget([meta.task_id for meta in metas[1:]])
    assert list(backend.get([meta.task_id for meta in metas])) == ["0"]


@pytest.mark.parametrize(
    "task_id", ["two words", "Ünique \U0001f40d", "i" * 255, "%s'\"\\", "line\nbreak", "\U0001f40d" * 255]
)
def test_ids_of_all_kinds(backend: ResultBackend, task_id: str) -> None:
    backend.store([ended(backend, task_id), ended(backend, "other")])
    assert the(backend, task_id).task_id == task_id
    backend.forget([task_id])
    assert list(backend.get([task_id, "other"])) == ["other"]


def test_ids_are_told_apart_by_case(backend: ResultBackend) -> None:
    backend.store([ended(backend, "abc", 1), ended(backend, "ABC", 2), ended(backend, "äbc", 3)])
    found = backend.get(["abc", "ABC", "Abc", "äbc"])
    assert {task_id: backend.decode(meta) for task_id, meta in found.items()} == {"abc": 1, "ABC": 2, "äbc": 3}


# -- values


@pytest.mark.parametrize(
    "value",
    [
        None, 0, "", "text", "zwölf \U0001f40d \U0001f389", "nul \0 nul", "\u2028'\"\\%s", [1, [2, {}]], {"k": None},
        1.5, 2**80, decimal.Decimal("1.10"), uuid.UUID(int=5), NOW, b"\x00\xff", "x" * 900_000,
    ],
)  # fmt: skip
def test_values(backend: ResultBackend, value: Any) -> None:
    backend.store([ended(backend, value=value)])
    assert backend.decode(the(backend)) == value


@pytest.mark.parametrize("serializer", ["json", "pickle", "yaml"])
@pytest.mark.parametrize("value", [[1, "zwölf \0 \U0001f40d"], {"k": None}], ids=["list", "dict"])
def test_serializers(kind: Kind, serializer: str, value: Any) -> None:
    backend = kind.make(serializer=serializer)
    backend.store([ended(backend, value=value), ended(backend, "failed", ValueError("\0", 1), FAILURE)])
    assert backend.decode(the(backend)) == value
    error = backend.decode(the(backend, "failed"))
    assert isinstance(error, ValueError)
    assert error.args == ("\0", 1)


def test_a_value_that_may_not_be_read(kind: Kind) -> None:
    pickling = kind.make(serializer="pickle")
    careful = kind.make(accept=ACCEPT - {"application/x-python-serialize"})
    careful.store([ended(pickling, value={1, 2})])
    with pytest.raises(ContentDisallowed, match="pickle"):
        careful.decode(the(careful))


def test_errors_and_tracebacks_with_all_characters(backend: ResultBackend) -> None:
    """PostgreSQL stores no NUL, and nobody stores half a surrogate pair; a traceback may hold both."""
    traceback = "Traceback:\n  \0 \udcff zwölf \U0001f40d %s"
    backend.store([ended(backend, "id", KeyError("a\0b", "\U0001f40d"), FAILURE, traceback=traceback, args=("\0",))])
    stored = the(backend)
    assert backend.decode(stored).args == ("a\0b", "\U0001f40d")
    assert stored.traceback is not None
    assert "zwölf \U0001f40d %s" in stored.traceback


def test_arguments_that_cannot_be_written_are_shown_as_text(backend: ResultBackend) -> None:
    backend.store([ended(backend, args=[threading.Lock], kwargs={"k": {"\ud800"}})])
    assert the(backend).status == SUCCESS


# -- the first end wins


@pytest.mark.parametrize("first", sorted(states.READY_STATES))
@pytest.mark.parametrize("later", [*sorted(states.READY_STATES), STARTED, RETRY, "PROGRESS"])
def test_the_first_end_stays(backend: ResultBackend, first: str, later: str) -> None:
    error = ValueError("first") if first != SUCCESS else "first"
    backend.store([ended(backend, value=error, state=first, worker="one")])
    loser = TaskMeta("id", later, backend.encode("later", SUCCESS), worker="two")
    other = ended(backend, "other")
    [winner, own] = backend.store([loser, other])
    assert own is other
    assert (winner.status, winner.worker) == (first, "one")
    assert (the(backend).status, the(backend).worker) == (first, "one")


def test_states_follow_each_other_until_the_end(backend: ResultBackend) -> None:
    for state in (STARTED, RETRY, STARTED, "PROGRESS", SUCCESS):
        meta = TaskMeta("id", state, backend.encode(state, state), worker=state)
        assert backend.store([meta])[0] is meta
        assert (the(backend).status, the(backend).worker) == (state, state)


def test_a_retry_is_its_own_winner(backend: ResultBackend) -> None:
    """An outcome takes the winner over; a retry that did not recognise its own meta would not be sent."""
    backend.store([TaskMeta("id", STARTED, worker="one")])
    meta = TaskMeta("id", RETRY, backend.encode(ValueError("\0"), RETRY), "tb \0", worker="w" * 300, name="n" * 300)
    assert backend.store([meta])[0] is meta
    assert backend.store([meta])[0] is meta


def test_two_ends_in_one_call(backend: ResultBackend) -> None:
    first, second, third = ended(backend, value=1), ended(backend, value=2), TaskMeta("id", STARTED)
    winners = backend.store([first, second, third])
    assert [backend.decode(winner) for winner in winners] == [1, 1, 1]
    assert backend.decode(the(backend)) == 1


def test_a_state_and_the_end_in_one_call(backend: ResultBackend) -> None:
    backend.store([TaskMeta("id", STARTED), ended(backend, value=1)])
    assert the(backend).status == SUCCESS


def test_of_ends_that_are_stored_at_the_same_time_one_wins(kind: Kind, backend: ResultBackend) -> None:
    if not kind.compares:
        pytest.skip("a cache cannot compare and set")
    ids = [str(number) for number in range(25)]

    def store(who: int) -> dict[str, str]:
        order = ids if who % 2 else ids[::-1]
        metas = [ended(backend, each, who, worker=str(who)) for each in order]
        winners = [winner for n in range(0, len(ids), 5) for winner in backend.store(metas[n : n + 5])]
        return {winner.task_id: winner.worker for winner in winners}

    results = together(*(partial(store, who) for who in range(5)))
    stored = {task_id: meta.worker for task_id, meta in backend.get(ids).items()}
    assert len(stored) == len(ids)
    assert results == [stored] * 5


def test_forgotten_ids_can_end_again(backend: ResultBackend) -> None:
    backend.store([ended(backend, value=1)])
    backend.forget(["id"])
    assert backend.get(["id"]) == {}
    again = ended(backend, value=2)
    assert backend.store([again])[0] is again
    assert backend.decode(the(backend)) == 2


def test_an_outcome_becomes_the_earlier_end(backend: ResultBackend) -> None:
    backend.store([ended(backend, value=1, traceback="earlier")])
    message = Message("task", "id")
    late = Outcome(message, FAILURE, ValueError(), "later", ended(backend, value=ValueError(), state=FAILURE))
    late.next_run = message
    own = Outcome(Message("task", "own"), SUCCESS, 5, meta=ended(backend, "own", 5))
    unstored = Outcome(Message("task", "none"), SUCCESS, 6)
    backend.settle_winners([late, unstored, own])
    assert (late.state, late.value, late.traceback, late.next_run) == (SUCCESS, 1, "earlier", None)
    assert (own.state, own.value, unstored.value) == (SUCCESS, 5, 6)


# -- expiry


def test_old_ends_are_pruned_in_small_batches(kind: Kind) -> None:
    if not kind.prunes:
        pytest.skip("expires by itself")
    backend = kind.make(expires=3600)
    now = datetime.now(timezone.utc)
    for number in range(10):
        age = 7200 if number < 7 else 1800
        backend.store([TaskMeta(str(number), SUCCESS, date_done=now - timedelta(seconds=age))])
    assert [backend.prune(3) for _ in range(4)] == [3, 3, 1, 0]
    assert sorted(backend.get([str(number) for number in range(10)])) == ["7", "8", "9"]


def test_kept_for_ever(kind: Kind) -> None:
    backend = kind.make(expires=None)
    backend.store([TaskMeta("id", SUCCESS, date_done=NOW - timedelta(days=10000)), TaskMeta("started", STARTED)])
    assert backend.prune(100) == 0
    assert set(backend.get(["id", "started"])) == {"id", "started"}


def test_unfinished_tasks_outlive_results(kind: Kind) -> None:
    """A task may wait and run longer than results are kept; a lost one leaves its state for a month."""
    backend = kind.make(expires=60)
    assert backend.expires_unfinished == UNFINISHED_AGE
    assert kind.make(expires=2 * UNFINISHED_AGE).expires_unfinished == 2 * UNFINISHED_AGE
    long_ago = datetime.now(timezone.utc) - timedelta(hours=1)
    backend.store([TaskMeta("id", RETRY, date_done=long_ago), TaskMeta("other", STARTED, date_started=long_ago)])
    assert backend.prune(100) == 0
    assert set(backend.get(["id", "other"])) == {"id", "other"}


# -- waiting


def test_waiting_yields_each_as_it_ends(backend: ResultBackend) -> None:
    backend.store([ended(backend, "1")])
    waiting = backend.wait(["1", "2", "1", "3"], 20, None)
    assert next(waiting).task_id == "1"
    backend.store([ended(backend, "3", state=REVOKED, value=ValueError())])
    assert next(waiting).status == REVOKED
    backend.store([ended(backend, "2")])
    assert [meta.task_id for meta in waiting] == ["2"]


def test_waiting_for_what_another_thread_stores(backend: ResultBackend) -> None:
    seen: list[str] = []

    def wait() -> None:
        seen.extend(meta.task_id for meta in backend.wait(["1", "2"], 30, 0.01))

    with meanwhile(wait):
        backend.store([ended(backend, "2")])
        wait_for(lambda: seen == ["2"])
        backend.store([ended(backend, "1")])
    assert seen == ["2", "1"]


def test_waiting_ends(backend: ResultBackend) -> None:
    backend.store([ended(backend, "1"), TaskMeta("2", STARTED)])
    seen: list[str] = []
    with pytest.raises(TimeoutError):
        seen.extend(meta.task_id for meta in backend.wait(["1", "2"], 0.05, None))
    with pytest.raises(TimeoutError):
        list(backend.wait(["2"], 0, None))
    assert list(backend.wait([], 0, None)) == []


def test_closing_and_going_on(backend: ResultBackend) -> None:
    backend.store([ended(backend)])
    backend.close()
    assert the(backend).status == SUCCESS


# -- what cannot be stored


def test_a_value_that_cannot_be_written(backend: ResultBackend) -> None:
    with pytest.raises(EncodeError):
        backend.encode(object(), SUCCESS)


def test_disabled() -> None:
    backend = DisabledBackend("disabled://", accept=ACCEPT)
    metas: Sequence[TaskMeta] = [TaskMeta("id", SUCCESS)]
    assert not backend.stores
    assert backend.store(metas) == metas
    backend.forget(["id"])
    assert backend.prune(10) == 0
    with pytest.raises(ImproperlyConfigured, match="RESULT_BACKEND is 'disabled://'"):
        backend.get(["id"])
    with pytest.raises(ImproperlyConfigured, match="RESULT_BACKEND"):
        list(backend.wait(["id"], 1, None))
