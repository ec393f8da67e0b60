"""Our side of a farm: an app without a Django project.

python -m chaos.farm_ours send NUMBER SECONDS PAUSE   see farm_work.send
"""

from __future__ import annotations

import json
import os
import sys

from chaos.farm_work import QUEUE, define, send
from django_tasks import App

app = App(
    "farm",
    broker=os.environ["CHAOS_BROKER"],
    backend=os.environ["CHAOS_RESULTS"],
    task_default_queue=QUEUE,
    **json.loads(os.environ["CHAOS_SETTINGS"]),
)
work = define(app.task)

if __name__ == "__main__":
    send(work, sys.argv[2:])
