"""Where a scenario plays: a directory, a database with our tables or a Redis, and the processes that are started."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tests.processes import die_with_parent
from tests.servers import SERVERS, Redis, Server, free_port

if TYPE_CHECKING:
    from typing_extensions import Self

#: Where messages and results are. With Redis all else is in SQLite.
DATABASES = ("sqlite", "postgresql", "mariadb", "redis")
SERVED = DATABASES[1:]


class Stage:
    """Set up Django on a database of its own; end all processes and remove everything afterwards.

    Args:
        database: one of ``DATABASES``.
        settings: environment variables, which ``chaos.settings`` reads.
        keep: leave the directory with the logs and the record.
    """

    def __init__(self, database: str, settings: Mapping[str, str] | None = None, *, keep: bool = False) -> None:
        self.database = database
        self.settings = settings or {}
        self.keep = keep
        self.directory = Path(tempfile.mkdtemp(prefix="celeriac-chaos-"))
        self.record = self.directory / "record"
        self.server: Server | None = None
        #: Between Redis and everybody.
        self.proxy: subprocess.Popen[bytes] | None = None
        self.processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as on_error:
            on_error.callback(self.close)
            if self.database != "sqlite":
                # What is acknowledged is on the disk.
                redis = self.database == "redis"
                self.server = Redis("--appendfsync", "always") if redis else SERVERS[self.database]()
                self.server.start()
            self._set_up_django()
            on_error.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End what is left of the processes, workers in good order."""
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(15)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if self.server is not None:
            self.server.close()
        if self.keep:
            print(f"logs and record: {self.directory}")
        else:
            shutil.rmtree(self.directory)

    def _set_up_django(self) -> None:
        server = self.server
        if isinstance(server, Redis):
            self._start_proxy(server)
            server = None
        file = f"sqlite:///{self.directory}/chaos.sqlite3"
        os.environ.update(
            DJANGO_SETTINGS_MODULE="chaos.settings",
            CHAOS_DATABASE_URL=server.url("main") if server else file,
            CHAOS_RECORD=str(self.record),
            PYTHONUNBUFFERED="1",
            **self.settings,
        )
        self.record.touch()
        import django
        from django.core.management import call_command
        from django.db import connection

        django.setup()
        if server is not None:
            with connection._nodb_cursor() as cursor:
                cursor.execute("CREATE DATABASE main")
        call_command("migrate", run_syncdb=True, verbosity=0)
        connection.close()

    def _start_proxy(self, redis: Redis) -> None:
        port = free_port()
        # A process of its own: in ours, whatever the audit does would slow all the others down.
        self.proxy = self.start("-m", "chaos.proxy", str(port), str(redis.port), log="proxy")
        os.environ["CHAOS_REDIS_URL"] = redis.url()
        os.environ["CHAOS_BROKER_URL"] = f"redis://127.0.0.1:{port}/0"

    def start(self, *arguments: str, log: str) -> subprocess.Popen[bytes]:
        """Start a Python program that writes to ``<log>.log``."""
        with (self.directory / f"{log}.log").open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        self.processes.append(process)
        return process

    def start_worker(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a worker; all of them write to ``worker.log``."""
        return self.start("-m", "django", "runworker", "-l", "INFO", *arguments, log="worker")

    def log(self, name: str) -> str:
        """Return what programs have written to a log."""
        path = self.directory / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""


def wait_until(condition: Callable[[], object], seconds: float) -> float:
    """Wait for a condition for so long at most; return the seconds that it took."""
    begin = time.monotonic()
    while not condition() and time.monotonic() - begin < seconds:
        time.sleep(0.1)
    return time.monotonic() - begin
