"""Starts and stops the programs of the demo. Knows nothing of Django."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

MANAGE_PY = Path(__file__).resolve().parent.parent / "manage.py"

#: Seconds a program has to stop by itself: a worker finishes what it runs first.
STOP_TIMEOUT = 30
TAIL_LINES = 15


class DemoFailed(Exception):
    """The demo cannot go on; the message says why, for the person who started it."""


class Interrupted(Exception):
    """Somebody wants the demo to stop."""


_interruptions: list[int] = []


def catch_ctrl_c() -> None:
    """Let ``pause`` tell of Ctrl-C, a kill or a closed terminal, instead of being interrupted anywhere by them.

    An exception in the middle of the start of a program would leave that program running, and some places swallow it.
    """
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        # SIGINT may be ignored at first: shells have what they start in the background do so.
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda number, frame: _interruptions.append(number))


def pause(seconds: float) -> None:
    """Wait; raise ``Interrupted`` if the demo is to stop."""
    if not _interruptions:
        time.sleep(seconds)
    if _interruptions:
        raise Interrupted


@dataclass
class Program:
    """A running program whose output goes to a log file."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raise ``DemoFailed`` if it has stopped by itself."""
        code = self.process.poll()
        if code is not None:
            raise DemoFailed(f"The {self.name} stopped by itself (exit code {code}).\n{self.end_of_log()}")

    def end_of_log(self) -> str:
        """Return the last lines of its log, with the log's path."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:]
        return "\n".join([f"The end of its log, {shown(self.log)}:", *(f"    {line}" for line in lines)])

    def stop(self) -> None:
        """Ask it to stop, once more at each further Ctrl-C, wait until it has, and kill it if it does not."""
        self.process.terminate()
        heard, deadline = len(_interruptions), time.monotonic() + STOP_TIMEOUT
        while self.process.poll() is None:
            time.sleep(0.05)
            if time.monotonic() > deadline:
                self.process.kill()
            elif len(_interruptions) > heard:
                heard = len(_interruptions)
                self.process.terminate()


def start(name: str, arguments: list[str], log: Path) -> Program:
    """Start ``manage.py`` with these arguments."""
    return run_program(name, [sys.executable, str(MANAGE_PY), *arguments], log)


def run_program(name: str, command: list[str], log: Path) -> Program:
    """Start a program whose output goes to ``log``.

    Out of the terminal's reach, so that Ctrl-C comes to the demo alone, which then stops its programs once and in
    order; a second signal would tell a worker to hurry.
    """
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=MANAGE_PY.parent,
            start_new_session=True,
        )
    return Program(name, process, log)


def free_port(wanted: int) -> int:
    """Return the wanted port of 127.0.0.1 or, if somebody uses it, another that is free."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            # As the web server does: a port whose last connections are still closing counts as free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise DemoFailed("No port of 127.0.0.1 is free for the web server.")


def wait_for_port(port: int, program: Program, seconds: float) -> None:
    """Return once the program answers on a port of 127.0.0.1.

    Raises:
        DemoFailed: it does not in time.
        Interrupted: the demo is to stop.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        program.check()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        pause(0.05)
    raise DemoFailed(f"The {program.name} did not answer within {seconds:.0f} s.\n{program.end_of_log()}")


def shown(path: Path) -> str:
    """Return a path as short as it can be written from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
