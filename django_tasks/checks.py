"""Findings of ``manage.py check``: settings that cannot work, contradict each other, are misspelt, or have no effect.

E001 a value cannot be used          W001 an unknown name with Celery's prefix      I001 Celery heeds it, we do not
E002 two names, different values     W002 a name that looks misspelt                I004 Redis turns priorities
E003 a URL that cannot be used       W003 a cache that other processes cannot see
E004 an unknown database or cache    W004 SQLite not set up for several processes
E005 a database in memory            W005 pickle is accepted (``check --deploy``)
                                     W006 calls are written in what workers refuse to read
E006 an entry that cannot be         W007 an entry for a task that there is not
E007 overlap that cannot be told     W008 a route for a task that there is not
                                     W010 an entry that never runs
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from django.conf import global_settings
from django.conf import settings as django_settings
from django.core.cache import caches
from django.core.checks import CheckMessage, Error, Info, Tags, Warning, register
from django.db import connections
from django.utils.module_loading import import_string

from django_tasks._celery_settings import why_without_effect
from django_tasks.beat_checks import unfit_entries
from django_tasks.compression import compress
from django_tasks.conf import (
    BACKEND_SCHEMES,
    BROKER_SCHEMES,
    SETTINGS,
    ServiceURL,
    Setting,
    Settings,
    django_values,
    find_scheme,
    find_setting,
    masked,
    parse_url,
    suggestion,
)
from django_tasks.decorators import check_annotations
from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.redis_checks import options_of_no_effect, turned_priorities, unfit_servers
from django_tasks.registry import tasks
from django_tasks.routing import Router, declared_queues
from django_tasks.serialization import content_types
from django_tasks.sqlite_checks import pitfalls
from django_tasks.task_options import parse_rate_limit

DEFAULT_URL = "django-db://"
_SERVICES = {"BROKER_URL": BROKER_SCHEMES, "RESULT_BACKEND": BACKEND_SCHEMES}
# What only the module that uses a value can tell about it.
_PROOFS: dict[str, Callable[[Any], object]] = {
    "ACCEPT_CONTENT": content_types,
    "RESULT_ACCEPT_CONTENT": lambda names: content_types(names or ()),
    "RESULT_SERIALIZER": lambda name: content_types([name]),
    "TASK_SERIALIZER": lambda name: content_types([name]),
    "TASK_ANNOTATIONS": check_annotations,
    "TASK_COMPRESSION": lambda name: name and compress(b"", name),
    "TASK_DEFAULT_RATE_LIMIT": parse_rate_limit,
    "TASK_QUEUES": declared_queues,
    "TASK_ROUTES": lambda routes: Router(routes).load(),
}
_PREFIXES = ("CELERY_", "CELERYD_", "CELERYBEAT_")
# Celery's names without a prefix are looked at only where they begin with these: REDIS_HOST is rarely meant for Celery.
_OUR_WORDS = ("BEAT_", "BROKER_", "RESULT_", "TASK_", "WORKER_")
# What Celery's tasks may have, whether that is no more than what happens here anyway, and what to do instead.
_OUTCOME = "a task that failed has ended, and its message goes; let it retry, or raise Reject"
_TASK_OPTIONS: dict[str, tuple[Any, str]] = {
    **dict.fromkeys(("acks_on_failure_or_timeout", "acks_on_failure", "acks_on_timeout"), (True, _OUTCOME)),
    "store_eager_result": (None, "set TASK_STORE_EAGER_RESULT, which is for all tasks"),
}
_PICKLE = {"pickle", "application/x-python-serialize"}
_CACHES_IN_ONE_PROCESS = {
    "django.core.cache.backends.locmem.LocMemCache": "keeps its entries in the memory of one process",
    "django.core.cache.backends.dummy.DummyCache": "keeps nothing",
}


def register_checks(get_conf: Callable[[], Settings] = Settings, get_problem: Callable[[], str] = str) -> None:
    """Register the checks with Django.

    Args:
        get_conf: returns the settings to look at, when the checks run; by default those of Django's settings alone.
        get_problem: returns why the settings could not be applied to the tasks, or an empty text.
    """

    def check_settings(app_configs: object, **_: object) -> list[CheckMessage]:
        conf, problem = get_conf(), get_problem()
        found = [finding for find in FINDERS for finding in find(conf)]
        if problem and not any(finding.id == "django_tasks.E001" for finding in found):
            found.append(Error(problem, id="django_tasks.E001"))
        return found

    def check_deployment(app_configs: object, **_: object) -> list[CheckMessage]:
        conf = get_conf()
        return [*pickle_accepted(conf), *unfit_servers(conf)]

    register(check_settings)
    register(check_deployment, Tags.security, deploy=True)


def wrong_values(conf: Settings) -> Iterator[CheckMessage]:
    """Find values that a setting does not take (E001)."""
    for setting in SETTINGS:
        try:
            value = conf[setting.name]
        except ImproperlyConfigured as exc:
            yield Error(str(exc), id="django_tasks.E001")
            continue
        try:
            _PROOFS.get(setting.name, bool)(value)
        except ImproperlyConfigured as exc:
            # Proofs that serve other things too do not name the setting.
            text = str(exc) if setting.name in str(exc) else f"{setting.name} = {masked(setting.name, value)!r}: {exc}"
            yield Error(text, id="django_tasks.E001")


def names_given_twice(conf: Settings) -> Iterator[CheckMessage]:
    """Find settings that have different values under different names (E002)."""
    for setting in SETTINGS:
        values = django_values(setting)
        first, *others = [_comparable(setting, value) for value in values.values()] or [None]
        if any(other != first for other in others):
            listing = ", ".join(f"{name} = {masked(setting.name, value)!r}" for name, value in values.items())
            hint = f"Keep one of them, best {next(iter(values))}."
            yield Error(f"One setting has several values: {listing}.", hint=hint, id="django_tasks.E002")


def _comparable(setting: Setting, value: Any) -> Any:
    try:
        return setting.kind.read(value)
    except (ValueError, TypeError):
        return value


def unusable_urls(conf: Settings) -> Iterator[CheckMessage]:
    """Find URLs and options that cannot be used, or whose library is missing (E003); options of no effect (I001)."""
    for name, schemes in _SERVICES.items():
        url = _value(conf, name)
        options = _value(conf, f"{name.removesuffix('_URL')}_TRANSPORT_OPTIONS")
        if url is None:
            continue
        hint = f"Remove it, or set it to '{DEFAULT_URL}', which is the project's own database."
        if parse_url(url).scheme in schemes:
            hint = f"Install it wherever this project runs, or set {name} to '{DEFAULT_URL}', which needs none."
        try:
            scheme = find_scheme(name, url, schemes)
            if scheme.module == "redis":
                hint = "Correct it; the page on Redis of the documentation has the forms of URLs and all options."
                import_string(scheme.path)(url, accept=frozenset(), options=options)  # connects at its first command
            yield from options_of_no_effect(name, scheme, options or {})
        except ImproperlyConfigured as exc:
            yield Error(str(exc), hint=hint, id="django_tasks.E003")


def unknown_aliases(conf: Settings) -> Iterator[CheckMessage]:
    """Find URLs that name a database or a cache that there is not (E004)."""
    for name, url in _services(conf):
        places = {"django-db": ("DATABASES", connections), "django-cache": ("CACHES", caches)}
        setting, known = places.get(url.scheme, ("", None))
        alias = url.location or "default"
        if known is not None and alias not in known:
            text = f"{name} = '{url.scheme}://{alias}', but {setting} has no {alias!r}.{suggestion(alias, known)}"
            yield Error(text, hint=f"{setting} has {', '.join(known)}.", id="django_tasks.E004")


def invisible_results(conf: Settings) -> Iterator[CheckMessage]:
    """Find a result backend whose results no other process sees (W003)."""
    for name, url in _services(conf):
        alias = url.location or "default"
        if url.scheme == "django-cache" and alias in caches:
            why = _CACHES_IN_ONE_PROCESS.get(django_settings.CACHES[alias].get("BACKEND"))
            if why:
                text = f"{name} uses the cache {alias!r}, which {why}: nobody sees the results that a worker stores."
                hint = "Use a cache on a server or in the database, or RESULT_BACKEND = 'django-db://'."
                yield Warning(text, hint=hint, id="django_tasks.W003")


def sqlite_pitfalls(conf: Settings) -> Iterator[CheckMessage]:
    """Find SQLite databases that several processes cannot share (E005), or not well (W004)."""
    aliases = {url.location or "default" for _, url in _services(conf) if url.scheme == "django-db"}
    for alias in sorted(aliases.intersection(connections)):
        if connections[alias].vendor == "sqlite":
            yield from pitfalls(alias, connections[alias].settings_dict)


def names_of_no_effect(conf: Settings) -> Iterator[CheckMessage]:
    """Find names that mean nothing here: Celery's (I001), unknown (W001) and misspelt ones (W002)."""
    for name in conf.without_effect:
        yield _without_effect(name)
    for name in filter(str.isupper, dir(django_settings)):
        if find_setting(name) is not None or hasattr(global_settings, name):
            continue
        prefixed = name.startswith(_PREFIXES)
        if why_without_effect(name) and (prefixed or name.startswith(_OUR_WORDS)):
            yield _without_effect(name)
        elif prefixed:
            text = f"{name} is a setting neither of django_tasks nor of Celery.{suggestion(name)}"
            hint = "Correct or remove it; if another app reads it, put django_tasks.W001 into SILENCED_SYSTEM_CHECKS."
            yield Warning(text, hint=hint, id="django_tasks.W001")
        elif meant := suggestion(name, [setting.name for setting in SETTINGS if setting.bare], cutoff=0.85):
            hint = "Correct it; if another app reads it, put django_tasks.W002 into SILENCED_SYSTEM_CHECKS."
            yield Warning(f"Nothing in django_tasks reads {name}.{meant}", hint=hint, id="django_tasks.W002")


def _without_effect(name: str) -> CheckMessage:
    reason = why_without_effect(name)
    return Info(f"{name}: {reason}.", id="django_tasks.I001")


def task_options_of_no_effect(conf: Settings) -> Iterator[CheckMessage]:
    """Find options of tasks that only Celery heeds (I001)."""
    for task in tasks.values():
        for option, (harmless, advice) in _TASK_OPTIONS.items():
            value = getattr(task, option, None)
            if value is not None and value != harmless:
                text = f"The task {task.name} has {option} = {value!r}: this option of Celery's has no effect here."
                yield Info(text, hint=f"{advice[0].upper()}{advice[1:]}.", id="django_tasks.I001")


def refused_serializers(conf: Settings) -> Iterator[CheckMessage]:
    """Find calls that are written in something that ``ACCEPT_CONTENT`` does not have (W006)."""
    named = {"TASK_SERIALIZER": _value(conf, "TASK_SERIALIZER")}
    named |= {f"serializer of the task {task.name}": task.serializer for task in tasks.values() if task.serializer}
    for where, name in named.items():
        try:
            missing = content_types([name]) - content_types(conf.accept_content)
        except ImproperlyConfigured:
            continue  # E001, and sending such a task, say more about it
        if missing:
            text = f"{where} = {name!r}, which ACCEPT_CONTENT does not allow: its messages become dead letters."
            yield Warning(text, hint=f"Add {name!r} to ACCEPT_CONTENT, or send JSON.", id="django_tasks.W006")


def lonely_routes(conf: Settings) -> Iterator[CheckMessage]:
    """Find routes whose name is none of a task, but near one (W008); tasks of other projects may have routes, too."""
    try:
        names = Router(_value(conf, "TASK_ROUTES")).names
    except ImproperlyConfigured:
        return  # E001 has reported it
    for name in names:
        if name not in tasks and (meant := suggestion(name, tasks)):
            hint = "Correct it; if another project has the task, put django_tasks.W008 into SILENCED_SYSTEM_CHECKS."
            text = f"TASK_ROUTES has a route for {name!r}, and there is no such task.{meant}"
            yield Warning(text, hint=hint, id="django_tasks.W008")


def pickle_accepted(conf: Settings) -> Iterator[CheckMessage]:
    """Find that pickle is accepted (W005)."""
    for name in ("ACCEPT_CONTENT", "RESULT_ACCEPT_CONTENT"):
        if _PICKLE.intersection(_value(conf, name) or ()):
            text = f"{name} allows pickle: who can write to the broker or the result backend can run code in workers."
            hint = "Send JSON, and take pickle out once no old message is left."
            yield Warning(text, hint=hint, id="django_tasks.W005")


def _services(conf: Settings) -> Iterator[tuple[str, ServiceURL]]:
    """Yield the broker's and the backend's URL where its scheme is known."""
    for name, schemes in _SERVICES.items():
        url = parse_url(_value(conf, name) or "")
        if url.scheme in schemes:
            yield name, url


def _value(conf: Settings, name: str) -> Any:
    """Return a setting's value; None where E001 has reported it already."""
    try:
        return conf[name]
    except ImproperlyConfigured:
        return None


FINDERS: tuple[Callable[[Settings], Iterator[CheckMessage]], ...] = (
    wrong_values,
    names_given_twice,
    unusable_urls,
    unknown_aliases,
    sqlite_pitfalls,
    invisible_results,
    names_of_no_effect,
    task_options_of_no_effect,
    refused_serializers,
    lonely_routes,
    turned_priorities,
    unfit_entries,
)
