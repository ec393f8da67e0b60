"""The Django app: tasks of all installed apps are imported when Django starts."""

from __future__ import annotations

import logging
from importlib import import_module

from django.apps import AppConfig, apps
from django.utils.module_loading import module_has_submodule

from django_tasks import checks
from django_tasks.app import App as _App  # noqa: F401 - says how the default app is made
from django_tasks.current import get_current_app
from django_tasks.exceptions import ImproperlyConfigured

logger = logging.getLogger("django_tasks")


class DjangoTasksConfig(AppConfig):
    """Django's view of this package."""

    name = "django_tasks"
    verbose_name = "Tasks"
    default_auto_field = "django.db.models.BigAutoField"
    #: Why the settings could not be applied to the tasks, for the checks; empty if they could.
    problem = ""

    def ready(self) -> None:
        """Import every ``tasks`` module; an error in one of them is the project's to see, with its traceback.

        A setting that cannot be used is no error yet, so that ``manage.py check`` can run and tell all about it.
        """
        checks.register_checks(lambda: get_current_app().conf, lambda: self.problem)
        for config in apps.get_app_configs():
            if config.name != self.name and module_has_submodule(config.module, "tasks"):
                import_module(f"{config.name}.tasks")
        try:
            get_current_app().finalize()
        except ImproperlyConfigured as exc:
            self.problem = str(exc)
            if logger.hasHandlers():  # else it would only stand once more above the report of the checks
                logger.error("%s", exc)
