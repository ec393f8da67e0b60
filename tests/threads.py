"""Threads with database connections of their own, as other processes would have them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from django.db import connections

T = TypeVar("T")
#: Seconds after which a thread that has not ended fails the test.
PATIENCE = 60


def together(*functions: Callable[[], T]) -> list[T]:
    """Call functions at the same time, each in a thread, and return what they return; raise what one of them raises."""
    start = threading.Barrier(len(functions))

    def call(function: Callable[[], T]) -> T:
        start.wait(PATIENCE)
        return _call(function)

    with ThreadPoolExecutor(len(functions)) as pool:
        futures = [pool.submit(call, function) for function in functions]
        return [future.result(PATIENCE) for future in futures]


def elsewhere(function: Callable[[], T]) -> T:
    """Call a function in another thread, and so on another connection, and return what it returns."""
    return together(function)[0]


@contextmanager
def meanwhile(function: Callable[[], T]) -> Iterator[Future[T]]:
    """Call a function in another thread while the block runs; its future tells whether it has ended."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(_call, function)
        yield future
        future.result(PATIENCE)


def _call(function: Callable[[], T]) -> T:
    try:
        return function()
    finally:
        connections.close_all()
