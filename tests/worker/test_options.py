"""What a worker is told: the command line over the settings, checked before anything starts."""

from __future__ import annotations

import os
import platform
from argparse import ArgumentParser
from typing import Any

import pytest

from django_tasks import App
from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.worker import options
from django_tasks.worker.arguments import add_arguments
from django_tasks.worker.options import WorkerOptions, node_name, worker_options
from tests.running import app_of_test


def parse(app: App, *arguments: str) -> WorkerOptions:
    parser = ArgumentParser()
    add_arguments(parser)
    return worker_options(app, vars(parser.parse_args(arguments)))


def test_defaults(memory_app: App) -> None:
    found = parse(memory_app)
    host = platform.node()
    assert found == WorkerOptions(f"celery@{host}", ("celery",), "prefork", os.cpu_count() or 1)
    assert (found.processes, found.slots, found.forks) == (found.concurrency, 1, True)


def test_settings() -> None:
    with app_of_test(
        worker_concurrency=3, worker_pool="threads", worker_max_tasks_per_child=5, worker_max_memory_per_child=6000,
        task_time_limit=70, task_soft_time_limit=60, worker_shutdown_timeout=9,
    ) as app:  # fmt: skip
        found = parse(app)
    assert (found.concurrency, found.pool, found.max_tasks, found.max_memory) == (3, "threads", 5, 6000)
    assert (found.limits, found.shutdown_timeout) == ((70, 60), 9)
    assert (found.processes, found.slots) == (1, 3)


def test_the_command_line_is_stronger() -> None:
    with app_of_test(
        worker_concurrency=3, worker_pool="threads", worker_max_tasks_per_child=5, task_time_limit=70
    ) as app:
        found = parse(app, "-c", "2", "-P", "prefork", "--max-tasks-per-child", "7", "--time-limit", "8.5",
                      "--soft-time-limit", "8", "--max-memory-per-child", "1000", "--burst")  # fmt: skip
    assert (found.concurrency, found.pool, found.max_tasks, found.max_memory) == (2, "prefork", 7, 1000)
    assert found.limits == (8.5, 8.0)
    assert found.burst


def test_zero_is_no_limit() -> None:
    with app_of_test(worker_max_tasks_per_child=5, task_time_limit=70) as app:
        found = parse(app, "--time-limit", "0", "--max-tasks-per-child", "0")
    assert not found.limits[0]
    assert not found.max_tasks


def test_solo_is_one(memory_app: App) -> None:
    found = parse(memory_app, "-P", "solo", "-c", "8")
    assert (found.concurrency, found.processes, found.slots, found.forks) == (1, 1, 1, False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-c", "-1"], "--concurrency must not be below 0, not -1"),
        (["--time-limit", "-5"], "--time-limit must not be below 0, not -5"),
        (["--soft-time-limit", "nan"], "--soft-time-limit must not be below 0, not nan"),
        (["--max-tasks-per-child", "-2"], "--max-tasks-per-child must not be below 0, not -2"),
        (["--time-limit", "5", "--soft-time-limit", "5"], "soft time limit .* must be shorter"),
        (["-Q", "a,b", "-X", "a, b"], "No queue is left"),
        (["-Q", ","], "No queue is left"),
        (["-n", "n" * 160], "-n .* is longer than"),
    ],
)
def test_what_cannot_be(memory_app: App, arguments: list[str], words: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=words):
        parse(memory_app, *arguments)


def test_queues(memory_app: App) -> None:
    assert parse(memory_app, "-Q", "a, b,,c").queues == ("a", "b", "c")
    assert parse(memory_app, "-Q", "a,b,a").queues == ("a", "b")
    assert parse(memory_app, "-Q", "a,b", "-X", "b").queues == ("a",)


def test_declared_queues() -> None:
    with app_of_test(task_queues=["mail", "bills"], task_create_missing_queues=False) as app:
        queues = parse(app).queues
        assert {"mail", "bills"} <= set(queues)
        assert parse(app, "-X", "mail").queues == tuple(each for each in queues if each != "mail")
        with pytest.raises(ImproperlyConfigured, match="-Q names male, which TASK_QUEUES does not declare"):
            parse(app, "-Q", "male")


def test_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "web1.example.org")
    assert node_name(None) == "celery@web1.example.org"
    assert node_name("mail") == "mail@web1.example.org"
    assert node_name("mail@%h") == "mail@web1.example.org"
    assert node_name("%n") == "web1@web1.example.org"
    assert node_name("a@%d") == "a@example.org"


def test_where_forks_are_unsafe(memory_app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "CAN_FORK", False)
    found = parse(memory_app, "-c", "4")
    assert (found.pool, found.slots, found.forks) == ("threads", 4, False)
    with pytest.raises(ImproperlyConfigured, match="use --pool threads"):
        parse(memory_app, "-P", "prefork")


@pytest.mark.parametrize("arguments", [["--concurency", "2"], ["-P", "gevent"], ["-c", "many"]])
def test_misspelt_options_end_the_command(memory_app: App, arguments: list[str], capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(memory_app, *arguments)
    assert ended.value.code == 2
    assert arguments[0] in capsys.readouterr().err


@pytest.mark.parametrize(("text", "least", "most"), [("10,3", 3, 10), ("4", 1, 4), ("2,2", 2, 2)])
def test_autoscale(memory_app: App, text: str, least: int, most: int) -> None:
    found = parse(memory_app, "--autoscale", text, "-c", "7")
    assert (found.least, found.processes, found.concurrency) == (least, least, most)


@pytest.mark.parametrize("text", ["3,10", "a,b", "5,0", "0", "", "3,2,1", "-2,-3"])
def test_autoscale_that_cannot_be(memory_app: App, text: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=f"--autoscale {text} is not MAX,MIN"):
        parse(memory_app, f"--autoscale={text}")


@pytest.mark.parametrize(("pool", "remedy"), [("threads", "or -c with as many threads"), ("solo", "--pool prefork")])
def test_autoscale_is_for_processes(memory_app: App, pool: str, remedy: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=f"the {pool} pool has one.*{remedy}"):
        parse(memory_app, "-P", pool, "--autoscale", "4,1")


@pytest.mark.parametrize("option", ["-B", "--beat"])
def test_a_worker_may_have_a_beat(memory_app: App, option: str) -> None:
    parser = ArgumentParser()
    add_arguments(parser)
    assert worker_options(memory_app, vars(parser.parse_args([option]))).beat
    assert not worker_options(memory_app, vars(parser.parse_args([]))).beat
