"""Celery's side of the scenario ``mixed``: it runs in an environment of its own, where our package is not.

python mixed_celery.py worker           be a worker with two processes, set up so that Celery loses as little as it can
python mixed_celery.py send N SECONDS   send so many tasks of so many seconds, and print their ids
"""

from __future__ import annotations

import os
import sys

from celery import Celery
from mixed_work import QUEUE, define

app = Celery("mixed", broker=os.environ["CHAOS_REDIS"], backend=os.environ["CHAOS_RESULTS"])
app.conf.update(
    task_default_queue=QUEUE,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    # What a killed worker held comes back after the first of these (seconds); the others make it look for that at once.
    broker_transport_options={
        "visibility_timeout": float(os.environ["CHAOS_VISIBILITY"]),
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    },
)
work = define(app.task, "celery")

if sys.argv[1] == "worker":
    app.worker_main(["worker", "-c", "2", "-l", "INFO", "--without-mingle", "--without-gossip"])
else:
    for _ in range(int(sys.argv[2])):
        print(work.apply_async((float(sys.argv[3]),), ignore_result=False).id, flush=True)
