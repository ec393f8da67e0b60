"""The Redis of the demo: the one that ``REDIS_URL`` names, or one on this machine, or one that the demo starts."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from example_project.processes import DemoFailed, free_port, run_program, wait_for_port

LOCAL = "redis://127.0.0.1:6379/0"


def find_or_start(stack: ExitStack) -> str:
    """Return the URL of a Redis.

    Args:
        stack: stops a server that is started, and removes what it kept.

    Raises:
        DemoFailed: there is none, and none can be started; says what to do.
    """
    try:
        import redis
    except ImportError:
        raise DemoFailed("There is no client for Redis here: pip install 'django-celeriac[redis]'.") from None
    named = os.environ.get("REDIS_URL")
    try:
        redis.Redis.from_url(named or LOCAL, socket_connect_timeout=2, socket_timeout=2).ping()
    except (redis.RedisError, ValueError) as exc:
        if named:
            raise DemoFailed(f"REDIS_URL is set, but cannot be used: {exc} Unset it, and one is started.") from exc
        return _start(stack)
    return named or LOCAL


def _start(stack: ExitStack) -> str:
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        raise DemoFailed(
            "There is no Redis at localhost:6379, and neither redis-server nor valkey-server is installed. "
            "Install one of them, or set REDIS_URL."
        )
    port = free_port(0)
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="celeriac-demo-")))
    command = [program, "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--save", ""]
    server = run_program("Redis", command, folder / "redis.log")
    stack.callback(server.stop)
    wait_for_port(port, server, seconds=20)
    return f"redis://127.0.0.1:{port}/0"
