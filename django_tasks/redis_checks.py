"""The part of ``checks`` that is about Redis. Only ``check --deploy`` asks servers: others have to work without any."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from django.core.checks import CheckMessage, Info, Warning

from django_tasks.conf import BACKEND_SCHEMES, BROKER_SCHEMES, Scheme, Settings, parse_url
from django_tasks.exceptions import ImproperlyConfigured, OperationalError
from django_tasks.registry import tasks


def options_of_no_effect(name: str, scheme: Scheme, options: Mapping[str, Any]) -> Iterator[CheckMessage]:
    """Find transport options that only Celery heeds, or that are for Redis where something else is used (I001).

    Args:
        name: ``BROKER_URL`` or ``RESULT_BACKEND``.
        scheme: what its URL stands for.
        options: its transport options, of which none is unknown.
    """
    given = f"{name.removesuffix('_URL')}_TRANSPORT_OPTIONS"
    if scheme.module != "redis":
        if options:
            text = f"{given} has no effect, since {name} names no Redis: {', '.join(sorted(options))}."
            yield Info(text, id="django_tasks.I001")
        return
    from django_tasks.backends.redis import OPTIONS as RESULTS  # redis may not be installed
    from django_tasks.brokers.redis_lists import OPTIONS as MESSAGES
    from django_tasks.redis_urls import CONNECTION_OPTIONS

    heeded = CONNECTION_OPTIONS | (MESSAGES if name == "BROKER_URL" else RESULTS)
    if idle := sorted(options.keys() - heeded):
        text = f"{given}: only Celery heeds {', '.join(idle)}; here it has no effect."
        hint = "Remove it when Celery is gone. BROKER_CONNECTION_TIMEOUT is for all time-outs; tasks may take any time."
        yield Info(text, hint=hint, id="django_tasks.I001")


def turned_priorities(conf: Settings) -> Iterator[CheckMessage]:
    """Find that priorities are set, which mean the opposite on Redis (I004)."""
    try:
        url, routes, default = conf.broker_url, conf.task_routes, conf.task_default_priority
    except ImproperlyConfigured:
        return  # E001 has reported it
    scheme = BROKER_SCHEMES.get(parse_url(url).scheme)
    if scheme is None or scheme.module != "redis":
        return
    maps = [each for each in (routes if isinstance(routes, (list, tuple)) else [routes]) if isinstance(each, Mapping)]
    found = ["TASK_DEFAULT_PRIORITY"] if default is not None else []
    found += [f"TASK_ROUTES ({key})" for each in maps for key, route in each.items() if _ranks(route)]
    found += [task.name for task in tasks.values() if task.priority is not None]
    if found:
        shown = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
        text = f"On Redis 0 is the most urgent priority, as for Celery there; elsewhere the highest number is: {shown}."
        hint = "If they are meant for Redis, put django_tasks.I004 into SILENCED_SYSTEM_CHECKS."
        yield Info(text, hint=hint, id="django_tasks.I004")


def _ranks(route: Any) -> bool:
    return isinstance(route, Mapping) and route.get("priority") is not None


def unfit_servers(conf: Settings) -> Iterator[CheckMessage]:
    """Find servers that are too old, or may delete what they should keep (W009), or are away (I003)."""
    services = (
        ("BROKER_URL", conf.broker_url, BROKER_SCHEMES, conf.broker_transport_options, conf.broker_use_ssl, "messages"),
        ("RESULT_BACKEND", conf.result_backend, BACKEND_SCHEMES, conf.result_backend_transport_options,
         conf.redis_backend_use_ssl, "results"),
    )  # fmt: skip
    for setting, url, schemes, options, tls, what in services:
        scheme = schemes.get(parse_url(url or "").scheme)
        if scheme is None or scheme.module != "redis" or find_spec("redis") is None:
            continue
        from django_tasks.redis_cluster import connections_to  # redis may not be installed

        timeout = conf.broker_connection_timeout
        try:
            connections = connections_to(setting, url, timeout=timeout, options=options, tls=tls)
        except ImproperlyConfigured:
            continue  # E003 says so
        try:
            connections.check_version()
            policy = connections.eviction_policy()
        except OperationalError as exc:
            yield Info(f"{setting} could not be looked at: {exc}", id="django_tasks.I003")
            continue
        except ImproperlyConfigured as exc:
            yield Warning(f"{setting}: {exc}", id="django_tasks.W009")
            continue
        finally:
            connections.close()
        if policy != "noeviction":
            text = f"{setting}: Redis at {connections.place} has maxmemory-policy {policy}"
            hint = "Set maxmemory-policy noeviction in its redis.conf."
            yield Warning(f"{text}: when its memory is full it deletes {what}.", hint=hint, id="django_tasks.W009")
