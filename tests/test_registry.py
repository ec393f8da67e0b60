"""The registry: names, and what happens when two tasks want the same one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import MethodType
from typing import Any

import pytest

from django_tasks.exceptions import AlreadyRegistered, NotRegistered
from django_tasks.registry import TaskRegistry, gen_task_name
from django_tasks.task import Task


def make_task(function: Callable[..., Any], name: str = "proj.tasks.add") -> Task[..., Any]:
    """Make a task of a function, as ``shared_task`` does, but without registering it."""
    task: Any = type("made", (Task,), {"name": name, "run": staticmethod(function)})()
    functools.update_wrapper(task, function, updated=())
    return task  # type: ignore[no-any-return]


class Base(Task[[], str]):
    def run(self) -> str:
        return "done"


class Report(Base):
    name = "report"


class OtherReport(Base):
    name = "report"


def function(module: str, qualname: str) -> Callable[..., Any]:
    def made() -> None: ...

    made.__module__, made.__qualname__ = module, qualname
    return made


@pytest.fixture
def registry() -> TaskRegistry:
    return TaskRegistry()


def test_register_and_look_up(registry: TaskRegistry) -> None:
    task = make_task(function("proj.tasks", "add"))
    assert registry.register(task) is task
    assert registry["proj.tasks.add"] is task
    assert list(registry) == ["proj.tasks.add"]


def test_a_missing_name_says_so(registry: TaskRegistry) -> None:
    with pytest.raises(NotRegistered, match=r"'proj.tasks.nothing' is not registered") as raised:
        registry["proj.tasks.nothing"]
    assert isinstance(raised.value, KeyError)
    assert registry.get("proj.tasks.nothing") is None
    assert "proj.tasks.nothing" not in registry


def test_the_same_task_twice(registry: TaskRegistry) -> None:
    task = make_task(function("proj.tasks", "add"))
    registry.register(task)
    registry.register(task)
    assert registry == {"proj.tasks.add": task}


def test_a_module_imported_again_replaces_its_tasks(registry: TaskRegistry) -> None:
    registry.register(make_task(function("proj.tasks", "add")))
    again = make_task(function("proj.tasks", "add"))
    registry.register(again)
    assert registry["proj.tasks.add"] is again


@pytest.mark.parametrize(
    ("module", "qualname"), [("shop.tasks", "add"), ("proj.tasks", "plus")], ids=["other module", "other function"]
)
def test_another_function_may_not_take_the_name(registry: TaskRegistry, module: str, qualname: str) -> None:
    first = make_task(function("proj.tasks", "add"), name="add")
    registry.register(first)
    with pytest.raises(AlreadyRegistered) as raised:
        registry.register(make_task(function(module, qualname), name="add"))
    text = str(raised.value)
    assert "'add'" in text
    assert "proj.tasks.add" in text
    assert f"{module}.{qualname}" in text
    assert "name=..." in text
    assert registry["add"] is first


def test_a_class_is_registered_as_an_instance(registry: TaskRegistry) -> None:
    task = registry.register(Report)
    assert isinstance(task, Report)
    assert registry["report"] is task


def test_class_tasks_are_told_apart_by_their_class(registry: TaskRegistry) -> None:
    registry.register(Report())
    again = registry.register(Report())
    assert registry["report"] is again
    with pytest.raises(AlreadyRegistered, match=r"test_registry\.Report and by .*test_registry\.OtherReport"):
        registry.register(OtherReport())


def test_functions_bound_to_their_task_are_told_apart_by_function(registry: TaskRegistry) -> None:
    def bound(qualname: str) -> Base:
        task = Base()
        task.name = "add"
        task.run = MethodType(function("proj.tasks", qualname), task)  # type: ignore[method-assign]
        return task

    registry.register(bound("add"))
    registry.register(bound("add"))
    with pytest.raises(AlreadyRegistered, match=r"by proj\.tasks\.add and by proj\.tasks\.plus"):
        registry.register(bound("plus"))


@pytest.mark.parametrize("by_name", [True, False])
def test_unregister(registry: TaskRegistry, by_name: bool) -> None:
    task = registry.register(make_task(function("proj.tasks", "add")))
    registry.unregister(task.name if by_name else task)
    assert not registry
    with pytest.raises(NotRegistered):
        registry.unregister(task.name if by_name else task)


def test_regular_is_a_copy(registry: TaskRegistry) -> None:
    task = registry.register(make_task(function("proj.tasks", "add")))
    regular = registry.regular()
    assert regular == {"proj.tasks.add": task}
    regular.clear()
    assert registry


@pytest.mark.parametrize(
    ("module", "main", "name"),
    [
        ("proj.tasks", None, "proj.tasks.add"),
        ("proj.tasks", "shop", "proj.tasks.add"),
        ("__main__", "shop", "shop.add"),
        ("__main__", None, "__main__.add"),
    ],
)
def test_gen_task_name(module: str, main: str | None, name: str) -> None:
    assert gen_task_name(module, "add", main) == name
