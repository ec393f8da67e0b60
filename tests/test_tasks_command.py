"""``manage.py tasks``, and the operations behind it, on real brokers and result backends."""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from django_tasks import App, shared_task, states
from django_tasks.backends.orm import ORMBackend
from django_tasks.brokers.base import Beat, Delivery, Settlement, Verb, new_lease
from django_tasks.brokers.browse import DEAD, DELAYED, RUNNING, WAITING, StoredMessage, Wanted
from django_tasks.context import current_request
from django_tasks.exceptions import OperationalError, TaskRevokedError, WorkerLostError
from django_tasks.finish import failure, finish
from django_tasks.management.tables import Column, distance, facts, in_words, printable, table
from django_tasks.message import Message
from django_tasks.models import QueuedMessage, TaskResult
from django_tasks.operations import act, look
from django_tasks.operations.look import OperationFailed
from tests.processes import WorkerProcess, environment
from tests.running import advance, drain, reserve
from tests.testapp.tasks import add, echo, fail, slow
from tests.waiting import wait_for

ADD, FAIL, SLOW = "tests.testapp.tasks.add", "tests.testapp.tasks.fail", "tests.testapp.tasks.slow"


@pytest.fixture(params=["memory_app", "database_app"])
def app(request: pytest.FixtureRequest) -> App:
    """The current app, once in memory and once on the test database."""
    return request.getfixturevalue(request.param)


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing say how wide the output may be: pytest-xdist does."""
    monkeypatch.delenv("COLUMNS", raising=False)


# --- Helpers ----------------------------------------------------------------------------------------------------------


@dataclass
class Ran:
    """How a command went."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def tasks(*arguments: Any) -> Ran:
    """Run ``manage.py tasks`` in this process."""
    out, err = io.StringIO(), io.StringIO()
    try:
        call_command("tasks", *map(str, arguments), stdout=out, stderr=err)
    except CommandError as exc:
        return Ran(exc.returncode, out.getvalue(), f"{err.getvalue()}{exc}")
    return Ran(0, out.getvalue(), err.getvalue())


def ok(*arguments: Any) -> str:
    """Run it, and return what people read."""
    ran = tasks(*arguments)
    assert (ran.code, ran.err) == (0, ""), ran.err
    return ran.out


def data(*arguments: Any) -> Any:
    """Run it with ``--json``, and return the document."""
    return json.loads(ok(*arguments, "--json"))


def bury(app: App, result: Any) -> str:
    """Make a dead letter of a waiting call, as a janitor does; return its id."""
    assert app.broker.control is not None
    (delivery,) = app.broker.control.take([result.id], new_lease())
    finish(app, [failure(app, delivery, WorkerLostError("4 workers died"), verb=Verb.DEAD)])
    return str(result.id)


def messages(app: App, *states: str, **wanted: Any) -> list[StoredMessage]:
    """Return what the browser shows, of these states or of all."""
    assert app.broker.browser is not None
    return app.broker.browser.messages(Wanted(**({"states": states} if states else {}), **wanted), 1000, payload=True)


def ids(found: Sequence[Any]) -> list[str]:
    return [each.id for each in found]


def alive(app: App, node: str = "celery@one", queues: Sequence[str] = ("celery",)) -> None:
    """Let a worker give a sign of life."""
    for processed in (0, 12):
        app.broker.heartbeat([Beat(f"{node}/4711-abc", node, 4711, queues, processed=processed)])


# --- Tables -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (-3, "0 s"),
        (0.9, "0 s"),
        (59, "59 s"),
        (60, "1 m"),
        (200, "3 m 20 s"),
        (3600, "1 h"),
        (3659, "1 h"),
        (3660, "1 h 1 m"),
        (86400, "1 d"),
        (2 * 86400 + 3 * 3600 + 59 * 60, "2 d 3 h"),
        (400 * 86400, "400 d"),
    ],
)
def test_spans_of_time_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_distances() -> None:
    assert distance(200) == "in 3 m 20 s"
    assert distance(-200) == "3 m 20 s ago"


COLUMNS = [Column("NAME", least=6, keep_end=True), Column("COUNT", right=True), Column("NOTE", least=6, optional=True)]
ROWS = [("project.tasks.load", 1234567, "a long remark"), ("b", None, "")]


def test_a_table_in_full() -> None:
    assert table(COLUMNS, ROWS) == (
        "NAME                    COUNT  NOTE\n"
        "project.tasks.load  1,234,567  a long remark\n"
        "b                           -"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (44, "project.tasks.load  1,234,567  a long remark"),
        (43, "…oject.tasks.load  1,234,567  a long remark"),
        (36, "…tasks.load  1,234,567  a long rema…"),
        (25, "….load  1,234,567  a lon…"),
        (24, "…t.tasks.load  1,234,567"),
        # What is too wide even so is left to the terminal.
        (10, "….load  1,234,567"),
    ],
)
def test_a_table_in_a_narrow_terminal(width: int, line: str) -> None:
    assert table(COLUMNS, ROWS, width).splitlines()[1] == line


def test_what_does_not_fit_stands_below() -> None:
    columns = [Column("ID"), Column("NOTE", least=10, most=20, below=True)]
    rows = [("a" * 10, "the end of the world is near"), ("b" * 10, "")]
    assert table(columns, rows, 20) == "ID\naaaaaaaaaa\n    the end of the …\nbbbbbbbbbb"
    assert table(columns, rows).splitlines()[1] == "aaaaaaaaaa  the end of the worl…"


def test_text_cannot_play_tricks_with_the_terminal() -> None:
    assert printable("a\x1b[31mb\nc\td\x9b") == "a\\x1b[31mb c\\td\\x9b"
    assert printable("grüße 日本") == "grüße 日本"
    assert printable("one\n  two\x07", lines=True) == "one\n  two\\x07"


def test_facts_leave_out_what_says_nothing() -> None:
    when = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    told = facts({"sent_at": when, "args": [], "nothing": None, "count": 0, "headers": {}}, when.timestamp() + 200)
    assert told == "Sent at          2026-01-02 03:04:05 UTC (3 m 20 s ago)\nArgs             []"


# --- Browsing, on each broker -----------------------------------------------------------------------------------------


def test_messages_by_where_they_are(app: App) -> None:
    dead = bury(app, add.apply_async((1, 1)))
    running = add.apply_async((2, 2), priority=3).id
    (delivery,) = reserve(app)
    waiting = add.apply_async((3, 3), queue="mail").id
    delayed = fail.apply_async(countdown=100).id
    assert ids(messages(app)) == [delayed, waiting, running, dead]
    assert [each.state for each in messages(app)] == [DELAYED, WAITING, RUNNING, DEAD]
    assert ids(messages(app, DEAD, RUNNING)) == [running, dead]
    assert ids(messages(app, queue="mail")) == [waiting]
    assert ids(messages(app, task=FAIL)) == [delayed]
    assert ids(messages(app, ids=[dead, waiting, "nobody"])) == [waiting, dead]
    assert messages(app, ids=[]) == []
    held = messages(app, RUNNING)[0]
    assert (held.worker, held.priority, held.task, held.queue) == ("test@localhost", 3, ADD, "celery")
    assert held.reserved_at == pytest.approx(app.broker.now(), abs=20)
    assert messages(app, DELAYED)[0].due_at == pytest.approx(app.broker.now() + 100, abs=20)
    assert messages(app, DEAD)[0].reason == "4 workers died"
    assert delivery.message.id == running


def test_messages_page_by_page(app: App) -> None:
    sent = [add.delay(n, n).id for n in range(5)]
    browser = app.broker.browser
    assert browser is not None
    first = browser.messages(Wanted(), 2)
    second = browser.messages(Wanted(), 2, first[-1])
    third = browser.messages(Wanted(), 2, second[-1])
    assert ids([*first, *second, *third]) == sent[::-1]
    assert browser.messages(Wanted(), 2, third[-1]) == []
    assert [each.payload for each in first] == [None, None]
    assert act.read(app, messages(app)[0]).args == [4, 4]


def test_workers_by_their_heartbeats(app: App) -> None:
    assert look.workers(app) == []
    alive(app)
    (worker,) = look.workers(app)
    assert (worker.identity, worker.node, worker.alive) == ("celery@one/4711-abc", "celery@one", True)
    advance(app, app.broker.lease + 60)
    (worker,) = look.workers(app)
    assert not worker.alive
    assert worker.age == pytest.approx(app.broker.lease + 60, abs=20)


# --- Dead letters, on each broker -------------------------------------------------------------------------------------


def test_a_dead_letter_runs_after_all(app: App) -> None:
    result = add.delay(2, 3)
    bury(app, result)
    assert result.state == states.FAILURE
    advance(app, 1000)
    assert act.resend(app, [result.id]) == [result.id]
    (stored,) = messages(app)
    assert (stored.state, stored.reason, stored.deaths, stored.redelivered) == (WAITING, "", 0, True)
    assert stored.sent_at == pytest.approx(app.broker.now(), abs=20)
    assert app.broker.sizes()["celery"].oldest < 500
    assert app.AsyncResult(result.id).state == states.PENDING
    drain(app)
    assert app.AsyncResult(result.id).get(timeout=5) == 5
    assert messages(app) == []


def test_the_chain_of_a_dead_letter_goes_on(app: App) -> None:
    steps = [{**add.s(n), "options": {"task_id": str(n)}} for n in (20, 10)]
    embed = {"callbacks": None, "errbacks": None, "chain": steps, "chord": None}
    app.broker.send([Message(ADD, "first", [1, 2], embed=embed)])
    bury(app, app.AsyncResult("first"))
    assert [app.AsyncResult(each).state for each in ("10", "20")] == [states.FAILURE] * 2
    assert act.resend(app, ["first"]) == ["first"]
    assert [app.AsyncResult(each).state for each in ("first", "10", "20")] == [states.PENDING] * 3
    drain(app)
    assert app.AsyncResult("20").get(timeout=0) == 33


def test_a_dead_letter_that_workers_died_of_still_runs_alone(app: App) -> None:
    result = add.delay(2, 3)
    for _ in range(3):
        (delivery,) = reserve(app, 1)
        die(app, delivery)
        advance(app, 2)
    bury(app, result)
    assert messages(app)[0].deaths == 2
    assert act.resend(app) == [result.id]
    (stored,) = messages(app)
    assert (stored.state, stored.alone, stored.deaths) == (WAITING, True, 0)
    add.delay(1, 1)
    advance(app, 2)
    assert ids([each.message for each in reserve(app)]) == [result.id]


def die(app: App, delivery: Delivery) -> None:
    """Let a worker die with a message."""
    assert app.broker.settle([Settlement(delivery, Verb.RETURN, died=True)]) == []


def test_resend_chooses(app: App) -> None:
    first, second, third = bury(app, add.delay(1, 1)), bury(app, fail.delay()), bury(app, add.delay(2, 2))
    assert act.resend(app, [second]) == [second]
    assert act.resend(app, task=ADD) == [third, first]
    assert act.resend(app) == []
    assert ids(messages(app, WAITING)) == [third, second, first]


def test_all_or_none_of_the_ids(app: App) -> None:
    dead, waiting = bury(app, add.delay(1, 1)), add.delay(2, 2).id
    for operation in (act.resend, act.drop):
        with pytest.raises(OperationFailed, match=f"Task {waiting} is no dead letter: it is waiting"):
            operation(app, [dead, waiting])
        with pytest.raises(OperationFailed, match="Nothing is known of task 'nobody'"):
            operation(app, [dead, "nobody"])
        with pytest.raises(OperationFailed, match=f"Task {dead} is no dead letter of other.task: it is dead"):
            operation(app, [dead], "other.task")
    assert ids(messages(app, DEAD)) == [dead]


def test_only_what_is_still_dead_is_sent_back(app: App) -> None:
    bury(app, add.delay(1, 1))
    letters = messages(app, DEAD)
    browser = app.broker.browser
    assert browser is not None
    assert browser.resend(letters, app.backend) == [letters[0].id]
    drain(app)
    assert browser.resend(letters, app.backend) == []
    assert browser.drop(letters) == 0
    assert app.AsyncResult(letters[0].id).result == 2


def test_drop_keeps_the_result(app: App) -> None:
    first, second, third = bury(app, add.delay(1, 1)), bury(app, fail.delay()), bury(app, add.delay(2, 2))
    assert act.drop(app, [third]) == 1
    assert act.drop(app, task=FAIL) == 1
    assert ids(messages(app)) == [first]
    assert act.drop(app) == 1
    assert [app.AsyncResult(each).state for each in (first, second, third)] == [states.FAILURE] * 3


class OneThatFails(ORMBackend):
    """A result backend whose server goes away at the wrong moment."""

    def forget(self, task_ids: Sequence[str]) -> None:
        super().forget(task_ids)
        raise OperationalError("gone away")


def test_resend_is_atomic(database_app: App) -> None:
    app = database_app
    dead = bury(app, add.delay(1, 1))
    assert app.broker.browser is not None
    failing = OneThatFails("django-db://", accept=app.backend.accept)
    with pytest.raises(OperationalError, match="gone away"):
        app.broker.browser.resend(messages(app, DEAD), failing)
    assert ids(messages(app, DEAD)) == [dead]
    assert app.AsyncResult(dead).state == states.FAILURE


def test_two_people_resend_at_once(database_app: App) -> None:
    app = database_app
    dead = [bury(app, add.delay(n, n)) for n in range(30)]
    sent: list[list[str]] = []
    barrier = threading.Barrier(2)

    def resend() -> None:
        with closing(connection):
            barrier.wait(10)
            sent.append(act.resend(app))

    people = [threading.Thread(target=resend) for _ in range(2)]
    for each in people:
        each.start()
    for each in people:
        each.join(60)
    assert sorted(sent[0] + sent[1]) == sorted(dead)
    assert ids(messages(app, WAITING)) == dead[::-1]


# --- Purging, revoking, running again, on each broker -----------------------------------------------------------------


def test_purge_ends_what_waits(app: App) -> None:
    dead = bury(app, add.delay(0, 0))
    running = add.delay(1, 1).id
    reserve(app)
    purged = [add.delay(2, 2), add.apply_async((3, 3), countdown=100), add.apply_async((4, 4), queue="mail")]
    assert act.purge(app, "mail") == 1
    assert purged[2].state == states.REVOKED
    assert purged[0].state == states.PENDING
    assert act.purge(app) == 2
    for result in purged:
        with pytest.raises(TaskRevokedError, match="purged"):
            result.get(timeout=5)
    assert ids(messages(app)) == [running, dead]


def test_purge_more_than_a_page(app: App) -> None:
    add.delay_many([(n, n) for n in range(act.PAGE + 5)])
    assert act.purge(app) == act.PAGE + 5
    assert messages(app) == []


def test_revoke_tells_what_was(app: App) -> None:
    running = slow.delay(1)
    reserve(app)
    waiting, delayed = add.delay(1, 1), add.apply_async((2, 2), countdown=100)
    before = act.revoke(app, [running.id, waiting.id, delayed.id])
    assert before == {running.id: RUNNING, waiting.id: WAITING, delayed.id: DELAYED}
    assert {each.state for each in (running, waiting, delayed)} == {states.REVOKED}
    assert ids(messages(app)) == [running.id]
    # A result is all that is left in the end, and has to tell what it was.
    assert (running.name, running.args) == (SLOW, [1])


def test_revoke_changes_nothing_where_it_cannot(app: App) -> None:
    waiting, dead = add.delay(1, 1).id, bury(app, fail.delay())
    with pytest.raises(OperationFailed, match="Nothing is known of task 'nobody'"):
        act.revoke(app, [waiting, "nobody"])
    with pytest.raises(OperationFailed, match="is a dead letter"):
        act.revoke(app, [waiting, dead])
    drain(app)
    with pytest.raises(OperationFailed, match="has ended as SUCCESS"):
        act.revoke(app, [waiting])
    assert app.AsyncResult(waiting).result == 2


@pytest.fixture
def rerun_of(app: App) -> Any:
    """A task that returns which call it makes again."""

    @shared_task(name="rerun_of")
    def rerun_of(*args: Any, **kwargs: Any) -> Any:
        request = current_request()
        assert request is not None
        return [request.get("rerun_of"), list(args), kwargs]

    return rerun_of


def test_rerun_names_the_call_before(app: App, rerun_of: Any) -> None:
    first = rerun_of.apply_async((1,), {"x": datetime(2026, 1, 1, tzinfo=timezone.utc)}, queue="mail")
    drain(app)
    again = act.rerun(app, first.id)
    assert again.id != first.id
    assert messages(app)[0].queue == "mail"
    drain(app)
    assert again.get(timeout=5) == [first.id, [1], {"x": datetime(2026, 1, 1, tzinfo=timezone.utc)}]
    assert first.get(timeout=5)[0] is None


def test_rerun_of_a_dead_letter_leaves_the_letter(app: App, rerun_of: Any) -> None:
    dead = bury(app, rerun_of.delay(1))
    again = act.rerun(app, dead)
    drain(app)
    assert again.get(timeout=5)[:2] == [dead, [1]]
    assert ids(messages(app)) == [dead]


def test_rerun_refuses(app: App) -> None:
    with pytest.raises(OperationFailed, match="Nothing is known"):
        act.rerun(app, "nobody")
    waiting = add.delay(1, 1).id
    with pytest.raises(OperationFailed, match="has not ended: it is waiting"):
        act.rerun(app, waiting)
    reserve(app)
    with pytest.raises(OperationFailed, match="has not ended: it is running"):
        act.rerun(app, waiting)
    app.control.revoke("never-seen")
    with pytest.raises(OperationFailed, match="does not hold its name and arguments"):
        act.rerun(app, "never-seen")
    assert ids(messages(app)) == [waiting]


def test_without_a_browser(memory_app: App) -> None:
    add.delay(1, 1)
    memory_app.broker.browser = None
    for operation in (look.workers, look.calls, act.resend, act.purge):
        with pytest.raises(OperationFailed, match=r"BROKER_URL \(memory://\) cannot list its messages"):
            operation(memory_app)
    (queue,) = look.queues(memory_app)
    assert (queue.size.waiting, queue.workers) == (1, None)
    sent = add.delay(2, 2)
    act.revoke(memory_app, [sent.id])
    assert sent.state == states.REVOKED
    assert act.tell(memory_app, act.PAUSE) == []


# --- The command: looking ---------------------------------------------------------------------------------------------


def test_queues(database_app: App) -> None:
    app = database_app
    bury(app, add.delay(0, 0))
    slow.delay(1)
    reserve(app)
    add.delay(1, 1)
    add.apply_async((2, 2), countdown=100)
    add.apply_async((3, 3), queue="mail")
    alive(app, queues=["celery", "reports"])
    alive(app, "celery@two")
    advance(app, 20)
    ran = tasks("queues")
    assert ran.out.splitlines()[0].split() == ["QUEUE", "WAITING", "DELAYED", "RUNNING", "DEAD", "OLDEST", "WORKERS"]
    assert ran.out.splitlines()[1].split() == ["celery", "1", "1", "1", "1", *ran.out.split()[12:14], "2"]
    assert ran.out.split()[13] == "s"
    assert ran.err == (
        "Note: No worker takes from mail: `manage.py runworker -Q celery,mail` does.\n"
        "Note: celery@one has been silent for 20 s; after 30 s others take over what it holds.\n"
        "Note: celery@two has been silent for 20 s; after 30 s others take over what it holds.\n"
    )
    assert ran.code == 0
    celery, mail, reports = tasks("queues", "--json").json
    assert (reports["queue"], reports["workers"]) == ("reports", 1)
    assert celery.pop("oldest") == pytest.approx(20, abs=15)
    assert celery == {"queue": "celery", "waiting": 1, "delayed": 1, "running": 1, "dead": 1, "unpublished": 0,
                      "workers": 2}  # fmt: skip
    assert (mail["waiting"], mail["workers"]) == (1, 0)
    assert (reports["waiting"], reports["oldest"]) == (0, None)


def test_workers(database_app: App) -> None:
    assert ok("workers") == "No worker is running.\n"
    alive(database_app, queues=["celery", "mail"])
    assert ok("workers").splitlines()[1].split()[:3] == ["celery@one", "4711", "12"]
    (worker,) = data("workers")
    assert worker.pop("seen") < 20
    assert worker == {"node": "celery@one", "process": "celery@one/4711-abc", "pid": 4711, "alive": True,
                      "paused": False, "queues": ["celery", "mail"], "processed": 12}  # fmt: skip
    advance(database_app, 300)
    assert re.search(r"5 m ago +silent", ok("workers"))


def test_a_pause_can_be_seen(database_app: App) -> None:
    beat = Beat("celery@one/1-a", "celery@one", 1, ["celery"], paused=True)
    database_app.broker.heartbeat([beat])
    for looking in ("workers", "queues"):
        assert tasks(looking).err == "Note: celery@one is paused; `tasks resume` lets it go on.\n"
    assert " paused " in tasks("workers").out
    assert "until `tasks resume`" in ok("pause")
    database_app.broker.heartbeat([replace(beat, paused=False)])
    assert " ready " in ok("workers")


def test_two_workers_of_one_name(database_app: App) -> None:
    for n in "12":
        database_app.broker.heartbeat([Beat(f"celery@one/janitor-{n}", "celery@one", int(n), ["celery"])])
    ran = tasks("workers")
    assert ran.out == "celery@one starts.\n"
    assert "Note: 2 workers are called celery@one," in ran.err


def test_without_a_worker(database_app: App) -> None:
    add.delay(1, 1)
    assert tasks("queues").err == "Note: No worker is running: `manage.py runworker` starts one.\n"
    add.apply_async((1, 1), queue="mail")
    assert tasks("queues").err == "Note: No worker is running: `manage.py runworker -Q celery,mail` starts one.\n"


def test_what_another_broker_has_left_behind(database_app: App, redis_url: str) -> None:
    add.delay(1, 1)
    database_app.conf.update(broker_url=redis_url, task_outbox=True)
    alive(database_app)
    left = (
        "Note: 1 message waits in django-db://default, which BROKER_URL does not name. A worker with "
        "BROKER_URL = 'django-db://default' runs what is left there.\n"
    )
    assert tasks("queues").err == left
    with transaction.atomic():
        add.delay_many([(2, 2), (3, 3)])
        QueuedMessage.objects.filter(status=QueuedMessage.OUTBOX).update(lease=0)  # as if this process were to die
    assert tasks("queues").err == "Note: 2 messages wait in the outbox of database 'default'.\n" + left
    database_app.conf.update(task_outbox=False)
    assert tasks("queues").err == (
        f"{left}Note: 2 messages wait in the outbox of database 'default', and no worker publishes them. Workers with "
        "TASK_OUTBOX = True do.\n"
    )
    database_app.conf.update(broker_url="django-db://")
    assert "waits in django-db" not in tasks("queues").err


def test_queues_name_the_tasks_that_nobody_knows(app: App) -> None:
    app.send_task("shop.tasks.renamed")
    (delivery,) = reserve(app)
    app.broker.settle([Settlement(delivery, Verb.RETURN, delay=30, refused=True)])
    assert "Note: The workers do not know the task shop.tasks.renamed: restart them" in tasks("queues").err


def test_without_a_subcommand(database_app: App) -> None:
    alive(database_app)
    text = ok()
    assert text.startswith("QUEUE ")
    assert "\n\nNODE " in text
    assert set(data()) == {"queues", "workers"}


def test_workers_tells_how_many_tasks_each_runs_at_once(database_app: App) -> None:
    names = ("one/1-a", "one/2-b", "one/janitor-3", "two/1-a")
    database_app.broker.heartbeat([Beat(f"celery@{name}", f"celery@{name[:3]}", 1, ["celery"]) for name in names])
    assert ok("workers").endswith("\n\nTasks at once: 2 (celery@one), 1 (celery@two)\n")


def test_list(database_app: App) -> None:
    app = database_app
    dead = bury(app, add.delay(1, 1))
    good, bad = add.delay(2, 2).id, fail.delay("oh no").id
    drain(app)
    running = slow.delay(1).id
    reserve(app)
    delayed = add.apply_async((3, 3), countdown=200, queue="mail").id
    waiting = fail.delay().id
    everything = {each["id"]: each["state"] for each in data("list")}
    assert everything == {waiting: WAITING, delayed: DELAYED, running: RUNNING, dead: DEAD, good: "SUCCESS",
                          bad: "FAILURE"}  # fmt: skip
    chosen: Callable[..., list[str]] = lambda *filters: [each["id"] for each in data("list", *filters)]  # noqa: E731
    assert chosen("--state", "waiting") == [waiting]
    assert chosen("--state", "PENDING") == [waiting, delayed]
    assert chosen("--state", "DEAD") == [dead]
    assert chosen("--state", "SUCCESS") == chosen("--state", "success") == [good]
    assert chosen("--state", "FAILURE") == [bad, dead]
    assert chosen("--state", "FAILURE", "--task", FAIL) == [bad]
    assert tasks("list", "--state", "PROGRESS", "--json").json == []
    assert chosen("--queue", "mail") == [delayed]
    assert set(chosen("--task", FAIL)) == {waiting, bad}
    notes = {each["id"]: each["note"] for each in data("list")}
    assert notes[bad] == "ValueError: oh no"
    assert notes[dead] == "4 workers died"
    assert notes[running] == "test@localhost"
    assert notes[delayed].startswith(("due in 3 m ", "due in 2 m "))


def test_list_shows_the_newest(database_app: App) -> None:
    sent = [add.delay(n, n).id for n in range(4)]
    ran = tasks("list", "--limit", 3, "--state", "waiting")
    assert [line.split()[0] for line in ran.out.splitlines()] == ["ID", *sent[:0:-1]]
    assert ran.err == "Note: These are the newest 3; --limit N shows more.\n"
    assert tasks("list", "--limit", 0).code != 0


def test_list_of_an_unknown_task(database_app: App) -> None:
    ran = tasks("list", "--task", "tests.testapp.tasks.ad")
    assert (ran.code, ran.out) == (0, "No calls.\n")
    assert ran.err == f"Note: There is no task 'tests.testapp.tasks.ad' here. Did you mean {ADD}?\n"


@pytest.mark.parametrize("width", [80, 120, 200])
def test_tables_fit_the_terminal(database_app: App, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    app = database_app
    dead = bury(app, add.delay(1, 1))
    fail.delay("a message that is far longer than what is left of a line")
    drain(app)
    slow.apply_async((1,), queue="a_queue_with_a_long_name")
    reserve(app)
    alive(app, queues=["celery", "mail", "reports", "a_queue_with_a_long_name"])
    monkeypatch.setenv("COLUMNS", str(width))
    for listing in ("queues", "workers", "list", "dead"):
        lines = tasks(listing).out.splitlines()
        assert max(map(len, lines)) <= width, lines
    # An id is what the other subcommands want: it is never cut.
    assert dead in ok("dead")
    # What there is to say is said, if need be on a line of its own.
    assert ": a message that is far longer than what is left of a line\n" in ok("list")
    assert ("NOTE" in ok("list")) == (width > 120)
    assert "4 workers died\n" in ok("dead")


def test_a_task_that_no_worker_knows(database_app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    app = database_app
    lost = app.send_task("shop.tasks.renamed").id
    for _ in range(2):
        advance(app, 60)
        for delivery in reserve(app):
            assert app.broker.settle([Settlement(delivery, Verb.RETURN, delay=30, refused=True)]) == []
    assert re.search(r"  unknown to the worker \(refused 2 times\), tried again in \d+ s\n", ok("list"))
    assert "Reason           unknown to the worker (refused 2 times)\n" in ok("show", lost)
    monkeypatch.setenv("COLUMNS", "80")
    assert "\n    unknown to the worker (refused 2 times), tried again" in ok("list")


def test_who_runs_a_call_and_whether_it_is_silent(database_app: App) -> None:
    alive(database_app)
    add.delay(1, 1)
    database_app.broker.reserve("celery@one/4711-abc", ["celery"], 1, new_lease())
    assert "  celery@one, process 4711\n" in ok("list")
    advance(database_app, 25)
    assert re.search(r"  celery@one, process 4711, silent for 2\d s\n", ok("list"))


def test_long_notes_are_cut_for_people(database_app: App) -> None:
    fail.delay("x" * 500)
    drain(database_app)
    assert max(map(len, ok("list").splitlines())) < 250
    assert "x" * 500 in data("list")[0]["note"]


def test_states_that_there_are_not(database_app: App) -> None:
    ran = tasks("list", "--state", "nonsense")
    assert (ran.code, ran.out) == (0, "No calls.\n")
    assert ran.err.startswith("Note: States are waiting, delayed, running, dead, unpublished, PENDING,")


def test_show(database_app: App) -> None:
    app = database_app
    options = {"headers": {"tenant": "acme"}, "expires": 9000, "time_limit": 7, "link": add.s(1)}
    result = echo.apply_async((1, "two"), {"three": [4]}, **options)
    text = ok("show", result.id)
    for line in ("State            waiting", "Args             [1, 'two']", "Kwargs           {'three': [4]}",
                 "Headers          {'tenant': 'acme'}", "Time limit       7"):  # fmt: skip
        assert line in text
    assert "(in 2 h 29 m)" in text
    shown = data("show", result.id)
    assert (shown["task"], shown["state"], shown["result"]) == ("tests.testapp.tasks.echo", WAITING, None)
    assert (shown["messages"][0]["args"], shown["messages"][0]["kwargs"]) == ([1, "two"], {"three": [4]})
    assert shown["messages"][0]["linked"]["callbacks"][0]["task"] == ADD
    drain(app)
    shown = data("show", result.id)
    assert (shown["state"], shown["messages"]) == (states.SUCCESS, [])
    assert shown["result"]["result"] == [[1, "two"], {"three": [4]}]
    assert "Result           [[1, 'two'], {'three': [4]}]" in ok("show", result.id)


def test_show_a_failure(database_app: App) -> None:
    failed = fail.delay("with \x1b[31m colour").id
    drain(database_app)
    text = ok("show", failed)
    assert "Error            ValueError: with \\x1b[31m colour" in text
    assert "Traceback (most recent call last):\n  File" in text
    assert "\x1b" not in text
    dead = bury(database_app, add.delay(1, 2))
    shown = data("show", dead)
    assert (shown["state"], shown["messages"][0]["reason"], shown["messages"][0]["args"]) == (
        DEAD, "4 workers died", [1, 2])  # fmt: skip
    assert shown["result"]["error"] == "WorkerLostError: 4 workers died"


def test_show_what_cannot_be_read(database_app: App) -> None:
    sent = add.delay(1, 1).id
    QueuedMessage.objects.update(payload="no envelope")
    (message,) = data("show", sent)["messages"]
    assert message["unreadable"]
    assert "Unreadable" in ok("show", sent)
    dead = bury(database_app, add.AsyncResult(sent))
    assert "cannot be run again, since its message cannot be read" in tasks("rerun", dead).err


def test_what_json_cannot_hold(memory_app: App) -> None:
    memory_app.conf.update(result_serializer="pickle", accept_content=["json", "pickle"], task_serializer="pickle")
    sent = echo.delay({(1, 2): float("nan")}, {3, 4}).id
    (message,) = tasks("show", sent, "--json").json["messages"]
    assert message["args"] == "({(1, 2): nan}, {3, 4})"


def test_show_an_unknown_id(database_app: App) -> None:
    for subcommand in (["show"], ["result"], ["result", "--wait", "0"], ["rerun"], ["revoke"], ["dead", "resend"]):
        ran = tasks(*subcommand, "nobody")
        assert (ran.code, ran.out) == (1, "")
        assert ran.err.startswith("Nothing is known of task 'nobody': it was never sent")


def test_registered(database_app: App) -> None:
    @shared_task(name="special", max_retries=None, autoretry_for=(OSError, ValueError), queue="mail", rate_limit="10/m")
    def special() -> None: ...

    options = {"max_retries": None, "autoretry_for": ["OSError", "ValueError"], "queue": "mail", "rate_limit": "10/m"}
    found = {each["task"]: each["options"] for each in data("registered")}
    assert found["special"] == options
    assert found[ADD] == {}
    line = next(line for line in ok("registered").splitlines() if line.startswith("special"))
    assert sorted(line.split()[1:]) == ["autoretry_for=OSError,ValueError", "max_retries=None", "queue=mail",
                                        "rate_limit=10/m"]  # fmt: skip


# --- The command: results and calls -----------------------------------------------------------------------------------


def test_result(database_app: App) -> None:
    good, bad, waiting = add.delay(2, 3).id, fail.delay("oh no").id, add.apply_async((1, 1), countdown=100).id
    drain(database_app)
    assert "Result           5\n" in ok("result", good)
    assert data("result", good)["result"] == 5
    ran = tasks("result", bad, "--json")
    assert (ran.code, ran.json["error"]) == (1, "ValueError: oh no")
    assert ran.err == f"Task {bad} has ended as FAILURE: ValueError: oh no"
    ran = tasks("result", waiting)
    assert (ran.code, ran.err) == (1, f"Task {waiting} has not ended; it is delayed.")
    ran = tasks("result", waiting, "--wait", "0.01", "--json")
    assert (ran.code, ran.json["state"]) == (1, DELAYED)
    assert f"Task {waiting} had not ended after 0.01 s" in ran.err


def test_the_result_of_a_retry_does_not_name_itself_as_its_parent(database_app: App) -> None:
    @shared_task(bind=True, max_retries=1)
    def again(self: Any) -> int:
        if not self.request.retries:
            raise self.retry(countdown=0)
        return 1

    sent = again.delay().id
    drain(database_app)
    told = data("result", sent)
    assert (told["state"], told["retries"], told["parent_id"]) == ("SUCCESS", 1, None)


def test_call(database_app: App) -> None:
    sent = ok("call", ADD, "--args", "[2, 3]").strip()
    later = data("call", FAIL, "--kwargs", '{"message": "später"}', "--queue", "mail", "--countdown", "100")["id"]
    stored = {each.id: each for each in messages(database_app)}
    assert (stored[sent].queue, stored[sent].state) == ("celery", WAITING)
    assert (stored[later].queue, stored[later].state) == ("mail", DELAYED)
    assert act.read(database_app, stored[later]).kwargs == {"message": "später"}
    drain(database_app)
    assert data("result", sent)["result"] == 5


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        ([ADD, "--args", "[1, x]"], 2, "--args is not JSON: Expecting value at column 5:\n  [1, x]\n      ^\nWrite it"),
        ([ADD, "--kwargs", '{"x": 1,\n "y"}'], 2, 'delimiter at line 2, column 5:\n   "y"}\n      ^\nWrite it like'),
        ([ADD, "--args", ""], 2, "--args is not JSON: Expecting value at column 1"),
        ([ADD, "--args", '{"x": 1}'], 2, "--args must be a list, such as '[1, 2]', not {\"x\": 1}."),
        ([ADD, "--kwargs", "[1]"], 2, "--kwargs must be an object"),
        ([ADD, "--args", "[1]"], 2, f"Task {ADD} cannot be called like this: add() missing 1 required"),
        (["tests.testapp.task.ad"], 1, f"There is no task 'tests.testapp.task.ad'. Did you mean {ADD}"),
        (["add"], 1, f"There is no task 'add'. Did you mean {ADD}"),
        (["qqqqqqqqqq"], 1, "There is no task 'qqqqqqqqqq'. `tasks registered` lists all."),
    ],
)
def test_call_refuses(database_app: App, arguments: list[str], code: int, error: str) -> None:
    ran = tasks("call", *arguments)
    assert (ran.code, ran.out) == (code, "")
    assert error in ran.err
    assert messages(database_app) == []


@pytest.mark.parametrize("option", ["--wait", "--countdown"])
@pytest.mark.parametrize("value", ["-1", "soon", "inf", "nan"])
def test_numbers_of_seconds(database_app: App, option: str, value: str) -> None:
    assert f"{value!r} is not a number of seconds" in tasks("call", ADD, f"{option}={value}").err


def test_call_and_wait_for_what_is_not_stored(database_app: App) -> None:
    @shared_task(name="silent", ignore_result=True)
    def silent() -> None: ...

    ran = tasks("call", "silent", "--wait", "5", "--json")
    assert (ran.code, ran.err) == (1, "The task stores no result to wait for.")
    assert ids(messages(database_app)) == [ran.json["id"]]
    database_app.conf.update(result_backend="disabled://")
    ran = tasks("call", ADD, "--args", "[1, 1]", "--wait", "5")
    assert (ran.code, ran.err) == (2, "--wait needs results, and RESULT_BACKEND stores none.")


def test_call_here_and_now(database_app: App) -> None:
    database_app.conf.update(task_always_eager=True)
    assert data("call", ADD, "--args", "[2, 3]", "--wait", "5")["result"] == 5
    ran = tasks("call", FAIL, "--wait", "5", "--json")
    assert (ran.code, ran.json["state"], ran.json["error"]) == (1, "FAILURE", "ValueError: as asked")


def test_rerun(database_app: App) -> None:
    first = add.delay(1, 2).id
    drain(database_app)
    again = data("rerun", first)
    assert again["rerun_of"] == first
    assert data("show", again["id"])["messages"][0]["headers"] == {"rerun_of": first}
    assert ok("rerun", first).strip() in ids(messages(database_app))


# --- The command: dead letters, purge, revoke -------------------------------------------------------------------------


def test_dead(database_app: App) -> None:
    assert ok("dead") == "No dead letters.\n"
    first, second = bury(database_app, add.delay(1, 1)), bury(database_app, fail.delay())
    assert [line.split()[0] for line in ok("dead").splitlines()] == ["ID", second, first]
    assert [each["id"] for each in data("dead", "--task", ADD)] == [first]
    assert data("dead", "resend", first) == {"resent": [first]}
    assert ok("dead", "drop", second) == "1 dead letter dropped.\n"
    assert data("dead", "resend", "--all") == {"resent": []}


def test_options_before_the_verb_count(database_app: App) -> None:
    first, second = bury(database_app, add.delay(1, 1)), bury(database_app, fail.delay())
    assert ok("dead", "--task", ADD, "drop", "--all", "--yes") == "1 dead letter dropped.\n"
    assert ids(messages(database_app)) == [second]
    ran = tasks("dead", "--json", "resend", "--all", "--task", ADD)
    assert (ran.json, first in ran.out) == ({"resent": []}, False)
    ran = tasks("dead", "--limit", "1", "drop", "--all", "--yes")
    assert (ran.code, ran.err.partition(";")[0]) == (2, "--limit is for the list of dead letters")
    assert ids(messages(database_app)) == [second]


@pytest.mark.parametrize("arguments", [["resend"], ["drop"], ["resend", "x", "--all"], ["drop", "x", "--all"]])
def test_ids_or_all(database_app: App, arguments: list[str]) -> None:
    ran = tasks("dead", *arguments)
    assert (ran.code, ran.err) == (2, "Give the ids of dead letters, or --all; `tasks dead` lists them.")


def reply(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


@pytest.mark.parametrize(
    ("text", "code", "left"), [("yes\n", 0, 0), ("Y\n", 0, 0), ("no\n", 1, 3), ("\n", 1, 3), ("", 2, 3)]
)
def test_purge_asks(
    database_app: App, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str, code: int,
    left: int,
) -> None:  # fmt: skip
    add.delay_many([(1, 1), (2, 2)])
    add.apply_async((3, 3), queue="mail", countdown=100)
    reply(monkeypatch, text)
    ran = tasks("purge")
    assert ran.code == code
    asked = capsys.readouterr()
    assert asked.err == "Revoke 3 waiting or delayed messages (celery: 2, mail: 1)? Type yes to go on: "
    assert len(messages(database_app)) == left
    assert (ran.out == "3 messages purged.\n") == (code == 0)


def test_dead_drop_all_asks(
    database_app: App, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dead = [bury(database_app, add.delay(1, each)) for each in range(4)]
    for text, code in (("no\n", 1), ("", 2)):
        reply(monkeypatch, text)
        assert tasks("dead", "drop", "--all").code == code
        assert capsys.readouterr().err == "Delete 4 dead letters? Type yes to go on: "
    assert len(messages(database_app, DEAD)) == 4
    assert data("dead", "drop", dead[0]) == {"dropped": 1}  # who names them means them
    reply(monkeypatch, "yes\n")
    assert data("dead", "drop", "--all", "--task", FAIL) == {"dropped": 0}
    assert capsys.readouterr().err == f"Delete all dead letters of {FAIL}? Type yes to go on: "
    assert data("dead", "drop", "--all", "--yes") == {"dropped": 3}
    assert data("dead", "drop", "--all") == {"dropped": 0}


def test_a_misspelt_option_shows_the_usage_of_its_subcommand(database_app: App) -> None:
    for arguments in (["dead", "drop"], ["purge"]):
        ran = manage("tasks", *arguments, "--yess")
        assert (ran.code, ran.out) == (2, "")
        assert ran.err.startswith(f"usage: __main__.py tasks {' '.join(arguments)} [-h]")
        assert ran.err.endswith("error: unrecognized arguments: --yess\n")


@pytest.mark.parametrize("option", ["--yes", "--no-input", "--noinput"])
def test_purge_one_queue_unasked(database_app: App, option: str) -> None:
    kept = add.delay(1, 1).id
    add.apply_async((2, 2), queue="mail")
    assert data("purge", "mail", option) == {"purged": 1}
    assert ids(messages(database_app)) == [kept]
    assert ok("purge", "celery", option) == "1 message purged.\n"
    assert ok("purge", option) == "Nothing is waiting.\n"


def test_purge_an_unknown_queue(database_app: App) -> None:
    ran = tasks("purge", "celry", "--yes")
    assert (ran.code, ran.err) == (1, "There is no queue 'celry'. Did you mean celery?")


def test_revoke(database_app: App) -> None:
    running = slow.delay(1).id
    reserve(database_app)
    waiting = add.delay(1, 1).id
    lines = ok("revoke", running, waiting).splitlines()
    assert lines == [f"{running} is running and goes on, but keeps the state REVOKED; --terminate stops it.",
                     f"{waiting} was waiting and is revoked."]  # fmt: skip
    ran = tasks("revoke", waiting)
    assert (ran.code, ran.err) == (1, f"Task {waiting} has ended as REVOKED: there is nothing to revoke.")
    assert tasks("revoke", running, "--signal", "KILL").code == 2
    ran = tasks("revoke", running, "--terminate", "--signal", "SIGFOO")
    assert (ran.code, ran.err.partition(";")[0]) == (2, "There is no signal 'SIGFOO'")
    assert data("revoke", running, "--terminate", "--signal", "KILL") == [{"id": running, "was": RUNNING}]
    control = database_app.broker.control
    assert control is not None
    (order,) = control.orders(0)
    assert order.arguments == {"ids": [running], "signal": signal.SIGKILL}


# --- The command: workers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["pause"], ["resume"], ["grow", "1"], ["shrink", "1"], ["shutdown"]])
def test_orders_to_nobody(database_app: App, arguments: list[str]) -> None:
    alive(database_app)
    advance(database_app, 3600)
    ran = tasks(*arguments)
    assert (ran.code, ran.err.partition(":")[0]) == (1, "No worker is running")


def test_orders(database_app: App) -> None:
    control = database_app.broker.control
    assert control is not None
    alive(database_app)
    alive(database_app, "celery@two")
    assert ok("pause").startswith("Told to pause: celery@one, celery@two. It takes up to 2 s. ")
    assert data("grow", 3, "--destination", "celery@two") == {"order": "grow", "workers": ["celery@two"]}
    ok("shrink", 2)
    ok("shutdown", "--destination", "celery@one", "--destination", "celery@two")
    given = [(order.kind, order.node, order.arguments) for order in control.orders(0)]
    assert given == [("pause", "", {}), ("resize", "celery@two", {"by": 3}), ("resize", "", {"by": -2}),
                     ("shutdown", "celery@one", {}), ("shutdown", "celery@two", {})]  # fmt: skip
    assert "at most 4 more than it began with; one with --autoscale, or in another pool" in ok("grow", 9)
    ran = tasks("resume", "--destination", "celery@three")
    assert ran.err == "No worker 'celery@three' is running; there is celery@one, celery@two."
    assert tasks("grow", "0").code != 0
    assert len(control.orders(0)) == 6


def janitor(app: App, node: str, name: str) -> None:
    """Let the janitor of a worker give a sign of life."""
    app.broker.heartbeat([Beat(f"{node}/{name}", node, 4711, ["celery"])])


def test_orders_to_resize_workers_that_cannot_be(database_app: App) -> None:
    control = database_app.broker.control
    assert control is not None
    janitor(database_app, "celery@one", "janitor-fixed-1-1")
    janitor(database_app, "celery@two", "janitor-fixed-2-1")
    for arguments in (["grow", "1"], ["shrink", "1"], ["grow", "1", "--destination", "celery@one"]):
        ran = tasks(*arguments)
        names = arguments[3] if len(arguments) > 2 else "celery@one, celery@two"
        assert (ran.code, ran.err.partition(":")[0]) == (1, f"{names} would not obey, and nobody was told")
    assert control.orders(0) == []
    ok("pause", "--destination", "celery@one")

    janitor(database_app, "celery@three", "janitor-3-1")
    assert data("grow", 1) == {"order": "grow", "workers": ["celery@three"]}
    assert tasks("grow", "1", "--destination", "celery@two", "--destination", "celery@three").code == 1
    janitor(database_app, "celery@two", "janitor-4-1")  # another one of that name
    assert data("shrink", 1, "--destination", "celery@two")["workers"] == ["celery@two"]


def test_a_worker_obeys(spawn_worker: Callable[..., WorkerProcess], database_app: App) -> None:
    worker = spawn_worker("-c", "1", "-n", "w1@here", "-l", "INFO")
    wait_for(lambda: len(data("workers")) == 2, message="a process and its janitor")
    assert {each["node"] for each in data("workers")} == {"w1@here"}
    assert data("call", ADD, "--args", "[2, 3]", "--wait", "20")["result"] == 5
    ran = tasks("call", FAIL, "--wait", "20", "--json")
    assert (ran.code, ran.json["error"]) == (1, "ValueError: as asked")

    running = data("call", SLOW, "--args", "[60]")["id"]
    wait_for(lambda: data("show", running)["state"] == RUNNING)
    ok("revoke", running, "--terminate")
    wait_for(lambda: not data("show", running)["messages"], message="the message of the task that was stopped")
    assert data("show", running)["state"] == states.REVOKED
    again = data("rerun", running)
    assert again["rerun_of"] == running
    # Wherever it is by now, it would keep the worker from stopping.
    ok("revoke", again["id"], "--terminate")
    wait_for(lambda: not data("show", again["id"])["messages"])

    ok("grow", 1)
    wait_for(lambda: len(data("workers")) == 3, message="one process more")
    ok("pause")
    worker.wait_for_log("Told to pause")
    paused = data("call", ADD, "--args", "[1, 1]")["id"]
    ok("resume")
    wait_for(lambda: data("show", paused)["state"] == states.SUCCESS)
    ok("shutdown", "--destination", "w1@here")
    assert worker.wait() == 0
    assert data("workers") == []


# --- The command: other brokers and backends, and no database ---------------------------------------------------------


def test_memory(memory_app: App) -> None:
    note = "Note: BROKER_URL = 'memory://' keeps messages in each process; these are of this one.\n"
    sent = add.delay(1, 1).id
    ran = tasks("list")
    assert (ran.code, sent in ran.out, ran.err) == (0, True, note)
    ran = tasks("call", ADD, "--args", "[1, 1]")
    assert (ran.code, ran.err) == (
        1, "The broker memory:// ends with this command, so that no worker would ever see the call.")  # fmt: skip
    assert tasks("pause").err.startswith("No worker is running")
    assert tasks("registered").err == ""


def test_results_that_cannot_be_listed(database_app: App) -> None:
    database_app.conf.update(result_backend="django-cache://")
    sent = add.delay(1, 1).id
    ran = tasks("list")
    assert sent in ran.out
    assert (
        ran.err
        == "Note: Calls that have ended are left out: only RESULT_BACKEND = 'django-db://' can list its results.\n"
    )
    ran = tasks("list", "--state", "SUCCESS")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("The result backend of RESULT_BACKEND (django-cache://) cannot list its results. With ")
    assert "RESULT_BACKEND = 'django-db://'" in ran.err
    drain(database_app)
    ran = tasks("rerun", sent)
    assert ran.code == 1
    assert ran.err.endswith(" With RESULT_EXTENDED = True, results that are stored from then on do.")
    assert data("result", sent)["result"] == 2
    assert data("show", sent)["result"]["result"] == 2
    dead = bury(database_app, add.delay(3, 4))
    assert data("dead", "resend", dead) == {"resent": [dead]}
    assert database_app.AsyncResult(dead).state == states.PENDING
    drain(database_app)
    assert data("result", dead)["result"] == 7


def test_no_results(database_app: App) -> None:
    database_app.conf.update(result_backend="disabled://")
    sent = add.delay(1, 1).id
    assert data("show", sent)["result"] is None
    assert "No result backend" in tasks("result", sent).err
    assert data("revoke", sent) == [{"id": sent, "was": WAITING}]
    assert TaskResult.objects.count() == 0


def manage(*arguments: str, settings: dict[str, Any] | None = None, **variables: str) -> Ran:
    """Run a command in a process of its own, on the test database."""
    ran = subprocess.run(
        [sys.executable, "-m", "django", *arguments],
        env={**environment(settings or {}), **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return Ran(ran.returncode, ran.stdout.decode(), ran.stderr.decode())


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"TASK_ROUTES": 5}, "TASK_ROUTES = 5 cannot be used"),
        ({"TASK_ROUTES": {ADD: {"rate_limit": "often"}}}, "rate_limit = 'often' is not a rate limit"),
    ],
)
def test_check_tells_once_what_cannot_be_used(settings: dict[str, Any], says: str, transactional_db: None) -> None:
    ran = manage("check", settings=settings)
    assert ran.code == 1
    assert ran.err.count(says) == 1
    assert "ERRORS:\n?: (django_tasks.E001) TASK_" in ran.err


def test_before_the_migration(transactional_db: None, tmp_path: Path) -> None:
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "empty.sqlite3")}
    for subcommand in (["queues"], ["list"], ["workers"], ["show", "x"]):
        ran = manage("tasks", *subcommand, settings={"DATABASES": {"default": database}})
        assert (ran.code, ran.out) == (1, "")
        assert ran.err.startswith("CommandError: The tables of django_tasks are missing or old in database 'default'")


def test_a_database_that_is_away(transactional_db: None, tmp_path: Path) -> None:
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "no" / "such.sqlite3")}
    ran = manage("tasks", "list", settings={"DATABASES": {"default": database}})
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("CommandError: Database 'default': unable to open database file")


def test_exit_codes(transactional_db: None) -> None:
    assert manage("tasks", "queues").code == 0
    assert manage("tasks", "show", "nobody").code == 1
    assert manage("tasks").code == 0
    for misuse in (["nonsense"], ["show"], ["list", "--limit", "x"], ["call", ADD, "--args", "["], ["grow", "-1"]):
        ran = manage("tasks", *misuse)
        assert (ran.code, ran.out, "Traceback" in ran.err) == (2, "", False)


def test_options_of_django_after_the_subcommand(transactional_db: None) -> None:
    ran = manage(
        "tasks", "queues", "--json", "--settings", "tests.settings", "--no-color", DJANGO_SETTINGS_MODULE="no.such"
    )
    assert (ran.code, ran.err) == (0, "")
    assert [each["queue"] for each in ran.json] == ["celery"]


def test_a_terminal_that_knows_only_ascii(database_app: App) -> None:
    sent = echo.delay("grüße").id
    ran = manage("tasks", "show", sent, PYTHONIOENCODING="ascii", COLUMNS="80")
    assert (ran.code, ran.err) == (0, "")
    assert "['gr\\xfc\\xdfe']" in ran.out
