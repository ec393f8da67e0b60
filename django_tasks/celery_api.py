"""What an app has because Celery's has it: names for what is done elsewhere, and word of what is not there yet."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from django.utils.module_loading import import_string

from django_tasks import current
from django_tasks.conf import Settings
from django_tasks.exceptions import ImproperlyConfigured

#: By name: the command line stands on the app.
_COMMAND_LINE = "django_tasks.__main__.main"
#: What a ``Celery`` app has and this release does not, and what to do instead.
_LATER = {
    **dict.fromkeys(
        ("add_periodic_task", "on_after_configure", "on_after_finalize"),
        "periodic tasks come with a later release. Until then, let cron call a management command that calls .delay().",
    ),
}


class CeleryAPI:
    """Base of ``App``."""

    conf: Settings

    def start(self, argv: Sequence[str] | None = None) -> None:
        """Run the command line for this app, as ``python -m django_tasks`` does with ``-A``.

        Args:
            argv: the arguments, such as ``["worker", "--concurrency=2"]``; by default those of the program.

        Raises:
            SystemExit: it ended with an error.
        """
        code = import_string(_COMMAND_LINE)(list(sys.argv[1:] if argv is None else argv), self)
        if code:
            sys.exit(code)

    def worker_main(self, argv: Sequence[str] | None = None) -> None:
        """Run a worker for this app.

        Args:
            argv: as for ``start``, with ``"worker"`` among them.

        Raises:
            ValueError: they name no worker.
            SystemExit: it ended with an error.
        """
        argv = sys.argv[1:] if argv is None else argv
        if "worker" not in argv:
            raise ValueError(f"worker_main runs a worker: 'worker' must be among the arguments, not only {argv!r}.")
        self.start(argv)

    def set_current(self) -> None:
        """Make this the app that shared tasks use."""
        app: Any = self
        current.set_current_app(app)

    set_default = set_current

    def config_from_object(self, source: Any, namespace: str | None = None) -> None:
        """Read settings from a module, an object or a dict.

        Args:
            source: the object, or its dotted path; ``"django.conf:settings"`` for Django's settings.
            namespace: prefix of the names, such as ``"CELERY"``.
        """
        self.conf.from_object(source, namespace)

    def config_from_envvar(self, variable_name: str, silent: bool = False) -> bool:
        """Read settings from the module that an environment variable names.

        Args:
            variable_name: its name.
            silent: it may be missing.

        Returns:
            Whether it was there.

        Raises:
            ImproperlyConfigured: it was not, and is not ``silent``.
        """
        module = os.environ.get(variable_name)
        if module:
            self.config_from_object(module)
        elif not silent:
            raise ImproperlyConfigured(
                f"The environment variable {variable_name} is not set: it should name the module with the settings."
            )
        return bool(module)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            if name in _LATER:
                raise ImproperlyConfigured(f"App.{name}: {_LATER[name]}")
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
