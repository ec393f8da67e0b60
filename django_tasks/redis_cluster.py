"""Connections to a Redis Cluster: each key is on the node that has its slot, and a script touches keys of one slot.

redis-py knows which node that is, and follows when a slot has moved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import redis
from redis.backoff import NoBackoff
from redis.cluster import REDIS_ALLOWED_KEYS, RedisCluster
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, NoScriptError, ResponseError, TryAgainError
from redis.retry import Retry

from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.redis_connections import RedisConnections, Script, replicated
from django_tasks.redis_errors import REDIS_ERRORS, translated
from django_tasks.redis_pool import Pool, together, without_errors
from django_tasks.redis_servers import Client, Servers, ask, timeouts
from django_tasks.redis_urls import is_cluster

#: The first version of redis-py that leaves it to us what is tried again.
OLDEST_LIBRARY = 6
#: A node says so instead of doing anything.
_REFUSALS = (MovedError, AskError, TryAgainError)


class _Cluster(RedisCluster):
    """redis-py's client, but for what it does while nodes are away: it would ask one after another, seconds each."""

    def __init__(self, host: str, port: int, **options: Any) -> None:
        self._first: Any = (host, port)
        # A URL, since it heeds the kind of pool only then.
        url = f"redis://[{host}]:{port}" if ":" in host else f"redis://{host}:{port}"
        super().__init__(url=url, retry=Retry(NoBackoff(), 0), **options)
        # When a node has failed we make another client.
        manager: Any = self.nodes_manager
        manager.initialize = lambda *_, **__: None

    def command(self, **options: Any) -> Any:
        """As redis-py, which asks that first, but of the node that has answered, which is asked from now on."""
        client: Any = self
        client.set_default_node(client.get_node(*self._first))
        return super().command(**options)


class Nodes(Servers):
    """The nodes of a cluster."""

    #: Nodes that others have told us of, in case those of the URL are away.
    _told: Sequence[dict[str, Any]] = ()

    def _check_options(self, setting: str) -> None:
        if int(redis.__version__.partition(".")[0]) < OLDEST_LIBRARY:
            raise ImproperlyConfigured(
                f"{setting} = {self.place!r} needs redis-py {OLDEST_LIBRARY} or newer, and {redis.__version__} is "
                f'installed: pip install "redis>={OLDEST_LIBRARY}".'
            )
        super()._check_options(setting)
        _, arguments = self._kind_and_arguments(self.found.servers[0])
        if ignored := sorted(arguments.keys() - REDIS_ALLOWED_KEYS):
            raise ImproperlyConfigured(
                f"{setting} = {self.place!r}: redis-py has no {', '.join(ignored)} for clusters. Remove it."
            )

    def connect(self) -> Client:
        """Return a client that has learned from the first node that answers which node has what."""
        candidates = [*self.found.servers, *self._told]
        share = self.timeout / len(candidates)  # together they have the time of one
        failure: Exception | None = None
        for server in candidates:
            try:
                self._check_state(server, share)
                client = self._make(server)
            except REDIS_ERRORS as exc:
                failure = exc
                continue
            known = [(each.get("host"), each.get("port")) for each in self.found.servers]
            self._told = [
                {**server, "host": node.host, "port": node.port}
                for node in client.get_nodes()
                if (node.host, node.port) not in known
            ]
            return client
        assert failure is not None
        raise translated(failure, self.place) from failure

    def _check_state(self, server: dict[str, Any], seconds: float) -> None:
        kind, arguments = self._kind_and_arguments(server)
        if b"cluster_state:ok" not in ask(kind(**{**arguments, **timeouts(seconds)}), "CLUSTER", "INFO"):
            raise ClusterDownError("CLUSTERDOWN not all slots are served")

    def _make(self, server: dict[str, Any]) -> Client:
        kind, arguments = self._kind_and_arguments(server)
        host, port = arguments["host"], arguments["port"]
        arguments = {name: value for name, value in arguments.items() if name not in ("host", "port", "db", "retry")}
        kinds: dict[str, Any] = {"connection_class": kind, "connection_pool_class": Pool}
        options = {**kinds, **self._limits, **arguments}
        return _Cluster(host, port, require_full_coverage=False, reinitialize_steps=0, **options)

    def infos(self, client: Client, section: str) -> list[dict[str, Any]]:
        """Return what each master says of itself."""
        return [client.get_redis_connection(node).info(section) for node in client.get_primaries()]

    def pools(self, client: Client) -> list[Any]:
        """Return the pools of all nodes."""
        return [node.redis_connection.connection_pool for node in client.get_nodes() if node.redis_connection]


class ClusterConnections(RedisConnections):
    """One cluster for this process; arguments and errors are those of ``RedisConnections``.

    Args:
        url: ``redis+cluster://node:port,node:port``, some of the nodes, or ``rediss+cluster://`` with TLS.
    """

    is_cluster: ClassVar[bool] = True
    kind_of_servers: ClassVar[type[Servers]] = Nodes

    def execute(self, script: Script, keys: Sequence[Any], arguments: Sequence[Any]) -> Any:
        """Run a script, with keys of one slot."""
        return self.execute_each(script, [(keys, arguments)])[0]

    def execute_replicated(self, script: Script, keys: Sequence[Any], arguments: Sequence[Any], replicas: int) -> int:
        """Run a script; return how many replicas of its node have what it wrote."""

        def work(client: Client) -> int:
            call, seconds = (len(keys), *keys, *arguments), self.timeout / 2
            try:
                return replicated(self.beside(None, keys[0]), script, call, replicas, seconds)
            except MovedError:  # the slot has moved, and nothing was done
                client.execute_command("EXISTS", keys[0])  # redis-py follows, and remembers where it is
                return replicated(self.beside(None, keys[0]), script, call, replicas, seconds)

        return self.run(work)

    def execute_each(self, script: Script, calls: Sequence[tuple[Sequence[Any], Sequence[Any]]]) -> list[Any]:
        """Run a script several times, each with keys of one slot, in a round trip for each node."""

        def work(client: Client) -> list[Any]:
            counted = [(len(keys), *keys, *arguments) for keys, arguments in calls]
            answers = _each_on_its_node(client, [("EVALSHA", script.sha, *each) for each in counted])
            unknown = [place for place, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
            again = _each_on_its_node(client, [("EVAL", script.text, *counted[place]) for place in unknown])
            return without_errors({**dict(enumerate(answers)), **dict(zip(unknown, again, strict=True))}.values())

        return self.run(work)

    def run_each(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Run commands, each about one key, in a round trip for each node."""
        return self.run(lambda client: without_errors(_each_on_its_node(client, commands)))

    def mget(self, keys: Sequence[Any]) -> list[bytes | None]:
        """Read some keys."""
        return self.run_each([("GET", key) for key in keys])

    def delete(self, keys: Sequence[Any]) -> None:
        """Delete some keys."""
        self.run_each([("DEL", key) for key in keys])

    def node_of(self, key: str) -> str:
        """Return the name of the node that has a key; empty where none is known to.

        Raises:
            OperationalError: no node answers.
        """
        nodes = self.client.nodes_manager.slots_cache.get(key_slot(key.encode()))
        return str(nodes[0].name) if nodes else ""

    def beside(self, connection: Any, key: Any = None) -> Client:
        """Return a client of the node that a connection goes to, or that has a key; else of our first one."""
        client = self.client
        if connection is not None:
            node = client.get_node(connection.host, connection.port)
        else:
            node = client.get_default_node() if key is None else client.get_node_from_key(key)
        if node is None:
            raise redis.ConnectionError(f"{connection.host}:{connection.port} is no node any more")
        return client.get_redis_connection(node)


def connections_to(
    setting: str,
    url: str,
    *,
    timeout: float = 2.0,
    options: Mapping[str, Any] | None = None,
    tls: Mapping[str, Any] | None = None,
) -> RedisConnections:
    """Return connections to what a URL stands for, with the arguments and errors of ``RedisConnections``."""
    kind = ClusterConnections if is_cluster(url) else RedisConnections
    return kind(setting, url, timeout=timeout, options=options, tls=tls)


def _each_on_its_node(client: Client, commands: Sequence[Sequence[Any]]) -> list[Any]:
    """Run commands, those for one node in one round trip; errors of the server are among the answers.

    redis-py's own pipelines for clusters run commands again whose answer was lost.
    """
    by_node: dict[str, tuple[Any, list[int]]] = {}
    for place, command in enumerate(commands):
        node = client.nodes_manager.get_node_from_slot(client.determine_slot(*command))
        by_node.setdefault(node.name, (node, []))[1].append(place)
    answers: list[Any] = [None] * len(commands)
    for node, places in by_node.values():
        found = together(client.get_redis_connection(node), [commands[place] for place in places])
        for place, answer in zip(places, found, strict=True):
            answers[place] = _follow(client, commands[place]) if isinstance(answer, _REFUSALS) else answer
    return answers


def _follow(client: Client, command: Sequence[Any]) -> Any:
    """Run a command where its slot is now; return an error of the server as the answer."""
    try:
        return client.execute_command(*command)
    except ResponseError as exc:
        return exc
