"""The page about moving from Celery, followed as written: both systems on one Redis, step by step."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.celery_environment import VERSIONS, python_with_celery
from tests.processes import die_with_parent
from tests.servers import Redis, require
from tests.test_docs import DOCS, blocks, environment, files
from tests.waiting import wait_for

PAGE = DOCS / "migrating-from-celery.md"
HEADING = "## Moving a running project on Redis"
URL = "redis://localhost:6379/0"

CALLS = """
import json, sys
import django
django.setup()
from shop.tasks import confirm
results = [confirm.apply_async((n,), countdown=float(sys.argv[2])) for n in range(int(sys.argv[1]))]
if sys.argv[2] == "0":
    print(json.dumps([result.get(timeout=40) for result in results]))
"""


class Side:
    """A release of the project: with Celery, or with us."""

    def __init__(self, folder: Path, python: str, url: str) -> None:
        self.folder, self.python, self.url = folder, python, url
        known = {key: value for key, value in environment().items() if python == sys.executable or key != "PYTHONPATH"}
        self.environment = {**known, "DJANGO_SETTINGS_MODULE": "proj.settings", "PYTHONUNBUFFERED": "1"}

    def command(self, line: str) -> list[str]:
        """Return a command of the page as it is run here."""
        words = line.replace(URL, self.url).replace('"', "").split(" ")
        programs = {"python": [self.python], "celery": [self.python, "-m", "celery"]}
        return [*programs.get(words[0], words[:1]), *words[1:]]

    def run(self, line: str) -> str:
        """Run a command of the page, by the shell if it is one of the system's."""
        if line.startswith("sed"):
            done = subprocess.run(line, shell=True, cwd=self.folder, capture_output=True, text=True, timeout=60)
        else:
            done = subprocess.run(
                self.command(line), cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=60
            )
        # Celery ends with 69 where no worker replies, as none does that stops.
        assert done.returncode in (0, 69 if line.endswith("shutdown") else 0), f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def call(self, number: int, countdown: float = 0) -> Any:
        """Call the task so often as a web process does; return the results of those that are for now."""
        command = [self.python, "-c", CALLS, str(number), str(countdown)]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout or "null")

    @contextlib.contextmanager
    def worker(self, line: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a worker; it must end well."""
        log = self.folder / "worker.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                self.command(line), cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=output,
                stderr=output, preexec_fn=die_with_parent,
            )  # fmt: skip
        try:
            wait_for(lambda: "ready" in log.read_text() or process.poll() is not None, 60, log.read_text)
            yield process
        finally:
            process.terminate()
            assert process.wait(30) == 0, log.read_text()


@pytest.fixture
def server() -> Iterator[Redis]:
    require("redis")
    with Redis() as server:
        yield server


def section() -> tuple[list[tuple[str, str]], list[str]]:
    """Return the files of the section, in the order of the page, and its commands."""
    begin = PAGE.read_text(encoding="utf-8").partition(HEADING)[0].count("\n")
    code = [text for line, text in blocks(PAGE, "python") if line > begin]
    named = [(name, text) for name, text in files(PAGE) if text in code]
    return named, [each for line, text in blocks(PAGE, "sh") if line > begin for each in text.splitlines()]


def write(folder: Path, name: str, code: str, url: str) -> None:
    """Write a file of the page; what belongs to the settings is added to them."""
    path = folder / name
    before = path.read_text() if name.endswith("settings.py") else ""
    path.write_text(before + code.replace(URL, url))


@pytest.mark.timeout(400)
def test_the_steps_of_the_page(server: Redis, tmp_path: Path) -> None:
    named, commands = section()
    celery = python_with_celery(VERSIONS[0])
    first, *edits, check, migrate, runworker, shutdown, look = commands
    edits.insert(0, first)
    *start, added = named
    assert [name for name, _ in start] == ["proj/celery.py", "proj/__init__.py", "shop/tasks.py", "proj/settings.py"]

    old = Side(tmp_path / "old", celery, server.url())
    old.folder.mkdir()
    old.run("python -m django startproject proj .")
    old.run("python manage.py startapp shop")
    for name, code in start:
        write(old.folder, name, code, server.url())

    new = Side(tmp_path / "new", sys.executable, server.url())
    client = server.connect()
    with old.worker("celery -A proj worker -l INFO -c 1") as celerys:
        assert [value[0] for value in old.call(3)] == [0, 1, 2]
        # 1. A release that imports from here.
        shutil.copytree(old.folder, new.folder)
        for line in edits:
            new.run(line)
        write(new.folder, *added, server.url())
        new.run(check)
        new.run(migrate)
        assert not re.search(r"^from celery", (new.folder / "shop" / "tasks.py").read_text(), re.MULTILINE)
        old.call(3, countdown=3600)
        wait_for(lambda: client.hlen("unacked") == 3, 30)
        with new.worker(runworker):
            # 2., 3. Both kinds of workers, and of clients.
            for side in (old, new):
                assert [value[0] for value in side.call(50)] == list(range(50))
            # 4. The old workers stop, and what they have in their memory is ours; 5. nothing of theirs is left.
            old.run(shutdown)
            assert celerys.wait(60) == 0
            wait_for(lambda: client.zcard("{celery}.delayed") == 3, 30)
            assert new.run(look).strip() == "0"
            # 6. Without Celery.
            assert [value[0] for value in new.call(5)] == list(range(5))
