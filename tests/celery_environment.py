"""Celery itself, to talk to: virtual environments of its own, with Django beside it, made when a test first needs them.

They stay in the checkout (``.venv-celery-*``) until ``make clean``. Where they cannot be made, for want of a network,
tests that need them are skipped; with ``CI=true`` they fail instead.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import pytest

from tests.processes import die_with_parent

ROOT = Path(__file__).resolve().parent.parent
#: The program that runs there; it may use nothing but Celery.
PROGRAM = ROOT / "tests" / "interop" / "celery_side.py"
#: With the kombu of the same time, which Celery itself does not insist on.
REQUIREMENTS = {
    # ephem for its schedules of the sun.
    "5.7": ("celery[redis]==5.7.*", "kombu[redis]==5.7.*", "Django", "ephem"),
    "5.4": ("celery[redis]==5.4.*", "kombu[redis]==5.4.*", "Django"),
    # Not for messages, but for its tables.
    "beat": ("django-celery-beat>=2.8",),
}
VERSIONS = ("5.7", "5.4")


@lru_cache
def python_with_celery(version: str) -> str:
    """Return the interpreter of an environment with this Celery; skip the running test where none can be made."""
    directory = ROOT / f".venv-celery-{version}-py{sys.version_info[0]}{sys.version_info[1]}"
    python, stamp = directory / "bin" / "python", directory / "made-from.txt"
    wanted = " ".join(REQUIREMENTS[version])
    with PROGRAM.open() as lock:  # of the processes of pytest-xdist one makes it
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != wanted:
            reason = _make(directory, REQUIREMENTS[version])
            if reason:
                text = f"Celery {version} cannot be installed here: {reason}"
                pytest.fail(text) if os.environ.get("CI") == "true" else pytest.skip(text)
            stamp.write_text(wanted)
    return str(python)


def _make(directory: Path, requirements: Sequence[str]) -> str:
    """Make an environment; return why it could not be, or an empty text."""
    shutil.rmtree(directory, ignore_errors=True)
    # Our own pip installs there, as it is quicker than giving the environment one.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(directory / "bin" / "python"), "--disable-pip-version-check"]
    done = subprocess.run(
        [*pip, "install", "--quiet", "--retries", "1", *requirements], capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else done.stderr.strip()[-500:] or f"pip ended with {done.returncode}"


@contextlib.contextmanager
def celery_side(version: str, *arguments: str, log: Path) -> Iterator[subprocess.Popen[str]]:
    """Run ``celery_side.py`` beside the test; its standard output is the test's to read, the rest goes to ``log``."""
    environment = {
        key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "DJANGO_SETTINGS_MODULE")
    }
    command = [python_with_celery(version), str(PROGRAM), *arguments]
    with log.open("a") as errors:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
            preexec_fn=die_with_parent,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)
        process.kill()
        process.wait()
        for end in (process.stdin, process.stdout):
            if end is not None:
                end.close()
