"""Drain a backlog while an old snapshot keeps the server from cleaning up behind it, and print how long claims take."""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from chaos import record
from chaos.stage import Stage, wait_until

#: Messages of one send; parts of the backlog that are reported one by one; seconds in which it has to be drained.
CHUNK, PARTS, PATIENCE = 1000, 10, 600.0
#: Seconds that a claim may take, the slowest in a hundred aside.
LIMIT = 0.050


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what it takes."""
    parser.add_argument("--database", choices=("postgresql", "mariadb"), default="postgresql")
    parser.add_argument("--finished", type=int, default=1_000_000, help="rows of results that are there already")
    parser.add_argument("--messages", type=int, default=200_000, help="of the backlog")
    parser.add_argument("--seconds", type=float, default=30, help="of light traffic after that")
    parser.add_argument("--without", action="store_true", help="hold no snapshot, to compare")


def play(options: argparse.Namespace) -> bool:
    """Return whether claims stayed quick and nothing is left."""
    with Stage(options.database, {"CHAOS_TIME_CLAIMS": "1"}, keep=options.keep) as stage:
        _finish(options.finished)
        print(f"{options.finished:,} finished rows on {options.database}, "
              f"{'no snapshot' if options.without else 'a snapshot'} held", flush=True)  # fmt: skip
        with _snapshot(not options.without):
            begin = time.monotonic()
            _send(options.messages)
            print(f"sent {options.messages:,} messages in {time.monotonic() - begin:.1f} s", flush=True)
            stage.start_worker("-c", "2", "-l", "WARNING")
            wait_until(_is_empty, PATIENCE)
            drained = _is_empty()
            claims = _claims(stage)
            for part in _parts(claims):
                _print(f"{_number(part):,} messages", part)
            quick = _print("all of them", claims) < LIMIT
            _trickle(options.seconds)
            wait_until(_is_empty, 10)
            quick &= _print("light traffic", _claims(stage)[len(claims) :]) < LIMIT
            print(f"left: {'none' if _is_empty() else 'some'}")
            return quick and drained and _is_empty()


def _finish(number: int) -> None:
    """Store results of tasks that ended during the last day, all in the database."""
    from django.db import connection

    from django_tasks.models import TaskResult

    fields = [field.column for field in TaskResult._meta.fields if field.column != "id"]
    values: dict[str, Any] = dict.fromkeys(fields, "''") | {
        "status": "'SUCCESS'", "retries": "0", "content_type": "'application/json'", "content_encoding": "'utf-8'",
        "result": "'null'", "meta": "'{}'", "date_started": "NULL",
    }  # fmt: skip
    if connection.vendor == "postgresql":
        values |= {"task_id": "'finished-' || n", "date_done": "now() - n * interval '1 second' / 100"}
        source = f"generate_series(1, {number}) AS n"
    else:
        values |= {"task_id": "CONCAT('finished-', seq)", "date_done": "NOW() - INTERVAL (seq / 100) SECOND"}
        source = f"seq_1_to_{number}"
    columns, row = ", ".join(fields), ", ".join(str(values[field]) for field in fields)
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO django_tasks_result ({columns}) SELECT {row} FROM {source}")
        cursor.execute("ANALYZE TABLE django_tasks_result" if connection.vendor == "mysql" else "ANALYZE")


@contextmanager
def _snapshot(wanted: bool) -> Iterator[None]:
    """Keep a transaction open that has looked, as a long report or a forgotten session does."""
    from django.db import connection, transaction

    looked, end = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            with connection.cursor() as cursor:
                if connection.vendor == "postgresql":  # it is MariaDB's default
                    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                cursor.execute("SELECT COUNT(*) FROM django_tasks_message")
            looked.set()
            end.wait()
        connection.close()

    thread = threading.Thread(target=hold)
    if wanted:
        thread.start()
        looked.wait()
    try:
        yield
    finally:
        end.set()
        if wanted:
            thread.join()


def _send(number: int) -> None:
    from chaos.tasks import nothing

    for start in range(0, number, CHUNK):
        nothing.delay_many([()] * min(CHUNK, number - start))


def _trickle(seconds: float) -> None:
    from chaos.tasks import nothing

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        nothing.delay()
        time.sleep(0.05)


def _is_empty() -> bool:
    from django_tasks.models import QueuedMessage

    return not QueuedMessage.objects.exists()


def _claims(stage: Stage) -> list[record.Event]:
    """Return the claims that brought something."""
    return [event for event in record.read(stage.record) if event.kind == "claim"]


def _number(claims: list[record.Event]) -> int:
    """Return how many messages claims have brought."""
    return sum(int(each.detail) for each in claims)


def _parts(claims: list[record.Event]) -> Iterator[list[record.Event]]:
    """Yield claims in parts of about the same number of messages."""
    part: list[record.Event] = []
    total = _number(claims)
    for claim in claims:
        part.append(claim)
        if _number(part) >= total / PARTS or claim is claims[-1]:
            yield part
            part = []


def _print(what: str, claims: list[record.Event]) -> float:
    """Print what claims took; return the seconds that one in a hundred exceeds."""
    took = sorted(float(each.subject) for each in claims)
    seconds = claims[-1].time - claims[0].time + took[0]
    median, last = took[len(took) // 2], took[min(len(took) - 1, int(len(took) * 0.99))]
    times = f"p50 {median * 1000:.1f} ms, p99 {last * 1000:.1f} ms, longest {took[-1] * 1000:.1f} ms"
    print(f"{what}: {_number(claims) / seconds:,.0f} a second; {len(took):,} claims, {times}", flush=True)
    return last
