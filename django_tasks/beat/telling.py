"""What a beat says of entries: that they were sent, or left out, or fail."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from django_tasks.beat.entry import Entry
from django_tasks.beat.policies import Plan
from django_tasks.beat.slots import to_datetime
from django_tasks.brokers.beat import Claim

logger = logging.getLogger("django_tasks.beat")

#: Seconds after which a schedule that has failed is asked again.
FAILED = 60.0
#: Seconds after its slot from which on a message is said to be late.
LATE = 5.0


def tell_claimed(claim: Claim, plan: Plan, now: float) -> None:
    """Log what has been sent, and what is left out."""
    name = claim.before.name
    if plan.late:
        logger.warning("Entry %r: %s left out, as too late.", name, _runs(plan.late, plan.upto or now))
    if plan.passed:
        logger.info("Entry %r: %s passed over, as the last one has not ended.", name,
                    _runs(plan.passed, plan.upto or now))  # fmt: skip
    sent = [(slot, each.task, each.id) for slot, each in zip(claim.slots, claim.messages, strict=True)]
    for slot, task, number in sent + [(call.slot, call.task, call.id) for call in claim.calls]:
        late = f", {now - slot:.0f} s late" if now - slot > LATE else ""
        logger.info("Entry %r: sent %s[%s], due at %s%s", name, task, number, shown([slot]), late)


def _runs(count: int, upto: float) -> str:
    return f"{count} run{' ' if count == 1 else 's '}up to {shown([upto])} {'is' if count == 1 else 'are'}"


def guarded(entry: Entry, now: float, decide: Callable[[], Plan]) -> Plan:
    """Decide about an entry; one whose schedule fails is looked at again in a minute."""
    try:
        return decide()
    except Exception:  # a class of the user's own
        logger.exception("Entry %r: its schedule (%s) fails; it is tried again in a minute.", entry.name,
                         type(entry.schedule).__name__)  # fmt: skip
        return Plan(next=now + FAILED)


def shown(instants: Iterable[float]) -> str:
    """Return instants for people to read."""
    return ", ".join(to_datetime(each).isoformat(" ", "milliseconds") for each in instants)
