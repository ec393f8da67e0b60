"""The app: settings, tasks, and the one broker and result backend that the settings name."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, overload

from django.apps import apps
from django.conf import settings
from django.utils.module_loading import import_string

from django_tasks import current, eager, producer, publishing, standalone
from django_tasks.async_result import AsyncResult, result_of
from django_tasks.backends.base import ResultBackend
from django_tasks.brokers.base import Broker
from django_tasks.call_options import check_call_options
from django_tasks.calls import check_arguments
from django_tasks.canvas import Signature
from django_tasks.celery_api import CeleryAPI
from django_tasks.conf import Settings
from django_tasks.control import Control
from django_tasks.decorators import annotate, make_task, register
from django_tasks.parts import Parts, make_backend, make_broker
from django_tasks.registry import TaskRegistry, gen_task_name, tasks
from django_tasks.routing import Router
from django_tasks.serialization import content_types
from django_tasks.task import Task as BaseTask

P = ParamSpec("P")
R = TypeVar("R")


class App(CeleryAPI):
    """Celery's ``Celery``: wiring between settings, tasks, broker and result backend.

    Most Django projects need none: the default app is made from their settings. A script without Django settings gets
    minimal ones, with a SQLite file in the working directory.

    Args:
        main: the name, which stands for ``__main__`` in task names.
        broker: ``BROKER_URL``.
        backend: ``RESULT_BACKEND``.
        include: modules to import when the app starts.
        set_as_current: shared tasks use this app.
        task_cls: base class of its tasks, or the dotted path of one.
        config_source: as for ``config_from_object``.
        settings: any further settings.
    """

    def __init__(
        self,
        main: str | None = None,
        *,
        broker: str | None = None,
        backend: str | None = None,
        include: Iterable[str] = (),
        set_as_current: bool = True,
        task_cls: type[BaseTask[Any, Any]] | str | None = None,
        config_source: Any = None,
        **settings: Any,
    ) -> None:
        #: Whether tasks that are made from now on get their annotations at once.
        self.finalized = standalone.is_needed()
        if self.finalized:
            standalone.configure()
        super().__init__()
        self.main = main
        self._task_cls = task_cls
        self.conf = Settings(**settings)
        self.conf.update({k: v for k, v in (("broker_url", broker), ("result_backend", backend)) if v is not None})
        if config_source is not None:
            self.config_from_object(config_source)
        self.control = Control(self)
        self._modules = list(include)
        self._searches: list[tuple[Any, str]] = []
        self._parts = Parts()
        if set_as_current:
            current.set_current_app(self)

    # -- settings and tasks

    def autodiscover_tasks(
        self, packages: Iterable[str] | Callable[[], Iterable[str]] | None = None, related_name: str = "tasks"
    ) -> None:
        """Import a module of each package when the app starts.

        The ``tasks`` modules of installed apps need no call: Django's start imports them.

        Args:
            packages: names of packages, or a function that returns them; all installed apps by default.
            related_name: the module's name within each package.
        """
        self._searches.append((packages, related_name))

    def _discovered(self) -> Iterable[str]:
        """Yield the modules that ``autodiscover_tasks`` asked for."""
        # INSTALLED_APPS, which a function may return, can name an AppConfig in place of its package.
        configs = {f"{type(c).__module__}.{type(c).__qualname__}": c.name for c in apps.get_app_configs()}
        for packages, related_name in self._searches:
            found = packages() if callable(packages) else packages
            for package in configs.values() if found is None else found:
                module = f"{configs.get(package, package)}.{related_name}"
                if find_spec(module) is not None:
                    yield module

    def finalize(self) -> None:
        """Import the app's modules and apply ``TASK_ANNOTATIONS`` (Django's start and the worker call it).

        Raises:
            ImproperlyConfigured: a setting cannot be used.
            ImportError: a module of the app cannot be imported.
        """
        for module in (*self._modules, *self._discovered(), *self.conf.imports, *self.conf.include):
            importlib.import_module(module)
        for task in tasks.values():
            annotate(self, task)
        self.finalized = True
        self.announce()

    @property
    def tasks(self) -> TaskRegistry:
        """All tasks of this process by name."""
        return tasks

    @property
    def Task(self) -> type[BaseTask[Any, Any]]:
        """The base class of this app's tasks."""
        chosen: Any = self._task_cls
        if isinstance(chosen, str):
            chosen = self._task_cls = import_string(chosen.replace(":", "."))
        base: type[BaseTask[Any, Any]] = chosen or BaseTask
        return base

    @overload
    def task(self, function: Callable[P, R], /) -> BaseTask[P, R]: ...
    @overload
    def task(
        self, /, *, bind: Literal[True], **options: Any
    ) -> Callable[[Callable[Concatenate[Any, P], R]], BaseTask[P, R]]: ...
    @overload
    def task(self, /, **options: Any) -> Callable[[Callable[P, R]], BaseTask[P, R]]: ...

    def task(self, function: Any = None, /, **options: Any) -> Any:
        """Make a task of a function, as ``shared_task`` does, for this app only."""
        return make_task(self, function, options)

    def register_task(self, task: Any) -> Any:
        """Register an instance of a task class, or the class; return the instance."""
        task = task() if isinstance(task, type) else task
        if not task.name:
            task.name = gen_task_name(type(task).__module__, type(task).__name__, self.main)
        task._app = self
        return register(self, task)

    # -- what the settings name

    @property
    def broker(self) -> Broker:
        """The broker that ``BROKER_URL`` names."""
        broker: Broker = self._parts.get("broker", self.conf.revision, self._broker_values, make_broker)
        return broker

    def _broker_values(self) -> dict[str, Any]:
        conf = self.conf
        return {
            "url": conf.broker_url,
            "accept": content_types(conf.accept_content),
            "max_size": conf.task_max_message_size,
            "lease": conf.worker_lease,
            "options": conf.broker_transport_options,
            "timeout": conf.broker_connection_timeout,
            "tls": conf.broker_use_ssl,
        }

    @property
    def backend(self) -> ResultBackend:
        """The result backend that ``RESULT_BACKEND`` names."""
        backend: ResultBackend = self._parts.get("backend", self.conf.revision, self._backend_values, make_backend)
        return backend

    def _backend_values(self) -> dict[str, Any]:
        conf = self.conf
        accept = conf.result_accept_content or conf.accept_content
        return {
            "url": conf.result_backend,
            "serializer": conf.result_serializer,
            "accept": content_types([*accept, conf.result_serializer]),
            "expires": conf.result_expires or None,
            "extended": conf.result_extended,
            "options": conf.result_backend_transport_options,
            "timeout": conf.broker_connection_timeout,
            "tls": conf.redis_backend_use_ssl,
        }

    @property
    def router(self) -> Router:
        """The router of ``TASK_ROUTES`` and ``TASK_QUEUES``."""
        return self._parts.get("router", self.conf.revision, self._router_values, Router)

    def _router_values(self) -> dict[str, Any]:
        conf = self.conf
        return {
            "task_routes": conf.task_routes,
            "queues": conf.task_queues,
            "default_queue": conf.task_default_queue,
            "create_missing": conf.task_create_missing_queues,
        }

    @property
    def uses_database(self) -> bool:
        """Whether Django has a database, so that there can be transactions to wait for."""
        return bool(settings.DATABASES) and settings.DATABASES["default"].get("ENGINE") != _NO_ENGINE

    def close(self) -> None:
        """Drop this process's connections to the broker and the result backend; they are made again when needed."""
        self._parts.close()

    # -- calls

    def send_task(
        self, name: str, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> AsyncResult[Any]:
        """Call a task by name, which this process need not know; ``options`` are those of ``apply_async``."""
        check_arguments(args, kwargs)
        check_call_options(options, name)
        if self.conf.task_always_eager:
            warnings.warn(f"TASK_ALWAYS_EAGER has no effect on send_task({name!r}): it is sent.", stacklevel=2)
        message = producer.build_message(self, name, args, kwargs, options, tasks.get(name))
        publishing.publish(self, [message], options)
        return result_of(message, self, self, options)

    def run_eagerly(self, task: Any, args: Any, kwargs: Any, options: dict[str, Any], sent: bool = False) -> Any:
        """Run a task here and now: for ``Task.apply`` and, if it is to be as ``sent``, for ``TASK_ALWAYS_EAGER``."""
        return eager.run(self, task, args, kwargs, options, sent=sent)

    def AsyncResult(self, task_id: str) -> AsyncResult[Any]:
        """Return the result of a task id."""
        return AsyncResult(task_id, self)

    def signature(
        self, task: Any, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Signature:
        """Return a signature that this app sends."""
        return Signature(task, args, kwargs, app=self, **options)

    def __repr__(self) -> str:
        return f"<App {self.main or 'default'}>"


_NO_ENGINE = "django.db.backends.dummy"

current.set_default_factory(lambda: App(set_as_current=False))
