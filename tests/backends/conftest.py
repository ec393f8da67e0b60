"""Result backends to test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from django.core.cache import caches

from django_tasks.backends.base import ResultBackend
from django_tasks.backends.cache import CacheBackend
from django_tasks.backends.memory import MemoryBackend
from django_tasks.backends.orm import ORMBackend
from django_tasks.backends.redis import RedisBackend
from django_tasks.serialization import content_types

ACCEPT = content_types(["json", "pickle", "yaml"])


@dataclass(frozen=True)
class Kind:
    """A backend under test.

    Attributes:
        compares: of ends that are stored at the same time by several, one wins; a cache cannot promise that.
        prunes: it is asked to remove what has expired; a cache does that by itself.
    """

    name: str
    make: Callable[..., ResultBackend]
    compares: bool
    prunes: bool


def maker(kind: type[ResultBackend], url: str) -> Callable[..., ResultBackend]:
    def make(**options: Any) -> ResultBackend:
        return kind(url, **{"accept": ACCEPT, "extended": True, **options})

    return make


KINDS = [
    Kind("memory", maker(MemoryBackend, "memory://"), compares=True, prunes=True),
    Kind("orm", maker(ORMBackend, "django-db://"), compares=True, prunes=True),
    Kind("locmem", maker(CacheBackend, "django-cache://"), compares=False, prunes=False),
    Kind("memcached", maker(CacheBackend, "django-cache://memcached"), compares=False, prunes=False),
    Kind("django-redis", maker(CacheBackend, "django-cache://redis"), compares=False, prunes=False),
    Kind("redis", maker(RedisBackend, "redis://localhost"), compares=True, prunes=False),
    Kind("valkey", maker(RedisBackend, "redis://localhost"), compares=True, prunes=False),
    Kind("cluster", maker(RedisBackend, "redis+cluster://localhost"), compares=True, prunes=False),
]
LOCMEM = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "OPTIONS": {"MAX_ENTRIES": 5000}}
MEMCACHED = {"BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache"}
DJANGO_REDIS = {"BACKEND": "django_redis.cache.RedisCache"}


@pytest.fixture(params=KINDS, ids=lambda kind: str(kind.name))
def kind(request: pytest.FixtureRequest, settings: Any) -> Kind:
    chosen: Kind = request.param
    settings.CACHES = {"default": LOCMEM}
    if chosen.name == "memcached":
        server = request.getfixturevalue("memcached")
        settings.CACHES = {"default": LOCMEM, "memcached": MEMCACHED | {"LOCATION": f"127.0.0.1:{server.port}"}}
    if chosen.name == "django-redis":
        url = request.getfixturevalue("redis_url")
        settings.CACHES = {"default": LOCMEM, "redis": DJANGO_REDIS | {"LOCATION": url}}
    if chosen.name in ("redis", "valkey", "cluster"):
        chosen = replace(chosen, make=maker(RedisBackend, request.getfixturevalue(f"{chosen.name}_url")))
    for cache in caches.all():
        cache.clear()
    return chosen


@pytest.fixture
def backend(kind: Kind) -> Iterator[ResultBackend]:
    backend = kind.make()
    yield backend
    backend.close()
