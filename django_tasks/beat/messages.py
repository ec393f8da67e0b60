"""From a slot of an entry to its message: always the same one, whichever beat makes it."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING

from django_tasks import producer, publishing
from django_tasks.beat.calls import call_of, task_with_its_own
from django_tasks.beat.entry import Entry
from django_tasks.beat.slots import to_datetime
from django_tasks.brokers.beat import Claim, ClaimStore, EntryState
from django_tasks.exceptions import CeleriacError
from django_tasks.message import Message, encode_compact

if TYPE_CHECKING:
    from django_tasks.app import App

#: The header that names the entry; it is what django-celery-results stores of a task of django-celery-beat.
NAME_HEADER = "periodic_task_name"
_NAMESPACE = uuid.UUID("8b1a9b1e-6a0c-5a5e-9f39-0f5cbb1fdd7a")


def run_id(name: str, slot: float) -> str:
    """Return the task id of a slot of an entry."""
    return str(uuid.uuid5(_NAMESPACE, f"{to_datetime(slot).isoformat()} {name}"))


def message_of(app: App, entry: Entry, slot: float) -> Message:
    """Make the message of a slot.

    Raises:
        ValueError: an option has a value that cannot be.
    """
    number = run_id(entry.name, slot)
    headers = {NAME_HEADER: entry.name, **(entry.options.get("headers") or {})}
    options = {**entry.options, "task_id": number, "headers": headers}
    message = producer.build_message(app, entry.task, entry.args, entry.kwargs, options, app.tasks.get(entry.task))
    message.cause = f"beat {slot!r} {entry.name}"
    if entry.expires is not None:
        last = to_datetime(slot + entry.expires)
        message.expires = last if message.expires is None else min(message.expires, last)
    if entry.jitter:
        part = int(number[-8:], 16) / 2**32
        message.eta = (message.eta or to_datetime(slot)) + timedelta(seconds=part * entry.jitter)
    return message


def unsendable(app: App, entry: Entry) -> str:
    """Return why no message of an entry can be sent; empty if they can."""
    try:
        encode_compact(message_of(app, entry, 0.0))
    except (CeleriacError, ValueError, TypeError, OverflowError) as exc:
        return str(exc) or repr(exc)
    return ""


def make_claim(app: App, store: ClaimStore, entry: Entry, state: EntryState, slots: tuple[float, ...], upto: float,
               now: float) -> Claim:  # fmt: skip
    """Make the claim of slots, with their messages written, or with calls where the task sends them by itself.

    Raises:
        Exception: whatever a route, a receiver of ``before_task_publish`` or a serializer of the user's raises.
    """
    messages = [message_of(app, entry, slot) for slot in slots]
    if messages and (task := task_with_its_own(app, entry.task)) is not None:
        calls = [call_of(task, entry, slot, message) for slot, message in zip(slots, messages, strict=True)]
        return Claim(state, after_claim(state, upto, now, slots, messages), calls=calls)
    if messages:
        publishing.announce(app, messages, entry.options)
    claim = Claim(state, after_claim(state, upto, now, slots, messages), messages, slots)
    store.prepare(claim)
    return claim


def after_claim(state: EntryState, upto: float, now: float, slots: tuple[float, ...] = (),
                messages: list[Message] | None = None) -> EntryState:  # fmt: skip
    """Return the state that comes after a claim."""
    fired, last_id = (slots[-1], messages[-1].id) if slots and messages else (state.fired, state.last_id)
    return state._replace(slot=upto, fired=fired, last_id=last_id, runs=state.runs + len(slots), claimed_at=now,
                          version=state.version + 1)  # fmt: skip
