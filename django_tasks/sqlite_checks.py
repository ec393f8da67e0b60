"""The part of ``checks`` that looks at SQLite databases."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import django
from django.core import mail
from django.core.checks import CheckMessage, Error, Warning

_SQLITE_HINT = (
    'In DATABASES[{alias!r}] set "OPTIONS": {{"timeout": 20, "transaction_mode": "IMMEDIATE", '
    '"init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"}}.'
)
_OLD_DJANGO_SQLITE_HINT = (
    'In DATABASES[{alias!r}] set "OPTIONS": {{"timeout": 20}}, and switch WAL on, once for the file: '
    'manage.py shell -c "from django.db import connections; '
    "connections[{alias!r}].cursor().execute('PRAGMA journal_mode=WAL')\""
)


def pitfalls(alias: str, database: dict[str, Any]) -> Iterator[CheckMessage]:
    """Find what keeps several processes from sharing a SQLite database (E005), or from sharing it well (W004)."""
    name, options = str(database["NAME"]), database["OPTIONS"]
    if name == ":memory:" or "mode=memory" in name:
        # Django's test runner puts databases in memory on purpose; only while it runs is there an outbox.
        if not hasattr(mail, "outbox"):
            text = f"The database {alias!r} is in the memory of this process: no worker can see the tasks in it."
            yield Error(text, hint=f"Give DATABASES[{alias!r}] a file as NAME.", id="django_tasks.E005")
        return
    # Before 5.1 Django has no settings for either; projects switch WAL on in their code, so only the file can tell.
    knows_modes = django.VERSION[:2] >= (5, 1)
    missing = []
    init_command = str(options.get("init_command", "")).lower().replace(" ", "")
    if "journal_mode=wal" not in init_command and not _is_in_wal_mode(name, otherwise=not knows_modes):
        missing.append("WAL mode")
    if knows_modes and str(options.get("transaction_mode")).upper() not in ("IMMEDIATE", "EXCLUSIVE"):
        missing.append("IMMEDIATE transactions")
    if missing:
        lacks = " and ".join(missing)
        text = f"The SQLite database {alias!r} carries tasks without {lacks}: processes that write at the same time "
        hint = (_SQLITE_HINT if knows_modes else _OLD_DJANGO_SQLITE_HINT).format(alias=alias)
        yield Warning(f'{text}may fail with "database is locked".', hint=hint, id="django_tasks.W004")


def _is_in_wal_mode(path: str, otherwise: bool) -> bool:
    """Return what the file's header says (bytes 18 and 19, sqlite.org/fileformat2.html); ``otherwise`` without one."""
    try:
        with open(path, "rb") as file:
            header = file.read(20)
    except OSError:
        return otherwise
    return header[18:] == b"\x02\x02" if header else otherwise
