"""``python -m chaos --database sqlite|postgresql|mariadb --seconds 60 --seed 1``: break things, then audit.

Exit code 0 when nothing was lost, changed or left behind.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.servers import SERVERS, Server

#: Seconds in which everything must have ended once nothing is broken any more.
CALM = 60.0


def main(argv: list[str]) -> int:
    """Run, audit, report."""
    parser = argparse.ArgumentParser(prog="python -m chaos")
    parser.add_argument("--database", choices=("sqlite", "postgresql", "mariadb"), default="sqlite")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None, help="repeats the choices, though not their effects")
    parser.add_argument("--rate", type=float, default=60, help="tasks a second of each of the two producers")
    parser.add_argument("--lease", type=float, default=3)
    parser.add_argument("--keep", action="store_true", help="keep the logs and the record")
    options = parser.parse_args(argv)
    seed = options.seed if options.seed is not None else random.randrange(10**6)
    random.seed(seed)
    directory = Path(tempfile.mkdtemp(prefix="celeriac-chaos-"))
    server = None if options.database == "sqlite" else SERVERS[options.database]()
    print(f"chaos on {options.database} for {options.seconds:g} s, seed {seed}, logs in {directory}", flush=True)
    try:
        clean = run(options, directory, server)
    finally:
        if server is not None:
            server.close()
    if clean and not options.keep:
        shutil.rmtree(directory)
    return 0 if clean else 1


def run(options: argparse.Namespace, directory: Path, server: Server | None) -> bool:
    """Break things for a while; return whether the audit is clean."""
    if server is not None:
        server.start()
    _prepare(options, directory, server)
    # Django can be set up only now that the database's address is known.
    from chaos.audit import Sampler, audit
    from chaos.monkey import Monkey

    sampler = Sampler()
    sampler.start()
    monkey = Monkey(directory, 2, 2, server, options.lease)
    try:
        monkey.play(options.seconds)
        monkey.stop_breaking()
        took = _calm_down()
        sampler.stop.set()
        sampler.join()
        findings = audit(os.environ["CHAOS_RECORD"], sampler)
    finally:
        monkey.end()
    print(", ".join(f"{name} {count}" for name, count in sorted(monkey.done.items())))
    print(f"{findings.report()}; calm after {took:.1f} s")
    for name in ("lost", "lost_links", "changed", "innocent_dead"):
        if ids := getattr(findings, name):
            print(f"{name}: {' '.join(ids[:10])}")
    return findings.clean


def _prepare(options: argparse.Namespace, directory: Path, server: Server | None) -> None:
    os.environ.update(
        DJANGO_SETTINGS_MODULE="chaos.settings",
        CHAOS_DATABASE_URL=server.url("main") if server else f"sqlite:///{directory}/chaos.sqlite3",
        CHAOS_RECORD=str(directory / "record"),
        CHAOS_LEASE=str(options.lease),
        CHAOS_RATE=str(options.rate),
    )
    import django
    from django.core.management import call_command
    from django.db import connection

    django.setup()
    if server is not None:
        with connection._nodb_cursor() as cursor:
            cursor.execute("CREATE DATABASE main")
    call_command("migrate", verbosity=0)


def _calm_down() -> float:
    """Wait until no message is left but dead letters; return the seconds that took."""
    from django.db import connection

    from django_tasks.models import QueuedMessage

    connection.close()  # it may be one to a server that was restarted
    begin = time.monotonic()
    while time.monotonic() - begin < CALM:
        if not QueuedMessage.objects.exclude(status=QueuedMessage.DEAD).exists():
            break
        time.sleep(0.2)
    return time.monotonic() - begin


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
