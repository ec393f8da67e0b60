"""Settings: every spelling, every source, every kind of value."""

from __future__ import annotations

import ast
import gc
import os
import re
import subprocess
import sys
import weakref
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings
from django.utils.module_loading import import_string

from django_tasks import conf as module
from django_tasks._celery_settings import why_without_effect
from django_tasks.conf import (
    SETTINGS,
    Scheme,
    Setting,
    Settings,
    find_scheme,
    find_setting,
    mask_url,
    masked,
    parse_url,
)
from django_tasks.exceptions import ImproperlyConfigured

BY_NAME = {setting.name: setting for setting in SETTINGS}


class TestTable:
    def test_no_name_means_two_settings(self) -> None:
        names = [name for setting in SETTINGS for name in {setting.name, *setting.django_names}]
        assert len(names) == len(set(names))

    def test_no_setting_is_called_one_without_effect(self) -> None:
        names = [name for setting in SETTINGS for name in (setting.name, *setting.django_names)]
        assert [name for name in names if why_without_effect(name)] == []

    @pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
    def test_default_and_example_are_values_it_takes(self, setting: Setting) -> None:
        setting.kind.read(setting.default)
        setting.kind.read(ast.literal_eval(setting.kind.example))

    @pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
    def test_what_is_read_can_be_read_again(self, setting: Setting) -> None:
        once = setting.kind.read(ast.literal_eval(setting.kind.example))
        assert setting.kind.read(once) == once

    def test_markdown(self) -> None:
        head, rule, *rows = module.settings_table().splitlines()
        assert [row.split("`")[1] for row in rows] == [setting.django_names[0] for setting in SETTINGS]
        assert {line.replace("\\|", "").count("|") for line in (head, rule, *rows)} == {6}
        assert any(row.startswith("| `WORKER_LEASE` | `30.0` |") for row in rows)
        assert any(row.endswith("| `CELERY_TASK_RESULT_EXPIRES` |") for row in rows)

    def test_every_setting_is_read_somewhere(self) -> None:
        package = Path(module.__file__).parent
        source = "".join(path.read_text() for path in package.rglob("*.py"))
        # Options of tasks are read by name where the task has none of its own.
        unread = [
            setting.name
            for setting in SETTINGS
            if not re.search(rf"\bconf\.{setting.attribute}\b", source)
            and f'_option(task, "{setting.attribute.removeprefix("task_")}")' not in source
        ]
        assert unread == []

    @pytest.mark.parametrize("scheme", [*module.BROKER_SCHEMES.values(), *module.BACKEND_SCHEMES.values()])
    def test_schemes_name_classes(self, scheme: Scheme) -> None:
        assert isinstance(import_string(scheme.path), type)


class TestDjangoSettings:
    @pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
    def test_every_spelling_is_read(self, setting: Setting, settings: Any) -> None:
        value = ast.literal_eval(setting.kind.example)
        for name in setting.django_names:
            setattr(settings, name, value)
            assert Settings()[setting.name] == setting.kind.read(value)
            delattr(settings, name)

    @pytest.mark.parametrize(
        "name",
        ["BROKER_URL", "CELERY_BROKER_URL", "CELERY_TASK_RESULT_EXPIRES", "CELERYD_CONCURRENCY", "CELERY_ROUTES"],
    )
    def test_spellings_that_projects_have(self, name: str) -> None:
        assert name in [spelling for setting in SETTINGS for spelling in setting.django_names]

    @pytest.mark.parametrize("name", ["TIMEZONE", "IMPORTS", "INCLUDE"])
    def test_common_words_need_the_prefix(self, name: str, settings: Any) -> None:
        setattr(settings, name, {"for": "another app"})
        assert Settings()[name] == BY_NAME[name].default

    def test_bare_wins_over_prefixed_and_prefixed_over_old(self, settings: Any) -> None:
        settings.CELERYD_CONCURRENCY = 1
        assert Settings().worker_concurrency == 1
        settings.CELERY_WORKER_CONCURRENCY = 2
        assert Settings().worker_concurrency == 2
        settings.WORKER_CONCURRENCY = 3
        assert Settings().worker_concurrency == 3

    def test_overriding_settings_shows_in_values_already_read(self) -> None:
        conf = Settings()
        assert conf.task_default_queue == "celery"
        with override_settings(TASK_DEFAULT_QUEUE="mail"):
            assert conf.task_default_queue == "mail"
        assert conf.task_default_queue == "celery"

    def test_a_value_is_read_once(self, settings: Any) -> None:
        settings.TASK_ROUTES = {"a": {"queue": "b"}}
        conf = Settings(broker_transport_options={"x": 1})
        assert conf.task_routes is conf.task_routes
        assert "task_routes" in vars(conf)

    def test_settings_that_nobody_uses_any_more_are_freed(self) -> None:
        conf = Settings()
        assert conf.broker_url == "django-db://"
        gone = weakref.ref(conf)
        del conf
        gc.collect()
        assert gone() is None


class TestAccess:
    @pytest.mark.parametrize("name", ["RESULT_EXPIRES", "result_expires", "CELERY_RESULT_EXPIRES"])
    def test_any_spelling(self, name: str) -> None:
        conf = Settings(**{name: 5})
        assert conf.result_expires == conf[name] == getattr(conf, name) == conf.get("CELERY_TASK_RESULT_EXPIRES") == 5
        assert name in conf

    def test_it_is_a_mapping_of_canonical_names(self) -> None:
        conf = Settings()
        assert list(conf) == [setting.name for setting in SETTINGS]
        assert dict(conf)["WORKER_LEASE"] == 30.0
        assert len(conf) == len(SETTINGS)
        assert conf.get("NO_SUCH_SETTING", 7) == 7

    def test_assignment_wins_and_drops_the_old_value(self, settings: Any) -> None:
        settings.WORKER_LEASE = 10
        conf = Settings()
        assert conf.worker_lease == 10
        conf.worker_lease = 11
        assert conf.worker_lease == 11
        conf["CELERY_WORKER_LEASE"] = 12
        assert conf.worker_lease == 12
        conf.update({"WORKER_LEASE": 13}, task_track_started=True)
        assert (conf.worker_lease, conf.task_track_started) == (13, True)
        settings.WORKER_LEASE = 14
        assert conf.worker_lease == 13

    @pytest.mark.parametrize("name", ["BROKER_TRANSPORT_OPTIONS", "TASK_PUBLISH_RETRY_POLICY"])
    def test_changing_a_default_in_place_changes_it_nowhere_else(self, name: str) -> None:
        before = dict(Settings()[name])
        Settings()[name]["mine"] = 1
        assert Settings()[name] == before

    def test_an_unknown_name(self) -> None:
        conf = Settings()
        with pytest.raises(AttributeError, match=r"no setting 'broker_ulr'\. Did you mean BROKER_URL\?"):
            _ = conf.broker_ulr
        with pytest.raises(KeyError, match="Did you mean"):
            conf["broker_ulr"]
        with pytest.raises(KeyError):
            conf["update"]
        with pytest.raises(ImproperlyConfigured, match="Did you mean BROKER_URL"):
            conf.update(broker_ulr="memory://")
        assert "broker_ulr" not in conf

    def test_a_setting_that_only_celery_heeds_is_noted(self) -> None:
        conf = Settings()
        conf.update(worker_prefetch_multiplier=1)
        conf.beat_scheduler = "celery.beat:Scheduler"
        assert conf.without_effect == {"worker_prefetch_multiplier": 1, "beat_scheduler": "celery.beat:Scheduler"}
        with pytest.raises(AttributeError, match="beat keeps what it knows with the broker"):
            _ = conf.beat_scheduler


class TestObject:
    def test_without_namespace(self) -> None:
        conf = Settings()
        conf.from_object({"broker_url": "memory://", "CELERY_TASK_RESULT_EXPIRES": 60, "imports": ["a.b"]})
        assert (conf.broker_url, conf.result_expires, conf.imports) == ("memory://", 60.0, ("a.b",))

    def test_with_namespace_nothing_else_of_it_is_read(self) -> None:
        conf = Settings()
        conf.from_object({"CELERY_WORKER_LEASE": 5, "WORKER_CONCURRENCY": 9, "CELERYD_POOL": "solo"}, "CELERY")
        assert (conf.worker_lease, conf.worker_concurrency, conf.worker_pool) == (5.0, None, None)

    @pytest.mark.parametrize(("namespace", "name"), [("JOBS", "JOBS_WORKER_LEASE"), ("jobs_", "jobs_worker_lease")])
    def test_case_of_the_namespace(self, namespace: str, name: str) -> None:
        conf = Settings()
        conf.from_object({name: 5}, namespace)
        assert conf.worker_lease == 5.0

    def test_it_stands_between_assignments_and_django(self, settings: Any) -> None:
        settings.WORKER_LEASE = settings.TASK_DEFAULT_QUEUE = settings.WORKER_CONCURRENCY = 1
        settings.TASK_DEFAULT_QUEUE = "django"
        conf = Settings(worker_lease=3)
        assert conf.task_default_queue == "django"
        conf.from_object({"worker_lease": 2, "task_default_queue": "object"})
        assert (conf.worker_lease, conf.task_default_queue, conf.worker_concurrency) == (3.0, "object", 1)

    def test_django_settings_by_path(self, settings: Any) -> None:
        settings.CELERY_TASK_DEFAULT_QUEUE = "prefixed"
        conf = Settings()
        conf.from_object("django.conf:settings", namespace="CELERY")
        assert conf.task_default_queue == "prefixed"
        settings.CELERY_TASK_DEFAULT_QUEUE = "changed"
        assert conf.task_default_queue == "changed"

    @pytest.mark.parametrize(
        ("path", "queue"),
        [("conf_for_test", "module"), ("conf_for_test.Config", "class"), ("conf_for_test:Config", "class")],
    )
    def test_paths(self, path: str, queue: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        text = "task_default_queue = 'module'\nclass Config:\n    task_default_queue = 'class'\n"
        (tmp_path / "conf_for_test.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        conf = Settings()
        conf.from_object(path)
        assert conf.task_default_queue == queue

    def test_a_path_is_imported_at_first_use(self) -> None:
        conf = Settings()
        conf.from_object("no_such_module_for_test")
        with pytest.raises(ModuleNotFoundError, match="no_such_module_for_test"):
            _ = conf.broker_url

    def test_an_import_error_inside_the_module_is_shown(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "broken_conf_for_test.py").write_text("import missing_library_for_test\n")
        monkeypatch.syspath_prepend(tmp_path)
        conf = Settings()
        conf.from_object("broken_conf_for_test")
        with pytest.raises(ModuleNotFoundError, match="missing_library_for_test"):
            _ = conf.broker_url


class TestValues:
    @pytest.mark.parametrize(
        ("name", "given", "used"),
        [
            ("RESULT_EXPIRES", timedelta(hours=1), 3600.0),
            ("RESULT_EXPIRES", 0, None),
            ("RESULT_EXPIRES", timedelta(), None),
            ("RESULT_EXPIRES", None, None),
            ("RESULT_BACKEND", None, "disabled://"),
            ("TASK_TIME_LIMIT", 0, None),
            ("TASK_MAX_MESSAGE_SIZE", None, None),
            ("WORKER_SHUTDOWN_TIMEOUT", 0, 0.0),
            ("WORKER_LEASE", timedelta(seconds=5), 5.0),
            ("WORKER_CONCURRENCY", 0, None),
            ("TASK_DEFAULT_PRIORITY", 0, 0),
            ("TASK_DEFAULT_PRIORITY", -5, -5),
            ("ACCEPT_CONTENT", {"json"}, ("json",)),
            ("BROKER_USE_SSL", True, {"ssl_cert_reqs": "required"}),
            ("BROKER_USE_SSL", {"ssl_ca_certs": "/ca.pem"}, {"ssl_ca_certs": "/ca.pem"}),
            ("IMPORTS", "shop.jobs", ("shop.jobs",)),
            ("TASK_PUBLISH_RETRY_POLICY", {"max_retries": None}, {
                "max_retries": None, "interval_start": 0.0, "interval_step": 0.2, "interval_max": 1.0}),
            ("TASK_QUEUES", ["a", "b"], ["a", "b"]),
            ("TASK_ROUTES", "shop.routing.route", "shop.routing.route"),
            ("TIMEZONE", "Europe/Berlin", "Europe/Berlin"),
        ],
    )  # fmt: skip
    def test_taken(self, name: str, given: Any, used: Any) -> None:
        value = Settings(**{name: given})[name]
        assert value == used
        assert type(value) is type(used)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("BROKER_URL", None),
            ("BROKER_URL", ""),
            ("BROKER_URL", ["memory://"]),
            ("BROKER_TRANSPORT_OPTIONS", [1]),
            ("BROKER_CONNECTION_TIMEOUT", 0),
            ("BROKER_USE_SSL", "yes"),
            ("RESULT_EXPIRES", "3600"),
            ("RESULT_EXPIRES", -1),
            ("RESULT_EXPIRES", False),
            ("RESULT_EXPIRES", float("nan")),
            ("RESULT_EXPIRES", float("inf")),
            ("ACCEPT_CONTENT", 5),
            ("ACCEPT_CONTENT", [5]),
            ("TIMEZONE", "Europe/Atlantis"),
            ("TIMEZONE", "../../etc/passwd"),
            ("TASK_ALWAYS_EAGER", "False"),
            ("TASK_ALWAYS_EAGER", 1),
            ("TASK_DEFAULT_RATE_LIMIT", True),
            ("TASK_DEFAULT_PRIORITY", 1.5),
            ("TASK_MAX_DELIVERIES", 0),
            ("TASK_QUEUES", "celery"),
            ("TASK_ROUTES", 5),
            ("TASK_ANNOTATIONS", 5),
            ("TASK_PUBLISH_RETRY_POLICY", {"max_retires": 5}),
            ("TASK_PUBLISH_RETRY_POLICY", {"max_retries": -1}),
            ("TASK_PUBLISH_RETRY_POLICY", {"interval_max": None}),
            ("WORKER_CONCURRENCY", "4"),
            ("WORKER_CONCURRENCY", True),
            ("WORKER_LEASE", 0),
            ("WORKER_LOG_FORMAT", None),
            ("WORKER_POOL", "gevent"),
            ("WORKER_POOL", ["prefork"]),
        ],
    )
    def test_refused(self, name: str, value: Any) -> None:
        with pytest.raises(ImproperlyConfigured, match=f"^{name} = .* cannot be used: expected "):
            Settings(**{name: value})

    def test_the_error_says_what_to_write(self, settings: Any) -> None:
        settings.CELERYD_CONCURRENCY = "four"
        with pytest.raises(ImproperlyConfigured) as caught:
            _ = Settings().worker_concurrency
        assert str(caught.value) == (
            "CELERYD_CONCURRENCY = 'four' cannot be used: expected a whole number, or None (0 means the same), "
            "for example CELERYD_CONCURRENCY = 4"
        )

    def test_the_error_hides_passwords(self) -> None:
        with pytest.raises(ImproperlyConfigured) as caught:
            Settings(broker_url=["redis://:hunter2@a", "redis://:hunter2@b"])
        assert "hunter2" not in str(caught.value)


def test_passwords_are_masked_however_deep() -> None:
    assert masked("BROKER_URL", "redis://me:hunter2@host/0") == "redis://me:**@host/0"
    options = {"sentinel_kwargs": {"password": "hunter2"}, "master_name": "m"}
    assert masked("BROKER_TRANSPORT_OPTIONS", options) == {"sentinel_kwargs": {"password": "**"}, "master_name": "m"}
    assert masked("TASK_ROUTES", [{"a": {"routing_key": "b"}}]) == [{"a": {"routing_key": "b"}}]


class TestURLs:
    @pytest.mark.parametrize(
        ("url", "parts"),
        [
            ("django-db", ("django-db", "", {})),
            ("django-db://", ("django-db", "", {})),
            ("django-db://other", ("django-db", "other", {})),
            ("DJANGO-CACHE://big/", ("django-cache", "big", {})),
            ("redis://u:p@h:6379/0?a=1&b=x%20y", ("redis", "u:p@h:6379/0", {"a": "1", "b": "x y"})),
        ],
    )
    def test_parse(self, url: str, parts: tuple[str, str, dict[str, str]]) -> None:
        assert parse_url(url) == parts

    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("redis://user:hunter2@host", "redis://user:**@host"),
            ("redis://:hunter2@host:6379/0", "redis://:**@host:6379/0"),
            ("redis://:hun@ter/2?@host/0", "redis://:**@host/0"),
            ("redis://host/0?password=hunter2&db=1", "redis://host/0?password=**&db=1"),
            ("redis://host:6379/0", "redis://host:6379/0"),
            ("django-db://other", "django-db://other"),
        ],
    )
    def test_mask(self, url: str, shown: str) -> None:
        assert mask_url(url) == shown

    def test_a_scheme_that_is_spoken(self) -> None:
        scheme = find_scheme("BROKER_URL", "django-db://other", module.BROKER_SCHEMES)
        assert scheme is module.BROKER_SCHEMES["django-db"]

    def test_a_scheme_that_is_not_spoken(self) -> None:
        with pytest.raises(ImproperlyConfigured) as caught:
            find_scheme("BROKER_URL", "amqp://:hunter2@host", module.BROKER_SCHEMES)
        assert str(caught.value) == (
            "BROKER_URL = 'amqp://:**@host': this release does not speak 'amqp' yet. It speaks django-db://, "
            "memory://, redis://, rediss://, unix://, redis+socket://, sentinel://, redis+cluster://, rediss+cluster://."
        )

    def test_a_misspelt_scheme(self) -> None:
        with pytest.raises(ImproperlyConfigured, match=r"Did you mean django-cache\?"):
            find_scheme("RESULT_BACKEND", "djngo-cache://", module.BACKEND_SCHEMES)

    def test_a_missing_library(self) -> None:
        schemes = {"x": Scheme("some.path", "no_such_library_for_test", "extra")}
        with pytest.raises(ImproperlyConfigured, match=r"'no_such_library_for_test'.*django-celeriac\[extra\]"):
            find_scheme("BROKER_URL", "x://", schemes)

    def test_a_library_that_is_there(self) -> None:
        schemes = {"x": Scheme("some.path", "json", "extra")}
        assert find_scheme("BROKER_URL", "x://", schemes).module == "json"


def test_celery_names() -> None:
    assert why_without_effect("CELERY_WORKER_PREFETCH_MULTIPLIER") == why_without_effect("CELERYD_PREFETCH_MULTIPLIER")
    assert "no effect" in (why_without_effect("mongodb_backend_settings") or "")
    assert why_without_effect("CELERYBEAT_SCHEDULE") is None
    assert "grace" in (why_without_effect("CELERY_BEAT_CRON_STARTING_DEADLINE") or "")
    assert "always in UTC" in (why_without_effect("CELERY_ENABLE_UTC") or "")
    assert why_without_effect("CELERY_BROKR_URL") is None
    assert find_setting("celery_broker_url") is BY_NAME["BROKER_URL"]


def test_without_django_settings() -> None:
    script = """
from django.conf import settings
from django_tasks.conf import Settings
conf = Settings()
print(conf.broker_url, settings.configured)
settings.configure(BROKER_URL="memory://")
print(conf.broker_url)
"""
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    command = [sys.executable, "-c", script]
    root = Path(__file__).resolve().parent.parent
    run = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=root, check=True, timeout=60)
    assert run.stdout.split() == ["django-db://", "False", "memory://"]
