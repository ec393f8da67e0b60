"""Claims of periodic tasks in the table ``django_tasks_schedule``: a claim and its messages are one transaction.

A beat that is frozen in the middle of one would hold up all others. So rows that are locked are passed over where the
server can do that, and a transaction that says nothing for some seconds is ended by the server. (SQLite can do neither:
who stops a process there in the middle of any transaction stops all that write.)
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import django.db

from django_tasks.brokers.beat import Call, Claim, ClaimStore, EntryState
from django_tasks.brokers.browse import DELAYED, RUNNING, WAITING
from django_tasks.brokers.orm_browse import STATE_OF
from django_tasks.brokers.orm_table import row_of
from django_tasks.chunks import chunked
from django_tasks.databases import Database, rows_of
from django_tasks.exceptions import CeleriacError
from django_tasks.models import QueuedMessage, ScheduleState, check_tables

if TYPE_CHECKING:
    from django_tasks.brokers.orm import ORMBroker

#: Layout version 1.
TABLE = "django_tasks_schedule"
#: Those of ``EntryState``, in its order, with the types that PostgreSQL calls them.
COLUMNS = {"name": "text", "anchor": "float8", "begun": "float8", "slot": "float8", "fired": "float8",
           "runs": "bigint", "last_id": "text", "definition": "text", "claimed_at": "float8",
           "version": "bigint"}  # fmt: skip
#: Rows of one statement: SQLite takes 32,766 values.
CHUNK = 1000
#: Names that are looked for one by one; for more the whole table is read.
FEW = 5000
#: Seconds between looks at the server's clock.
CLOCK_AGE = 10.0
#: Seconds after which the server ends the transaction of a beat that says nothing more.
SILENCE = 5
#: How it is told so, and told that this holds no longer.
_LIMIT_SILENCE = {
    "postgresql": (f"SET LOCAL idle_in_transaction_session_timeout = {SILENCE * 1000}", ""),
    "mariadb": (f"SET SESSION idle_transaction_timeout = {SILENCE}", "SET SESSION idle_transaction_timeout = DEFAULT"),
}
_CHANGED = list(COLUMNS)[1:]


@lru_cache(maxsize=16)
def _insert(vendor: str, rows: int) -> str:
    conflict = "ON DUPLICATE KEY UPDATE id = id" if vendor == "mysql" else "ON CONFLICT DO NOTHING"
    return f"INSERT INTO {TABLE} ({', '.join(COLUMNS)}) {rows_of(vendor, COLUMNS, rows)} {conflict}"


@lru_cache(maxsize=16)
def _change(vendor: str, rows: int) -> str:
    """Overwrite rows that are there, and locked."""
    insert = f"INSERT INTO {TABLE} ({', '.join(COLUMNS)}) {rows_of(vendor, COLUMNS, rows)}"
    if vendor == "mysql":
        return f"{insert} ON DUPLICATE KEY UPDATE {', '.join(f'{c} = VALUES({c})' for c in _CHANGED)}"
    return f"{insert} ON CONFLICT (name) DO UPDATE SET {', '.join(f'{c} = EXCLUDED.{c}' for c in _CHANGED)}"


#: Overwrite a row if it has the version before the new one.
_CHANGE_ONE = f"UPDATE {TABLE} SET {', '.join(f'{c} = %s' for c in _CHANGED)} WHERE name = %s AND version = %s"


class ORMClaims(ClaimStore):
    """Rows of the broker's database."""

    def __init__(self, broker: ORMBroker) -> None:
        self.broker = broker
        self.database = broker.database

    def now(self) -> float:
        """Return the database server's time."""
        self.broker.server_clock.keep_set(self.broker.clock, CLOCK_AGE)
        return self.broker.now()

    def check(self) -> None:
        """Make sure that the table is there."""
        check_tables(self.database, ScheduleState)

    def states(self, names: Sequence[str] | None = None) -> dict[str, EntryState]:
        """Read rows: those of the names, or all where they are many."""
        read = f"SELECT {', '.join(COLUMNS)} FROM {TABLE}"
        if names is None or len(names) > FEW:
            wanted = None if names is None else set(names)
            rows = self.database.run(lambda: self.database.query(read))
            return {row[0]: EntryState(*row) for row in rows if wanted is None or row[0] in wanted}
        found: dict[str, EntryState] = {}
        for chunk in chunked(names, CHUNK):
            where, parameters = self._named(chunk)
            rows = self.database.run(partial(self.database.query, f"{read} WHERE {where}", parameters))
            found.update((row[0], EntryState(*row)) for row in rows)
        return found

    def _named(self, names: Sequence[str]) -> tuple[str, list[Any]]:
        """Return the condition that a row has one of the names, and its parameters."""
        if self.database.vendor == "postgresql":
            return "name IN (SELECT json_array_elements_text(%s))", [json.dumps(names)]
        return f"name IN ({', '.join(['%s'] * len(names))})", list(names)

    def add(self, states: Sequence[EntryState]) -> None:
        """Insert rows."""
        for chunk in chunked(sorted(states, key=lambda state: state.name), CHUNK):
            statement = _insert(self.database.vendor, len(chunk))
            self.database.run(partial(self.database.write, statement, COLUMNS, chunk))

    def prepare(self, claim: Claim) -> None:
        """Write the rows of the messages, and make sure that the server takes each."""
        now = self.broker.now()
        rows = [row_of(message, now, self.broker.max_size) for message in claim.messages]
        for row in rows:
            self.database.check_size([row[-1]])
        claim.written = list(rows)

    def claim(self, claims: Sequence[Claim]) -> set[str]:
        """Change rows and insert messages in one transaction."""
        ordered = sorted(claims, key=lambda claim: claim.before.name)  # as all beats do, lest they wait for each other
        return set().union(*(self.database.run(partial(self._claim, some)) for some in chunked(ordered, CHUNK)))

    def _claim(self, claims: Sequence[Claim]) -> set[str]:
        limit, lift = _LIMIT_SILENCE.get(_server(self.database), ("", ""))  # MySQL has nothing of the kind
        if any(claim.calls for claim in claims):  # the user's own code may take its time, and holds up this entry only
            limit = lift = ""
        with self.database.atomic():
            if limit:
                self.database.query(limit)
            won = self._change(claims)
            rows: list[Any] = [row for claim in claims if claim.before.name in won for row in claim.written]
            if rows:
                self.broker.messages.insert(rows)
            for call in (call for claim in claims if claim.before.name in won for call in claim.calls):
                self._call(call)
        if lift:
            self.database.query(lift)
        return won

    def _call(self, call: Call) -> None:
        """Let the user's own code send, within the transaction; what is wrong in it is no trouble of the server's."""
        try:
            with self.database.atomic():  # a savepoint: to release it fails where a swallowed error has spoilt all this
                call.make()
        except (django.db.InternalError, django.db.ProgrammingError) as exc:
            raise CeleriacError(f"{call.task}.apply_async has failed in the database: {exc}") from exc

    def _change(self, claims: Sequence[Claim]) -> set[str]:
        """Change the rows that are as the claims say; return their names."""
        if self.database.vendor == "sqlite":
            return {claim.before.name for claim in claims if self._change_one(claim)}
        won = self._lock(claims)
        if changed := [claim.after for claim in claims if claim.before.name in won]:
            self.database.write(_change(self.database.vendor, len(changed)), COLUMNS, changed)
        return won

    def _change_one(self, claim: Claim) -> bool:
        parameters = [*claim.after[1:], claim.before.name, claim.before.version]
        return bool(self.database.change(_CHANGE_ONE, parameters))

    def _lock(self, claims: Sequence[Claim]) -> set[str]:
        """Lock the rows that are as the claims say; return their names."""
        where, parameters = self._named([claim.before.name for claim in claims])
        skip = " SKIP LOCKED" if self.database.skip_locked else ""
        statement = f"SELECT name, version FROM {TABLE} WHERE {where} ORDER BY name FOR UPDATE{skip}"
        versions = dict(self.database.query(statement, parameters))
        return {c.before.name for c in claims if versions.get(c.before.name) == c.before.version}

    def running(self, task_ids: Collection[str]) -> set[str]:
        """Return the ids of messages that wait or run."""
        statuses = [status for status, state in STATE_OF.items() if state in (WAITING, DELAYED, RUNNING)]
        rows = QueuedMessage.objects.using(self.database.alias).filter(status__in=statuses)
        found: set[str] = set()
        for chunk in chunked(list(task_ids), CHUNK):
            ids = rows.filter(task_id__in=chunk).values_list("task_id", flat=True)
            found.update(self.database.run(partial(list, ids)))
        return found

    def forget(self, names: Sequence[str]) -> None:
        """Delete rows."""
        for chunk in chunked(names, CHUNK):
            rows = ScheduleState.objects.using(self.database.alias).filter(name__in=chunk)
            self.database.run(rows.delete)


def _server(database: Database) -> str:
    return "mariadb" if getattr(database.connection, "mysql_is_mariadb", False) else database.vendor
