"""The tasks of both sides for a worker of ours; imported by nothing else, as their names have no module."""

from django_tasks import shared_task
from django_tasks.exceptions import Ignore
from tests.interop.work import define

define(shared_task, Ignore)
