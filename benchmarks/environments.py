"""Virtual environments of the other systems, made when they are first needed.

Import names clash (django-tasks is imported as ``django_tasks``, as we are), so no two systems share one. Each gets
our interpreter and our Django, and ``node_modules`` if it is for Node.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import django

from benchmarks.catalogue import Entry

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
#: What the others see of this checkout. No more: Huey, for one, uses a package called django_tasks if it finds any.
SHARED = ("benchmarks", "tests")


class CannotInstall(Exception):
    """A system cannot be had here; the message says why."""


def python_of(entry: Entry) -> str:
    """Return the interpreter that runs a system; make its virtual environment if there is none as it should be.

    Raises:
        CannotInstall: pip or npm says no.
    """
    if entry.package is None:
        return sys.executable
    directory = HERE / ".venvs" / entry.module
    requirements = HERE / "requirements" / f"{entry.module}.txt"
    stamp = directory / "made-from.txt"
    wanted = f"{sys.version}\nDjango=={django.get_version()}\n{ROOT} {SHARED}\n"
    wanted += "".join(file.read_text() for file in (requirements, requirements.with_suffix(".json")) if file.exists())
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"Making a virtual environment for {entry.title}", file=sys.stderr, flush=True)
        _make(directory, requirements)
        stamp.write_text(wanted)
    return str(directory / "bin" / "python")


def _make(directory: Path, requirements: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", directory], check=True)
    pip = [str(directory / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    wanted = ["-r", str(requirements), f"Django=={django.get_version()}"]
    done = subprocess.run([*pip, *wanted], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        end = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise CannotInstall(f"{requirements.name} with Django {django.get_version()} cannot be installed:\n{end}")
    from_npm = requirements.with_suffix(".json")
    if from_npm.exists():
        _install_from_npm(directory, from_npm)
    packages = next(directory.glob("lib/python*/site-packages"))
    for name in SHARED:
        (packages / name).symlink_to(ROOT / name, target_is_directory=True)


def _install_from_npm(directory: Path, requirements: Path) -> None:
    if shutil.which("npm") is None:
        raise CannotInstall("there is no npm here")
    shutil.copy(requirements, directory / "package.json")
    npm = ["npm", "install", "--no-audit", "--no-fund", "--loglevel", "error"]
    done = subprocess.run(npm, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CannotInstall(f"{requirements.name} cannot be installed:\n{done.stderr.strip()}")
