"""Checks what linters do not: how long things are, and which way imports point.

    python tools/budgets.py [PACKAGE_DIRECTORY]

Budgets: a file 300 lines, a function 40 (its docstring aside), a class 15 methods. Imports, those inside functions
included and those for type checkers left out, form no cycle and point from a later layer to an earlier one only.
Prints what it finds, one a line, and ends with 1 if there is anything.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

FILE_LINES = 300
FUNCTION_LINES = 40
CLASS_METHODS = 15

#: What may pass its budget, and why.
ALLOWED = {
    "_settings_table": "the one table of all settings",
    "app.App": "Celery's API dictates its methods",
    "async_result.AsyncResult": "Celery's API dictates its methods",
    "result.GroupResult": "Celery's API dictates its methods",
    "task.Task": "Celery's API dictates its methods",
    "task": "it is the class Task",
    "async_result": "it is the class AsyncResult",
    "canvas.Signature": "Celery's API dictates its methods",
}

#: Modules and subpackages from the innermost layer to the outermost: each imports from its own layer and those before.
#: What names a layer in docs/internals.md stands first.
LAYERS = (
    {"exceptions", "states", "conf", "serialization"}
    | {"_celery_settings", "_settings_table", "compression", "typed_json", "version"}
    | {
        "call_options",
        "calls",
        "chunks",
        "context",
        "current",
        "errors",
        "health",
        "pipes",
        "signals",
        "standalone",
        "task_options",
        "utils",
    },
    {"message", "schedules", "registry"}
    | {"databases", "hooks", "outcome", "protocol", "usual", "wire", "routing"}
    | {"redis_cluster", "redis_connections", "redis_errors", "redis_pool", "redis_servers", "redis_urls"},
    {"brokers", "backends"} | {"models"},
    {"task", "canvas", "result"}
    | {"async_result", "control", "decorators", "eager", "eager_result", "executor"}
    | {"finish", "outbox", "producer", "publishing", "refusal", "stranded"},
    {"app", "celery_api", "parts"},
    {"worker", "beat"} | {"operations", "periodic"},
    {"admin", "management", "contrib"}
    | {"__main__", "apps", "beat_checks", "checks", "migrations", "redis_checks", "sqlite_checks", "testing"},
)


class Module(NamedTuple):
    """A file of the package: its name below the package ("" for the package itself) and what is in it."""

    name: str
    path: Path
    tree: ast.Module
    lines: int


def main(arguments: list[str]) -> int:
    """Print all findings and return the exit status."""
    package = Path(arguments[0]) if arguments else Path(__file__).resolve().parent.parent / "django_tasks"
    found = findings(package)
    print(
        "\n".join(
            [*found, f"{len(found)} over budget or the wrong way round" if found else "sizes and imports are fine"]
        )
    )
    return 1 if found else 0


def findings(package: Path) -> list[str]:
    """Return what is wrong in a package, sizes first."""
    modules = read(package)
    imports = {module.name: imported(module, package.name, {each.name for each in modules}) for module in modules}
    return [
        *(finding for module in modules for finding in sizes(module)),
        *directions(imports),
        *(f"imports form a cycle: {' -> '.join(cycle)}" for cycle in cycles(imports)),
    ]


def read(package: Path) -> list[Module]:
    """Parse all files of a package."""
    modules = []
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        text = path.read_text(encoding="utf-8")
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        modules.append(Module(name, path, ast.parse(text), len(text.splitlines())))
    return modules


def sizes(module: Module) -> Iterator[str]:
    """Yield what is too long in a file. Migrations are Django's to write."""
    if module.name.startswith("migrations"):
        return
    if module.lines > FILE_LINES and module.name not in ALLOWED:
        yield f"{module.path}: {module.lines} lines, the budget of a file is {FILE_LINES}"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = function_lines(node)
            if lines > FUNCTION_LINES:
                yield f"{module.path}:{node.lineno}: {node.name}() has {lines} lines, the budget is {FUNCTION_LINES}"
        elif isinstance(node, ast.ClassDef):
            # By name, as overloads and a property's setter are not methods more.
            methods = {each.name for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
            if len(methods) > CLASS_METHODS and f"{module.name}.{node.name}" not in ALLOWED:
                where = f"{module.path}:{node.lineno}"
                yield f"{where}: {node.name} has {len(methods)} methods, the budget is {CLASS_METHODS}"


def function_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the number of lines of a function, decorators and docstring aside."""
    first = node.body[0]
    has_docstring = ast.get_docstring(node, clean=False) is not None
    docstring = (first.end_lineno or first.lineno) - first.lineno + 1 if has_docstring else 0
    return (node.end_lineno or node.lineno) - node.lineno + 1 - docstring


def imported(module: Module, package: str, names: set[str]) -> set[str]:
    """Return the names of the package's modules that a module imports when it is run by Python."""
    found = set()
    for node in runtime_nodes(module.tree):
        if isinstance(node, ast.Import):
            wanted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = absolute(node, module, package)
            # "from a import b" means the module a.b where there is one, else something in a.
            wanted = [
                f"{base}.{alias.name}" if below(f"{base}.{alias.name}", package) in names else base
                for alias in node.names
            ]
        else:
            continue
        found |= {name for each in wanted if (name := below(each, package)) in names}
    return found - {module.name}


def runtime_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes below one, functions included, but for what only type checkers read."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            for other in child.orelse:
                yield other
                yield from runtime_nodes(other)
        else:
            yield child
            yield from runtime_nodes(child)


def absolute(node: ast.ImportFrom, module: Module, package: str) -> str:
    """Return the full name of what a ``from`` names, which may be relative."""
    if not node.level:
        return node.module or ""
    parts = [package, *module.name.split(".")] if module.name else [package]
    if module.path.name != "__init__.py":
        parts = parts[:-1]
    parts = parts[: len(parts) - node.level + 1]
    return ".".join([*parts, node.module] if node.module else parts)


def below(name: str, package: str) -> str | None:
    """Return a full name without the package's, or None for what is not in the package."""
    if name == package:
        return ""
    return name.removeprefix(f"{package}.") if name.startswith(f"{package}.") else None


def directions(imports: dict[str, set[str]]) -> Iterator[str]:
    """Yield the imports that point from an earlier layer to a later one; the package itself is above all of them."""
    for name in sorted(filter(None, imports)):
        here = layer(name)
        if here is None:
            yield f"{name}: its layer is not known; give {name.split('.')[0]!r} a place in LAYERS of tools/budgets.py"
            continue
        for other in sorted(imports[name]):
            there = layer(other)
            if there is not None and there > here:
                yield f"{name} imports {other or 'the package itself'}, which is in a later layer"


def layer(name: str) -> int | None:
    """Return the number of a module's layer, or None where it has none."""
    top = name.split(".")[0]
    return next((number for number, names in enumerate(LAYERS) if top in names), None if top else len(LAYERS))


def cycles(imports: dict[str, set[str]]) -> Iterator[list[str]]:
    """Yield one way round for each group of modules that import each other."""
    reach = {name: reachable(imports, name) for name in imports}
    seen: set[str] = set()
    for name in sorted(imports):
        if name in reach[name] and name not in seen:
            seen |= {other for other in reach[name] if name in reach[other]}
            yield [each or "the package itself" for each in way_round(imports, name)]


def reachable(imports: dict[str, set[str]], start: str) -> set[str]:
    """Return all modules that come with a module, itself only if it is in a cycle."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        new = imports[waiting.pop()] - found
        found |= new
        waiting += new
    return found


def way_round(imports: dict[str, set[str]], start: str) -> list[str]:
    """Return the shortest path of imports from a module back to itself."""
    paths = [[start]]
    visited: set[str] = set()
    while True:
        path = paths.pop(0)
        for name in sorted(imports[path[-1]]):
            if name == start:
                return [*path, start]
            if name not in visited:
                visited.add(name)
                paths.append([*path, name])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
