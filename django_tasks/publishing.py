"""From messages to the broker: transactions, retries, signals."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import DEFAULT_DB_ALIAS, connections, transaction

from django_tasks import signals
from django_tasks.databases import Database, in_user_transaction, unsent_ids
from django_tasks.exceptions import OperationalError, ReplicationError, RequestRefused
from django_tasks.message import Message

if TYPE_CHECKING:
    from django_tasks.app import App
    from django_tasks.outbox import Outbox

logger = logging.getLogger("django_tasks.publishing")

#: ``apply_async`` options that say how to send rather than what; ``delay_many`` sends together what has the same.
PUBLISH_OPTIONS = ("on_commit", "using", "retry", "retry_policy")
#: What ``before_task_publish`` receivers may not change through the headers they are given.
_FIXED_HEADERS = ("id", "task", "root_id", "parent_id", "retries", "eta", "expires", "timelimit", "group")


def publish(app: App, messages: Sequence[Message], options: Mapping[str, Any]) -> None:
    """Send messages: at once, or when the transaction that is open commits.

    Args:
        options: of ``apply_async``: ``on_commit``, ``using``, ``retry``, ``retry_policy``.

    Raises:
        OperationalError: the broker is away and the retries are used up.
    """
    on_commit = options.get("on_commit")
    if on_commit is None:
        on_commit = app.conf.task_enqueue_on_commit
    using = options.get("using") or DEFAULT_DB_ALIAS
    # A broker in the same database writes its row in the transaction itself: it appears with the commit or not at all.
    apart = app.broker.transaction_alias != using and app.uses_database
    in_transaction = apart and in_user_transaction(using)
    outbox = None
    if apart and app.conf.task_outbox and (on_commit or not in_transaction):
        from django_tasks.outbox import Outbox  # its models cannot be imported before the apps are loaded

        outbox = Outbox(using)
    if not (on_commit and in_transaction):
        announce(app, messages, options)
        if outbox is None:
            send(app, messages, options)
        elif not _is_sent(app, messages, options, outbox):
            outbox.write(messages, app.broker.now(), app.broker.max_size)
        return
    publication = Publication(app, list(messages), dict(options))
    if outbox is not None:
        publication.write(outbox)
    transaction.on_commit(publication, using=using)
    unsent_ids(Database(using)).update(message.id for message in messages)


def unsent(app: App, task_id: str) -> bool:
    """Whether a transaction that is open here has yet to send this id."""
    if app.broker.unsent(task_id):
        return True
    if not app.uses_database:
        return False
    opened = [connection.alias for connection in connections.all(initialized_only=True)]
    return any(in_user_transaction(alias) and task_id in unsent_ids(Database(alias)) for alias in opened)


def pending(app: App, wanted: Callable[[Message], bool]) -> list[Message]:
    """Return calls that wait for the commit of a transaction that is open here, if they are wanted."""
    return [message for _, each in _publications(app) for message in each.messages if wanted(message)]


def withdraw(app: App, messages: Sequence[Message]) -> None:
    """Let calls that are ``pending`` not be sent after all; their rows in an outbox are not touched."""
    ids = {message.id for message in messages}
    for alias, publication in _publications(app) if ids else ():
        publication.messages = [message for message in publication.messages if message.id not in ids]
        unsent_ids(Database(alias)).difference_update(ids)


def _publications(app: App) -> list[tuple[str, Publication]]:
    """Return those that wait for a commit, with the database that it is in."""
    if not app.uses_database:
        return []
    opened = connections.all(initialized_only=True)
    waiting = [(each.alias, callback) for each in opened for _, callback, *_ in each.run_on_commit]
    return [(alias, each) for alias, each in waiting
            if isinstance(each, Publication) and each.app is app and not each.sent]  # fmt: skip


@dataclass(eq=False, slots=True)
class Publication:
    """Messages to be sent, as the callback of a transaction; they are sent once, however often it is called.

    (Django's ``captureOnCommitCallbacks`` keeps what it has run.)
    """

    app: App
    messages: list[Message]
    options: dict[str, Any]
    sent: bool = False
    outbox: Outbox | None = None
    token: int = 0

    def __call__(self) -> None:
        if self.sent or not self.messages:
            return
        if self.outbox is None:
            announce(self.app, self.messages, self.options)
            send(self.app, self.messages, self.options)
        else:
            self._publish_written(self.outbox)
        self.sent = True

    def write(self, outbox: Outbox) -> None:
        """Write the messages into the transaction, so that they are sent whatever happens after its commit."""
        announce(self.app, self.messages, self.options)
        self.token = outbox.write(self.messages, self.app.broker.now(), self.app.broker.max_size)
        self.outbox = outbox

    def _publish_written(self, outbox: Outbox) -> None:
        try:
            if not _is_sent(self.app, self.messages, self.options, outbox):
                return
        except RequestRefused as exc:
            logger.error("The call stays in the outbox of database %r: %s", outbox.database.alias, exc)
            return
        except ReplicationError as exc:  # it is sent
            logger.error("From the outbox of database %r: %s", outbox.database.alias, exc)
        outbox.forget(self.messages, self.token)


def _is_sent(app: App, messages: Sequence[Message], options: Mapping[str, Any], outbox: Outbox) -> bool:
    """Send messages now, unless the broker is away: then they are to be in an outbox.

    Raises:
        ReplicationError: they are sent, but too few replicas have them.
        RequestRefused: the broker does not take them, which time alone does not change.
    """
    try:
        send(app, messages, {**options, "retry": False})
    except (ReplicationError, RequestRefused):
        raise
    except OperationalError as exc:
        stay = "1 message stays" if len(messages) == 1 else f"{len(messages)} messages stay"
        logger.warning("%s in the outbox of database %r until a worker can send %s: %s", stay, outbox.database.alias,
                       "it" if len(messages) == 1 else "them", exc)  # fmt: skip
        return False
    return True


def announce(app: App, messages: Sequence[Message], options: Mapping[str, Any]) -> None:
    """Tell receivers of messages that are about to be sent, and let them change some of it.

    Args:
        options: of ``apply_async``: ``retry_policy``.
    """
    if signals.before_task_publish.receivers:
        for message in messages:
            _before_publish(message, _retry_policy(app, options))


def tell_sent(messages: Iterable[Message]) -> None:
    """Tell receivers of messages that have been sent."""
    if signals.after_task_publish.receivers:
        for message in messages:
            signals.after_task_publish.send(sender=message.task, **_publish_facts(message))


def send(app: App, messages: Sequence[Message], options: Mapping[str, Any]) -> None:
    """Send messages now, and tell of it.

    Args:
        options: of ``apply_async``: ``retry``, ``retry_policy``.

    Raises:
        ReplicationError: they are sent, but too few replicas have them.
        OperationalError: the broker is away, and the retries or ``BROKER_CONNECTION_TIMEOUT`` are used up.
    """
    began = time.monotonic()
    for attempt in itertools.count(1):
        try:
            app.broker.send(messages)
            break
        except ReplicationError:
            tell_sent(messages)
            raise
        except OperationalError:
            pause = _pause_after(app, options, attempt)
            if pause is None or time.monotonic() + pause > began + app.conf.broker_connection_timeout:
                raise
        time.sleep(pause)
    tell_sent(messages)


def _retry_policy(app: App, options: Mapping[str, Any]) -> dict[str, Any]:
    return {**app.conf.task_publish_retry_policy, **(options.get("retry_policy") or {})}


def _pause_after(app: App, options: Mapping[str, Any], attempt: int) -> float | None:
    """Return the seconds that the retry policy says to wait after a failed attempt; None for no other one."""
    retry = options.get("retry")
    policy = _retry_policy(app, options)
    tries = policy.get("max_retries") if (app.conf.task_publish_retry if retry is None else retry) else 0
    alias = app.broker.transaction_alias
    broken = alias is not None and app.uses_database and in_user_transaction(alias)
    if broken or (tries is not None and attempt > tries):
        return None
    start, step = policy.get("interval_start") or 0, policy.get("interval_step") or 0
    pause: float = start if attempt == 1 else min(start + (attempt - 1) * step, policy.get("interval_max") or 0)
    return pause


def _publish_facts(message: Message) -> dict[str, Any]:
    headers = {key: getattr(message, key) for key in _FIXED_HEADERS}
    embed = message.embed or dict.fromkeys(("callbacks", "errbacks", "chain", "chord"))
    return {
        "body": (message.args, message.kwargs, embed),
        "headers": {**headers, "shadow": message.shadow, **message.headers},
        "exchange": "",
        "routing_key": message.queue,
        "properties": {"correlation_id": message.correlation_id or message.id, "priority": message.priority or 0},
    }


def _before_publish(message: Message, retry_policy: dict[str, Any]) -> None:
    """Tell receivers; custom headers that they add travel with the message, as in Celery."""
    facts = _publish_facts(message)
    headers, properties = facts["headers"], facts["properties"]
    signals.before_task_publish.send(sender=message.task, declare=[], retry_policy=retry_policy, **facts)
    message.shadow = headers.pop("shadow", None)
    message.headers = {key: value for key, value in headers.items() if key not in _FIXED_HEADERS}
    if properties.get("priority") != (message.priority or 0):
        message.priority = properties.get("priority")
