"""Fixtures of the tests of brokers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest

from django_tasks.brokers.base import Broker
from django_tasks.brokers.orm import ORMBroker
from tests.brokers.hands import MEMORY, ORM, Clock, Hand, Kind, make_orm, redis_kind


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "orm", "redis", "valkey", "cluster"])
def kind(request: pytest.FixtureRequest) -> Kind:
    if request.param == "redis":
        return redis_kind(request.getfixturevalue("redis_url"))
    if request.param in ("valkey", "cluster"):
        return replace(redis_kind(request.getfixturevalue(f"{request.param}_url")), name=request.param)
    return MEMORY if request.param == "memory" else ORM


@pytest.fixture
def broker(kind: Kind, clock: Clock) -> Broker:
    return kind.make(clock)


@pytest.fixture
def orm(clock: Clock) -> ORMBroker:
    return make_orm(clock)


@pytest.fixture
def wakeup() -> Iterator[tuple[int, int]]:
    """A wake-up pipe: (reading end, writing end)."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    yield reading, writing
    os.close(reading)
    os.close(writing)


@pytest.fixture
def hand(broker: Broker) -> Hand:
    return Hand(broker)
