"""Forking a child of a worker, with signals and connections of its own."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from typing import Any

from django_tasks.worker.process import become_child, close_connections, flush_output
from django_tasks.worker.stop import SIGNALS

logger = logging.getLogger("django_tasks.worker")

#: Looks in a row at a child that does not go round before it is killed: when the whole machine has slept, it may only
#: wake up after the supervisor.
SILENT_LOOKS = 3


def fork(work: Callable[[], int], name: str, stop: Callable[..., Any]) -> int:
    """Run ``work`` in a child; ``stop`` is its SIGTERM handler."""
    close_connections()  # a receiver of a signal may have opened some here
    # A signal that comes before the child has handlers of its own would be lost on it.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        pid = os.fork()
    except OSError:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        raise
    if pid:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return pid
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        become_child(name, stop)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        code = work()
    except BaseException:
        logger.critical("%s failed", name, exc_info=True)
    finally:
        flush_output()
        os._exit(code)


def how_it_ended(status: int) -> str:
    """Return what the status of a process that has ended says."""
    if os.WIFSIGNALED(status):
        return f"was killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"ended with exit code {os.WEXITSTATUS(status)}"
