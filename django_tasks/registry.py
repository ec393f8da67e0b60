"""All tasks that a process knows, by name."""

from __future__ import annotations

import inspect
from typing import Any

from django_tasks.exceptions import AlreadyRegistered, NotRegistered


class TaskRegistry(dict[str, Any]):
    """The tasks of an app: name -> task.

    A name that is not there raises ``NotRegistered``, which is a ``KeyError``.
    """

    def __missing__(self, name: str) -> Any:
        raise NotRegistered(name)

    def register(self, task: Any) -> Any:
        """Add a task (or an instance of a task class) under its ``name`` and return it.

        A task whose function comes from the same module and has the same qualified name as the one registered before
        takes its place: that is a module imported again.

        Raises:
            AlreadyRegistered: another function has the name.
        """
        if inspect.isclass(task):
            task = task()
        known = self.get(task.name)
        if known is not None and known is not task and _origin(known) != _origin(task):
            first, second = (".".join(_origin(each)) for each in (known, task))
            raise AlreadyRegistered(
                f"Task name {task.name!r} is used twice: by {first} and by {second}. "
                "Give one of them another name, as in @shared_task(name=...); if both are the same file, "
                "import it by one path only."
            )
        self[task.name] = task
        return task

    def unregister(self, task: Any) -> None:
        """Forget a task, given itself or its name.

        Raises:
            NotRegistered: no task has the name.
        """
        name = getattr(task, "name", task)
        if self.pop(name, None) is None:
            raise NotRegistered(name)

    def regular(self) -> dict[str, Any]:
        """Return all tasks in a plain dict (Celery's name; there are no others since periodic tasks are settings)."""
        return dict(self)


def _origin(task: Any) -> tuple[str, str]:
    """Return the module and the qualified name of a task's function, or of its class where that defines ``run``."""
    function = getattr(task, "__wrapped__", None) or task.run
    code = type(task) if inspect.ismethod(function) and function.__func__ is type(task).run else function
    return code.__module__, code.__qualname__


def gen_task_name(module: str, name: str, main: str | None = None) -> str:
    """Return the name that a function's task has by default: ``module.function``.

    Args:
        module: the module's name.
        name: the function's name.
        main: what stands for ``__main__``, whose name another process does not know: the app's name.
    """
    return f"{main if main and module == '__main__' else module}.{name}"


#: The tasks of this process; every app sees all of them.
tasks = TaskRegistry()
