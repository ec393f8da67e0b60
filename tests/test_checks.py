"""What ``manage.py check`` says about the settings."""

from __future__ import annotations

import ast
import contextlib
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import django
import pytest
from django.core import checks as django_checks
from django.core import mail
from django.core.checks import CheckMessage
from django.db import connections
from django.db.utils import ConnectionHandler

from django_tasks import checks, shared_task
from django_tasks.conf import BROKER_SCHEMES, Settings
from tests.running import app_of_test
from tests.servers import Redis, free_port, require

KNOWS_MODES = django.VERSION >= (5, 1)
AddDatabase = Callable[..., None]


def find(conf: Settings | None = None) -> dict[str, CheckMessage]:
    """Return what the checks find by default, by id without the prefix; the last of each id."""
    conf = conf or Settings()
    return {str(found.id).removeprefix("django_tasks."): found for finder in checks.FINDERS for found in finder(conf)}


def fill(path: Path, statement: str = "PRAGMA journal_mode=DELETE") -> None:
    """Make an SQLite file with a table in it."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.execute("CREATE TABLE t (x)")
        connection.commit()


@pytest.fixture
def add_database() -> Iterator[AddDatabase]:
    """Give Django one more SQLite database called ``other``."""

    def drop() -> None:
        connections.settings.pop("other", None)
        if hasattr(connections._connections, "other"):
            connections["other"].close()
            del connections["other"]

    def add(name: str | Path, **options: Any) -> None:
        drop()
        database = {"ENGINE": "django.db.backends.sqlite3", "NAME": name, "OPTIONS": options}
        handler = ConnectionHandler({"default": {}, "other": database})
        # Connecting completes what the settings leave out.
        connections.settings["other"] = handler["other"].settings_dict

    yield add
    drop()


@pytest.mark.django_db  # since Django 6.1 its own checks of models ask the database what it can do
class TestRegistration:
    def test_django_runs_them(self, settings: Any) -> None:
        settings.CELERY_BROKER_URL = "amqp://localhost"
        found = [message.id for message in django_checks.run_checks()]
        assert found.count("django_tasks.E003") == 1

    def test_pickle_is_looked_for_on_deployment_only(self, settings: Any) -> None:
        settings.CELERY_ACCEPT_CONTENT = ["json", "pickle"]
        tags = [django_checks.Tags.security]
        assert "django_tasks.W005" not in [message.id for message in django_checks.run_checks()]
        found = django_checks.run_checks(tags=tags, include_deployment_checks=True)
        assert "django_tasks.W005" in [message.id for message in found]


class TestServers:
    """They are asked with ``check --deploy`` only."""

    def found(self) -> list[tuple[str, str]]:
        found = django_checks.run_checks(tags=[django_checks.Tags.security], include_deployment_checks=True)
        return [(str(each.id), each.msg) for each in found if str(each.id).startswith("django_tasks")]

    @pytest.mark.django_db
    def test_a_server_that_deletes(self, settings: Any) -> None:
        require("redis")
        with Redis("--maxmemory-policy", "allkeys-lru") as server:
            settings.BROKER_URL = settings.RESULT_BACKEND = server.url()
            assert "django_tasks.W009" not in [message.id for message in django_checks.run_checks()]
            messages, results = self.found()
            server.connect().config_set("maxmemory-policy", "noeviction")
            assert self.found() == []
        assert messages[0] == results[0] == "django_tasks.W009"
        assert "maxmemory-policy allkeys-lru: when its memory is full it deletes messages" in messages[1]
        assert "it deletes results" in results[1]

    def test_servers_that_cannot_be_asked_or_are_too_old(
        self, settings: Any, redis_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings.BROKER_URL, settings.RESULT_BACKEND = f"redis://:hunter2@127.0.0.1:{free_port()}", redis_url
        monkeypatch.setattr("django_tasks.redis_connections.OLDEST_SERVER", (99, 0))
        away, old = self.found()
        assert (away[0], old[0]) == ("django_tasks.I003", "django_tasks.W009")
        assert "cannot be reached" in away[1]
        assert "hunter2" not in away[1]
        assert "needs Redis 99.0 or newer" in old[1]

    def test_other_servers_and_bad_urls_are_left_to_other_checks(self, settings: Any) -> None:
        settings.BROKER_URL, settings.RESULT_BACKEND = "redis://host/name", "django-db://"
        assert self.found() == []


class TestValues:
    def test_defaults_are_fine(self, settings: Any) -> None:
        assert find(Settings(broker_url="memory://", result_backend="disabled://")) == {}
        assert list(checks.pickle_accepted(Settings())) == []

    @pytest.mark.parametrize(
        ("name", "value", "text"),
        [
            ("WORKER_CONCURRENCY", "4", "WORKER_CONCURRENCY = '4' cannot be used"),
            ("CELERYD_CONCURRENCY", "4", "CELERYD_CONCURRENCY = '4' cannot be used"),
            ("BROKER_URL", None, "BROKER_URL = None cannot be used"),
            ("TASK_SERIALIZER", "jsn", "TASK_SERIALIZER = 'jsn': There is no serializer 'jsn'"),
            ("ACCEPT_CONTENT", ["json", "jsn"], "ACCEPT_CONTENT = ['json', 'jsn']: There is no serializer 'jsn'"),
            ("RESULT_ACCEPT_CONTENT", ["jsn"], "RESULT_ACCEPT_CONTENT = ['jsn']: There is no serializer 'jsn'"),
            ("RESULT_SERIALIZER", "jsn", "RESULT_SERIALIZER = 'jsn': There is no serializer 'jsn'"),
            ("TASK_COMPRESSION", "gz!", "TASK_COMPRESSION = 'gz!': There is no compression 'gz!'"),
            ("TASK_DEFAULT_RATE_LIMIT", "10/y", "TASK_DEFAULT_RATE_LIMIT = '10/y': '10/y' is not a rate limit"),
            ("TASK_QUEUES", [5], "TASK_QUEUES holds 5"),
            ("TASK_ROUTES", [5], "TASK_ROUTES holds 5"),
            ("TASK_ROUTES", ["a"], "TASK_ROUTES names 'a', which cannot be imported"),
            ("TASK_ROUTES", "os.sep", "TASK_ROUTES names 'os.sep', which is neither a function nor a router"),
        ],
    )
    def test_a_wrong_one(self, name: str, value: Any, text: str, settings: Any) -> None:
        setattr(settings, name, value)
        found = [message for message in checks.wrong_values(Settings()) if message.id == "django_tasks.E001"]
        assert len(found) == 1
        assert found[0].msg.startswith(text)

    def test_two_names_with_different_values(self, settings: Any) -> None:
        settings.RESULT_EXPIRES = 60
        settings.CELERY_TASK_RESULT_EXPIRES = 61
        (found,) = checks.names_given_twice(Settings())
        assert found.id == "django_tasks.E002"
        assert found.msg == "One setting has several values: RESULT_EXPIRES = 60, CELERY_TASK_RESULT_EXPIRES = 61."
        assert found.hint == "Keep one of them, best RESULT_EXPIRES."

    def test_two_names_with_one_value_are_fine(self, settings: Any) -> None:
        settings.RESULT_EXPIRES = 60
        settings.CELERY_RESULT_EXPIRES = 60.0
        assert list(checks.names_given_twice(Settings())) == []

    def test_two_names_do_not_show_passwords(self, settings: Any) -> None:
        settings.BROKER_URL = "redis://:hunter2@a"
        settings.CELERY_BROKER_URL = "redis://:hunter2@b"
        assert "hunter2" not in find()["E002"].msg

    @pytest.mark.parametrize("name", ["ACCEPT_CONTENT", "RESULT_ACCEPT_CONTENT"])
    @pytest.mark.parametrize("value", ["pickle", "application/x-python-serialize"])
    def test_pickle(self, name: str, value: str) -> None:
        (found,) = checks.pickle_accepted(Settings(**{name: ["json", value]}))
        assert found.id == "django_tasks.W005"
        assert found.msg.startswith(name)


class TestTasks:
    @pytest.fixture(autouse=True)
    def _keep_the_tasks_of_others(self) -> Iterator[None]:
        with app_of_test():
            yield

    def test_a_serializer_that_workers_refuse(self) -> None:
        found = find(Settings(task_serializer="pickle"))["W006"]
        assert found.msg.startswith("TASK_SERIALIZER = 'pickle', which ACCEPT_CONTENT does not allow")
        assert found.hint == "Add 'pickle' to ACCEPT_CONTENT, or send JSON."
        assert "W006" not in find(Settings(task_serializer="pickle", accept_content=["json", "pickle"]))

    def test_one_of_a_task(self) -> None:
        shared_task(name="job", serializer="pickle")(lambda: None)
        assert find()["W006"].msg.startswith("serializer of the task job = 'pickle'")
        assert "W006" not in find(Settings(accept_content=["json", "application/x-python-serialize"]))

    def test_an_unknown_one_is_reported_once(self) -> None:
        assert list(find(Settings(task_serializer="morse"))) == ["E001"]

    @pytest.mark.parametrize(
        ("option", "value", "advice"),
        [
            ("acks_on_failure_or_timeout", False, "A task that failed has ended"),
            ("acks_on_timeout", False, "A task that failed has ended"),
            ("store_eager_result", True, "Set TASK_STORE_EAGER_RESULT"),
        ],
    )
    def test_an_option_without_effect(self, option: str, value: bool, advice: str) -> None:
        shared_task(name="job", **{option: value})(lambda: None)
        found = find()["I001"]
        assert found.msg.startswith(f"The task job has {option} = {value}: ")
        assert str(found.hint).startswith(advice)

    def test_an_option_that_asks_for_what_happens_anyway(self) -> None:
        shared_task(name="job", acks_on_failure_or_timeout=True)(lambda: None)
        assert find() == {}


class TestRoutes:
    def test_a_route_for_a_task_that_there_is_not(self, settings: Any) -> None:
        settings.TASK_ROUTES = {"tests.testapp.tasks.addd": "slow", "tests.testapp.tasks.add": "slow", "a.*": "b"}
        text = "TASK_ROUTES has a route for 'tests.testapp.tasks.addd', and there is no such task. Did you mean "
        assert find()["W008"].msg == f"{text}tests.testapp.tasks.add?"

    def test_tasks_of_other_projects_have_routes(self, settings: Any) -> None:
        settings.TASK_ROUTES = {"warehouse.pack": "slow", "tests.testapp.tasks.*": "b"}
        assert "W008" not in find()


class TestURLs:
    @pytest.mark.parametrize("name", ["BROKER_URL", "RESULT_BACKEND"])
    def test_a_server_of_a_later_release(self, name: str, settings: Any) -> None:
        setattr(settings, name, "amqp://:hunter2@host")
        found = find()["E003"]
        assert found.msg.startswith(f"{name} = 'amqp://:**@host': this release does not speak 'amqp' yet.")
        assert "django-db://" in found.msg
        assert found.hint == "Remove it, or set it to 'django-db://', which is the project's own database."

    def test_it_names_what_is_written(self, settings: Any) -> None:
        settings.CELERY_BROKER_URL = "kafka://host"
        assert find()["E003"].msg.startswith(
            "CELERY_BROKER_URL = 'kafka://host': this release does not speak 'kafka'. "
        )

    @pytest.mark.parametrize("name", ["BROKER_URL", "RESULT_BACKEND"])
    @pytest.mark.parametrize(
        ("url", "options", "says"),
        [
            ("redis://:hunter2@host/name", {}, "cannot be read"),
            ("sentinel://:hunter2@host", {}, "needs the name that the sentinels have"),
            ("redis://:hunter2@host", {"global_keyprefx": "a"}, "Did you mean global_keyprefix"),
            ("redis://:hunter2@host", {"max_connections": 0}, "max_connections = 0 must be a whole number above 0"),
            ("redis://:hunter2@host?max_connections=many", {}, "cannot be read"),
        ],
    )
    def test_a_redis_that_cannot_be_used(self, name: str, url: str, options: Any, says: str, settings: Any) -> None:
        pytest.importorskip("redis")
        setattr(settings, name, url)
        setattr(settings, f"{name.removesuffix('_URL')}_TRANSPORT_OPTIONS", options)
        found = find()["E003"]
        assert says in found.msg
        assert "hunter2" not in found.msg
        assert found.hint == "Correct it; the page on Redis of the documentation has the forms of URLs and all options."

    def test_a_redis_that_can_be_used(self, settings: Any) -> None:
        """Whether it is there is not asked: checks run before servers are up."""
        pytest.importorskip("redis")
        settings.BROKER_URL = settings.RESULT_BACKEND = "redis://user:hunter2@localhost:1/0"
        settings.RESULT_BACKEND_TRANSPORT_OPTIONS = {"global_keyprefix": "a"}
        assert find() == {}

    def test_transport_options_without_effect(self, settings: Any) -> None:
        pytest.importorskip("redis")
        settings.BROKER_URL = "redis://localhost:1/0"
        settings.BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 3600, "max_connections": 5, "fanout_prefix": True}
        found = find()
        assert found.keys() == {"I001"}
        assert found["I001"].msg == (
            "BROKER_TRANSPORT_OPTIONS: only Celery heeds fanout_prefix, visibility_timeout; here it has no effect."
        )
        settings.BROKER_TRANSPORT_OPTIONS, settings.RESULT_BACKEND = {}, "redis://localhost:1/0"
        settings.RESULT_BACKEND_TRANSPORT_OPTIONS = {"global_keyprefix": "a", "retry_policy": {"timeout": 5}}
        assert find()["I001"].msg.startswith("RESULT_BACKEND_TRANSPORT_OPTIONS: only Celery heeds retry_policy;")

    def test_transport_options_without_redis(self, settings: Any) -> None:
        settings.BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 3600}
        found = find()
        assert found.keys() == {"I001"}
        assert found["I001"].msg.startswith("BROKER_TRANSPORT_OPTIONS has no effect, since BROKER_URL names no Redis: ")

    def test_priorities_mean_the_opposite_on_redis(self, settings: Any) -> None:
        pytest.importorskip("redis")
        settings.TASK_ROUTES = [{"shop.*": {"queue": "slow", "priority": 3}}, {"shop.tasks.add": "slow"}]
        settings.TASK_DEFAULT_PRIORITY = 5
        assert find() == {}
        settings.BROKER_URL = "redis://localhost:1/0"
        found = find()
        assert found.keys() == {"I004"}
        assert found["I004"].msg == (
            "On Redis 0 is the most urgent priority, as for Celery there; elsewhere the highest number is: "
            "TASK_DEFAULT_PRIORITY, TASK_ROUTES (shop.*)."
        )

    def test_a_missing_library(self, monkeypatch: pytest.MonkeyPatch) -> None:
        scheme = BROKER_SCHEMES["memory"]._replace(module="no_such_library_for_test", extra="x")
        monkeypatch.setitem(BROKER_SCHEMES, "memory", scheme)
        found = find(Settings(broker_url="memory://"))["E003"]
        assert "no_such_library_for_test" in found.msg
        assert str(found.hint).startswith("Install it wherever this project runs, or set BROKER_URL to")

    @pytest.mark.parametrize(
        ("url", "text"),
        [
            ("django-db://defalt", "'django-db://defalt', but DATABASES has no 'defalt'. Did you mean default?"),
            ("django-cache://big", "'django-cache://big', but CACHES has no 'big'."),
        ],
    )
    def test_an_unknown_alias(self, url: str, text: str) -> None:
        assert find(Settings(result_backend=url))["E004"].msg == f"RESULT_BACKEND = {text}"

    @pytest.mark.parametrize(
        "url", ["django-db", "django-db://", "django-db://default", "django-cache", "django-cache://default"]
    )
    def test_known_aliases(self, url: str) -> None:
        assert not {"E003", "E004"} & find(Settings(result_backend=url)).keys()

    @pytest.mark.parametrize(
        ("backend", "text"), [("locmem.LocMemCache", "memory of one process"), ("dummy.DummyCache", "keeps nothing")]
    )
    def test_a_cache_that_others_cannot_see(self, backend: str, text: str, settings: Any) -> None:
        settings.CACHES = {"default": {"BACKEND": f"django.core.cache.backends.{backend}"}}
        assert text in find(Settings(result_backend="django-cache"))["W003"].msg
        assert "W003" not in find(Settings(result_backend="django-db"))

    def test_a_cache_that_others_can_see(self, settings: Any) -> None:
        backend = "django.core.cache.backends.db.DatabaseCache"
        settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": "cache"}}
        assert "W003" not in find(Settings(result_backend="django-cache"))


class TestSQLite:
    conf: Settings

    @pytest.fixture(autouse=True)
    def _use_the_other_database(self) -> None:
        self.conf = Settings(broker_url="django-db://other", result_backend="disabled://")

    @pytest.mark.parametrize("name", [":memory:", "file:x?mode=memory&cache=shared"])
    def test_in_memory(self, name: str, add_database: AddDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
        add_database(name)
        assert find(self.conf) == {}
        monkeypatch.delattr(mail, "outbox")
        assert find(self.conf).keys() == {"E005"}

    def test_without_any_options(self, add_database: AddDatabase, tmp_path: Path) -> None:
        fill(tmp_path / "db.sqlite3")
        add_database(tmp_path / "db.sqlite3")
        found = find(self.conf)["W004"]
        lacking = "WAL mode and IMMEDIATE transactions" if KNOWS_MODES else "WAL mode"
        assert f"'other' carries tasks without {lacking}:" in found.msg
        assert "DATABASES['other']" in (found.hint or "")
        assert ("transaction_mode" if KNOWS_MODES else "connections['other']") in (found.hint or "")

    def test_a_file_that_is_in_wal_mode_already(self, add_database: AddDatabase, tmp_path: Path) -> None:
        fill(tmp_path / "db.sqlite3", "PRAGMA journal_mode=WAL")
        add_database(tmp_path / "db.sqlite3")
        if KNOWS_MODES:
            assert "without IMMEDIATE transactions:" in find(self.conf)["W004"].msg
        else:
            assert find(self.conf) == {}

    @pytest.mark.parametrize("empty", [True, False])
    def test_a_file_that_is_still_to_come(self, empty: bool, add_database: AddDatabase, tmp_path: Path) -> None:
        add_database(tmp_path / "db.sqlite3")
        if empty:
            (tmp_path / "db.sqlite3").touch()
        # Old Django cannot say in its settings what the file is going to be.
        assert find(self.conf).keys() == ({"W004"} if KNOWS_MODES else set())

    def test_doing_what_the_hint_says_helps(
        self, add_database: AddDatabase, tmp_path: Path, django_db_blocker: Any
    ) -> None:
        fill(tmp_path / "db.sqlite3")
        add_database(tmp_path / "db.sqlite3")
        hint = find(self.conf)["W004"].hint or ""
        options = re.search(r'"OPTIONS": (\{.*?\})', hint)
        assert options
        add_database(tmp_path / "db.sqlite3", **ast.literal_eval(options[1]))
        command = re.search(r'manage\.py shell -c "(.*)"', hint)
        if command:
            with django_db_blocker.unblock():
                exec(command[1], {})
        assert find(self.conf) == {}

    def test_results_in_sqlite_count_too(self, add_database: AddDatabase, tmp_path: Path) -> None:
        fill(tmp_path / "db.sqlite3")
        add_database(tmp_path / "db.sqlite3")
        assert "W004" in find(Settings(broker_url="memory://", result_backend="django-db://other"))
        assert "W004" not in find(Settings(broker_url="memory://", result_backend="disabled://"))


class TestNames:
    conf = staticmethod(lambda: Settings(broker_url="memory://", result_backend="disabled://"))

    @pytest.mark.parametrize(
        ("name", "meant"),
        [
            ("CELERY_BROKR_URL", "CELERY_BROKER_URL"),
            ("CELERY_RESULT_EXPIRE", "CELERY_RESULT_EXPIRES"),
            ("CELERYD_CONCURENCY", "CELERYD_CONCURRENCY"),
        ],
    )
    def test_an_unknown_one_with_celerys_prefix(self, name: str, meant: str, settings: Any) -> None:
        setattr(settings, name, 1)
        found = find(self.conf())
        assert found.keys() == {"W001"}
        assert found["W001"].msg == (
            f"{name} is a setting neither of django_tasks nor of Celery. Did you mean {meant}?"
        )

    def test_one_that_resembles_none(self, settings: Any) -> None:
        settings.CELERYBEAT_XYZZY = 1
        assert "Did you mean" not in find(self.conf())["W001"].msg

    @pytest.mark.parametrize(
        ("name", "meant"),
        [
            ("BROKER_ULR", "BROKER_URL"),
            ("TASK_OUTBOKS", "TASK_OUTBOX"),
            ("RESULT_BACKND", "RESULT_BACKEND"),
            ("TASK_ROUTE", "TASK_ROUTES"),
            ("WORKER_CONCURENCY", "WORKER_CONCURRENCY"),
        ],
    )
    def test_a_misspelt_bare_one(self, name: str, meant: str, settings: Any) -> None:
        setattr(settings, name, 1)
        found = find(self.conf())
        assert found.keys() == {"W002"}
        assert found["W002"].msg == f"Nothing in django_tasks reads {name}. Did you mean {meant}?"

    @pytest.mark.parametrize(
        "name",
        ["TIME_ZONE", "TASKS", "TASK_LIST", "WORKER_NAME", "BROKER", "RESULTS_PER_PAGE", "REDIS_HOST", "IMPORTS"],
    )
    def test_names_of_others_are_left_alone(self, name: str, settings: Any) -> None:
        setattr(settings, name, "UTC")
        assert find(self.conf()) == {}

    @pytest.mark.parametrize(
        "name",
        [
            "CELERY_WORKER_PREFETCH_MULTIPLIER",
            "CELERYD_PREFETCH_MULTIPLIER",
            "CELERY_REDIS_HOST",
            "CELERY_MONGODB_BACKEND_SETTINGS",
            "BROKER_POOL_LIMIT",
        ],
    )
    def test_celerys_names_without_effect(self, name: str, settings: Any) -> None:
        setattr(settings, name, 1)
        found = find(self.conf())
        assert found.keys() == {"I001"}
        assert found["I001"].msg == f"{name}: this is a setting of Celery's that has no effect here."

    @pytest.mark.parametrize("name", ["CELERY_BEAT_SCHEDULER", "CELERYBEAT_SYNC_EVERY", "BEAT_SCHEDULE_FILENAME"])
    def test_settings_that_celerys_beat_needs(self, name: str, settings: Any) -> None:
        setattr(settings, name, 1)
        found = find(self.conf())
        assert found.keys() == {"I001"}
        assert found["I001"].msg.startswith(f"{name}: beat keeps what it knows with the broker")

    def test_names_set_in_the_program(self) -> None:
        conf = self.conf()
        conf.update(beat_sync_every=1)
        assert find(conf).keys() == {"I001"}
