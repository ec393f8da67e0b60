"""Workers as the tests start them: subprocesses on the test database, with their output in a file."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from django.db import connection

from tests.databases import url_of
from tests.waiting import wait_for

ROOT = Path(__file__).resolve().parent.parent
PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask Linux to end this process when the tests are killed; runs in the child, just before its program."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def environment(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment of a process that shares our test database, with some settings of its own."""
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "PYTHONUNBUFFERED": "1",
        "TEST_DATABASE_URL": url_of(connection.settings_dict),
        "TEST_SETTINGS": json.dumps({**json.loads(os.environ.get("TEST_SETTINGS", "{}")), **settings}),
    }


class WorkerProcess:
    """A ``runworker`` in a process of its own.

    Args:
        arguments: what follows ``runworker`` on its command line.
        log: the file that takes its output.
        settings: Django settings for this worker alone; values that JSON can hold.
        wrapper: a command to run it with.
        command: another command than ``runworker``.
    """

    def __init__(
        self,
        arguments: tuple[str, ...],
        log: Path,
        settings: Mapping[str, Any],
        wrapper: Sequence[str] = (),
        command: str = "runworker",
    ) -> None:
        self.log_path = log
        self.killed = False
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [*wrapper, sys.executable, "-m", "django", command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment(settings),
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    @property
    def pid(self) -> int:
        """The process that was started, which is the supervisor."""
        return self.process.pid

    @property
    def log(self) -> str:
        """What the worker has printed so far."""
        return self.log_path.read_text(errors="replace")

    def children(self) -> list[psutil.Process]:
        """Return the worker's child processes."""
        return psutil.Process(self.pid).children(recursive=True)

    def wait_for_log(self, text: str, timeout: float = 20) -> None:
        """Wait until the worker has printed ``text``; fail if it ends without."""
        wait_for(
            lambda: text in self.log or self.process.poll() is not None,
            timeout,
            lambda: f"{text!r} in the worker's log:\n{self.log}",
        )
        status = self.process.returncode
        assert text in self.log, f"the worker ended with {status} and had not said {text!r}; its log:\n{self.log}"

    def wait(self, timeout: float = 30) -> int:
        """Wait until the worker ends and return its exit status."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the worker has not ended within {timeout} s; its log:\n{self.log}") from None

    def send_signal(self, number: signal.Signals) -> None:
        """Send the supervisor a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """End the supervisor and all its children at once, as when a machine dies."""
        self.killed = True
        for process in [psutil.Process(self.pid), *self.children()]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.wait()

    def finish(self) -> None:
        """Ask the worker to stop if it still runs, and check that it ended well unless the test killed it."""
        print(f"--- log of worker {self.pid}\n{self.log}")
        processes = [] if self.process.poll() is not None else self.children()
        try:
            if self.process.poll() is None:
                self.process.terminate()
            status = self.wait()
            assert self.killed or status == 0, f"the worker ended with {status}; its log:\n{self.log}"
        finally:
            # Whatever the test did to it, nothing of this worker may outlive the test.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            for process in processes:  # with --reload they are in a group of their own
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            self.process.wait()
