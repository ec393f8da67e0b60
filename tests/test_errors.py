"""Exceptions as data: what a result holds of one, and what becomes of it elsewhere."""

from __future__ import annotations

import builtins
import pickle
import sys
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from django_tasks import exceptions
from django_tasks.errors import (
    ExceptionInfo,
    RemoteTraceback,
    exception_from_dict,
    exception_to_dict,
    format_traceback,
    raisable,
    without_our_frames,
)
from django_tasks.exceptions import MaxRetriesExceededError, NotRegistered, Reject, Retry, SecurityError, TaskError
from django_tasks.utils.saferepr import saferepr, safestr


class Plain(Exception):
    pass


class Wants(Exception):
    """Its ``args`` are not what its ``__init__`` takes."""

    def __init__(self, what: str, *, code: int) -> None:
        super().__init__(f"{what} needs {code}")
        self.code = code


class Adds(Exception):
    """Its ``__init__`` takes its args, and would make something else of them."""

    def __init__(self, code: object) -> None:
        super().__init__(f"code {code}")


class Outer:
    class Inner(Exception):
        pass


def there_and_back(exc: BaseException) -> BaseException:
    return exception_from_dict(exception_to_dict(exc))


def test_its_form_is_celerys() -> None:
    assert exception_to_dict(ValueError("bad thing", 42)) == {
        "exc_type": "ValueError", "exc_message": ["bad thing", 42], "exc_module": "builtins",
    }  # fmt: skip
    assert exception_to_dict(Outer.Inner()) == {
        "exc_type": "Outer.Inner", "exc_message": [], "exc_module": "tests.test_errors",
    }  # fmt: skip


@pytest.mark.parametrize(
    "exc",
    [
        ValueError(),
        ValueError("bad thing", 42),
        KeyError("k"),
        FileNotFoundError(2, "No such file"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        TimeoutError("timed out"),
        Plain("plain", {"a": [1]}),
        Outer.Inner("inner"),
        Wants("it", code=7),
        Adds(7),
        MaxRetriesExceededError("Can't retry"),
        NotRegistered("proj.tasks.add"),
        exceptions.TimeoutError("late"),
        exceptions.WorkerLostError("gone"),
        exceptions.SoftTimeLimitExceeded(),
        SystemExit(3),
    ],
    ids=lambda exc: type(exc).__name__,
)
def test_there_and_back(exc: BaseException) -> None:
    back = there_and_back(exc)
    assert type(back) is type(exc)
    assert back.args == exc.args
    assert str(back) == str(exc)


def test_a_validation_error() -> None:
    back = there_and_back(ValidationError("too short", code="short"))
    assert type(back) is ValidationError
    assert "too short" in str(back.args)


def test_arguments_that_cannot_be_serialised() -> None:
    thing = object()
    assert there_and_back(Plain(thing, 1)).args == (repr(thing), 1)


def test_a_class_of_a_function_comes_back_by_name() -> None:
    class Local(Exception):
        pass

    back = there_and_back(Local("a", 1))
    assert type(back).__name__ == "Local"
    assert type(back).__module__ == "tests.test_errors"
    assert isinstance(back, Exception)
    assert back.args == ("a", 1)


@pytest.mark.parametrize("module", ["no.such.module", "tests.no_such_module", None])
def test_a_class_that_is_not_here(module: str | None) -> None:
    back = exception_from_dict({"exc_type": "Strange", "exc_message": ["a"], "exc_module": module})
    assert (type(back).__name__, back.args) == ("Strange", ("a",))


@pytest.mark.parametrize("module", ["this", "json.tool"])
def test_no_code_is_imported(module: str) -> None:
    """Not even another module of a package that is loaded, which may do things when it is imported."""
    assert module not in sys.modules
    exception_from_dict({"exc_type": "Strange", "exc_message": [], "exc_module": module})
    assert module not in sys.modules


@pytest.mark.parametrize(("module", "name"), [("builtins", "eval"), ("os", "system"), ("tests.test_errors", "Outer")])
def test_what_is_no_exception_class(module: str, name: str) -> None:
    with pytest.raises(SecurityError, match=rf"{module}\.{name}, which is not an exception class"):
        exception_from_dict({"exc_type": name, "exc_message": ["true"], "exc_module": module})


@pytest.mark.parametrize(
    ("module", "name", "ours"),
    [
        ("celery.exceptions", "TaskRevokedError", exceptions.TaskRevokedError),
        ("billiard.exceptions", "WorkerLostError", exceptions.WorkerLostError),
        ("billiard.exceptions", "SoftTimeLimitExceeded", exceptions.SoftTimeLimitExceeded),
        ("kombu.exceptions", "OperationalError", exceptions.OperationalError),
    ],
)
def test_celerys_errors_are_ours(module: str, name: str, ours: type[Exception]) -> None:
    back = exception_from_dict({"exc_type": name, "exc_message": ["x"], "exc_module": module})
    assert type(back) is ours


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"exc_type": "ValueError", "exc_message": "as text", "exc_module": "builtins"}, "ValueError('as text')"),
        ({"exc_type": "ValueError", "exc_message": None, "exc_module": None}, "ValueError()"),
        ({"exc_type": "ValueError"}, "ValueError()"),
        ("just a text", "ValueError('just a text')"),
        ({"other": 1}, "ValueError({'other': 1})"),
    ],
)
def test_what_others_write(data: Any, expected: str) -> None:
    assert repr(exception_from_dict(data)) == expected


def test_an_exception_stays_itself() -> None:
    exc = ValueError()
    assert exception_from_dict(exc) is exc


def test_raisable() -> None:
    exc = ValueError()
    assert raisable(exc) is exc
    assert isinstance(raisable(KeyboardInterrupt()), TaskError)
    assert "KeyboardInterrupt()" in str(raisable(KeyboardInterrupt()))
    assert repr(raisable("text")) == "Exception('text')"


# -- texts


def test_texts_that_cannot_fail() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise ZeroDivisionError

    assert saferepr("x") == "'x'"
    assert saferepr("x" * 50, 10) == "'xxxxxx..."
    assert saferepr(Broken()).endswith("Broken that cannot be shown>")
    assert (safestr("x"), safestr(Broken())) == ("x", saferepr(Broken()))


def test_exception_info() -> None:
    try:
        raise KeyError("k")
    except KeyError as exc:
        info = ExceptionInfo(exc)
    assert (info.type, repr(info.exception)) == (KeyError, "KeyError('k')")
    assert str(info) == info.traceback
    assert info.traceback.rstrip().endswith("KeyError: 'k'")
    assert repr(info) == "<ExceptionInfo: KeyError('k')>"


def test_causes_are_in_the_traceback() -> None:
    with pytest.raises(ValueError, match="bad") as raised:
        raise ValueError("bad") from OSError("away")
    text = format_traceback(raised.value)
    assert "OSError: away" in text
    assert "ValueError: bad" in text


def test_our_frames_are_left_out() -> None:
    def task() -> None:
        raise ValueError

    ours: dict[str, Any] = {"__name__": "django_tasks.somewhere", "task": task}
    exec("def run():\n    try:\n        task()\n    except ValueError as exc:\n        return exc", ours)
    exc = ours["run"]()
    assert exc.__traceback__.tb_frame.f_code.co_name == "run"
    assert without_our_frames(exc).__traceback__.tb_frame.f_code is task.__code__  # type: ignore[union-attr]
    assert without_our_frames(ValueError()).__traceback__ is None


def test_a_remote_traceback_is_readable() -> None:
    assert str(RemoteTraceback("Traceback ...")) == "\n\nTraceback ..."


# -- the tree


def test_the_names_are_celerys() -> None:
    for name in (
        "Ignore", "Reject", "Retry", "MaxRetriesExceededError", "SoftTimeLimitExceeded", "TimeLimitExceeded",
        "WorkerLostError", "TaskRevokedError", "NotRegistered", "ImproperlyConfigured", "TimeoutError", "ChordError",
        "OperationalError", "TaskError",
    ):  # fmt: skip
        assert issubclass(getattr(exceptions, name), Exception)
    assert issubclass(NotRegistered, KeyError)
    assert issubclass(exceptions.TimeoutError, builtins.TimeoutError)


@pytest.mark.parametrize(
    ("exc", "text"),
    [
        (Retry(when=5), "Retry in 5s"),
        (Retry(when=0.8597178032106955), "Retry in 0.86s"),
        (Retry(exc=OSError("away"), when=5), "Retry in 5s: OSError('away')"),
        (Retry("message"), "message"),
        (Reject("no", requeue=True), "reject requeue=True: no"),
        (exceptions.SoftTimeLimitExceeded(), "SoftTimeLimitExceeded()"),
        (exceptions.TimeLimitExceeded(5), "time limit of 5 s"),
    ],
)
def test_texts(exc: Exception, text: str) -> None:
    assert str(exc) == text


@pytest.mark.parametrize("exc", [Reject("no", requeue=True), Retry(exc=OSError("x"), when=3), NotRegistered("n")])
def test_they_can_be_pickled(exc: Exception) -> None:
    assert str(pickle.loads(pickle.dumps(exc))) == str(exc)
