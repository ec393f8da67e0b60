"""Where Redis is: the servers of a URL, which of them to talk to, and how."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.retry import Retry

from django_tasks.conf import mask_url, suggestion
from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.redis_errors import REDIS_ERRORS, translated
from django_tasks.redis_pool import DirectClient, FairQueue, Pool
from django_tasks.redis_urls import ServerList, read_urls

#: redis-py's own annotations leave open whether a call is to be awaited.
Client = Any


class Servers:
    """The servers of a URL; arguments and errors are those of ``RedisConnections``."""

    def __init__(
        self, setting: str, url: str, timeout: float, options: Mapping[str, Any], tls: Mapping[str, Any]
    ) -> None:
        self.place = mask_url(url)
        self.timeout = timeout
        self.found: ServerList = read_urls(setting, url, options)
        self._common = {"socket_timeout": timeout, "socket_connect_timeout": timeout, "protocol": 2,
                        "retry": Retry(NoBackoff(), 0)}  # fmt: skip
        self._limits = {"max_connections": self.found.max_connections, "timeout": timeout, "queue_class": FairQueue}
        self._tls = dict(tls)
        self._check_options(setting)

    def _check_options(self, setting: str) -> None:
        for server in self.found.servers:
            _check(f"{setting} = {self.place!r}", *self._kind_and_arguments(server))
        if self.found.master_name:
            _check(f"{setting}: sentinel_kwargs", *self._sentinel(self.found.servers[0]))

    def connect(self) -> Client:
        """Return a client of the first server that answers as a master; of the only one without asking it."""
        candidates = self.found.servers
        if len(candidates) == 1 and not self.found.master_name:
            return self._make(candidates[0])
        # Together they have the time of one.
        share = self.timeout / (len(candidates) + bool(self.found.master_name))
        failure: Exception | None = None
        for server in candidates:
            try:
                address = self._ask_sentinel(server, share) if self.found.master_name else server
                client = self._make(address)
                self._check_master(self._kind_and_arguments(address), share)
                return client
            except REDIS_ERRORS as exc:
                failure = exc
        assert failure is not None
        raise translated(failure, self.place) from failure

    def _check_master(self, how: tuple[Any, dict[str, Any]], seconds: float) -> None:
        kind, arguments = how
        role = ask(kind(**{**arguments, **timeouts(seconds)}), "ROLE")[0]
        if role not in (b"master", "master"):
            raise redis.exceptions.ReadOnlyError(f"it is a {role!r}")

    def _ask_sentinel(self, server: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Return where the sentinel says that the master is."""
        kind, arguments = self._sentinel(server)
        answer = ask(
            kind(**{**arguments, **timeouts(seconds)}), "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.found.master_name
        )
        if not answer:
            raise redis.ConnectionError(f"the sentinel knows no master {self.found.master_name!r}")
        host, port = answer
        return {**server, "host": host.decode() if isinstance(host, bytes) else host, "port": int(port)}

    def _sentinel(self, server: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Return how to connect to a sentinel; ``ssl`` means TLS, as for kombu."""
        address: dict[str, Any] = {name: server[name] for name in ("host", "port") if name in server}
        arguments: dict[str, Any] = {"port": 26379, **self._common, **address, **self.found.sentinel_kwargs}
        return SSLConnection if arguments.pop("ssl", False) else Connection, arguments

    def _make(self, server: dict[str, Any]) -> Client:
        kind, arguments = self._kind_and_arguments(server)
        kind_of_pool: Any = Pool
        return DirectClient(connection_pool=kind_of_pool(connection_class=kind, **self._limits, **arguments))

    def _kind_and_arguments(self, server: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        arguments = {**self._common, **server}
        kind = arguments.pop("connection_class", Connection)
        if kind is not UnixDomainSocketConnection:
            arguments = {"host": "localhost", "port": 6379, **arguments}
        if self._tls and kind is Connection:
            kind = SSLConnection
        return kind, {**arguments, **self._tls} if kind is SSLConnection else arguments

    def pools(self, client: Client) -> list[Any]:
        """Return the pools that a client has."""
        return [client.connection_pool]

    def infos(self, client: Client, section: str) -> list[dict[str, Any]]:
        """Return what each server says of itself."""
        return [client.info(section)]


def _check(what: str, kind: Any, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that a kind of connection does not take."""
    known = {name for each in kind.__mro__ for name in _parameters(each)}
    unknown = sorted(arguments.keys() - known)
    if unknown:
        public = sorted(known.intersection(inspect.signature(redis.Redis).parameters))
        tls = kind is not SSLConnection and unknown[0] in _parameters(SSLConnection)
        hint = ' It is for TLS: rediss://, for sentinels "ssl": True.' if tls else suggestion(unknown[0], public)
        raise ImproperlyConfigured(
            f"{what} has an option that cannot be used: {unknown[0]!r}.{hint} There are {', '.join(public)}."
        )
    try:
        kind(**arguments)  # connects at its first command
    except (TypeError, ValueError, redis.RedisError) as exc:
        raise ImproperlyConfigured(f"{what} has an option that cannot be used: {exc}") from exc


def _parameters(kind: Any) -> set[str]:
    """Return the names of what the constructor of a class takes itself."""
    own = vars(kind).get("__init__")
    if not inspect.isfunction(own):
        return set()
    named = [each for each in inspect.signature(own).parameters.values() if each.kind is not each.VAR_KEYWORD]
    return {each.name for each in named} - {"self"}


def timeouts(seconds: float) -> dict[str, float]:
    """Return the arguments of a connection for one question."""
    return {"socket_timeout": seconds, "socket_connect_timeout": seconds}


def ask(connection: Any, *command: str) -> Any:
    """Ask one question over a connection that is closed again."""
    try:
        connection.send_command(*command)
        return connection.read_response()
    finally:
        connection.disconnect()
