"""``python -m tests.upgrade.record``: write down what this version leaves behind, for the tests of later ones.

Run it once for each minor version, before its release, and keep all files that it has made in ``samples``.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import tempfile
from pathlib import Path
from typing import Any

import redis

from django_tasks.version import __version__
from tests.processes import ROOT

SAMPLES = Path(__file__).parent / "samples"
ACCEPT = ["json", "pickle"]


def record(redis_url: str) -> dict[str, Any]:
    """Play the scenario on the database and on Redis, both empty before; return what is there then."""
    from tests.running import app_of_test
    from tests.upgrade.scenario import Scenario

    stores: dict[str, Any] = {}
    for store, url in (("tables", "django-db://"), ("redis", redis_url)):
        with app_of_test(url, accept_content=ACCEPT, result_accept_content=ACCEPT) as app:
            scenario = Scenario(app)
            scenario.play()
            if store == "tables":
                scenario.leave_in_the_outbox()
                scenario.leave_schedules()
                stores["cache"] = cached(app)
            content = rows() if store == "tables" else keys(redis_url)
            stores[store] = {"content": content, "calls": scenario.calls, "dead": scenario.dead}
            app.broker.close()
            app.backend.close()
    return stores


def rows() -> dict[str, list[dict[str, Any]]]:
    """Return the rows of our tables, without the keys that the database has given them."""
    from django_tasks.models import PeriodicVersion
    from tests.upgrade.tables import MODELS

    found = {table: list(model.objects.order_by("pk").values()) for table, model in MODELS.items()}
    for table, each in found.items():
        for row in each:
            if table != PeriodicVersion._meta.db_table:  # its one row is found by it
                del row["id"]
    return json.loads(json.dumps(found, default=str))


def client_of(url: str) -> Any:
    """Return a client that gives any bytes as text."""
    return redis.Redis.from_url(url, decode_responses=True, encoding_errors="surrogateescape")


def keys(url: str) -> dict[str, tuple[str, Any]]:
    """Return the keys of a Redis database, each with its type; sorted sets are lists of members and scores."""
    client = client_of(url)
    read = {
        "string": client.get,
        "list": lambda key: client.lrange(key, 0, -1),
        "set": lambda key: sorted(client.smembers(key)),
        "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        "hash": client.hgetall,
    }
    return {key: (kind := client.type(key), read[kind](key)) for key in client.scan_iter()}


def cached(app: Any) -> dict[str, str]:
    """Return what Django's caches would write for the results that there are."""
    from django.core.cache import caches

    from django_tasks.backends.cache import KEY_PREFIX, CacheBackend

    metas = app.backend.get(["ended", "failed", "revoked", "in-progress"])
    for meta in metas.values():
        meta.traceback = meta.traceback and without_paths(meta.traceback)
    CacheBackend("django-cache://default", accept=app.backend.accept, extended=True).store(list(metas.values()))
    found = caches["default"].get_many([KEY_PREFIX + task_id for task_id in metas])
    caches["default"].clear()
    return {key: base64.b64encode(pickle.dumps(value)).decode() for key, value in found.items()}


def without_paths(recorded: str) -> str:
    """Leave out where the code was that tracebacks are about."""
    return recorded.replace(str(ROOT), "/site")


def main() -> None:
    """Record on servers of our own."""
    with tempfile.TemporaryDirectory() as directory:
        os.environ["TEST_DATABASE_URL"] = f"sqlite:///{directory}/main.sqlite3"
        os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
        import django
        from django.core.management import call_command

        from tests.servers import Redis

        django.setup()
        call_command("migrate", "django_tasks", verbosity=0)
        with Redis() as server:
            stores = record(server.url())
    path = SAMPLES / f"{__version__.rpartition('.')[0]}.json"
    path.write_text(without_paths(json.dumps(stores, indent=1, sort_keys=True)) + "\n")
    print(path)


if __name__ == "__main__":
    main()
