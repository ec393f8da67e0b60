"""Settings: where each value comes from, and ``Settings``, which is ``app.conf``.

A setting named ``BROKER_URL`` is found as ``BROKER_URL``, ``CELERY_BROKER_URL`` or under the name that old Celery
versions had for it, in this order. The bare form of words that other Django apps use too (``TIMEZONE``, ``IMPORTS``,
``INCLUDE``) is not looked for in Django's settings: write ``CELERY_TIMEZONE`` there.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from django.conf import settings as django_settings
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from django_tasks._celery_settings import why_without_effect
from django_tasks._settings_table import SETTINGS, Setting, settings_table
from django_tasks.exceptions import ImproperlyConfigured

__all__ = [
    "BACKEND_SCHEMES",
    "BROKER_SCHEMES",
    "SETTINGS",
    "Scheme",
    "ServiceURL",
    "Setting",
    "Settings",
    "django_values",
    "find_scheme",
    "find_setting",
    "mask_url",
    "masked",
    "parse_url",
    "settings_table",
    "suggestion",
]

_MISSING = object()
_BY_NAME = {name: setting for setting in SETTINGS for name in (setting.name, *setting.django_names)}
_SECRET = r"passw|secret|token|credential|(?:api|access|private)_?key"


class Scheme(NamedTuple):
    """What the scheme of a URL stands for: a class, the module that it needs, and the pip extra that installs it."""

    path: str
    module: str | None = None
    extra: str | None = None


_REDIS = ("redis", "rediss", "unix", "redis+socket", "sentinel", "redis+cluster", "rediss+cluster")
BROKER_SCHEMES: dict[str, Scheme] = {
    "django-db": Scheme("django_tasks.brokers.orm.ORMBroker"),
    "memory": Scheme("django_tasks.brokers.memory.MemoryBroker"),
    **dict.fromkeys(_REDIS, Scheme("django_tasks.brokers.redis.RedisBroker", "redis", "redis")),
}
BACKEND_SCHEMES: dict[str, Scheme] = {
    "django-db": Scheme("django_tasks.backends.orm.ORMBackend"),
    "django-cache": Scheme("django_tasks.backends.cache.CacheBackend"),
    "memory": Scheme("django_tasks.backends.memory.MemoryBackend"),
    "disabled": Scheme("django_tasks.backends.disabled.DisabledBackend"),
    **dict.fromkeys(_REDIS, Scheme("django_tasks.backends.redis.RedisBackend", "redis", "redis")),
}


class ServiceURL(NamedTuple):
    """The parts of ``scheme://location?name=value``."""

    scheme: str
    location: str
    options: dict[str, str]


def parse_url(url: str) -> ServiceURL:
    """Return the parts of ``BROKER_URL`` or ``RESULT_BACKEND``; ``django-db`` alone means ``django-db://``."""
    scheme, _, rest = url.partition("://")
    location, _, query = rest.partition("?")
    return ServiceURL(scheme.lower(), location.rstrip("/"), dict(parse_qsl(query)))


def mask_url(url: str) -> str:
    """Return ``url`` for people to read: ``redis://user:**@host``."""
    # Up to the last @, since a password that nobody quoted may hold any character.
    url = re.sub(r"://([^:@/]*):.*@", r"://\1:**@", url)
    return re.sub(rf"([?&][^=&]*(?:{_SECRET})[^=&]*=)[^&]*", r"\1**", url, flags=re.IGNORECASE)


def masked(name: str, value: Any) -> Any:
    """Return a setting's value for people to read: without passwords, however deep in it."""
    if isinstance(value, Mapping):
        return {key: masked(str(key), item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [masked(name, item) for item in value]
    if re.search(_SECRET, name, re.IGNORECASE):
        return "**"
    return mask_url(value) if isinstance(value, str) else value


#: Schemes of a later release.
_LATER = frozenset(("amqp", "amqps", "rpc"))


def find_scheme(name: str, url: str, schemes: Mapping[str, Scheme]) -> Scheme:
    """Return what the scheme of ``url`` stands for.

    Args:
        name: the setting that the URL comes from, for the error.
        url: the URL.
        schemes: ``BROKER_SCHEMES`` or ``BACKEND_SCHEMES``.

    Raises:
        ImproperlyConfigured: this release does not speak it, or the library for it is not installed.
    """
    asked = parse_url(url).scheme
    found = schemes.get(asked)
    setting = find_setting(name)
    if setting is not None:  # say what stands in the settings file
        name = next((each for each, value in django_values(setting).items() if value == url), name)
    if found is None:
        yet = " yet" if asked in _LATER else ""
        raise ImproperlyConfigured(
            f"{name} = {mask_url(url)!r}: this release does not speak {asked!r}{yet}.{suggestion(asked, schemes)} "
            f"It speaks {', '.join(f'{scheme}://' for scheme in schemes)}."
        )
    if found.module and importlib.util.find_spec(found.module) is None:
        raise ImproperlyConfigured(
            f"{name} = {mask_url(url)!r} needs the Python package {found.module!r}, which is not installed. "
            f'Run: pip install "django-celeriac[{found.extra}]"'
        )
    return found


def find_setting(name: str) -> Setting | None:
    """Return the setting called ``name`` in any of its spellings, upper or lower case; None if there is none."""
    return _BY_NAME.get(name.upper())


def suggestion(name: str, known: Iterable[str] = _BY_NAME, cutoff: float = 0.8) -> str:
    """Return `` Did you mean ...?`` for a name that is close to a known one, else an empty text."""
    close = difflib.get_close_matches(name, known, 1, cutoff)
    return f" Did you mean {close[0]}?" if close else ""


def django_values(setting: Setting) -> dict[str, Any]:
    """Return what Django's settings say about ``setting``: name -> value, the strongest name first."""
    if not _django_is_ready():
        return {}
    return _values_in(django_settings, setting.django_names)


class Settings(Mapping[str, Any]):
    """All settings of an app: ``conf.broker_url``, ``conf["BROKER_URL"]`` or ``conf["CELERY_BROKER_URL"]``.

    The first of these that has a value counts: ``update()`` and assignment, the object given to ``from_object()``,
    Django's settings, the default. Values are looked up at their first use, so an app can be made before Django is set
    up; ``override_settings`` works too.

    Args:
        overrides: values that win over everything else, under any of their names.

    Attributes:
        without_effect: what was assigned to settings that only Celery heeds, by lower-case name.
        revision: another number whenever any value may be another one.

    Raises:
        ImproperlyConfigured: on reading or assigning a value that the setting does not take, or an unknown name.
    """

    def __init__(self, **overrides: Any) -> None:
        # What is read is kept in __dict__ under its lower-case name: the next read is a plain attribute.
        self.__dict__.update(_overrides={}, _source=None, _namespace=None, without_effect={}, revision=0)
        self.update(overrides)
        setting_changed.connect(self._forget)

    def __getattr__(self, name: str) -> Any:
        setting = find_setting(name)
        if setting is None:
            raise AttributeError(_no_setting(name))
        value = self._resolve(setting)
        if _django_is_ready():
            self.__dict__[setting.attribute] = value
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        setting = find_setting(name)
        if setting is not None:
            self._overrides[setting.attribute] = _read(setting, name, value)
            self.__dict__.pop(setting.attribute, None)
            self.__dict__["revision"] += 1
        elif why_without_effect(name):
            self.without_effect[name.lower()] = value
        else:
            raise ImproperlyConfigured(_no_setting(name))

    def __getitem__(self, name: str) -> Any:
        setting = find_setting(name)
        if setting is None:
            raise KeyError(_no_setting(name))
        return getattr(self, setting.attribute)

    def __setitem__(self, name: str, value: Any) -> None:
        setattr(self, name, value)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and find_setting(name) is not None

    def __iter__(self) -> Iterator[str]:
        return (setting.name for setting in SETTINGS)

    def __len__(self) -> int:
        return len(SETTINGS)

    def update(self, values: Mapping[str, Any] | None = None, **named: Any) -> None:
        """Set several values: ``conf.update(task_serializer="json")``; see the class for what is raised."""
        for name, value in {**(values or {}), **named}.items():
            self[name] = value

    def from_object(self, source: object, namespace: str | None = None) -> None:
        """Read settings from ``source`` before Django's settings, from its first use on.

        Args:
            source: a dotted path (``"proj.celeryconfig"``, ``"django.conf:settings"``), an object or a dict.
            namespace: the prefix of the names there; without one they are lower-case or Celery's old names.
        """
        self.__dict__.update(_source=source, _namespace=namespace)
        self._forget()

    def _resolve(self, setting: Setting) -> Any:
        if setting.attribute in self._overrides:
            return self._overrides[setting.attribute]
        for values in (self._source_values(setting), django_values(setting)):
            for name, value in values.items():
                return _read(setting, name, value)
        return setting.kind.read(setting.default)  # as any other value, which also copies what could be changed

    def _source_values(self, setting: Setting) -> dict[str, Any]:
        if self._source is None:
            return {}
        if isinstance(self._source, str):
            self.__dict__["_source"] = _load(self._source)
        if self._namespace is None:
            return _values_in(self._source, (setting.attribute, *setting.django_names))
        prefix = self._namespace.rstrip("_")
        return _values_in(self._source, [f"{prefix}_{setting.name if prefix.isupper() else setting.attribute}"])

    def _forget(self, **_: Any) -> None:
        """Look everything up afresh; Django calls this when a test overrides settings."""
        for setting in SETTINGS:
            self.__dict__.pop(setting.attribute, None)
        self.__dict__["revision"] += 1


def _django_is_ready() -> bool:
    return django_settings.configured or "DJANGO_SETTINGS_MODULE" in os.environ


def _no_setting(name: str) -> str:
    reason = why_without_effect(name)
    return f"{name}: {reason}" if reason else f"There is no setting {name!r}.{suggestion(name.upper())}"


def _values_in(source: Any, names: Iterable[str]) -> dict[str, Any]:
    if isinstance(source, Mapping):
        return {name: source[name] for name in names if name in source}
    found = {name: getattr(source, name, _MISSING) for name in names}
    return {name: value for name, value in found.items() if value is not _MISSING}


def _load(path: str) -> Any:
    """Import a module, or an attribute of one: ``a.b``, ``a:b`` or ``a.b.Attribute``."""
    module, _, attribute = path.partition(":")
    if attribute:
        return import_string(f"{module}.{attribute}")
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as exc:
        if exc.name != path or "." not in path:
            raise
        return import_string(path)


def _read(setting: Setting, name: str, value: Any) -> Any:
    try:
        return setting.kind.read(value)
    except (ValueError, TypeError) as exc:
        raise ImproperlyConfigured(
            f"{name} = {masked(name, value)!r} cannot be used: expected {setting.kind.expected}, "
            f"for example {name} = {setting.kind.example}"
        ) from exc
