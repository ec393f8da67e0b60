"""Signals: who is called, with what, and what happens when a receiver fails."""

from __future__ import annotations

import gc
import logging
from typing import Any

import pytest
from django.dispatch import Signal as DjangoSignal

from django_tasks import signals
from django_tasks.signals import Signal
from django_tasks.task import Task


def make_task(name: str) -> Task[[], None]:
    task: Task[[], None] = Task()
    task.name = name
    return task


@pytest.fixture
def signal() -> Signal:
    return Signal("task_prerun")


class Recorder:
    """A receiver that keeps what it was called with."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(self, **kwargs: Any) -> int:
        self.calls.append(kwargs)
        return len(self.calls)


CELERYS = [
    "before_task_publish",
    "after_task_publish",
    "task_received",
    "task_prerun",
    "task_postrun",
    "task_success",
    "task_failure",
    "task_retry",
    "task_revoked",
    "task_unknown",
    "task_rejected",
    "task_internal_error",
    "worker_init",
    "worker_ready",
    "worker_process_init",
    "worker_process_shutdown",
    "worker_shutting_down",
    "worker_shutdown",
    "celeryd_init",
    "setup_logging",
    "after_setup_logger",
    "after_setup_task_logger",
]


@pytest.mark.parametrize("name", CELERYS)
def test_signals_have_celerys_names(name: str) -> None:
    signal = getattr(signals, name)
    assert isinstance(signal, Signal)
    assert signal.name == name
    assert repr(signal) == f"<Signal: {name}>"


def test_they_are_django_signals() -> None:
    assert issubclass(Signal, DjangoSignal)


def test_each_signal_is_one_of_its_own() -> None:
    receiver = Recorder()
    signals.task_success.connect(receiver)
    try:
        signals.task_failure.send(sender=None)
        assert receiver.calls == []
        signals.task_success.send(sender=None)
        assert len(receiver.calls) == 1
    finally:
        signals.task_success.disconnect(receiver)


class TestConnect:
    def test_as_a_plain_decorator(self, signal: Signal) -> None:
        @signal.connect
        def receiver(sender: Any = None, task_id: Any = None, **kwargs: Any) -> str:
            return f"{sender} {task_id}"

        assert receiver(sender=1, task_id=2) == "1 2"  # still the function
        assert signal.send(sender="a", task_id="b") == [(receiver, "a b")]

    def test_as_a_decorator_with_arguments(self, signal: Signal) -> None:
        @signal.connect(sender="proj.tasks.add")
        def receiver(**kwargs: Any) -> str:
            return "called"

        assert receiver() == "called"
        assert signal.send(sender="proj.tasks.add") == [(receiver, "called")]
        assert signal.send(sender="proj.tasks.other") == []

    def test_as_a_decorator_with_empty_brackets(self, signal: Signal) -> None:
        @signal.connect()
        def receiver(**kwargs: Any) -> str:
            return "called"

        assert signal.send(sender=None) == [(receiver, "called")]

    def test_as_a_method(self, signal: Signal) -> None:
        receiver = Recorder()
        assert signal.connect(receiver) is receiver
        signal.send(sender="s", a=1)
        assert receiver.calls == [{"signal": signal, "sender": "s", "a": 1}]

    def test_a_receiver_nobody_holds_is_forgotten(self, signal: Signal) -> None:
        receiver = Recorder()
        calls = receiver.calls
        signal.connect(receiver)
        del receiver
        gc.collect()
        assert signal.send(sender=None) == []
        assert calls == []

    def test_weak_false_keeps_a_receiver(self, signal: Signal) -> None:
        receiver = Recorder()
        calls = receiver.calls
        signal.connect(receiver, weak=False)
        del receiver
        gc.collect()
        signal.send(sender=None)
        assert len(calls) == 1

    def test_a_bound_method_lives_as_long_as_its_object(self, signal: Signal) -> None:
        recorder = Recorder()
        signal.connect(recorder.__call__)
        assert [response for _, response in signal.send(sender=None)] == [1]
        del recorder
        gc.collect()
        assert signal.send(sender=None) == []

    def test_twice_is_once(self, signal: Signal) -> None:
        receiver = Recorder()
        signal.connect(receiver, sender="a")
        signal.connect(receiver, sender="".join(["", "a"]))
        signal.send(sender="a")
        assert len(receiver.calls) == 1

    def test_dispatch_uid_tells_receivers_apart(self, signal: Signal) -> None:
        first, second = Recorder(), Recorder()
        signal.connect(first, dispatch_uid="only one")
        signal.connect(second, dispatch_uid="only one")
        signal.send(sender=None)
        assert (len(first.calls), len(second.calls)) == (1, 0)
        assert signal.disconnect(dispatch_uid="only one")
        assert not signal.receivers

    def test_receivers_must_accept_keyword_arguments(self, signal: Signal) -> None:
        def receiver(sender: Any) -> None: ...

        with pytest.raises(ValueError, match=r"receiver of signal task_prerun must accept \*\*kwargs"):
            signal.connect(receiver)
        assert not signal.receivers

    def test_a_sender_in_the_receivers_place_is_refused(self, signal: Signal) -> None:
        with pytest.raises(TypeError, match=r"task_prerun.connect\(\) got 'proj.tasks.add'.*sender=\.\.\."):
            signal.connect("proj.tasks.add")  # type: ignore[call-overload]


class TestSenders:
    def make_name(self) -> str:
        """Return a new string object each time, as a name read from a message is."""
        return ".".join(["proj", "tasks", "add"])

    def test_equal_names_are_the_same_sender(self, signal: Signal) -> None:
        receiver = Recorder()
        signal.connect(receiver, sender=self.make_name())
        signal.send(sender=self.make_name())
        assert len(receiver.calls) == 1

    def test_connected_by_name_sent_by_task(self, signal: Signal) -> None:
        receiver, task = Recorder(), make_task(self.make_name())
        signal.connect(receiver, sender=self.make_name())
        signal.send(sender=task)
        signal.send(sender=make_task("proj.tasks.other"))
        assert [call["sender"] for call in receiver.calls] == [task]

    def test_connected_by_task_sent_by_name(self, signal: Signal) -> None:
        receiver, task = Recorder(), make_task(self.make_name())
        signal.connect(receiver, sender=task)
        signal.send(sender=self.make_name())
        signal.send(sender="proj.tasks.other")
        assert [call["sender"] for call in receiver.calls] == ["proj.tasks.add"]

    def test_connected_by_task_sent_by_task(self, signal: Signal) -> None:
        receiver = Recorder()
        signal.connect(receiver, sender=make_task(self.make_name()))
        signal.send(sender=make_task(self.make_name()))
        signal.send(sender=make_task("proj.tasks.other"))
        assert len(receiver.calls) == 1

    def test_other_objects_are_themselves(self, signal: Signal) -> None:
        receiver, worker, other = Recorder(), object(), object()
        signal.connect(receiver, sender=worker)
        signal.send(sender=other)
        signal.send(sender=None)
        signal.send(sender=worker)
        assert [call["sender"] for call in receiver.calls] == [worker]

    def test_no_sender_hears_everybody(self, signal: Signal) -> None:
        receiver = Recorder()
        signal.connect(receiver)
        for sender in ("a", make_task("b"), None):
            signal.send(sender=sender)
        assert len(receiver.calls) == 3

    def test_disconnect_knows_tasks_by_name_too(self, signal: Signal) -> None:
        receiver = Recorder()
        signal.connect(receiver, sender=make_task("proj.tasks.add"))
        assert not signal.disconnect(receiver, sender="proj.tasks.other")
        assert signal.disconnect(receiver, sender=self.make_name())
        assert not signal.receivers

    def test_has_listeners(self, signal: Signal) -> None:
        receiver = Recorder()
        signal.connect(receiver, sender="proj.tasks.add")
        assert signal.has_listeners(make_task(self.make_name()))
        assert not signal.has_listeners("proj.tasks.other")
        assert not signal.has_listeners()


class TestSend:
    def test_without_receivers(self, signal: Signal) -> None:
        assert not signal.receivers
        assert signal.send(sender=None, task_id="1") == []

    def test_receivers_shows_whether_anybody_listens(self, signal: Signal) -> None:
        receiver = Recorder()
        signal.connect(receiver)
        assert signal.receivers
        signal.disconnect(receiver)
        assert not signal.receivers

    def test_returns_receivers_and_responses_in_order(self, signal: Signal) -> None:
        first, second = Recorder(), Recorder()
        signal.connect(first)
        signal.connect(second)
        assert signal.send(sender=None) == [(first, 1), (second, 1)]
        assert signal.send_robust(sender=None) == [(first, 2), (second, 2)]

    def test_an_exception_stays_inside(self, signal: Signal, caplog: pytest.LogCaptureFixture) -> None:
        error = KeyError("lost")

        @signal.connect
        def broken(**kwargs: Any) -> None:
            raise error

        after = Recorder()
        signal.connect(after)
        assert signal.send(sender=None) == [(broken, error), (after, 1)]
        (record,) = caplog.records
        assert record.levelno == logging.ERROR
        assert record.name == "django_tasks.signals"
        assert "broken of signal task_prerun raised KeyError('lost')" in record.getMessage()
        assert __name__ in record.getMessage()
        assert record.exc_info is not None
        assert record.exc_info[1] is error
        assert record.exc_info[2] is not None

    def test_an_exception_of_a_receiver_without_a_name(self, signal: Signal, caplog: pytest.LogCaptureFixture) -> None:
        class Broken:
            def __call__(self, **kwargs: Any) -> None:
                raise ValueError("no")

            def __repr__(self) -> str:
                return "<the broken one>"

        receiver = Broken()
        signal.connect(receiver)
        ((_, response),) = signal.send(sender=None)
        assert isinstance(response, ValueError)
        assert "Receiver <the broken one> of signal" in caplog.text

    def test_arguments_that_a_receiver_does_not_take_are_its_error(
        self, signal: Signal, caplog: pytest.LogCaptureFixture
    ) -> None:
        @signal.connect
        def receiver(task_id: str, **kwargs: Any) -> None: ...

        ((_, response),) = signal.send(sender=None)
        assert isinstance(response, TypeError)
        assert "task_id" in caplog.text

    def test_what_ends_the_process_is_not_kept_inside(self, signal: Signal) -> None:
        @signal.connect
        def receiver(**kwargs: Any) -> None:
            raise SystemExit(3)

        with pytest.raises(SystemExit):
            signal.send(sender=None)

    def test_coroutine_functions_are_run(self, signal: Signal, caplog: pytest.LogCaptureFixture) -> None:
        @signal.connect
        async def receiver(task_id: str, **kwargs: Any) -> str:
            return task_id

        @signal.connect
        async def broken(**kwargs: Any) -> None:
            raise ValueError("no")

        responses = dict(signal.send(sender=None, task_id="1"))
        assert responses[receiver] == "1"
        assert isinstance(responses[broken], ValueError)
        assert "broken of signal task_prerun raised ValueError('no')" in caplog.text
