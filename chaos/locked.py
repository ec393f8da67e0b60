"""Write to one SQLite file from four web processes and four worker processes: nobody sees "database is locked"."""

from __future__ import annotations

import argparse
import re
import time

from chaos import record
from chaos.stage import Stage, wait_until

#: Seconds in which all tasks must have ended after the last was sent.
PATIENCE = 60.0
#: What a worker's log may not have.
TROUBLE = re.compile(r"ERROR|CRITICAL|Traceback|locked")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what it takes."""
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--web", type=int, default=4, help="web processes")
    parser.add_argument("--workers", type=int, default=4, help="worker processes")
    parser.add_argument("--pause", type=float, default=0.02, help="seconds between two requests of a web process")


def play(options: argparse.Namespace) -> bool:
    """Return whether nobody has seen an error, and every task has ended well."""
    settings = {"CHAOS_PAUSE": str(options.pause), "CHAOS_SETTINGS_OF_DEMO": "1"}
    print(f"{options.web} web and {options.workers} worker processes on SQLite for {options.seconds:g} s", flush=True)
    with Stage("sqlite", settings, keep=options.keep) as stage:
        stage.start_worker("-c", str(options.workers))
        wait_until(lambda: " ready." in stage.log("worker"), 30)
        web = [stage.start("-m", "chaos.web", log="web") for _ in range(options.web)]
        time.sleep(options.seconds)
        for process in web:
            process.terminate()
            process.wait()
        wait_until(lambda: not _left(), PATIENCE)
        return _judge(stage)


def _left() -> int:
    from django_tasks.models import QueuedMessage

    return int(QueuedMessage.objects.count())


def _judge(stage: Stage) -> bool:
    from chaos.models import Entry
    from django_tasks import states
    from django_tasks.models import TaskResult

    events = list(record.read(stage.record))
    requests = sorted(float(event.detail) for event in events if event.kind == "request")
    errors = [event.detail for event in events if event.kind == "error"]
    failed = TaskResult.objects.exclude(status=states.SUCCESS).count()
    ended = TaskResult.objects.filter(status=states.SUCCESS).count()
    trouble = [line for name in ("worker", "web") for line in stage.log(name).splitlines() if TROUBLE.search(line)]
    print(f"requests {len(requests)}, slowest {requests[-1]:.2f} s; tasks ended {ended}, left {_left()}, "
          f"entries {Entry.objects.count()}")  # fmt: skip
    print(f"errors in requests {len(errors)}, in tasks {failed}, lines of trouble in logs {len(trouble)}")
    for line in [*errors[:5], *trouble[:5]]:
        print(f"    {line}")
    # Each request and each task writes one entry, in the transaction that sends the task or after it.
    return not (errors or failed or trouble or _left()) and ended == len(requests) == Entry.objects.count() / 2
