"""Waiting for a condition, with a deadline: what the tests do instead of sleeping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(condition: Callable[[], T], timeout: float = 10, message: str | Callable[[], str] = "") -> T:
    """Call ``condition`` until it returns something true, and return that.

    Args:
        condition: what to ask, every 20 ms.
        timeout: seconds until the wait fails.
        message: what is waited for; as a function it is asked when the wait fails, so that it can tell how things are.

    Raises:
        AssertionError: the timeout passed and the condition was still not true.
    """
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            text = message() if callable(message) else message
            raise AssertionError(f"waited {timeout} s in vain for {text or condition}")
        time.sleep(0.02)
    return value
