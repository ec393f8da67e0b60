"""Fixtures of the tests of beat."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.beat.simulation import World, known_task


@pytest.fixture(autouse=True)
def job() -> Iterator[Any]:
    """The task of most entries."""
    with known_task() as task:
        yield task


@pytest.fixture(params=["memory", "orm", "redis", "valkey", "cluster"])
def world(request: pytest.FixtureRequest) -> World:
    """A world for each kind of broker."""
    if request.param == "memory":
        return World("memory://", "memory")
    if request.param == "orm":
        return World("django-db://", "orm")
    return World(request.getfixturevalue(f"{request.param}_url"), "redis")


@pytest.fixture
def memory_world() -> World:
    """A world in memory, for what is the same everywhere."""
    return World("memory://", "memory")
