"""Signatures: calls written down, to be made later or by somebody else (Celery's canvas)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from django_tasks.call_options import check_call_options
from django_tasks.calls import check_arguments
from django_tasks.current import get_current_app
from django_tasks.exceptions import NotRegistered
from django_tasks.message import Message
from django_tasks.registry import tasks

if TYPE_CHECKING:
    from django_tasks.app import App
    from django_tasks.async_result import AsyncResult


class Signature(dict[str, Any]):
    """One call of a task: a dict with Celery's six keys, so that it travels as it is (celery-wire, section 5.1).

    Args:
        task: a task, its name, or the dict of another signature.
        args: positional arguments.
        kwargs: keyword arguments.
        options: of ``apply_async``.
        immutable: further arguments (the result of the task before it) are not added.

    Raises:
        TypeError: there is no such option. What comes as a dict is not looked at: others may know more.
    """

    def __init__(
        self,
        task: Any = None,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        subtask_type: str | None = None,
        immutable: bool = False,
        app: App | None = None,
        **more_options: Any,
    ) -> None:
        if isinstance(task, Mapping):
            super().__init__(task)
            self.update(
                args=tuple(self.get("args") or ()),
                kwargs=dict(self.get("kwargs") or {}),
                options=dict(self.get("options") or {}),
            )
            self.setdefault("immutable", False)
            self.setdefault("subtask_type", None)
        else:
            name = task if isinstance(task, str) else task.name
            options = {**(options or {}), **more_options}
            check_call_options(options, name)
            super().__init__(
                task=name,
                args=tuple(args or ()),
                kwargs=dict(kwargs or {}),
                options=options,
                subtask_type=subtask_type,
                immutable=immutable,
            )
        self._app = app

    @property
    def app(self) -> App:
        """The app that sends it."""
        return self._app or get_current_app()

    task = property(lambda self: self["task"], doc="The task's name.")
    args = property(lambda self: self["args"], doc="Positional arguments.")
    kwargs = property(lambda self: self["kwargs"], doc="Keyword arguments.")
    options = property(lambda self: self["options"], doc="Options of ``apply_async``.")
    immutable = property(lambda self: self["immutable"], doc="Whether arguments can be added.")

    @property
    def id(self) -> str | None:
        """The task id, once ``freeze`` or ``set`` has chosen one."""
        task_id: str | None = self.options.get("task_id")
        return task_id

    def clone(self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any) -> Signature:
        """Return a copy with arguments put before, keyword arguments and options over, its own."""
        check_call_options(options, self.task)
        merged_args, merged_kwargs, merged_options = self._merge(args, kwargs, options)
        copy = Signature(self, app=self._app)
        copy.update(args=merged_args, kwargs=merged_kwargs, options=merged_options)
        return copy

    def _merge(
        self, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None, options: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]:
        check_arguments(args, kwargs)
        options = {**self.options, **options}
        if self.immutable:
            return tuple(self.args), dict(self.kwargs), options
        return (*(args or ()), *self.args), {**self.kwargs, **(kwargs or {})}, options

    def apply_async(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> AsyncResult[Any]:
        """Send it; the arguments are those of ``Task.apply_async``."""
        merged = self._merge(args, kwargs, options)
        task = tasks.get(self.task)
        if task is None or (self._app is not None and task.app is not self._app):
            return self.app.send_task(self.task, merged[0], merged[1], **merged[2])
        result: AsyncResult[Any] = task.apply_async(merged[0], merged[1], **merged[2])
        return result

    def delay(self, /, *args: Any, **kwargs: Any) -> AsyncResult[Any]:
        """Send it with these arguments added."""
        return self.apply_async(args, kwargs)

    def apply(self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Run it here and now."""
        merged = self._merge(args, kwargs, options)
        return self._local_task().apply(merged[0], merged[1], **merged[2])

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        merged = self._merge(args, kwargs, {})
        return self._local_task()(*merged[0], **merged[1])

    def _local_task(self) -> Any:
        task = tasks.get(self.task)
        if task is None:
            raise NotRegistered(self.task)
        return task

    def set(self, immutable: bool | None = None, **options: Any) -> Signature:
        """Change options, and return the signature itself."""
        check_call_options(options, self.task)
        if immutable is not None:
            self["immutable"] = immutable
        self.options.update(options)
        return self

    def freeze(self, task_id: str | None = None) -> AsyncResult[Any]:
        """Choose the task id now, and return the result that it is going to have."""
        self.options.setdefault("task_id", task_id or Message.new_id())
        return self.app.AsyncResult(self.options["task_id"])

    def link(self, callback: Signature) -> Signature:
        """Call ``callback`` with the result when this has succeeded; return ``callback``."""
        return self._append("link", callback)

    def link_error(self, errback: Signature) -> Signature:
        """Call ``errback`` when this has failed; return ``errback``."""
        return self._append("link_error", errback)

    def on_error(self, errback: Signature) -> Signature:
        """As ``link_error``, but return the signature itself."""
        self.link_error(errback)
        return self

    def _append(self, option: str, signature: Signature) -> Signature:
        present = self.options.get(option) or []
        present = list(present) if isinstance(present, (list, tuple)) else [present]
        if signature not in present:
            # A new list: clones share the old one.
            self.options[option] = [*present, signature]
        return signature

    def __or__(self, other: Any) -> NoReturn:
        """Refuse: what a dict makes of ``add.s(1) | add.s(2)`` is not the chain that it looks like."""
        raise TypeError("chains (a | b) come with a later release; a.link(b) calls b with the result of a")

    def __repr__(self) -> str:
        arguments = [repr(a) for a in self.args] + [f"{k}={v!r}" for k, v in self.kwargs.items()]
        return f"{self.task}({', '.join(arguments)})"

    def __reduce__(self) -> Any:
        return Signature, (dict(self),)


def signature(task: Any, *args: Any, **kwargs: Any) -> Signature:
    """Return a signature of a task, of its name, or of what a message holds of one."""
    if isinstance(task, Signature) and not args and not kwargs:
        return task.clone()
    return Signature(task, *args, **kwargs)


def next_step(embed: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the signature of a chain's next step, which carries the steps after it; none where there is none."""
    if not (steps := embed.get("chain")):
        return []
    *rest, step = steps
    return [{**step, "options": {**(step.get("options") or {}), "chain": rest}}]


def named_steps(embed: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return task and id of those steps of the rest of a chain whose id is known."""
    steps = [(step.get("task"), step.get("options")) for step in embed.get("chain") or ()]
    found = [(task, options.get("task_id")) for task, options in steps if isinstance(options, dict)]
    return [(task, task_id) for task, task_id in found if isinstance(task, str) and isinstance(task_id, str)]


def not_yet(embed: Mapping[str, Any] | None) -> str:
    """Return which part of a workflow a message is of that no worker of ours can bring to its end; else nothing."""
    if not embed:
        return ""
    if embed.get("chord"):
        return "chord"
    following = [*(embed.get("callbacks") or ()), *(embed.get("errbacks") or ()), *(embed.get("chain") or ())]
    return next((str(each["subtask_type"]) for each in following if each.get("subtask_type")), "")
