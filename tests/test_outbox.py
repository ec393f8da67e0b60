"""The outbox: what a transaction sends to a broker elsewhere is sent, whatever dies after its commit."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from django_tasks import App, shared_task, signals, states
from django_tasks.exceptions import (
    MessageTooLarge,
    OperationalError,
    ReplicationError,
    RequestRefused,
    TaskRevokedError,
)
from django_tasks.models import QueuedMessage
from django_tasks.outbox import BATCH, CLAIM, GRACE
from django_tasks.worker.janitor import RELAY, Janitor
from django_tasks.worker.options import WorkerOptions
from django_tasks.worker.relay import Relay
from django_tasks.worker.shared import Page
from tests.processes import environment
from tests.running import app_of_test, drain, waiting
from tests.servers import Redis
from tests.testapp.tasks import add
from tests.worker.parts import Away, Clock


@pytest.fixture
def app(transactional_db: None) -> Iterator[App]:
    with app_of_test("memory://") as app:
        app.conf.task_outbox = True
        app.broker.clock = app.backend.clock = Clock(time.time())
        yield app


@pytest.fixture
def relay(app: App) -> Relay:
    return Relay(app)


def later(app: App, seconds: float = GRACE + 1) -> None:
    clock: Any = app.broker.clock
    clock.advance(seconds)


def rows() -> list[QueuedMessage]:
    return list(QueuedMessage.objects.filter(status=QueuedMessage.OUTBOX))


def sent(app: App) -> list[str]:
    return [message.id for message in waiting(app)]


def call_without_a_broker(app: App, **options: Any) -> Any:
    """Call a task in a transaction that commits while the broker is away."""
    away = Away(app.broker, "send")
    with transaction.atomic():
        result = add.apply_async((2, 3), **options)
    away.on = False
    return result


def test_written_in_the_transaction_and_gone_when_published(app: App) -> None:
    with transaction.atomic():
        result = add.delay(2, 3)
        assert [row.task_id for row in rows()] == [result.id]
        assert sent(app) == []
    assert rows() == []
    assert sent(app) == [result.id]


def test_dropped_with_the_rollback(app: App, relay: Relay) -> None:
    with transaction.atomic():
        add.delay(2, 3)
        transaction.set_rollback(True)
    later(app)
    relay.publish()
    assert (rows(), sent(app)) == ([], [])


def test_outside_a_transaction_it_is_sent_at_once(app: App, relay: Relay) -> None:
    result = add.delay(2, 3)
    assert (rows(), sent(app)) == ([], [result.id])
    away = Away(app.broker, "send")
    later_sent = add.delay(3, 4)
    assert away.failures == 1
    assert [row.task_id for row in rows()] == [later_sent.id]
    away.on = False
    later(app)
    relay.publish()
    assert (rows(), sent(app)) == ([], [result.id, later_sent.id])


def test_what_is_not_to_wait_for_a_transaction_is_not_written_into_it(app: App) -> None:
    Away(app.broker, "send")
    with transaction.atomic(), pytest.raises(OperationalError, match="the server is away"):
        add.apply_async((2, 3), on_commit=False, retry=False)
    assert rows() == []


def test_messages_with_too_few_replicas_are_published(
    redis_url: str, transactional_db: None, caplog: pytest.LogCaptureFixture
) -> None:
    """They are on the server, and would be published again without end."""
    options = {"wait_replicas": 1}
    with app_of_test(redis_url, task_outbox=True, broker_transport_options=options) as app:
        app.broker.timeout = 0.2
        with transaction.atomic():
            result = add.delay(2, 3)
        assert (rows(), sent(app)) == ([], [result.id])
        assert "only 0 replicas have confirmed them" in caplog.text
        left = call_without_a_broker(app)
        app.broker.clock = lambda: time.time() + GRACE + 60
        caplog.clear()
        Relay(app).publish()
        assert (rows(), sent(app)) == ([], [result.id, left.id])
        assert "only 0 replicas have confirmed them" in caplog.text
        with pytest.raises(ReplicationError):
            add.delay(2, 3)
        assert (rows(), len(sent(app))) == ([], 3)
        app.close()


def test_what_is_refused_stays_and_holds_up_nothing(
    redis_server: Redis, redis_url: str, transactional_db: None, caplog: pytest.LogCaptureFixture
) -> None:
    """Until somebody changes what is in the way; a caller who is there is told."""
    client = redis_server.connect()
    with app_of_test(redis_url, task_outbox=True) as app:
        client.set("mail", "of somebody else")
        with transaction.atomic():
            bad = add.apply_async((1, 1), queue="mail")
        assert "stays in the outbox of database 'default': " in caplog.text
        with pytest.raises(RequestRefused):
            add.apply_async((1, 1), queue="mail")
        call_without_a_broker(app)
        app.broker.clock = lambda: time.time() + GRACE + 60
        relay = Relay(app)
        relay.publish()
        assert [row.task_id for row in rows()] == [bad.id]
        assert client.llen("celery") == 1
        client.delete("mail")
        app.broker.clock = lambda: time.time() + GRACE + 60 + CLAIM + 60
        relay.publish()
        assert (rows(), client.llen("mail")) == ([], 1)
        app.close()


# -- revoking


@pytest.mark.parametrize("outbox", [False, True])
def test_what_its_own_transaction_revokes_is_not_sent(app: App, outbox: bool) -> None:
    app.conf.task_outbox = outbox
    with transaction.atomic():
        first, second, third = add.delay_many([(1, 1), (2, 2), (3, 3)])
        alone = add.delay(4, 4)
        second.revoke()
        app.control.revoke([alone.id])
        with pytest.raises(TaskRevokedError):
            alone.get(timeout=0)
    assert sent(app) == [first.id, third.id]
    assert rows() == []
    assert [each.state for each in (second, alone)] == [states.REVOKED] * 2


def test_what_is_left_in_the_outbox_can_be_revoked(app: App, relay: Relay) -> None:
    told: list[str] = []

    def on_revoked(request: Any, **_: Any) -> None:
        told.append(request.id)

    signals.task_revoked.connect(on_revoked)
    try:
        result, other = call_without_a_broker(app), call_without_a_broker(app)
        result.revoke()
    finally:
        signals.task_revoked.disconnect(on_revoked)
    assert (told, result.state) == ([result.id], states.REVOKED)
    later(app)
    relay.publish()
    assert (rows(), sent(app)) == ([], [other.id])


def test_what_was_revoked_while_a_janitor_published_it_does_not_run(app: App, relay: Relay) -> None:
    result = call_without_a_broker(app)
    later(app)
    (row,) = relay.outboxes[0].claim(app.broker.now())
    result.revoke()
    relay._publish(relay.outboxes[0], [row])
    (outcome,) = drain(app)
    assert (outcome.state, outcome.meta) == (states.REVOKED, None)


# -- further


def test_a_broker_that_is_away_at_the_commit_loses_nothing(
    app: App, relay: Relay, caplog: pytest.LogCaptureFixture
) -> None:
    result = call_without_a_broker(app, queue="mail", priority=7, countdown=60)
    assert "1 message stays in the outbox of database 'default' until a worker can send it" in caplog.text
    relay.publish()
    assert sent(app) == []  # for a while it is left to its writer
    later(app)
    relay.publish()
    assert rows() == []
    (message,) = waiting(app)
    assert (message.id, message.queue, message.priority) == (result.id, "mail", 7)
    later(app, 60)
    drain(app)
    assert result.get(timeout=1) == 5


def test_a_process_that_dies_after_the_commit_loses_nothing(app: App, relay: Relay) -> None:
    program = """
import os
import django
django.setup()
from django.core.management import CommandError, call_command
from django.db import transaction
from tests.testapp.tasks import add
with transaction.atomic():
    transaction.on_commit(lambda: os._exit(9))
    print(add.delay(2, 3).id, flush=True)
"""
    settings = {"BROKER_URL": "memory://", "RESULT_BACKEND": "memory://", "TASK_OUTBOX": True}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(settings), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 9, done.stderr
    later(app, 120)  # it wrote by a clock of its own, which went on while it started
    relay.publish()
    assert sent(app) == [done.stdout.strip()]
    assert [outcome.value for outcome in drain(app)] == [5]


def test_two_janitors_publish_it_once(app: App, relay: Relay) -> None:
    call_without_a_broker(app)
    later(app)
    assert len(relay.outboxes[0].claim(app.broker.now())) == 1
    Relay(app).publish()
    assert sent(app) == []
    later(app, CLAIM)  # the first one died
    Relay(app).publish()
    assert len(sent(app)) == 1


def test_a_broker_that_is_still_away(app: App, relay: Relay) -> None:
    call_without_a_broker(app)
    later(app)
    away = Away(app.broker, "send")
    with pytest.raises(Exception, match="the server is away"):
        relay.publish()
    assert len(rows()) == 1
    away.on = False
    later(app, CLAIM)
    relay.publish()
    assert (len(rows()), len(sent(app))) == (0, 1)


def test_more_than_a_batch(app: App, relay: Relay) -> None:
    away = Away(app.broker, "send")
    with transaction.atomic():
        results = add.delay_many([(n, n) for n in range(BATCH + 1)])
    away.on = False
    later(app)
    relay.publish()
    assert sent(app) == [result.id for result in results]


def test_what_cannot_be_published_holds_up_nothing(app: App, relay: Relay, caplog: pytest.LogCaptureFixture) -> None:
    bad, good = call_without_a_broker(app), call_without_a_broker(app)
    QueuedMessage.objects.filter(task_id=bad.id).update(payload="{")
    later(app)
    with caplog.at_level(logging.ERROR):
        relay.publish()
    assert f"[{bad.id}] cannot be published" in caplog.text
    assert (rows(), sent(app)) == ([], [good.id])
    assert bad.state == states.FAILURE
    assert "could not be published" in QueuedMessage.objects.get(task_id=bad.id).reason


def test_bad_messages_are_refused_at_the_call(app: App) -> None:
    app.broker.max_size = 100
    with pytest.raises(MessageTooLarge), transaction.atomic():
        add.delay(2, 3)
    assert rows() == []


def test_a_database_without_our_tables(app: App, relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rows() == []  # first: Django remembers columns with the table that it first saw them in
    monkeypatch.setattr(QueuedMessage._meta, "db_table", "no_such_table")
    relay.publish()
    assert relay.outboxes == []


def test_the_janitor_does_it(app: App) -> None:
    result = call_without_a_broker(app)
    janitor = Janitor(app, WorkerOptions("test@host", ("celery",)), Page(1), "janitor")
    now: Any = app.broker.clock
    janitor.safe_poll(now.now)
    later(app)
    janitor.safe_poll(now.advance(RELAY))
    assert sent(app) == [result.id]


def test_signals(app: App, relay: Relay) -> None:
    seen: list[str] = []

    def before(headers: dict[str, Any], **_: Any) -> None:
        seen.append("before")
        headers["tenant"] = "blue"

    def after(**_: Any) -> None:
        seen.append("after")

    signals.before_task_publish.connect(before)
    signals.after_task_publish.connect(after)
    try:
        call_without_a_broker(app)
        assert seen == ["before"]
        later(app)
        relay.publish()
    finally:
        signals.before_task_publish.disconnect(before)
        signals.after_task_publish.disconnect(after)
    assert seen == ["before", "after"]
    assert waiting(app)[0].headers == {"tenant": "blue"}


def test_queues_and_calls_of_the_orm_broker_do_not_count_it(app: App) -> None:
    call_without_a_broker(app)
    with app_of_test("django-db://") as other:
        assert other.broker.sizes() == {}
        assert other.broker.reserve("worker", ["celery"], 10, 1) == []


def test_what_is_left_when_the_broker_becomes_the_database_is_sent_too(app: App) -> None:
    result = call_without_a_broker(app)
    with app_of_test("django-db://") as other:
        other.broker.clock = app.broker.clock
        later(app)
        Relay(other).publish()
        assert [outcome.message.id for outcome in drain(other)] == [result.id]
    assert rows() == []


def test_a_task_that_calls_in_a_transaction(app: App, relay: Relay) -> None:
    @shared_task
    def parent() -> None:
        with transaction.atomic():
            add.delay(1, 2)

    parent.delay()
    assert [outcome.message.task for outcome in drain(app)] == [parent.name, add.name]
    assert rows() == []


# -- the command line


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """Return what a subcommand of ``tasks`` answers in JSON; it must go well."""
    call_command("tasks", *arguments, "--json")
    return json.loads(capsys.readouterr().out)


def test_queues_count_it(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    call_without_a_broker(app, queue="mail")
    call_command("tasks", "queues")
    assert "1 message waits in the outbox of database 'default'." in capsys.readouterr().err
    call_without_a_broker(app, queue="mail")
    found = {each["queue"]: each["unpublished"] for each in told(capsys, "queues")}
    assert found == {"celery": 0, "mail": 2}


@pytest.mark.parametrize("command", [("queues",), ()])
def test_queues_count_it_while_the_broker_is_away(
    app: App, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    call_without_a_broker(app)
    call_without_a_broker(app, queue="mail")
    Away(app.broker, "sizes")
    with pytest.raises(CommandError, match="the server is away"):
        call_command("tasks", *command, "--json")
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert (found if command else found["queues"]) == [
        {"queue": "celery", "unpublished": 1}, {"queue": "mail", "unpublished": 1}
    ]  # fmt: skip
    assert "2 messages wait in the outbox of database 'default'." in shown.err


def test_calls_in_it_are_shown_and_listed(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    result, waiting = call_without_a_broker(app), add.delay(1, 1)
    shown = told(capsys, "show", result.id)
    assert (shown["state"], shown["messages"][0]["args"]) == ("unpublished", [2, 3])
    listed = {each["id"]: each["state"] for each in told(capsys, "list")}
    assert listed == {result.id: "unpublished", waiting.id: "waiting"}
    (line,) = told(capsys, "list", "--state", "unpublished")
    assert (line["id"], line["note"]) == (result.id, "in the outbox of database 'default'")
    assert line["since"] is not None
    assert told(capsys, "list", "--state", "unpublished", "--queue", "mail") == []
    with pytest.raises(CommandError, match="has not ended; it is unpublished"):
        call_command("tasks", "result", result.id)


def test_the_newest_are_listed_wherever_they_are(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    first = call_without_a_broker(app)
    later(app, 1)
    second = add.delay(1, 1)
    later(app, 1)
    third = call_without_a_broker(app)
    newest = [each["id"] for each in told(capsys, "list", "--state", "pending", "--limit", "2")]
    assert newest == [third.id, second.id]
    assert [each["id"] for each in told(capsys, "list", "--state", "pending")] == [third.id, second.id, first.id]


def test_calls_in_it_are_revoked_and_purged(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, mail = call_without_a_broker(app), call_without_a_broker(app), call_without_a_broker(app, queue="q")
    call_command("tasks", "revoke", first.id)
    assert "was unpublished and is revoked." in capsys.readouterr().out
    assert told(capsys, "purge", "celery", "--yes") == {"purged": 1}
    assert [each.state for each in (first, second, mail)] == [states.REVOKED, states.REVOKED, states.PENDING]
    assert [row.task_id for row in rows()] == [mail.id]
    assert told(capsys, "purge", "--yes") == {"purged": 1}
    assert rows() == []
