"""What operators should know of queues and workers beside the numbers: what is amiss, and what to do about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from django_tasks.brokers.browse import SeenWorker
from django_tasks.management.tables import in_words
from django_tasks.operations import look, unpublished
from django_tasks.stranded import messages_wait, stranded

if TYPE_CHECKING:
    from django_tasks.app import App


def of_queues(app: App, queues: Sequence[look.QueueState]) -> Iterator[str]:
    """Yield what is amiss with queues."""
    lonely = [each.name for each in queues if each.workers == 0 and each.size.waiting]
    if lonely and any(each.workers for each in queues):
        yield f"No worker takes from {', '.join(lonely)}: `{_start(app, lonely)}` does."
    elif lonely:
        yield f"No worker is running: `{_start(app, lonely)}` starts one."
    if unknown := look.unknown_tasks(app):
        tasks = f"{', '.join(unknown[:5])}{' and more' if len(unknown) > 5 else ''}"
        yield f"The workers do not know the task {tasks}: restart them after a change of code."
    yield from of_outboxes(app)
    yield from stranded(app)


def of_outboxes(app: App) -> Iterator[str]:
    """Yield where messages wait for the broker."""
    for alias, counts in unpublished.sizes(app).items():
        yield f"{messages_wait(sum(counts.values()))} in the outbox of database {alias!r}."


def _start(app: App, lonely: Sequence[str]) -> str:
    """Return the command of a worker that takes from these queues, too."""
    names = list(dict.fromkeys((*app.router.queues, *lonely)))
    return "manage.py runworker" + ("" if len(names) == len(app.router.queues) else f" -Q {','.join(names)}")


def of_workers(app: App, workers: Sequence[SeenWorker]) -> Iterator[str]:
    """Yield what is amiss with workers."""
    alive = [each for each in workers if each.alive]
    for node in sorted({each.node for each in alive if each.paused}):
        yield f"{node} is paused; `tasks resume` lets it go on."
    late = {each.node: each.age for each in alive if each.late}
    for node, age in late.items():
        lease = in_words(app.broker.lease)
        yield f"{node} has been silent for {in_words(age)}; after {lease} others take over what it holds."
    janitors = Counter(each.node for each in alive if each.janitor and not each.late)
    for node, count in janitors.items():
        if count > 1:
            yield f"{count} workers are called {node}, and obey the same orders; `runworker -n NAME` tells them apart."
