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
from typing import Any, ClassVar, TypeVar

from redis.exceptions import BusyLoadingError, NoScriptError

from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.redis_errors import REDIS_ERRORS, breaks_connection, translated
from django_tasks.redis_pool import together, without_errors
from django_tasks.redis_servers import Client, Servers

T = TypeVar("T")

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

    def call(self, keys: Sequence[Any], arguments: Sequence[Any]) -> tuple[Any, ...]:
        """Return the command that runs it on a server that knows it."""
        return ("EVALSHA", self.sha, len(keys), *keys, *arguments)

    def run(self, client: Client, keys: Sequence[Any], arguments: Sequence[Any]) -> Any:
        """Run it once; servers that do not know it yet are given its text."""
        try:
            return client.execute_command(*self.call(keys, arguments))
        except NoScriptError:  # nothing was done
            return client.execute_command("EVAL", self.text, len(keys), *keys, *arguments)


class RedisConnections:
    """One Redis for this process, whichever of several servers it is at the moment.

    Args:
        setting: the setting that the URL comes from, for errors.
        url: ``redis://``, ``rediss://``, ``unix://`` or ``sentinel://``, or several of them with semicolons between;
            those of a cluster are for ``redis_cluster``.
        timeout: seconds that a server has to take a connection, and to answer.
        options: some of ``redis_urls.CONNECTION_OPTIONS``.
        tls: arguments of redis-py for TLS (``ssl_ca_certs``, ...); with any of them a ``redis://`` URL means TLS.

    Raises:
        ImproperlyConfigured: the URL or an option cannot be used.
    """

    #: Whether a script may only touch keys of one slot.
    is_cluster: ClassVar[bool] = False
    kind_of_servers: ClassVar[type[Servers]] = Servers

    def __init__(
        self,
        setting: str,
        url: str,
        *,
        timeout: float = 2.0,
        options: Mapping[str, Any] | None = None,
        tls: Mapping[str, Any] | None = None,
    ) -> None:
        self.servers = self.kind_of_servers(setting, url, timeout, options or {}, tls or {})
        self.place = self.servers.place
        self.found = self.servers.found
        self.timeout = timeout
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._pid = 0
        #: What was open in a parent, whose sockets must not be closed here.
        self._inherited: list[Client] = []

    @property
    def client(self) -> Client:
        """This process's client, on a server that answers; threads share it.

        Raises:
            OperationalError: no server does.
        """
        if self._client is None or self._pid != os.getpid():
            if self._pid != os.getpid():  # whoever held the lock in the parent is not here
                self._inherited.append(self._client)
                self._lock, self._client, self._pid = threading.Lock(), None, os.getpid()
            with self._lock:
                if self._client is None:
                    self._client = self.servers.connect()
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

    def execute_replicated(self, script: Script, keys: Sequence[Any], arguments: Sequence[Any], replicas: int) -> int:
        """Run a script; return how many replicas have what it wrote after half the time of an answer, at most.

        Raises: as ``run``.
        """
        return self.run(
            lambda client: replicated(client, script, (len(keys), *keys, *arguments), replicas, self.timeout / 2)
        )

    def execute_each(self, script: Script, calls: Sequence[tuple[Sequence[Any], Sequence[Any]]]) -> list[Any]:
        """Run a script several times, each with keys and arguments of its own. Raises: as ``run``."""
        return [self.execute(script, keys, arguments) for keys, arguments in calls]

    def run_each(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Run commands in one round trip, not all at once. Raises: as ``run``."""
        return self.run(lambda client: without_errors(together(client, commands)))

    def mget(self, keys: Sequence[Any]) -> list[bytes | None]:
        """Read some keys. Raises: as ``run``."""
        found: list[bytes | None] = self.run(lambda client: client.mget(keys))
        return found

    def delete(self, keys: Sequence[Any]) -> None:
        """Delete some keys. Raises: as ``run``."""
        self.run(lambda client: client.delete(*keys))

    def new_connection(self, key: Any = None) -> Any:
        """Return a connection of the caller's own, not yet open, to the server of the moment: for blocking commands.

        Args:
            key: what they are about; None for a subscription, which is the same wherever it is.
        """
        pool = self.beside(None, key).connection_pool
        return pool.connection_class(**pool.connection_kwargs)

    def beside(self, connection: Any, key: Any = None) -> Client:
        """Return a client of the server that a connection of ``new_connection`` goes to, or that has a key."""
        return self.client

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
        for each in self.run(lambda client: self.servers.infos(client, "server")):
            said = str(each["redis_version"])
            version = tuple(int(part) for part in said.split(".")[:2] if part.isdigit())
            if version < OLDEST_SERVER:
                raise ImproperlyConfigured(
                    f"Redis at {self.place} has version {said}: django_tasks needs Redis "
                    f"{'.'.join(map(str, OLDEST_SERVER))} or newer, or Valkey."
                )

    def eviction_policy(self) -> str:
        """Return what the server does when its memory is full: ``noeviction``, or what it deletes."""
        memories = self.run(lambda client: self.servers.infos(client, "memory"))
        policies = [str(each.get("maxmemory_policy", "noeviction")) for each in memories]
        return next((each for each in policies if each != "noeviction"), "noeviction")

    def _drop(self, client: Client) -> None:
        """Forget a client whose server has failed; what other threads have in use ends by itself."""
        with self._lock:
            if self._client is client:
                self._client = None
        for pool in self.servers.pools(client):
            for connection in pool.pool.take_idle():
                connection.disconnect()


def replicated(client: Client, script: Script, call: Sequence[Any], replicas: int, seconds: float) -> int:
    """Run a script and wait for replicas, over one connection: what WAIT waits for are writes of its own."""
    for command in (("EVALSHA", script.sha), ("EVAL", script.text)):
        answers = together(client, [(*command, *call), ("WAIT", replicas, round(seconds * 1000))])
        if not isinstance(answers[0], NoScriptError):
            return int(without_errors(answers)[1])
    raise AssertionError("a script that is given by its text is known")
