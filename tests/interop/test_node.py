"""celery-node, which knows two headers of the message and polls for results, on one Redis with us."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.interop.conftest import Sides
from tests.node_environment import node_side

pytestmark = pytest.mark.timeout(300)  # it is installed first


def test_its_client_and_our_worker(sides: Sides, tmp_path: Path) -> None:
    """By protocol 2, and by protocol 1."""
    sides.worker("ours")
    with node_side(sides.server.url(), "ours", "client", log=tmp_path / "node.log") as side:
        assert side.stdout is not None
        answers = [json.loads(side.stdout.readline()) for _ in range(6)]
    failure = ["FAILURE", "ValueError", ["bad", 42]]
    assert answers == [["value", 5], ["value", 5], failure] * 2


def test_our_client_and_its_worker(sides: Sides, tmp_path: Path) -> None:
    """Its handlers get the keyword arguments as one more argument, and it keeps nothing of an error."""
    with node_side(sides.server.url(), "node", "worker", log=tmp_path / "node.log"):
        good = sides.app.send_task("add", (2, 3), queue="node")
        bad = sides.app.send_task("fail", ("bad",), queue="node")
        assert good.get(timeout=30) == 5
        bad.get(timeout=30, propagate=False)
    assert (bad.state, bad.successful()) == ("FAILURE", False)
