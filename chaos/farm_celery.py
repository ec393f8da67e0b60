"""Celery's side of a farm: it runs in an environment of its own, where what our package needs is not.

python -m chaos.farm_celery worker OPTIONS...           be a worker
python -m chaos.farm_celery send NUMBER SECONDS PAUSE   see farm_work.send
"""

from __future__ import annotations

import json
import os
import sys

from celery import Celery

from chaos.farm_work import QUEUE, define, send

app = Celery("farm", broker=os.environ["CHAOS_BROKER"], backend=os.environ["CHAOS_RESULTS"])
app.conf.update(task_default_queue=QUEUE, **json.loads(os.environ["CHAOS_SETTINGS"]))
work = define(app.task)

if sys.argv[1] == "worker":
    app.worker_main(sys.argv[1:])
else:
    send(work, sys.argv[2:])
