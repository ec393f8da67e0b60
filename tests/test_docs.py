"""The documentation: code compiles, links lead somewhere, lists are complete, and the README works as written."""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import runpy
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
import pytest

import django_tasks
from django_tasks import signals
from django_tasks.conf import SETTINGS
from django_tasks.worker.arguments import add_arguments

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [README, ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]
BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def blocks(page: Path, language: str) -> Iterator[tuple[int, str]]:
    """Yield the code blocks of a page in a language: the line where each begins, and its text."""
    text = page.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        if match[2] == language:
            yield text.count("\n", 0, match.start(3)) + 1, textwrap.dedent(match[3])


def prose(page: Path) -> str:
    """Return a page without its code blocks."""
    return BLOCK.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Return what headings of a page can be linked to as, by GitHub's rule, which MyST follows."""
    headings = re.findall(r"^#{1,3} (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_compile(page: Path) -> None:
    for line, code in blocks(page, "python"):
        compile("\n" * (line - 1) + code, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(prose(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        assert other.is_file(), f"{page.name} links to {target}, but there is no {other}"
        assert not anchor or anchor in anchors(other), f"{page.name} links to {target}, but no heading is called so"


def test_every_page_is_in_the_table_of_contents() -> None:
    entries: list[str] = []
    for _, lines in re.findall(r"```\{toctree\}\n((?::[^\n]*\n)*)(.*?)```", (DOCS / "index.md").read_text(), re.DOTALL):
        entries += lines.split()
    pages = [page.stem for page in DOCS.glob("*.md") if "\norphan: true\n" not in page.read_text(encoding="utf-8")]
    assert sorted(["index", *entries]) == sorted(pages)


# --- What the pages list ----------------------------------------------------------------------------------------------


def test_the_table_of_settings_is_made_from_the_one_in_the_code() -> None:
    tool = runpy.run_path(str(ROOT / "tools" / "settings_table.py"))
    page = (DOCS / "configuration.md").read_text(encoding="utf-8")
    assert tool["with_table"](page) == page, "run `python tools/settings_table.py` and commit docs/configuration.md"
    assert tool["with_table"](page.replace("| `BROKER_URL` |", "| `BROKR_URL` |")) == page
    assert [setting.name for setting in SETTINGS if f"| `{setting.django_names[0]}` |" not in page] == []


def test_settings_that_pages_name_exist() -> None:
    known = {name for setting in SETTINGS for name in (setting.name, *setting.django_names)}
    for page in PAGES:
        named = set(re.findall(r"`((?:TASK|WORKER|RESULT|BROKER)_[A-Z_]+)", prose(page)))
        assert named <= known, f"{page.name} names {', '.join(sorted(named - known))}"


def test_every_check_is_listed() -> None:
    ids = re.compile(r"\b[EWI]\d{3}\b")
    listed = ids.findall((DOCS / "configuration.md").read_text(encoding="utf-8"))
    checks = [path.read_text(encoding="utf-8") for path in (ROOT / "django_tasks").glob("*checks.py")]
    assert set(listed) == set(ids.findall("".join(checks)))


def test_every_option_of_the_worker_is_listed() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    add_arguments(parser)
    page = (DOCS / "worker.md").read_text(encoding="utf-8")
    missing = [option for action in parser._actions for option in action.option_strings if f"`{option}" not in page]
    assert missing == []


def test_every_signal_is_listed() -> None:
    page = (DOCS / "tasks.md").read_text(encoding="utf-8")
    names = [signal.name for signal in vars(signals).values() if isinstance(signal, signals.Signal)]
    assert len(names) > 20
    assert [name for name in names if f"`{name}`" not in page] == []


def test_every_module_is_in_the_internals() -> None:
    page = (DOCS / "internals.md").read_text(encoding="utf-8")
    package = Path(django_tasks.__file__).parent
    modules = {path.stem for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert sorted(name for name in modules - {"__init__"} if f"`{name}`" not in page) == []


# --- Followed as written ----------------------------------------------------------------------------------------------


def run(folder: Path, *command: str) -> str:
    """Run Python in a folder as a reader would; return what it printed."""
    result = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, f"{' '.join(command)}:\n{result.stdout}\n{result.stderr}"
    return result.stdout


def environment() -> dict[str, str]:
    """Return the environment of somebody who has installed the package and nothing of this test run."""
    own = {"DJANGO_SETTINGS_MODULE", "TEST_DATABASE_URL", "TEST_DATABASE", "TEST_SETTINGS"}
    return {**{k: v for k, v in os.environ.items() if k not in own}, "PYTHONPATH": str(ROOT)}


def files(page: Path) -> Iterator[tuple[str, str]]:
    """Yield the Python blocks of a page that begin with the name of a file, with that name."""
    for _, code in blocks(page, "python"):
        if match := re.match(r"# (\S+\.py)\n", code):
            yield match[1], code


def ask(project: Path, path: str) -> Any:
    """Return the JSON that a page of the project answers with."""
    code = f"""
import os
os.environ["DJANGO_SETTINGS_MODULE"] = "mysite.settings"
import django
django.setup()
from django.test import Client
print(Client(SERVER_NAME="localhost").get({path!r}).content.decode())
"""
    return json.loads(run(project, "-c", code))


def test_the_readme_works_as_written(tmp_path: Path) -> None:
    run(tmp_path, "-m", "django", "startproject", "mysite", ".")
    run(tmp_path, "manage.py", "startapp", "shop")
    for name, code in files(README):
        path = tmp_path / name
        path.write_text(path.read_text() + for_this_django(code) if name == "mysite/settings.py" else code)
    run(tmp_path, "manage.py", "migrate")
    task_id = ask(tmp_path, "/add/")["id"]
    assert ask(tmp_path, f"/add/{task_id}/") == {"state": "PENDING", "sum": None}
    run(tmp_path, "manage.py", "runworker", "--burst", "-l", "INFO")
    assert ask(tmp_path, f"/add/{task_id}/") == {"state": "SUCCESS", "sum": 5}
    run(tmp_path, "manage.py", "test", "shop")
    (more,) = (code for _, code in blocks(README, "python") if "urlopen" in code)
    names = "from urllib.request import urlopen\nfrom django_tasks import shared_task\nfrom shop.tasks import add\n"
    (tmp_path / "shop" / "more.py").write_text(names + more)
    run(tmp_path, "manage.py", "shell", "-c", "import shop.more")


def for_this_django(code: str) -> str:
    """Leave out the SQLite options that Django has known since 5.1 only, as the README says."""
    new = () if django.VERSION >= (5, 1) else ("transaction_mode", "init_command")
    return "".join(line for line in code.splitlines(keepends=True) if not any(name in line for name in new))


def test_a_script_without_a_project_works_as_written(tmp_path: Path) -> None:
    for name, code in files(DOCS / "first-steps.md"):
        if name == "mail.py":
            (tmp_path / name).write_text(code)
    script = subprocess.Popen(
        [sys.executable, "mail.py"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 60
    while script.poll() is None and time.monotonic() < deadline:
        run(tmp_path, "-m", "django_tasks", "-A", "mail", "worker", "--burst")
    output, _ = script.communicate(timeout=1)
    assert output == "Hello world\n"
