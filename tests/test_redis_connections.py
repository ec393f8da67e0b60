"""Connections to Redis: addresses, fail-over, forks, and servers that are away, silent, busy or refuse."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from django_tasks.brokers.redis import RedisBroker
from django_tasks.brokers.redis_ledger import _push
from django_tasks.exceptions import ImproperlyConfigured, OperationalError, RequestRefused
from django_tasks.redis_connections import RedisConnections, Script
from tests.running import app_of_test
from tests.servers import Redis, Sentinel, free_port, require
from tests.threads import meanwhile, together
from tests.waiting import wait_for


@pytest.fixture
def server() -> Iterator[Redis]:
    require("redis")
    with Redis() as server:
        yield server


@contextlib.contextmanager
def server_with(*options: str) -> Iterator[Redis]:
    require("redis")
    with Redis(*options) as server:
        yield server


def connect(url: str, **options: Any) -> RedisConnections:
    return RedisConnections("BROKER_URL", url, **{"timeout": 1.0, **options})


def ping(connections: RedisConnections) -> bool:
    return bool(connections.run(lambda client: client.ping()))


def fails(connections: RedisConnections) -> str:
    with pytest.raises(OperationalError) as caught:
        ping(connections)
    return str(caught.value)


# -- addresses


@pytest.mark.parametrize(
    ("url", "says"),
    [
        pytest.param("localhost:6379", "is no URL", id="no scheme"),
        pytest.param("redis://localhost:port/0", "cannot be read", id="port"),
        pytest.param("redis://localhost/name", "cannot be read", id="database"),
        pytest.param("redis://:hun#ter2@host/0", "cannot be read", id="unquoted"),
        pytest.param("redis://:hunter2@host/0?ssl_what=1", "option that cannot be used", id="option"),
        pytest.param("rediss://:hunter2@host?ssl_ca_cert=a", r"'ssl_ca_cert'. Did you mean ssl_ca_certs\?", id="name"),
        pytest.param("redis://:hunter2@host/0?ssl_ca_certs=a", "'ssl_ca_certs'. It is for TLS", id="TLS"),
        pytest.param("rediss://:hunter2@host/0?ssl_cert_reqs=so", "option that cannot be used", id="value of TLS"),
        pytest.param("redis://:hunter2@host/0?socket_timeout=soon", "cannot be read", id="value"),
        pytest.param("redis://:hunter2@host/0?protocol=3", "protocol cannot be chosen", id="protocol"),
        pytest.param("redis://:hunter2@a?decode_responses=true", "decode_responses cannot be chosen", id="text"),
        pytest.param("sentinel://:hunter2@a;redis://b", "mixes", id="mixed"),
        pytest.param("sentinel://:hunter2@a", "master_name", id="no name of the master"),
        pytest.param("amqp://:hunter2@a", "stands for no Redis", id="other server"),
    ],
)
def test_bad_urls_are_refused_without_their_password(url: str, says: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=says) as caught:
        connect(url)
    assert "hunter2" not in str(caught.value)
    assert "ter2" not in str(caught.value)


def test_numbers_of_databases_and_quoted_names() -> None:
    [found] = connect("redis://me:a%2Fb%23@host:7000/3").found.servers
    assert (found["host"], found["port"], found["db"]) == ("host", 7000, 3)
    assert (found["username"], found["password"]) == ("me", "a/b#")
    [found] = connect("redis+socket:///run/redis.sock?virtual_host=2").found.servers
    assert (found["path"], found["db"]) == ("/run/redis.sock", 2)
    [found] = connect("rediss://host?ssl_cert_reqs=CERT_NONE").found.servers
    assert found["ssl_cert_reqs"] == "none"


def test_unix_sockets(tmp_path: Path) -> None:
    with server_with("--unixsocket", str(tmp_path / "s")):
        assert ping(connect(f"unix://{tmp_path}/s?db=1"))


def test_databases_are_apart(server: Redis) -> None:
    connect(server.url("1")).run(lambda client: client.set("key", "1"))
    assert connect(server.url("0")).run(lambda client: client.get("key")) is None


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-nodes", "-days", "2", "-keyout", "key.pem", "-out", "cert.pem"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", *names, *files]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


def test_tls(certificates: Path) -> None:
    require("redis")
    port, cert, key = free_port(), str(certificates / "cert.pem"), str(certificates / "key.pem")
    options = ["--tls-port", str(port), "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert]
    with server_with(*options, "--tls-auth-clients", "no"):
        assert ping(connect(f"rediss://localhost:{port}/0?ssl_ca_certs={cert}"))
        assert ping(connect(f"redis://localhost:{port}/0", tls={"ssl_ca_certs": cert}))
        assert ping(connect(f"rediss://localhost:{port}/0?ssl_cert_reqs=none&ssl_check_hostname=false"))
        broker = RedisBroker(f"redis://localhost:{port}/0", accept=frozenset(), tls={"ssl_ca_certs": cert})
        broker.check()
        tls_of_results = {"redis_backend_use_ssl": {"ssl_ca_certs": cert}}
        with app_of_test(backend=f"redis://localhost:{port}/0", **tls_of_results) as app:
            assert app.backend.get(["id"]) == {}
        assert "certificate" in fails(connect(f"rediss://localhost:{port}/0"))


# -- servers that are away


def test_a_server_that_refuses() -> None:
    assert "cannot be reached" in fails(connect(f"redis://:hunter2@127.0.0.1:{free_port()}/0"))


def test_a_server_that_accepts_and_never_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        text = fails(connect(f"redis://:hunter2@127.0.0.1:{silent.getsockname()[1]}/0", timeout=0.2))
    assert "does not answer" in text
    assert "hunter2" not in text


def test_a_server_that_is_no_redis() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer() -> None:
            with other.accept()[0] as connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert "is no Redis" in fails(connect(f"redis://127.0.0.1:{other.getsockname()[1]}/0"))
        thread.join()


def test_a_frozen_server_thaws(server: Redis) -> None:
    connections = connect(server.url(), timeout=0.3)
    assert ping(connections)
    server.freeze()
    assert "does not answer" in fails(connections)
    server.thaw()
    assert ping(connections)


def test_a_late_answer_is_not_taken_for_the_next_one(server: Redis) -> None:
    connections = connect(server.url(), timeout=0.3)
    connections.run(lambda client: client.set("one", "1"))
    server.freeze()
    with pytest.raises(OperationalError):
        connections.run(lambda client: client.get("one"))
    server.thaw()
    assert connections.run(lambda client: client.get("two")) is None


def test_a_server_that_is_killed_and_comes_back(server: Redis) -> None:
    connections = connect(server.url())
    assert ping(connections)
    server.kill()
    fails(connections)
    server.start()
    assert ping(connections)


def test_a_server_that_loads_is_waited_for() -> None:
    with server_with("--key-load-delay", "50000", "--loading-process-events-interval-bytes", "1024") as server:
        admin = server.connect()
        for number in range(60):
            admin.set(f"key{number}", os.urandom(2000).hex())
        admin.bgrewriteaof()
        wait_for(lambda: not admin.info("persistence")["aof_rewrite_in_progress"])
        wait_for(lambda: not admin.info("persistence")["aof_rewrite_scheduled"])
        server.kill()
        server.process = server.spawn(server.command())
        impatient, patient = connect(server.url(), timeout=0.3), connect(server.url(), timeout=30)
        wait_for(lambda: b"Server initialized" in server.log.read_bytes())
        assert "is reading its data" in fails(impatient)
        assert ping(patient)


# -- servers that refuse


def test_passwords() -> None:
    with server_with("--requirepass", "hunter2") as server:
        port = server.port
        assert ping(connect(f"redis://:hunter2@127.0.0.1:{port}/0"))
        text = fails(connect(f"redis://:hunter3@127.0.0.1:{port}/0"))
        assert "refuses the user name or the password" in text
        assert "hunter3" not in text
        assert "wants a password" in fails(connect(f"redis://127.0.0.1:{port}/0"))


@pytest.mark.parametrize(
    ("options", "prepare", "command", "says", "passes"),
    [
        pytest.param((), (("LPUSH", "a", "b"),), ("GET", "a"), "something else under the name", False, id="WRONGTYPE"),
        pytest.param((), (("ACL", "SETUSER", "default", "-get"),), ("GET", "a"), "this user", False, id="NOPERM"),
        pytest.param(("--maxmemory", "1"), (), ("SET", "a", "b"), "out of memory", True, id="OOM"),
        pytest.param(("--min-replicas-to-write", "1"), (), ("SET", "a", "b"), "replicas", True, id="NOREPLICAS"),
        pytest.param((), (), ("NO", "SUCH"), "refuses a command", False, id="unknown command"),
    ],
)
def test_what_a_server_refuses(options: Any, prepare: Any, command: Any, says: str, passes: bool) -> None:
    with server_with(*options) as server:
        connections = connect(server.url())
        for each in prepare:
            connections.run(lambda client, each=each: client.execute_command(*each))
        with pytest.raises(OperationalError, match=says) as caught:
            connections.run(lambda client: client.execute_command(*command))
        assert isinstance(caught.value, RequestRefused) is not passes
        assert ping(connections)


def test_a_replica_is_named_as_one(server: Redis) -> None:
    options = ("--replicaof", "127.0.0.1", str(server.port))
    with server_with(*options) as replica, pytest.raises(OperationalError, match="read-only replica"):
        connect(replica.url()).run(lambda client: client.set("a", "b"))


# -- several servers


def test_the_first_server_that_is_a_master_and_answers(server: Redis) -> None:
    with server_with("--replicaof", "127.0.0.1", str(server.port)) as replica:
        urls = [f"redis://127.0.0.1:{free_port()}/0", replica.url(), server.url()]
        connections = connect(";".join(urls))
        connections.run(lambda client: client.set("a", "b"))
        assert connections.run(lambda client: client.get("a")) == b"b"
    with pytest.raises(OperationalError, match="cannot be reached"):
        ping(connect(";".join(urls[:1] * 2)))


def test_fail_over_to_the_next_and_back(server: Redis) -> None:
    with server_with() as second:
        connections = connect(f"{server.url()};{second.url()}")
        connections.run(lambda client: client.set("who", "first"))
        server.kill()
        fails(connections)
        connections.run(lambda client: client.set("who", "second"))
        second.kill()
        server.start()
        fails(connections)
        assert connections.run(lambda client: client.get("who")) == b"first"


# -- processes and connections


def test_a_fork_shares_no_connection(server: Redis) -> None:
    connections = connect(server.url())
    ours = connections.run(lambda client: client.client_id())
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, str(connections.run(lambda client: client.client_id())).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    theirs = int(os.read(reading, 100))
    os.close(reading)
    os.close(writing)
    assert theirs != ours
    assert connections.run(lambda client: client.client_id()) == ours


def test_closing(server: Redis) -> None:
    connections = connect(server.url(), options={"client_name": "ours"})
    admin = server.connect()
    ping(connections)
    assert [each["name"] for each in admin.client_list()].count("ours") == 1
    connections.close()
    wait_for(lambda: "ours" not in [each["name"] for each in admin.client_list()])
    assert ping(connections)


def test_a_pool_is_as_large_as_it_may_be_and_fair(server: Redis) -> None:
    """Four threads never pause, and a fifth one gets its turn all the same."""
    connections = connect(f"{server.url()}?max_connections=2", timeout=5.0, options={"client_name": "ours"})
    ping(connections)
    go_on = True

    def busy() -> int:
        while go_on:
            ping(connections)
        return 0

    def other() -> int:
        nonlocal go_on
        try:
            pings = sum(ping(connections) for _ in range(200))
        finally:
            go_on = False
        assert [each["name"] for each in server.connect().client_list()].count("ours") <= 2
        return pings

    assert sum(together(*[busy] * 4, other)) == 200


def test_all_connections_in_use(server: Redis) -> None:
    connections = connect(f"{server.url()}?max_connections=1", timeout=0.1)
    pool = connections.client.connection_pool
    greedy = pool.get_connection()
    for _ in range(2):
        assert "none of 1 connections has become free. Raise max_connections" in fails(connections)
    pool.release(greedy)
    assert ping(connections)


class Interrupted(BaseException):
    """A time limit, which may be raised anywhere in a thread."""


def interrupt(*_: Any, **__: Any) -> None:
    raise Interrupted


def test_an_answer_that_nobody_has_read_is_not_taken_for_another(
    server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections = connect(f"{server.url()}?max_connections=1")
    assert ping(connections)
    with monkeypatch.context() as patch:
        patch.setattr(type(connections.client), "parse_response", interrupt)
        with pytest.raises(Interrupted):
            connections.run(lambda client: client.echo("one"))
    assert connections.run(lambda client: client.echo("two")) == b"two"


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(lambda it, _: it.run_each([("ECHO", "one"), ("ECHO", "two")]), id="commands"),
        pytest.param(lambda it, script: it.execute_replicated(script, [], ["one"], 1), id="script"),
        pytest.param(lambda it, _: it.run(lambda client: _push(client, {"a": ["1"], "b": ["2"]})), id="transaction"),
    ],
)
def test_answers_that_nobody_has_read_are_not_taken_for_others(
    server: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Callable[[RedisConnections, Script], object]
) -> None:
    (tmp_path / "echo.lua").write_text("return ARGV[1]")
    connections = connect(f"{server.url()}?max_connections=1", timeout=5.0)
    assert ping(connections)
    server.freeze()  # so that they come later than whoever looks for some
    with monkeypatch.context() as patch:
        patch.setattr(redis.Redis, "parse_response", interrupt)
        with pytest.raises(Interrupted):
            run(connections, Script(tmp_path, "echo"))
    with meanwhile(lambda: connections.run(lambda client: client.echo("mine"))) as answer:
        server.thaw()
    assert answer.result() == b"mine"


def test_a_connection_that_was_not_set_up_to_the_end_is_not_used(
    server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections = connect(f"{server.url('3')}?max_connections=1")
    with monkeypatch.context() as patch:
        patch.setattr(redis.Connection, "read_response", interrupt)
        with pytest.raises(Interrupted):
            ping(connections)
    connections.run(lambda client: client.set("key", "1"))
    assert server.connect(db=3).exists("key")


@pytest.mark.parametrize("comes", [pytest.param(True, id="one comes"), pytest.param(False, id="none comes")])
def test_a_time_limit_while_all_connections_are_in_use(server: Redis, comes: bool) -> None:
    connections = connect(f"{server.url()}?max_connections=1", timeout=5.0 if comes else 0.3)
    pool = connections.client.connection_pool
    busy, interrupted = pool.get_connection(), []

    def wait() -> None:
        try:
            ping(connections)
        except Interrupted:
            interrupted.append(True)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    wait_for(lambda: pool.pool._line)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Interrupted))
    if comes:
        pool.release(busy)
    thread.join(5)
    assert interrupted == [True]
    if not comes:
        pool.release(busy)
    assert all(ping(connections) for _ in range(3))


def test_a_connection_that_is_being_closed_cannot_be_taken(server: Redis) -> None:
    connections = connect(server.url())
    assert ping(connections)
    pool = connections.client.connection_pool
    [idle] = filter(None, pool.pool.queue)
    disconnect, taken = idle.disconnect, []

    def take_and_disconnect() -> None:
        taken.append(pool.get_connection())
        disconnect()

    idle.disconnect = take_and_disconnect
    connections.close()
    assert len(taken) == 1
    assert taken[0] is not idle


def test_a_closed_connection_is_opened_once(server: Redis) -> None:
    connections = connect(f"{server.url()}?max_connections=1")
    assert ping(connections)
    [idle] = filter(None, connections.client.connection_pool.pool.queue)
    idle.disconnect()
    connect_really, tries = idle.connect, []

    def connect_once() -> None:
        tries.append(True)
        connect_really()

    idle.connect = connect_once
    server.kill()
    fails(connections)
    assert tries == [True]


def test_scripts_survive_a_server_that_forgot_them(server: Redis, tmp_path: Path) -> None:
    (tmp_path / "one.lua").write_text("local function double(x) return x * 2 end")
    (tmp_path / "two.lua").write_text("return double(ARGV[1])")
    connections, script = connect(server.url()), Script(tmp_path, "one", "two")
    for _ in range(2):
        assert connections.execute(script, [], [21]) == 42
        server.connect().script_flush()


def test_versions(server: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(server.url()).check_version()
    monkeypatch.setattr("django_tasks.redis_connections.OLDEST_SERVER", (99, 0))
    with pytest.raises(ImproperlyConfigured, match=r"needs Redis 99\.0 or newer, or Valkey"):
        connect(server.url()).check_version()


# -- sentinels


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"passwrd": "hunter2"}, r"sentinel_kwargs .* 'passwrd'. Did you mean password\?"),
        ({"ssl": True, "ssl_ca_cert": "hunter2"}, r"'ssl_ca_cert'. Did you mean ssl_ca_certs\?"),
        ({"ssl_ca_certs": "hunter2"}, "'ssl_ca_certs'. It is for TLS: rediss://, for sentinels .ssl"),
        ("hunter2", "sentinel_kwargs has to be a dictionary"),
    ],
)
def test_bad_arguments_for_sentinels(arguments: Any, says: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=says) as caught:
        connect("sentinel://host", options={"master_name": "ours", "sentinel_kwargs": arguments})
    assert "hunter2" not in str(caught.value)


class TLSSentinel(Sentinel):
    """One that speaks nothing but TLS; the server that it watches does not."""

    def __init__(self, master: int, certificates: Path) -> None:
        self.certificates = certificates
        super().__init__(master)

    def command(self) -> list[str]:
        command = super().command()
        cert, key = (str(self.certificates / name) for name in ("cert.pem", "key.pem"))
        files = ["--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert]
        return [*command, "--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no", *files]


def test_sentinels_with_tls(server: Redis, certificates: Path) -> None:
    """As kombu has it: ``ssl`` is for the sentinels alone."""
    with TLSSentinel(server.port, certificates) as sentinel:
        url, cert = f"sentinel://localhost:{sentinel.port}", str(certificates / "cert.pem")
        options = {"master_name": "ours", "sentinel_kwargs": {"ssl": True, "ssl_ca_certs": cert}}
        assert ping(connect(url, options=options))
        assert "cannot be reached" in fails(connect(url, options={"master_name": "ours"}))


def test_sentinels_tell_the_master_before_and_after_a_fail_over(server: Redis) -> None:
    with server_with("--replicaof", "127.0.0.1", str(server.port)) as replica, Sentinel(server.port) as sentinel:
        url = f"sentinel://127.0.0.1:{free_port()}/1;sentinel://127.0.0.1:{sentinel.port}"
        connections = connect(url, options={"master_name": "ours"})
        connections.run(lambda client: client.set("a", "b"))
        assert server.connect(db=1).get("a") == "b"
        assert "knows no master" in fails(connect(url, options={"master_name": "another"}))
        watching = sentinel.connect()
        wait_for(lambda: watching.sentinel_slaves("ours"), timeout=20)
        wait_for(lambda: replica.connect(db=1).get("a") == "b")
        server.kill()

        def is_back() -> bool:
            with contextlib.suppress(OperationalError):
                return bool(connections.run(lambda client: client.set("a", "c")))
            return False

        wait_for(is_back, timeout=30)
        assert replica.connect(db=1).get("a") == "c"
