"""The table of all settings: name, default, kind of value, meaning. The docs and the checks are made from it."""

from __future__ import annotations

import logging
import math
import zoneinfo
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any


@dataclass(frozen=True)
class Kind:
    """What values a setting takes.

    Args:
        expected: the values it takes, in words.
        example: one of them, as Python source.
        read: returns the value as the product uses it; raises ValueError or TypeError for one that it does not take.
    """

    expected: str
    example: str
    read: Callable[[Any], Any]


@dataclass(frozen=True)
class Setting:
    """One setting.

    Args:
        name: its name, in upper case and without a prefix.
        default: its value where nobody gives one.
        kind: what values it takes.
        meaning: what it does, with units.
        aliases: Celery's old names for it, where they are more than ``CELERY_`` and the name.
        bare: whether Django's settings may hold it without the ``CELERY_`` prefix; no for common words.
    """

    name: str
    default: Any
    kind: Kind
    meaning: str
    aliases: tuple[str, ...] = ()
    bare: bool = True

    @property
    def attribute(self) -> str:
        """The name under which ``app.conf`` has it."""
        return self.name.lower()

    @property
    def django_names(self) -> tuple[str, ...]:
        """The names under which Django's settings may hold it, the strongest first."""
        prefixed = f"CELERY_{self.name}"
        return (self.name, prefixed, *self.aliases) if self.bare else (prefixed, *self.aliases)


def _require(condition: bool) -> None:
    if not condition:
        raise ValueError


def _flag(value: Any) -> bool:
    _require(isinstance(value, bool))
    return bool(value)


def _text(value: Any) -> str:
    _require(isinstance(value, str) and value != "")
    return str(value)


def _backend(value: Any) -> str:
    return "disabled://" if value is None else _text(value)


def _names(value: Any) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str) else tuple(value)
    return tuple(_text(name) for name in names)


def _integer(value: Any) -> int:
    _require(isinstance(value, int) and not isinstance(value, bool))
    return int(value)


def _count(value: Any) -> int:
    _require(_integer(value) > 0)
    return int(value)


def _duration(value: Any) -> float:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    _require(isinstance(seconds, (int, float)) and not isinstance(seconds, bool))
    _require(seconds >= 0 and math.isfinite(seconds))
    return float(seconds)


def _period(value: Any) -> float:
    _require(_duration(value) > 0)
    return _duration(value)


def _options(value: Any) -> dict[str, Any]:
    _require(isinstance(value, Mapping))
    return dict(value)


def _entries(value: Any) -> dict[Any, Any]:
    _require(isinstance(value, Mapping))
    return dict(value)  # what stands in it, beat_checks and beat look at one by one


def _tls(value: Any) -> dict[str, Any] | None:
    # The names are redis-py's; without any, certificates are looked at.
    return {"ssl_cert_reqs": "required"} if value is True else _options(value) if value else None


def _retry_policy(value: Any) -> dict[str, Any]:
    policy = {**RETRY_POLICY, **_options(value)}
    _require(policy.keys() == RETRY_POLICY.keys())
    tries = policy.pop("max_retries")
    _require(tries is None or _integer(tries) >= 0)
    return {"max_retries": tries, **{name: _duration(pause) for name, pause in policy.items()}}


def _rate(value: Any) -> Any:
    _require(isinstance(value, (int, float, str)) and not isinstance(value, bool))
    return value


def _pool(value: Any) -> str:
    _require(value in ("prefork", "threads", "solo"))
    return str(value)


def _level(value: Any) -> str | int:
    level: str | int = value
    _integer(logging.getLevelName(level.upper()) if isinstance(level, str) else level)
    return level


def _time_zone(value: Any) -> str:
    try:
        zoneinfo.ZoneInfo(_text(value))
    except zoneinfo.ZoneInfoNotFoundError as exc:
        raise ValueError from exc
    return str(value)


def _queues(value: Any) -> Any:
    _require(isinstance(value, Iterable) and not isinstance(value, str))
    return value


def _annotations(value: Any) -> Any:
    _require(not isinstance(value, (int, float)))
    return value


def _routes(value: Any) -> Any:
    _require(callable(value) or isinstance(value, (str, Mapping, list, tuple)) or hasattr(value, "route_for_task"))
    return value


def _or_none(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else read(value)


def _or_no_limit(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    # Celery takes 0 for "no limit" in all of these, and so do projects that come from it.
    return lambda value: None if value is None or (value in (0, timedelta()) and value is not False) else read(value)


RETRY_POLICY = {"max_retries": 3, "interval_start": 0, "interval_step": 0.2, "interval_max": 1}
LOG_FORMAT = "[%(asctime)s: %(levelname)s/%(processName)s] %(message)s"
TASK_LOG_FORMAT = "[%(asctime)s: %(levelname)s/%(processName)s] %(task_name)s[%(task_id)s]: %(message)s"

FLAG = Kind("True or False", "True", _flag)
FLAG_OR_NONE = Kind("True, False or None", "False", _or_none(_flag))
TEXT = Kind("a text that is not empty", '"celery"', _text)
FORMAT = Kind("a format of Python's logging", '"%(asctime)s %(levelname)s %(message)s"', _text)
SERIALIZER = Kind("the name of a serializer", '"json"', _text)
COMPRESSION = Kind("the name of a compression, or None", '"gzip"', _or_none(_text))
BROKER = Kind("a URL", '"django-db://"', _text)
BACKEND = Kind("a URL, or None for no results", '"django-db://"', _backend)
CONTENT = Kind("a list of serializers or content types", '["json"]', _names)
CONTENT_OR_NONE = Kind("a list of serializers or content types, or None", '["json"]', _or_none(_names))
MODULES = Kind("a list of dotted module paths", '["shop.jobs"]', _names)
COUNT = Kind("a whole number above 0", "3", _count)
COUNT_OR_NONE = Kind("a whole number, or None (0 means the same)", "4", _or_no_limit(_count))
PRIORITY = Kind("a whole number, or None", "5", _or_none(_integer))
DURATION = Kind("a number of seconds or a timedelta, not below 0", "25", _duration)
PERIOD = Kind("a number of seconds or a timedelta, above 0", "30", _period)
LIMIT = Kind(
    "a number of seconds from 0 on or a timedelta, or None (0 means the same)", "3600", _or_no_limit(_duration)
)
RATE = Kind("a number per second, a text such as '100/m' (s, m or h), or None", '"100/m"', _or_none(_rate))
OPTIONS = Kind("a dict", '{"name": "value"}', _options)
ENTRIES = Kind("a dict of name and entry", '{"clean": {"task": "shop.tasks.clean", "schedule": 3600}}', _entries)
TLS = Kind("a dict of options for TLS, True or None", '{"ssl_ca_certs": "/etc/ca.pem"}', _tls)
POLICY = Kind(f"a dict with numbers for some of {', '.join(RETRY_POLICY)}", '{"max_retries": 5}', _retry_policy)
POOL = Kind("'prefork', 'threads', 'solo' or None", '"threads"', _or_none(_pool))
LEVEL = Kind("the name or number of a log level", '"INFO"', _level)
TIME_ZONE = Kind("the name of a time zone, or None", '"Europe/Berlin"', _or_none(_time_zone))
QUEUES = Kind("a list of names or queues, a dict of name and options, or None", '["celery", "mail"]', _or_none(_queues))
ROUTES = Kind(
    "a dict, a list, a function, an object with route_for_task, a dotted path, or None",
    '{"shop.tasks.*": {"queue": "shop"}}',
    _or_none(_routes),
)
ANNOTATIONS = Kind(
    "a dict of task name and attributes, an object with annotate, a dotted path, a list of these, or None",
    '{"shop.tasks.bill": {"rate_limit": "10/s"}}',
    _or_none(_annotations),
)

SETTINGS: tuple[Setting, ...] = (
    # --- Messages on their way ---
    Setting(
        "BROKER_URL", "django-db://", BROKER,
        "Where messages wait; `django-db://alias` is another database, `redis://host:port/number` a Redis.",
    ),
    Setting("BROKER_TRANSPORT_OPTIONS", {}, OPTIONS, "Further options for a broker on Redis (see Redis)."),
    Setting(
        "BROKER_USE_SSL", None, TLS,
        "TLS for a broker on Redis, also where its URL is not `rediss://`: `ssl_ca_certs`, `ssl_certfile`, "
        "`ssl_keyfile`, `ssl_cert_reqs`; True: with the usual certificates.",
    ),
    Setting(
        "BROKER_CONNECTION_TIMEOUT", 2.0, PERIOD,
        "Seconds until a broker, or a Redis for results, that is away is an error (Celery: 4).",
    ),
    # --- Results ---
    Setting(
        "RESULT_BACKEND", "django-db://", BACKEND,
        "Where states and results are kept; `redis://host:port/number` is a Redis; None: nowhere.",
    ),
    Setting(
        "RESULT_BACKEND_TRANSPORT_OPTIONS", {}, OPTIONS, "Further options for results on Redis (see Redis)."
    ),
    Setting("REDIS_BACKEND_USE_SSL", None, TLS, "TLS for results on Redis, as `BROKER_USE_SSL` for messages."),
    Setting(
        "RESULT_EXPIRES", 86400.0, LIMIT,
        "Seconds for which a result is kept, one day by default; None keeps it for ever.",
        ("CELERY_TASK_RESULT_EXPIRES",),
    ),
    Setting("RESULT_SERIALIZER", "json", SERIALIZER, "How results are written."),
    Setting("RESULT_ACCEPT_CONTENT", None, CONTENT_OR_NONE, "What results may be written in; None: `ACCEPT_CONTENT`."),
    Setting(
        "RESULT_EXTENDED", False, FLAG,
        "Whether a result in a cache or on Redis also tells the task's name, arguments, queue and worker; the database "
        "always keeps them.",
    ),
    # --- Content and time ---
    Setting(
        "ACCEPT_CONTENT", ("json",), CONTENT, "What messages may be written in; a worker refuses to read anything else."
    ),
    Setting("TIMEZONE", None, TIME_ZONE, "The zone of times without one; None is Django's `TIME_ZONE`.", bare=False),
    Setting("IMPORTS", (), MODULES, "Modules with tasks besides the `tasks` module of each installed app.", bare=False),
    Setting("INCLUDE", (), MODULES, "More such modules; both lists are imported.", bare=False),
    # --- Tasks ---
    Setting("TASK_SERIALIZER", "json", SERIALIZER, "How messages are written."),
    Setting(
        "TASK_COMPRESSION", None, COMPRESSION, "How messages are compressed; None: not at all.",
        ("CELERY_MESSAGE_COMPRESSION",),
    ),
    Setting(
        "TASK_MAX_MESSAGE_SIZE", 16 * 1024 * 1024, COUNT_OR_NONE,
        "Bytes that a message may have, 16 MiB by default; sending a larger one is an error; None: no limit.",
    ),
    Setting(
        "TASK_ALWAYS_EAGER", False, FLAG, "Whether `.delay()` runs the task at once, in the calling process.",
        ("CELERY_ALWAYS_EAGER",),
    ),
    Setting(
        "TASK_EAGER_PROPAGATES", False, FLAG, "Whether errors of such runs are raised where `.delay()` was called.",
        ("CELERY_EAGER_PROPAGATES_EXCEPTIONS",),
    ),
    Setting(
        "TASK_STORE_EAGER_RESULT", False, FLAG, "Whether the results of such runs are stored.",
        ("CELERY_STORE_EAGER_RESULT",),
    ),
    Setting(
        "TASK_IGNORE_RESULT", False, FLAG, "Whether results are thrown away, unless a task says otherwise.",
        ("CELERY_IGNORE_RESULT",),
    ),
    Setting(
        "TASK_STORE_ERRORS_EVEN_IF_IGNORED", False, FLAG, "Whether failures are stored also where results are not.",
        ("CELERY_STORE_ERRORS_EVEN_IF_IGNORED",),
    ),
    Setting(
        "TASK_TRACK_STARTED", False, FLAG, "Whether the state STARTED is stored when a task begins.",
        ("CELERY_TRACK_STARTED",),
    ),
    Setting(
        "TASK_ACKS_LATE", True, FLAG,
        "Whether a message leaves the broker only after its task has ended, so that none is lost; with False it leaves "
        "before the task begins, which then runs at most once (Celery: False).",
        ("CELERY_ACKS_LATE",),
    ),
    Setting(
        "TASK_TIME_LIMIT", None, LIMIT, "Seconds after which a task is killed; None: never.",
        ("CELERYD_TASK_TIME_LIMIT",),
    ),
    Setting(
        "TASK_SOFT_TIME_LIMIT", None, LIMIT,
        "Seconds after which `SoftTimeLimitExceeded` is raised inside a task; None: never.",
        ("CELERYD_TASK_SOFT_TIME_LIMIT",),
    ),
    Setting(
        "TASK_DEFAULT_RATE_LIMIT", None, RATE, "How often a worker may start one and the same task; None: no limit.",
        ("CELERY_DEFAULT_RATE_LIMIT",),
    ),
    Setting(
        "TASK_DEFAULT_PRIORITY", None, PRIORITY,
        "The priority of calls that name none: the highest number is the most urgent, on Redis 0.",
        ("CELERY_DEFAULT_PRIORITY",),
    ),
    Setting(
        "TASK_INHERIT_PARENT_PRIORITY", False, FLAG, "Whether a task called by another takes over its priority.",
        ("CELERY_INHERIT_PARENT_PRIORITY",),
    ),
    Setting(
        "TASK_DEFAULT_QUEUE", "celery", TEXT, "The queue of calls that neither name one nor have a route.",
        ("CELERY_DEFAULT_QUEUE",),
    ),
    Setting("TASK_QUEUES", None, QUEUES, "The queues that workers serve; None: the default queue.", ("CELERY_QUEUES",)),
    Setting(
        "TASK_CREATE_MISSING_QUEUES", True, FLAG, "Whether queues that `TASK_QUEUES` does not list may be used.",
        ("CELERY_CREATE_MISSING_QUEUES",),
    ),
    Setting("TASK_ROUTES", None, ROUTES, "Which task goes to which queue; the first match wins.", ("CELERY_ROUTES",)),
    Setting("TASK_ANNOTATIONS", None, ANNOTATIONS, "Attributes to change on tasks, by name.", ("CELERY_ANNOTATIONS",)),
    Setting("TASK_PUBLISH_RETRY", True, FLAG, "Whether sending is tried again when the broker is away."),
    Setting(
        "TASK_PUBLISH_RETRY_POLICY", RETRY_POLICY, POLICY,
        "How often sending is tried again (None: until `BROKER_CONNECTION_TIMEOUT`), and the first, added and longest "
        "pause in seconds.",
    ),
    Setting(
        "TASK_ENQUEUE_ON_COMMIT", True, FLAG,
        "Whether a call made inside a transaction is sent when it commits, and dropped when it rolls back.",
    ),
    Setting(
        "TASK_OUTBOX", False, FLAG,
        "Whether a call made inside a transaction is written to the database with it, so that it is sent whatever "
        "happens to the process or the broker after the commit. For brokers that are not in that database.",
    ),
    Setting(
        "TASK_MAX_DELIVERIES", 3, COUNT,
        "How many workers a message may kill, running alone, before one more death makes it a dead letter.",
    ),
    # --- Workers ---
    Setting(
        "WORKER_CONCURRENCY", None, COUNT_OR_NONE, "How many tasks run at the same time; None: one for each CPU.",
        ("CELERYD_CONCURRENCY",),
    ),
    Setting(
        "WORKER_POOL", None, POOL,
        "What runs the tasks: processes (`prefork`), threads, or the worker itself (`solo`); None: `prefork`, or "
        "`threads` where forking is unsafe (macOS, Windows).",
        ("CELERYD_POOL",),
    ),
    Setting(
        "WORKER_MAX_TASKS_PER_CHILD", None, COUNT_OR_NONE, "Tasks after which a process is replaced; None: never.",
        ("CELERYD_MAX_TASKS_PER_CHILD",),
    ),
    Setting(
        "WORKER_MAX_MEMORY_PER_CHILD", None, COUNT_OR_NONE,
        "Memory in KiB above which a process is replaced after its task; None: never.",
        ("CELERYD_MAX_MEMORY_PER_CHILD",),
    ),
    Setting(
        "WORKER_SHUTDOWN_TIMEOUT", 25.0, DURATION,
        "Seconds that running tasks have to end when the worker is asked to stop; then they go back to the queue.",
    ),
    Setting(
        "WORKER_LEASE", 30.0, PERIOD,
        "Seconds after its last heartbeat until a worker is taken for dead and its messages go to others.",
    ),
    Setting(
        "WORKER_DISABLE_RATE_LIMITS", False, FLAG, "Whether rate limits are ignored.", ("CELERY_DISABLE_RATE_LIMITS",)
    ),
    Setting(
        "WORKER_HIJACK_ROOT_LOGGER", True, FLAG, "Whether the worker replaces the handlers of the root logger.",
        ("CELERYD_HIJACK_ROOT_LOGGER",),
    ),
    Setting("WORKER_LOG_FORMAT", LOG_FORMAT, FORMAT, "The format of the worker's log lines.", ("CELERYD_LOG_FORMAT",)),
    Setting(
        "WORKER_TASK_LOG_FORMAT", TASK_LOG_FORMAT, FORMAT, "The format of the log lines of tasks.",
        ("CELERYD_TASK_LOG_FORMAT",),
    ),
    Setting(
        "WORKER_LOG_COLOR", None, FLAG_OR_NONE, "Whether log lines are coloured; None: on a terminal.",
        ("CELERYD_LOG_COLOR",),
    ),
    Setting(
        "WORKER_REDIRECT_STDOUTS", False, FLAG, "Whether what tasks print goes to the log (Celery: True).",
        ("CELERY_REDIRECT_STDOUTS",),
    ),
    Setting(
        "WORKER_REDIRECT_STDOUTS_LEVEL", "WARNING", LEVEL, "The level of these log lines.",
        ("CELERY_REDIRECT_STDOUTS_LEVEL",),
    ),
    # --- Periodic tasks ---
    Setting(
        "BEAT_SCHEDULE", {}, ENTRIES, "Tasks that beat sends again and again: name, and a dict with `task`, `schedule` "
        "and the rest of an entry.",
        ("CELERYBEAT_SCHEDULE",),
    ),
    Setting(
        "BEAT_MAX_LOOP_INTERVAL", None, LIMIT,
        "Seconds that beat waits at most until it looks at its entries again; None: one. It looks for changes every "
        "second, so that only a shorter time makes a difference.",
        ("CELERYBEAT_MAX_LOOP_INTERVAL",),
    ),
)  # fmt: skip


def settings_table() -> str:
    """Return the table of all settings in Markdown, for the documentation."""
    lines = ["| Setting | Default | Value | Meaning | Celery's old name |", "| --- | --- | --- | --- | --- |"]
    for setting in SETTINGS:
        old = ", ".join(f"`{name}`" for name in setting.aliases)
        cells = (f"`{setting.django_names[0]}`", f"`{setting.default!r}`", setting.kind.expected, setting.meaning, old)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
