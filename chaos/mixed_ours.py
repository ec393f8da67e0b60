"""Our side of the scenario ``mixed``: an app without a Django project."""

from __future__ import annotations

import os

from chaos.mixed_work import QUEUE, define
from django_tasks import App

app = App(
    "mixed",
    broker=os.environ["CHAOS_REDIS"],
    backend=os.environ["CHAOS_RESULTS"],
    task_default_queue=QUEUE,
    worker_lease=3.0,
)
work = define(app.task, "ours")
