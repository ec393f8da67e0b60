"""One Redis, both directions: what Celery's clients send to our worker, and our client to Celery's workers."""

from __future__ import annotations

import time
import uuid
from typing import Any

import pytest

from tests.celery_environment import VERSIONS
from tests.interop import work
from tests.interop.conftest import Sides, as_json
from tests.waiting import wait_for

# The first of them makes the environments, which takes a minute or two.
pytestmark = pytest.mark.timeout(300)
PAIRS = [pair for version in VERSIONS for pair in ((version, "ours"), ("ours", version))]
both_ways = pytest.mark.parametrize(("client", "worker"), PAIRS)

#: Name, arguments and options of calls, and what their client must see: the state, and the value.
CALLS: dict[str, tuple[str, Any, dict[str, Any], str, Any]] = {
    "plain": ("add", [2, 3], {}, "SUCCESS", 5),
    "keywords": ("add", [2], {"kwargs": {"y": 3}}, "SUCCESS", 5),
    "failure": ("fail", ["bad"], {}, "FAILURE", ["builtins", "ValueError", ["bad", "42"]]),
    "types": ("types", "typed", {}, "SUCCESS", [[repr(each) for each in work.TYPED], as_json(work.TYPED)]),
    "wrong arguments": ("add", [1, 2, 3], {}, "FAILURE", None),
    "retry": ("again", [], {}, "SUCCESS", 1),
    "expired": ("add", [1, 1], {"expires": -60}, "REVOKED", ["celery.exceptions", "TaskRevokedError", ["expired"]]),
    "expires later": ("add", [1, 1], {"expires": 600}, "SUCCESS", 2),
    "priority": ("add", [1, 1], {"priority": 5}, "SUCCESS", 2),
    "compressed": ("add", [1, 1], {"compression": "gzip"}, "SUCCESS", 2),
    "headers": ("look", [], {"headers": {"x-extra": "hi"}, "shadow": "sh"}, "SUCCESS",
                [0, "hi", "sh", "queue", True, None]),
    "limits": ("add", [1, 1], {"time_limit": 60, "soft_time_limit": 50}, "SUCCESS", 2),
}  # fmt: skip


def send(sides: Sides, client: str, worker: str, name: str, args: Any, **options: Any) -> str:
    """Send a call to a worker's queue; return its id."""
    task_id = str(uuid.uuid4())
    sides.worker(worker)
    sides.client(client).send(name, args, {"task_id": task_id, "queue": worker, **options})
    return task_id


@both_ways
def test_every_kind_of_call(sides: Sides, client: str, worker: str) -> None:
    ids = {case: send(sides, client, worker, *call[:2], **call[2]) for case, call in CALLS.items()}
    found = dict(zip(CALLS, sides.client(client).ended(list(ids.values())), strict=True))
    wanted = {case: call[3:] for case, call in CALLS.items()}
    wanted["headers"][1][3] = worker
    seen = {case: (each["state"], each["value"]) for case, each in found.items()}
    wrong = found["wrong arguments"]
    assert wrong["value"][:2] == ["builtins", "TypeError"]
    wanted["wrong arguments"] = (wrong["state"], wrong["value"])
    if client == "ours":
        module = "django_tasks.exceptions"
        wanted["expired"] = ("REVOKED", [module, "TaskRevokedError", ["expired"]])
    assert seen == wanted
    assert "ValueError" in found["failure"]["traceback"]
    assert (found["plain"]["name"], found["plain"]["args"], found["retry"]["retries"]) == ("add", [2, 3], 1)
    assert found["plain"]["done"].endswith("+00:00")


@both_ways
def test_states_that_are_no_end(sides: Sides, client: str, worker: str) -> None:
    ids = [send(sides, client, worker, name, []) for name in ("progress", "waiting")]
    last = send(sides, client, worker, "add", [1, 1])
    sides.client(client).ended([last])
    progress, retry = sides.client(client).known(ids)
    assert (progress["state"], progress["ready"], progress["value"]) == ("PROGRESS", False, {"done": 1})
    assert (retry["state"], retry["ready"]) == ("RETRY", False)
    assert retry["value"] == ["builtins", "KeyError", ["k"]]


@both_ways
def test_an_error_that_the_client_does_not_have(sides: Sides, client: str, worker: str) -> None:
    task_id = send(sides, client, worker, "custom", [])
    [found] = sides.client(client).ended([task_id])
    assert (found["state"], found["value"][1:]) == ("FAILURE", ["Custom", ["own"]])


@both_ways
def test_calls_for_later(sides: Sides, client: str, worker: str) -> None:
    before = time.time()
    ids = [send(sides, client, worker, "clock", [], **{when: 1.5}) for when in ("countdown", "eta")]
    assert all(each["value"] >= before + 1.5 for each in sides.client(client).ended(ids))


@both_ways
def test_the_most_urgent_is_the_lowest_number(sides: Sides, client: str, worker: str) -> None:
    held = send(sides, client, worker, "hold", [1.0])
    wait_for(lambda: sides.client(client).known([held])[0]["state"] == "HELD", 30)
    ids = [send(sides, client, worker, "clock", [], priority=priority) for priority in (9, 5, 0)]
    least, middle, most = (each["value"] for each in sides.client(client).ended(ids))
    assert most < middle < least


@both_ways
def test_callbacks(sides: Sides, client: str, worker: str) -> None:
    callback, errback = str(uuid.uuid4()), str(uuid.uuid4())
    good = send(sides, client, worker, "add", [1, 2], ignore_result=True, link=["add", [10], callback])
    bad = send(sides, client, worker, "fail", ["bad"], link_error=["failed", [], errback])
    [linked, told] = sides.client(client).ended([callback, errback])
    assert (linked["state"], linked["value"]) == ("SUCCESS", 13)
    assert (told["state"], told["value"]) == ("SUCCESS", f"{bad} failed")
    [ignored] = sides.client(client).known([good])
    assert (ignored["state"], ignored["value"]) == ("PENDING", None)


@pytest.mark.parametrize("client", VERSIONS)
def test_a_chain_of_celerys_client_and_a_group(sides: Sides, client: str) -> None:
    sides.worker("ours")
    there = sides.client(client)
    ids = there.chain([["add", [1, 2]], ["add", [10]], ["add", [100]]], "ours")
    ids += there.group([["add", [1, 1]], ["add", [2, 2]]], "ours")
    assert [each["value"] for each in there.ended(ids)] == [3, 13, 113, 2, 4]
    ids = there.chain([["add", [1, 2]], ["fail", []], ["add", [100]]], "ours")
    ended = there.ended(ids)
    assert [each["state"] for each in ended] == ["SUCCESS", "FAILURE", "FAILURE"]
    assert ended[2]["value"][1] == "ValueError"


@pytest.mark.parametrize("client", VERSIONS)
def test_a_chord_of_celerys_client_is_left_to_celery(sides: Sides, client: str) -> None:
    """Until there are chords: our workers say why they give it back, and run nothing of it."""
    log = sides.worker("ours")
    header = sides.client(client).chord([["add", [1, 1]], ["add", [2, 2]]], "types", "ours")[0]
    wait_for(lambda: f"[{header}] is put back for 1 s. A chord follows from this call" in log())
    assert sides.client(client).known([header])[0]["state"] == "PENDING"
