"""Celery's side of the tests with Celery: it runs in an environment of its own, where our package is not.

python celery_side.py URL read ID...       print what its client makes of results, one line of JSON for each
python celery_side.py URL wait ID...       print a line when it listens, then what get() gives, one line for each
python celery_side.py URL worker [ARG...]  be a worker, with these arguments
python celery_side.py URL client           do what lines on the standard input say (see ``Client``), and answer each
"""

from __future__ import annotations

import gc
import json
import sys
from typing import Any

from celery import Celery, chain, chord, group
from celery.exceptions import Ignore
from work import define, described, send

url, command, *arguments = sys.argv[1:]
app = Celery("side", broker=url, backend=url)
app.conf.update(result_extended=True, worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True)
define(app.task, Ignore)


class Client:
    """What a line of JSON may ask for: the name of a method and its arguments."""

    def __init__(self) -> None:
        # One that is dropped while Celery listens for it may miss how the task ends after a RETRY.
        self.results: dict[str, Any] = {}

    def send(self, name: str, args: Any, options: dict[str, Any]) -> None:
        result = send(app, name, args, options)
        self.results[result.id] = result

    def chain(self, steps: list[Any], queue: str) -> list[str]:
        """Send a chain; return the ids of its steps."""
        result = chain(app.signature(name, args=args, queue=queue) for name, args in steps).apply_async(queue=queue)
        ids = []
        while result is not None:
            ids.append(result.id)
            result = result.parent
        return ids[::-1]

    def group(self, calls: list[Any], queue: str) -> list[str]:
        """Send a group; return the ids of its members."""
        return [each.id for each in group(app.signature(name, args=args, queue=queue) for name, args in calls)()]

    def chord(self, header: list[Any], body: str, queue: str) -> list[str]:
        """Send a chord; return the ids of its header and, last, of its body."""
        calls = [app.signature(name, args=args, queue=queue) for name, args in header]
        result = chord(calls, app.signature(body, queue=queue)).apply_async()
        return [*(each.id for each in result.parent.results), result.id]

    def ended(self, ids: list[str]) -> list[Any]:
        """Wait until all have ended; return what is known of them."""
        for task_id in ids:
            self.results.get(task_id, app.AsyncResult(task_id)).get(timeout=60, propagate=False)
        return self.known(ids)

    def known(self, ids: list[str]) -> list[Any]:
        return [described(app.AsyncResult(task_id)) for task_id in ids]


def say(value: Any) -> None:
    print(json.dumps(value, default=str), flush=True)


if command == "read":
    for known in Client().known(arguments):
        say(known)
elif command == "wait":
    results = [app.AsyncResult(task_id) for task_id in arguments]
    app.backend.result_consumer.start(arguments[0])
    for task_id in arguments:
        app.backend.result_consumer.consume_from(task_id)
    say("listening")
    for result in results:
        try:
            say(result.get(timeout=60))
        except Exception as exc:
            say([type(exc).__module__, type(exc).__qualname__, [str(arg) for arg in exc.args]])
elif command == "worker":
    app.worker_main(["worker", "-l", "INFO", "--without-mingle", "--without-gossip", *arguments])
elif command == "client":
    # A result collected while Celery unsubscribes from another unsubscribes, too, and waits for itself for ever.
    gc.disable()
    client = Client()
    for line in sys.stdin:
        method, *values = json.loads(line)
        say(getattr(client, method)(*values))
else:
    sys.exit(f"unknown: {command}")
