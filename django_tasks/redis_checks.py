"""The part of ``checks`` that asks Redis: only with ``check --deploy``, since others have to work without a server."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from django.core.checks import CheckMessage, Info, Warning

from django_tasks.conf import BACKEND_SCHEMES, BROKER_SCHEMES, Settings, parse_url
from django_tasks.exceptions import ImproperlyConfigured, OperationalError


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
