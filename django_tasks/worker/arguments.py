"""The command line of a worker, the same for ``manage.py runworker`` and ``python -m django_tasks worker``."""

from __future__ import annotations

from argparse import ArgumentParser


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options, under Celery's names where it has them."""
    add = parser.add_argument
    add("-c", "--concurrency", type=int, metavar="N", help="tasks that run at once (number of CPUs)")
    add("--autoscale", metavar="MAX,MIN", help="processes by how much there is to do, instead of -c")
    add("-P", "--pool", choices=("prefork", "threads", "solo"), help="what runs them (prefork where it is safe)")
    add("-Q", "--queues", metavar="A,B", help="queues to take tasks from (all of TASK_QUEUES)")
    add("-X", "--exclude-queues", metavar="A,B", help="queues not to take tasks from")
    add("-n", "--hostname", metavar="NAME", help="its name; %%h host, %%n first part of it, %%d domain (celery@%%h)")
    add("-l", "--loglevel", default="WARNING", metavar="LEVEL", help="DEBUG, INFO, WARNING, ERROR, CRITICAL (WARNING)")
    add("-f", "--logfile", metavar="PATH", help="log to this file instead of the terminal")
    add("--json", action="store_true", help="log one JSON object a line")
    add("--max-tasks-per-child", type=int, metavar="N", help="replace a process after N tasks")
    add("--max-memory-per-child", type=int, metavar="KIB", help="replace a process that uses more memory")
    add("--time-limit", type=float, metavar="S", help="hard time limit in seconds of tasks without one")
    add("--soft-time-limit", type=float, metavar="S", help="soft time limit in seconds of tasks without one")
    add("--burst", action="store_true", help="stop when the queues are empty")
    add("--reload", action="store_true", help="start again when code changes (development)")
    add("-B", "--beat", action="store_true", help="send periodic tasks, too; any number of workers may")
    add("--pidfile", metavar="PATH", help="write the process id here")
    add("--healthcheck-file", metavar="PATH", help="keep the worker's state here for `python -m django_tasks.health`")
