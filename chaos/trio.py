"""A master with replicas and three sentinels, each server behind a proxy that lets its replicas lag."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from chaos.proxy import proxied
from tests.servers import Redis, Sentinel, free_port
from tests.waiting import wait_for

SENTINELS, QUORUM = 3, 2
#: Milliseconds: less, and on a busy machine they depose masters that live.
DOWN_AFTER = 2000
#: What the sentinels call the master; see ``tests.servers.Sentinel``.
NAME = "ours"


class Node(Redis):
    """A server that everybody else knows by the port of its proxy.

    Args:
        entrance: that port.
    """

    def __init__(self, entrance: int) -> None:
        self.entrance = entrance
        super().__init__()

    def follow(self, master: int) -> None:
        """Be a replica of the server behind that port, from the next start on; of none with 0."""
        known = ("--replica-announce-ip", "127.0.0.1", "--replica-announce-port", str(self.entrance))
        quick = ("--repl-diskless-sync-delay", "0")
        self.options = (*known, *quick, *(("--replicaof", "127.0.0.1", str(master)) if master else ()))


class Trio:
    """Servers that are watched.

    Args:
        nodes: the first of them begins as the master.
        sentinels: those that watch.
    """

    def __init__(self, nodes: Sequence[Node], sentinels: Sequence[Sentinel]) -> None:
        self.nodes = {node.entrance: node for node in nodes}
        self.sentinels = sentinels

    def url(self) -> str:
        """Return the address in kombu's syntax."""
        return ";".join(f"sentinel://127.0.0.1:{sentinel.port}/0" for sentinel in self.sentinels)

    @property
    def master(self) -> Node:
        """The one that all the sentinels call so, as soon as they agree."""
        return wait_for(self._agreed, timeout=60, message="the sentinels to agree")

    def successor_of(self, old: Node) -> Node | None:
        """Return the server that any of the sentinels calls master instead of an old one, if one does."""
        return next((node for node in self._named() if node is not old), None)

    def _agreed(self) -> Node | None:
        named = self._named()
        return named[0] if len(set(named)) == 1 else None

    def _named(self) -> list[Node]:
        return [self.nodes[each.connect().sentinel_get_master_addr_by_name(NAME)[1]] for each in self.sentinels]

    def is_complete(self) -> bool:
        """Return whether all know of all, and every replica has what its master has, but for its lag."""
        replicas, others = len(self.nodes) - 1, len(self.sentinels) - 1
        states = [each.connect().sentinel_master(NAME) for each in self.sentinels]
        known = all(each["num-slaves"] == replicas and each["num-other-sentinels"] == others for each in states)
        info = self.master.connect().info("replication")
        return known and all(info.get(f"slave{n}", {}).get("state") == "online" for n in range(replicas))


@contextlib.contextmanager
def trio(lags: Sequence[float]) -> Iterator[Trio]:
    """Start a trio.

    Args:
        lags: of each server in seconds, when it is a replica; the first one begins as the master.
    """
    ports = [free_port() for _ in lags]
    with contextlib.ExitStack() as stack:
        nodes = [Node(port) for port in ports]
        for node in nodes:
            stack.callback(node.close)
            stack.enter_context(proxied(node.entrance, node.port, dict(zip(ports, lags, strict=True))))
            node.follow(0 if node is nodes[0] else ports[0])
            node.start()
        sentinels = [stack.enter_context(Sentinel(ports[0], QUORUM, DOWN_AFTER)) for _ in range(SENTINELS)]
        started = Trio(nodes, sentinels)
        wait_for(started.is_complete, timeout=60, message="the sentinels to know all servers")
        yield started
