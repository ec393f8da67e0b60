"""What the Redis broker and the Redis result backend share: connections, fail-over, scripts.

A process has its own connections: what was open in a parent is dropped, not closed, after a fork. Nothing here tries a
command again that may have been carried out.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.connection import BlockingConnectionPool, Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import BusyLoadingError, NoScriptError
from redis.retry import Retry

from django_tasks.conf import mask_url
from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.redis_errors import REDIS_ERRORS, breaks_connection, translated
from django_tasks.redis_pool import FairQueue
from django_tasks.redis_urls import ServerList, read_urls

T = TypeVar("T")
#: redis-py's own annotations leave open whether a call is to be awaited.
Client = Any

#: The first version with BLMOVE and with counts of LPOP and RPOP.
OLDEST_SERVER = (6, 2)
#: Seconds between two tries while a server reads its data.
LOADING_PAUSE = 0.1


class Script:
    """A Lua script: the text of some files of one directory, in their order, run as one.

    Args:
        directory: where they are.
        names: their names, or whole paths, without ``.lua``; the last one is the script, the others are functions that
            it calls.
    """

    def __init__(self, directory: Path, *names: str) -> None:
        self.text = "\n".join((directory / f"{name}.lua").read_text(encoding="utf-8") for name in names)
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def run(self, client: Client, keys: Sequence[Any], arguments: Sequence[Any]) -> Any:
        """Run it once; servers that do not know it yet are given its text."""
        try:
            return client.execute_command("EVALSHA", self.sha, len(keys), *keys, *arguments)
        except NoScriptError:  # nothing was done
            return client.execute_command("EVAL", self.text, len(keys), *keys, *arguments)


class RedisConnections:
    """One Redis for this process, whichever of several servers it is at the moment.

    Args:
        setting: the setting that the URL comes from, for errors.
        url: ``redis://``, ``rediss://``, ``unix://`` or ``sentinel://``, or several of them with semicolons between.
        timeout: seconds that a server has to take a connection, and to answer.
        options: some of ``redis_urls.CONNECTION_OPTIONS``.
        tls: arguments of redis-py for TLS (``ssl_ca_certs``, ...); with any of them a ``redis://`` URL means TLS.

    Raises:
        ImproperlyConfigured: the URL or an option cannot be used.
    """

    def __init__(
        self,
        setting: str,
        url: str,
        *,
        timeout: float = 2.0,
        options: Mapping[str, Any] | None = None,
        tls: Mapping[str, Any] | None = None,
    ) -> None:
        self.place = mask_url(url)
        self.timeout = timeout
        self.found: ServerList = read_urls(setting, url, options or {})
        self._common = {"socket_timeout": timeout, "socket_connect_timeout": timeout, "protocol": 2,
                        "retry": Retry(NoBackoff(), 0)}  # fmt: skip
        self._tls = dict(tls or {})
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._pid = 0
        self._check_options(setting)

    def _check_options(self, setting: str) -> None:
        for server in self.found.servers:
            kind, arguments = self._kind_and_arguments(server)
            try:
                kind(**arguments)  # connects at its first command
            except (TypeError, ValueError) as exc:
                raise ImproperlyConfigured(
                    f"{setting} = {self.place!r} has an option that cannot be used: {exc}"
                ) from exc

    @property
    def client(self) -> Client:
        """This process's client, on a server that answers; threads share it.

        Raises:
            OperationalError: no server does.
        """
        if self._client is None or self._pid != os.getpid():
            if self._pid != os.getpid():  # whoever held the lock in the parent is not here
                self._lock, self._client, self._pid = threading.Lock(), None, os.getpid()
            with self._lock:
                if self._client is None:
                    self._client = self._connect()
        return self._client

    def run(self, work: Callable[[Client], T]) -> T:
        """Return what ``work`` makes of the client, with its errors translated; waits for a server that is loading.

        Raises:
            OperationalError: no server can be reached, or it refuses; ``work`` may have been done all the same.
        """
        deadline = time.monotonic() + self.timeout
        while True:
            client = self.client
            try:
                return work(client)
            except BusyLoadingError as exc:  # refused, so that nothing was done
                if time.monotonic() + LOADING_PAUSE > deadline:
                    raise translated(exc, self.place) from exc
            except REDIS_ERRORS as exc:
                if breaks_connection(exc):
                    self._drop(client)
                raise translated(exc, self.place) from exc
            time.sleep(LOADING_PAUSE)

    def execute(self, script: Script, keys: Sequence[Any], arguments: Sequence[Any]) -> Any:
        """Run a script. Raises: as ``run``."""
        return self.run(lambda client: script.run(client, keys, arguments))

    def new_connection(self) -> Any:
        """Return a connection of the caller's own, not yet open, to the server of the moment: for blocking commands."""
        pool = self.client.connection_pool
        return pool.connection_class(**pool.connection_kwargs)

    def close(self) -> None:
        """Close this process's connections that are not in use; they are made again when needed."""
        if self._pid == os.getpid() and self._client is not None:
            self._drop(self._client)

    def check_version(self) -> None:
        """Make sure that the server is not too old.

        Raises:
            ImproperlyConfigured: it is.
            OperationalError: it is away.
        """
        said = str(self.run(lambda client: client.info("server"))["redis_version"])
        version = tuple(int(part) for part in said.split(".")[:2] if part.isdigit())
        if version < OLDEST_SERVER:
            raise ImproperlyConfigured(
                f"Redis at {self.place} has version {said}: django_tasks needs Redis "
                f"{'.'.join(map(str, OLDEST_SERVER))} or newer, or Valkey."
            )

    def eviction_policy(self) -> str:
        """Return what the server does when its memory is full: ``noeviction``, or what it deletes."""
        return str(self.run(lambda client: client.info("memory")).get("maxmemory_policy", "noeviction"))

    # -- finding a server

    def _drop(self, client: Client) -> None:
        """Forget a client whose server has failed; what other threads have in use ends by itself."""
        with self._lock:
            if self._client is client:
                self._client = None
        client.connection_pool.disconnect(inuse_connections=False)

    def _connect(self) -> Client:
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
        role = _ask(kind(**{**arguments, **_timeouts(seconds)}), "ROLE")[0]
        if role not in (b"master", "master"):
            raise redis.exceptions.ReadOnlyError(f"it is a {role!r}")

    def _ask_sentinel(self, server: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Return where the sentinel says that the master is."""
        address: dict[str, Any] = {name: server[name] for name in ("host", "port") if name in server}
        arguments: dict[str, Any] = {"port": 26379, **self._common, **address, **self.found.sentinel_kwargs}
        kind: Any = Connection
        answer = _ask(
            kind(**{**arguments, **_timeouts(seconds)}), "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.found.master_name
        )
        if not answer:
            raise redis.ConnectionError(f"the sentinel knows no master {self.found.master_name!r}")
        host, port = answer
        return {**server, "host": host.decode() if isinstance(host, bytes) else host, "port": int(port)}

    def _make(self, server: dict[str, Any]) -> Client:
        kind, arguments = self._kind_and_arguments(server)
        kind_of_pool: Any = BlockingConnectionPool
        limits = {"max_connections": self.found.max_connections, "timeout": self.timeout, "queue_class": FairQueue}
        return redis.Redis(connection_pool=kind_of_pool(connection_class=kind, **limits, **arguments))

    def _kind_and_arguments(self, server: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        arguments = {**self._common, **server}
        kind = arguments.pop("connection_class", Connection)
        if kind is not UnixDomainSocketConnection:
            arguments = {"host": "localhost", "port": 6379, **arguments}
        if self._tls and kind is Connection:
            kind = SSLConnection
        return kind, {**arguments, **self._tls} if kind is SSLConnection else arguments


def _timeouts(seconds: float) -> dict[str, float]:
    return {"socket_timeout": seconds, "socket_connect_timeout": seconds}


def _ask(connection: Any, *command: str) -> Any:
    """Ask one question over a connection that is closed again."""
    try:
        connection.send_command(*command)
        return connection.read_response()
    finally:
        connection.disconnect()
