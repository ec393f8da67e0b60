"""What an app has because Celery's has it: names for what is done elsewhere."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from django.utils.module_loading import import_string

from django_tasks import current
from django_tasks.brokers.beat import NAME_LENGTH
from django_tasks.call_options import CALL_OPTIONS
from django_tasks.canvas import Signature
from django_tasks.conf import Settings
from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.signals import Signal

#: By name: the command line stands on the app.
_COMMAND_LINE = "django_tasks.__main__.main"
logger = logging.getLogger("django_tasks.beat")

#: What ``add_periodic_task`` takes as options of the call. All else is the entry's own, what is misspelt included; a
#: ``timezone`` is, since it does nothing in a call, and what stands for the call itself is not.
_CALL_KEYS = CALL_OPTIONS - {"timezone"} | {"task", "options"}


class Announcement(Signal):
    """A signal that is sent once; who listens later is called at once, lest it wait for ever."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._announced: tuple[Any, dict[str, Any]] | None = None
        #: Receivers that raised, and what.
        self.failures: list[tuple[Any, Exception]] = []

    def announce(self, sender: Any, **named: Any) -> None:
        """Send it, unless it was sent before."""
        if self._announced is None:
            self._announced = sender, named
            self.send(sender=sender, **named)

    def connect(self, receiver: Any = None, sender: Any = None, weak: bool = True, dispatch_uid: Any = None) -> Any:
        """As of any signal."""
        connected = super().connect(receiver, sender, weak, dispatch_uid)
        if receiver is not None and self._announced is not None:
            self._call(receiver, *self._announced)
        return connected

    def _call(self, receiver: Any, sender: Any, named: dict[str, Any]) -> Any:
        response = super()._call(receiver, sender, named)
        if isinstance(response, Exception):
            self.failures.append((receiver, response))
        return response


class CeleryAPI:
    """Base of ``App``."""

    conf: Settings

    def __init__(self) -> None:
        #: What ``add_periodic_task`` was given: name -> entry, as in ``BEAT_SCHEDULE``.
        self.periodic_tasks: dict[str, dict[str, Any]] = {}
        #: Sent once, when the settings are there and all modules are imported: the place for ``add_periodic_task``.
        self.on_after_configure = Announcement("on_after_configure")
        #: Sent once, just after the former.
        self.on_after_finalize = Announcement("on_after_finalize")

    def announce(self) -> None:
        """Tell receivers, once, that this app is ready for use (``finalize`` does)."""
        self.on_after_configure.announce(self, source=self.conf)
        self.on_after_finalize.announce(self)

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

    def add_periodic_task(
        self,
        schedule: Any,
        sig: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        **opts: Any,
    ) -> str:
        """Add an entry to the schedule, beside those of ``BEAT_SCHEDULE``.

        Args:
            schedule: seconds, a timedelta, a cron string, or a schedule.
            sig: what is called: a signature, a task, or the name of one.
            args, kwargs: arguments beside those of the signature.
            name: of the entry; made from the signature by default.
            opts: options of the call, and what else an entry of ``BEAT_SCHEDULE`` may have.

        Returns:
            The name of the entry. Whether the entry can be is found out where those of the settings are looked at
            too: by ``manage.py check``, and by a beat, which leaves it out and names it.
        """
        call_keys = _CALL_KEYS.union(opts.get("stamped_headers") or ())
        own = {key: opts.pop(key) for key in list(opts) if key not in call_keys}
        call = Signature(sig)
        entry = {"task": call.task, "schedule": schedule, **own}
        try:
            call = call.clone(args, kwargs, **opts)
            entry |= {"args": call.args, "kwargs": call.kwargs, "options": call.options}
        except (TypeError, ValueError):
            entry |= {"args": args, "kwargs": kwargs, "options": {**call.options, **opts}}
        key = name or _short(repr(call))
        if name is None and self.periodic_tasks.get(key, entry) != entry:
            logger.warning("add_periodic_task: %s is there with another schedule, which is replaced. Give one of them "
                           "a name, as in add_periodic_task(..., name='other').", key)  # fmt: skip
        self.periodic_tasks[key] = entry
        return key


def _short(name: str) -> str:
    """Return a name that an entry can have: the end of one that is too long is replaced by a digest of it."""
    if len(name) <= NAME_LENGTH:
        return name
    return f"{name[: NAME_LENGTH - 19]}...{hashlib.blake2b(name.encode(), digest_size=8).hexdigest()}"
