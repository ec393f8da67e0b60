"""Whether the last run of an entry has ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from django_tasks.brokers.beat import ClaimStore, EntryState
from django_tasks.exceptions import OperationalError

if TYPE_CHECKING:
    from django_tasks.app import App

#: Seconds after which a run that the broker does not have is no longer waited for.
LONGEST = 86400.0


def still_running(app: App, store: ClaimStore, known: Sequence[EntryState], now: float) -> set[str]:
    """Return the names of entries whose last message has been sent and has not come to an end.

    The broker is asked whether it still has the message, so that what was purged, or has left no result, holds nothing
    up. A run whose message went when it began (``acks_late=False``) shows in its result, that it has started; not for
    ever, since it may have been lost.
    """
    by_id = {state.last_id: state for state in known if state.last_id}
    if not by_id:
        return set()
    try:
        metas = app.backend.get(list(by_id))
    except OperationalError:  # the results are away, and the broker may be not
        metas = {}
    begun = {id for id, meta in metas.items() if not meta.ready and now - (by_id[id].fired or 0.0) < LONGEST}
    unknown = [id for id in by_id if id not in begun and not (id in metas and metas[id].ready)]
    return {by_id[id].name for id in begun.union(store.running(unknown) if unknown else ())}
