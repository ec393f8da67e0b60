"""Logging: task loggers, what the worker does to records, its lines about tasks, and its banner."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from django_tasks import context, signals
from django_tasks.conf import Settings
from django_tasks.context import Context
from django_tasks.exceptions import ImproperlyConfigured, Reject, Retry, TimeLimitExceeded
from django_tasks.message import Message
from django_tasks.utils.log import (
    JsonFormatter,
    SecretFilter,
    TaskFormatter,
    get_logger,
    get_task_logger,
    mask_passwords,
    task_logger,
)
from django_tasks.worker import banner, logs
from django_tasks.worker.logs import level_number, setup_logging

ID = "5c39dd6e-5f7e-4d57-8a6e-2e5ce57ad30a"
MESSAGE = Message(task="proj.tasks.add", id=ID)


@pytest.fixture
def in_task() -> Iterator[None]:
    """Let the test's code run as if inside a task."""
    token = context.push(Context(message=MESSAGE))
    yield
    context.pop(token)


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """Put the loggers that the worker sets up back as they were."""
    loggers = [logging.getLogger(name) for name in ("", "celery", "celery.task", "django_tasks", "django_tasks.worker")]
    before = [(each, each.handlers[:], each.level, each.propagate) for each in loggers]
    yield
    for each, handlers, level, propagate in before:
        for ours in set(each.handlers) - set(handlers):
            ours.close()
        each.handlers[:] = handlers
        each.setLevel(level)
        each.propagate = propagate


@pytest.fixture
def logfile(tmp_path: Path, restored_logging: None) -> Path:
    return tmp_path / "worker.log"


def record_of(message: str = "hello", *args: Any, **attributes: Any) -> logging.LogRecord:
    record = logging.LogRecord("proj", logging.INFO, __file__, 1, message, args, None)
    record.__dict__.update(attributes)
    return record


def raised(error: Exception) -> Exception:
    """Return the error with a traceback."""
    try:
        raise error
    except Exception as caught:
        return caught


class TestTaskLoggers:
    def test_get_logger(self) -> None:
        assert get_logger("proj.plain") is logging.getLogger("proj.plain")

    def test_is_a_child_of_celery_task_and_propagates(self, caplog: pytest.LogCaptureFixture) -> None:
        logger = get_task_logger("proj.tasks.child")
        assert logger is logging.getLogger("proj.tasks.child")
        assert logger.parent is task_logger
        assert task_logger.name == "celery.task"
        logger.warning("up it goes")
        assert caplog.messages == ["up it goes"]

    def test_heeds_the_level_of_celery_task(self, restored_logging: None) -> None:
        logger = get_task_logger("proj.tasks.level")
        task_logger.setLevel(logging.ERROR)
        assert not logger.isEnabledFor(logging.WARNING)

    def test_a_child_by_name_keeps_its_place(self) -> None:
        parent = logging.getLogger("celery.task.mine")
        logger = get_task_logger("celery.task.mine.add")
        assert logger.parent is parent

    def test_loggers_made_later_do_not_take_it_away(self) -> None:
        logger = get_task_logger("later.tasks.add")
        for name in ("later", "later.tasks", "later.tasks.add.deep"):
            logging.getLogger(name)
        assert logger.parent is task_logger
        assert get_task_logger("later.tasks.add.deep").parent is logger

    def test_asked_for_twice(self) -> None:
        first, second = get_task_logger("proj.tasks.twice"), get_task_logger("proj.tasks.twice")
        assert first is second
        assert len(first.filters) == 1

    @pytest.mark.parametrize("name", ["celery", "celery.task", "", "root"])
    def test_reserved_names(self, name: str) -> None:
        with pytest.raises(RuntimeError, match="stands above all task loggers"):
            get_task_logger(name)

    @pytest.mark.usefixtures("in_task")
    def test_records_carry_the_task(self, caplog: pytest.LogCaptureFixture) -> None:
        get_task_logger("proj.tasks.carry").warning("working")
        (record,) = caplog.records
        assert (record.task_name, record.task_id) == ("proj.tasks.add", ID)  # type: ignore[attr-defined]

    def test_outside_a_task(self, caplog: pytest.LogCaptureFixture) -> None:
        get_task_logger("proj.tasks.outside").warning("thinking")
        (record,) = caplog.records
        assert (record.task_name, record.task_id) == ("???", "???")  # type: ignore[attr-defined]

    @pytest.mark.usefixtures("in_task")
    def test_extra_is_kept(self, caplog: pytest.LogCaptureFixture) -> None:
        get_task_logger("proj.tasks.extra").warning("of another", extra={"task_id": "mine"})
        (record,) = caplog.records
        assert (record.task_name, record.task_id) == ("proj.tasks.add", "mine")  # type: ignore[attr-defined]


class TestSecrets:
    @pytest.mark.parametrize(
        ("text", "masked"),
        [
            ("redis://:secret@host:6379/0", "redis://:**@host:6379/0"),
            ("amqp://user:secret@host//", "amqp://user:**@host//"),
            ("at amqps://user:p@ss:word@host/v.", "at amqps://user:**@host/v."),
            ("amqp://a:b@h1//;amqp://c:d@h2//", "amqp://a:**@h1//;amqp://c:**@h2//"),
            ('{"url": "redis://:s3@h", "mail": "x@y"}', '{"url": "redis://:**@h", "mail": "x@y"}'),
            ("https://example.org:8000/a?mail=me@b.c", "https://example.org:8000/a?mail=me@b.c"),
            ("redis://host:6379/0 for me@b.c", "redis://host:6379/0 for me@b.c"),
            ("https://user@host/", "https://user@host/"),
            ("user:password@host", "user:password@host"),
            ("", ""),
        ],
    )
    def test_mask_passwords(self, text: str, masked: str) -> None:
        assert mask_passwords(text) == masked

    def test_long_texts_take_no_time(self) -> None:
        text = "://" + "a" * 100_000 + "://:" * 20_000 + "b" * 100_000
        assert mask_passwords(text) == text

    def test_message_and_arguments(self) -> None:
        record = record_of("no %s and %d", "redis://:secret@host", 3)
        assert SecretFilter().filter(record)
        assert record.getMessage() == "no redis://:**@host and 3"

    def test_a_clean_record_is_left_alone(self) -> None:
        record = record_of("see %s", "https://example.org")
        assert SecretFilter().filter(record)
        assert (record.msg, record.args) == ("see %s", ("https://example.org",))

    def test_traceback_and_stack(self) -> None:
        error = raised(ValueError("redis://:secret@host"))
        record = record_of(exc_info=(type(error), error, error.__traceback__), stack_info="f('amqp://u:secret@h')")
        SecretFilter().filter(record)
        text = logging.Formatter().format(record)
        assert "secret" not in text.replace('raised(ValueError("redis://:secret@host"))', "")
        assert "ValueError: redis://:**@host" in text
        assert "amqp://u:**@h" in text

    def test_arguments_that_do_not_fit_are_left_to_the_handler(self) -> None:
        assert SecretFilter().filter(record_of("%d", "not a number"))


class TestTaskFormatter:
    FORMAT = "%(levelname)s %(task_name)s[%(task_id)s]: %(message)s"

    @pytest.mark.usefixtures("in_task")
    def test_fills_in_the_task(self) -> None:
        assert TaskFormatter(self.FORMAT).format(record_of()) == f"INFO proj.tasks.add[{ID}]: hello"

    def test_outside_a_task(self) -> None:
        assert TaskFormatter(self.FORMAT).format(record_of()) == "INFO ???[???]: hello"

    @pytest.mark.parametrize(
        ("level", "code"), [("DEBUG", "34"), ("WARNING", "33"), ("ERROR", "31"), ("CRITICAL", "35")]
    )
    def test_colors(self, level: str, code: str) -> None:
        record = record_of(levelname=level)
        assert TaskFormatter("%(message)s").format(record) == f"\x1b[1;{code}mhello\x1b[0m"
        assert TaskFormatter("%(message)s", use_color=False).format(record) == "hello"

    def test_info_has_no_color(self) -> None:
        assert TaskFormatter("%(message)s").format(record_of()) == "hello"


class TestJsonFormatter:
    def line(self, record: logging.LogRecord) -> dict[str, Any]:
        text = JsonFormatter().format(record)
        assert "\n" not in text
        loaded: dict[str, Any] = json.loads(text)
        return loaded

    def test_facts(self) -> None:
        line = self.line(record_of("hello %s", "you"))
        time = datetime.fromisoformat(line.pop("time"))
        assert time.utcoffset() == timedelta(0)
        assert abs(datetime.now(timezone.utc) - time) < timedelta(minutes=1)
        assert line == {"level": "INFO", "logger": "proj", "process": "MainProcess", "message": "hello you"}

    @pytest.mark.usefixtures("in_task")
    def test_task(self) -> None:
        line = self.line(record_of())
        assert (line["task_name"], line["task_id"]) == ("proj.tasks.add", ID)

    def test_traceback_on_one_line(self) -> None:
        error = raised(ValueError("two\nlines"))
        line = self.line(record_of(exc_info=(type(error), error, error.__traceback__), stack_info="Stack:\n  here"))
        assert line["exc"].startswith("Traceback (most recent call last):\n")
        assert line["exc"].endswith("ValueError: two\nlines")
        assert line["stack"] == "Stack:\n  here"

    def test_extra(self) -> None:
        line = self.line(record_of(user=7, price=Decimal("1.50"), tags={1: "a"}, level="mine", path=Path("/x")))
        assert (line["user"], line["price"], line["tags"], line["path"]) == (7, "1.50", {"1": "a"}, "/x")
        assert line["level"] == "INFO"

    def test_passwords_in_extra(self) -> None:
        line = self.line(record_of(conf={"url": "redis://:secret@host"}))
        assert line["conf"] == {"url": "redis://:**@host"}

    @pytest.mark.parametrize("value", [1 << 70, "\ud800", {"deep": {("a", "b"): object}}], ids=["int", "text", "key"])
    def test_what_json_cannot_hold_is_text(self, value: Any) -> None:
        assert self.line(record_of(value=value))["value"] == str(value)

    def test_circles_are_text(self) -> None:
        circle: list[Any] = []
        circle.append(circle)
        assert self.line(record_of(value=circle))["value"] == "[[...]]"


class TestLevel:
    @pytest.mark.parametrize(
        ("level", "number"), [("INFO", 20), ("debug", 10), (" Error ", 40), ("FATAL", 50), (30, 30), ("15", 15)]
    )
    def test_known(self, level: str | int, number: int) -> None:
        assert level_number(level) == number

    @pytest.mark.parametrize("level", ["LOUD", "", "level 7"])
    def test_unknown(self, level: str) -> None:
        with pytest.raises(ImproperlyConfigured, match=f"Unknown log level {level!r}: use DEBUG, INFO"):
            level_number(level)


class TestSetup:
    def setup(
        self,
        logfile: Path | None = None,
        level: str = "INFO",
        json: bool = False,
        color: bool | None = None,
        **settings: Any,
    ) -> None:
        setup_logging(level, str(logfile) if logfile else None, json, color, Settings(**settings))

    def test_formats_are_celerys(self, logfile: Path) -> None:
        self.setup(logfile)
        logging.getLogger("proj").info("plain")
        token = context.push(Context(message=MESSAGE))
        get_task_logger("proj.tasks").info("of a task")
        context.pop(token)
        first, second = logfile.read_text().splitlines()
        assert first.startswith("[20")
        assert first.endswith(": INFO/MainProcess] plain")
        assert second.endswith(f": INFO/MainProcess] proj.tasks.add[{ID}]: of a task")

    def test_formats_are_settings(self, logfile: Path) -> None:
        self.setup(logfile, worker_log_format="A %(message)s", worker_task_log_format="B %(message)s")
        logging.getLogger("proj").info("plain")
        get_task_logger("proj.tasks").info("of a task")
        assert logfile.read_text() == "A plain\nB of a task\n"

    def test_level(self, logfile: Path) -> None:
        self.setup(logfile, level="WARNING", worker_log_format="%(message)s", worker_task_log_format="%(message)s")
        for logger in (logging.getLogger("proj"), get_task_logger("proj.tasks"), logs.logger):
            logger.info("info of %s", logger.name)
            logger.warning("warning of %s", logger.name)
        assert logfile.read_text().splitlines() == [
            "warning of proj",
            "warning of proj.tasks",
            "warning of django_tasks.worker",
        ]

    def test_a_file_is_appended_to_and_may_be_rotated(self, logfile: Path) -> None:
        logfile.write_text("before\n")
        self.setup(logfile, worker_log_format="%(message)s")
        logging.getLogger("proj").info("one")
        logfile.rename(logfile.with_suffix(".1"))
        logging.getLogger("proj").info("two")
        assert logfile.with_suffix(".1").read_text() == "before\none\n"
        assert logfile.read_text() == "two\n"

    def test_a_file_that_cannot_be_written_is_named(self, logfile: Path) -> None:
        with pytest.raises(ImproperlyConfigured, match="nowhere"):
            self.setup(logfile.parent / "nowhere" / "worker.log")

    @pytest.mark.usefixtures("restored_logging")
    def test_standard_error_without_a_file(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.setup(worker_log_format="A %(message)s", worker_task_log_format="B %(message)s")
        logging.getLogger("proj").warning("plain")
        get_task_logger("proj.tasks").warning("of a task")
        assert capsys.readouterr() == ("", "A plain\nB of a task\n")

    @pytest.mark.usefixtures("restored_logging")
    @pytest.mark.parametrize(
        ("tty", "color", "setting", "colored"),
        [
            (True, None, None, True),
            (False, None, None, False),
            (True, False, None, False),
            (False, True, None, True),
            (True, None, False, False),
            (False, None, True, True),
            (True, False, True, False),
        ],
    )
    def test_color(
        self, monkeypatch: pytest.MonkeyPatch, tty: bool, color: bool | None, setting: bool | None, colored: bool
    ) -> None:
        class Stream(io.StringIO):
            def isatty(self) -> bool:
                return tty

        stream = Stream()
        monkeypatch.setattr(sys, "stderr", stream)
        self.setup(color=color, worker_log_color=setting, worker_log_format="%(message)s")
        logging.getLogger("proj").warning("careful")
        assert stream.getvalue() == ("\x1b[1;33mcareful\x1b[0m\n" if colored else "careful\n")

    def test_a_file_is_not_colored(self, logfile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        self.setup(logfile, worker_log_format="%(message)s")
        logging.getLogger("proj").warning("careful")
        assert logfile.read_text() == "careful\n"

    def test_json(self, logfile: Path) -> None:
        self.setup(logfile, json=True, color=True)
        logging.getLogger("proj").warning("plain", extra={"user": 7})
        get_task_logger("proj.tasks").info("of a task")
        logs.task_received(MESSAGE)
        plain, task, received = map(json.loads, logfile.read_text().splitlines())
        assert (plain["level"], plain["message"], plain["user"]) == ("WARNING", "plain", 7)
        assert (task["logger"], task["message"]) == ("proj.tasks", "of a task")
        assert "task_id" not in task
        assert (received["task_name"], received["task_id"]) == ("proj.tasks.add", ID)

    @pytest.mark.parametrize("json", [True, False])
    def test_passwords_are_masked(self, logfile: Path, json: bool) -> None:
        self.setup(logfile, json=json)
        url = "://".join(["redis", ":secret@host"])  # not as one text, since a traceback quotes this file
        for logger in (logging.getLogger("proj"), get_task_logger("proj.tasks")):
            logger.error("cannot reach %s", url, exc_info=raised(ValueError(url)))
        text = logfile.read_text()
        assert text.count("cannot reach redis://:**@host") == 2
        assert text.count("ValueError: redis://:**@host") == 2
        assert url not in text


class TestProjectsOwnLogging:
    """Handlers that Django's LOGGING has set up before."""

    @pytest.fixture
    def lines(self, restored_logging: None) -> list[str]:
        lines: list[str] = []

        class Lines(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                lines.append(record.getMessage())

        for logger in (logging.root, task_logger):
            logger.handlers[:] = []
            logger.setLevel(logging.NOTSET)
        logging.root.setLevel(logging.WARNING)
        logging.root.addHandler(Lines())
        return lines

    def test_is_replaced_by_default(self, lines: list[str], logfile: Path) -> None:
        setup_logging("INFO", str(logfile), False, None, Settings(worker_log_format="%(message)s"))
        logging.getLogger("proj").info("mine")
        assert lines == []
        assert logfile.read_text() == "mine\n"

    def test_stays_if_wanted(self, lines: list[str], logfile: Path) -> None:
        setup_logging("INFO", str(logfile), False, None, Settings(worker_hijack_root_logger=False))
        logging.getLogger("proj").info("too quiet for the project's own level")
        logging.getLogger("proj").warning("proj")
        get_task_logger("proj.tasks").info("task")
        logs.task_received(MESSAGE)
        assert lines == ["proj", "task", f"Task proj.tasks.add[{ID}] received"]
        assert not logfile.exists()

    def test_levels_that_are_set_stay(self, lines: list[str]) -> None:
        task_logger.setLevel(logging.ERROR)
        setup_logging("INFO", None, False, None, Settings(worker_hijack_root_logger=False))
        get_task_logger("proj.tasks").warning("hidden")
        assert lines == []

    def test_without_any_handlers_there_is_nothing_to_keep(self, lines: list[str], logfile: Path) -> None:
        logging.root.handlers[:] = [logging.NullHandler()]
        conf = Settings(
            worker_hijack_root_logger=False, worker_log_format="A %(message)s", worker_task_log_format="B %(message)s"
        )
        setup_logging("INFO", str(logfile), False, None, conf)
        logging.getLogger("proj").info("proj")
        get_task_logger("proj.tasks").info("task")
        assert logfile.read_text() == "A proj\nB task\n"

    def test_handlers_of_the_task_logger_alone(self, lines: list[str], logfile: Path) -> None:
        task_logger.addHandler(logging.root.handlers[0])
        logging.root.handlers[:] = []
        conf = Settings(worker_hijack_root_logger=False, worker_log_format="A %(message)s")
        setup_logging("INFO", str(logfile), False, None, conf)
        get_task_logger("proj.tasks").info("task")
        assert lines == ["task"]
        assert logfile.read_text() == "A task\n"


class TestSignals:
    @pytest.fixture
    def heard(self) -> Iterator[list[tuple[Any, dict[str, Any]]]]:
        heard: list[tuple[Any, dict[str, Any]]] = []

        def hear(signal: signals.Signal, sender: Any, **facts: Any) -> None:
            heard.append((signal, facts))

        chosen = (signals.after_setup_logger, signals.after_setup_task_logger)
        for signal in chosen:
            signal.connect(hear)
        yield heard
        for signal in chosen:
            signal.disconnect(hear)

    def test_after_setup(self, heard: list[Any], logfile: Path) -> None:
        conf = Settings(worker_log_format="A %(message)s", worker_task_log_format="B %(message)s")
        setup_logging("debug", str(logfile), False, True, conf)
        facts = {"loglevel": 10, "logfile": str(logfile), "colorize": True}
        assert heard == [
            (signals.after_setup_logger, {"logger": logging.root, "format": "A %(message)s", **facts}),
            (signals.after_setup_task_logger, {"logger": task_logger, "format": "B %(message)s", **facts}),
        ]

    def test_after_setup_may_change_the_handlers(self, logfile: Path) -> None:
        @signals.after_setup_task_logger.connect
        def change(logger: logging.Logger, **kwargs: Any) -> None:
            for handler in logger.handlers:
                handler.setFormatter(TaskFormatter("%(task_id)s %(message)s"))

        try:
            setup_logging("INFO", str(logfile), False, None, Settings())
            get_task_logger("proj.tasks").info("task")
        finally:
            signals.after_setup_task_logger.disconnect(change)
        assert logfile.read_text() == "??? task\n"

    def test_setup_logging_does_it_all(self, heard: list[Any], logfile: Path) -> None:
        asked: list[dict[str, Any]] = []

        @signals.setup_logging.connect
        def configure(signal: Any, **facts: Any) -> None:
            asked.append(facts)

        before = logging.root.handlers[:]
        try:
            setup_logging("INFO", str(logfile), False, True, Settings(worker_log_format="A %(message)s"))
        finally:
            signals.setup_logging.disconnect(configure)
        assert asked == [
            {"sender": None, "loglevel": 20, "logfile": str(logfile), "format": "A %(message)s", "colorize": True}
        ]
        assert logging.root.handlers == before
        assert heard == []
        assert not logfile.exists()

    @pytest.mark.usefixtures("restored_logging")
    def test_a_setup_that_fails_stops_the_worker(self) -> None:
        @signals.setup_logging.connect
        def configure(**kwargs: Any) -> None:
            raise KeyError("no such formatter")

        try:
            with pytest.raises(KeyError, match="no such formatter"):
                setup_logging("INFO", None, False, None, Settings())
        finally:
            signals.setup_logging.disconnect(configure)


class Unprintable:
    asked = False

    def __repr__(self) -> str:
        self.asked = True
        raise RuntimeError("cannot be shown")


class TestLines:
    """What the worker says about tasks."""

    @pytest.fixture
    def said(self, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
        caplog.set_level(logging.DEBUG, "django_tasks.worker")
        return caplog

    def expect(self, said: pytest.LogCaptureFixture, level: int, text: str) -> logging.LogRecord:
        (record,) = said.records
        assert (record.name, record.levelno) == ("django_tasks.worker", level)
        assert record.getMessage() == text.replace("ID", ID)
        return record

    def test_received(self, said: pytest.LogCaptureFixture) -> None:
        logs.task_received(MESSAGE)
        record = self.expect(said, logging.INFO, "Task proj.tasks.add[ID] received")
        assert (record.task_name, record.task_id) == ("proj.tasks.add", ID)  # type: ignore[attr-defined]

    def test_shadow_is_the_name_to_show(self, said: pytest.LogCaptureFixture) -> None:
        logs.task_received(Message(task="proj.tasks.add", id=ID, shadow="adding"))
        self.expect(said, logging.INFO, "Task adding[ID] received")

    def test_a_name_with_a_percent_sign(self, said: pytest.LogCaptureFixture) -> None:
        logs.task_succeeded(Message(task="100%s", id=ID), 1, "50%d")
        self.expect(said, logging.INFO, "Task 100%s[ID] succeeded in 1.0000s: '50%d'")

    def test_succeeded(self, said: pytest.LogCaptureFixture) -> None:
        logs.task_succeeded(MESSAGE, 0.00123, 5)
        self.expect(said, logging.INFO, "Task proj.tasks.add[ID] succeeded in 0.0012s: 5")

    def test_succeeded_with_a_long_value(self, said: pytest.LogCaptureFixture) -> None:
        logs.task_succeeded(MESSAGE, 1, "x" * 5000, maxsize=20)
        assert said.messages[0].endswith(f" succeeded in 1.0000s: '{'x' * 16}...")
        logs.task_succeeded(MESSAGE, 1, "x" * 5000)
        assert said.messages[1].endswith(f" succeeded in 1.0000s: '{'x' * 1020}...")

    def test_the_rest_of_a_long_value_is_not_looked_at(self, said: pytest.LogCaptureFixture) -> None:
        rest = Unprintable()
        logs.task_succeeded(MESSAGE, 1, [7] * 2000 + [rest])
        assert said.messages[0].endswith(" 7, 7, ...]")
        assert not rest.asked

    def test_succeeded_with_a_value_that_cannot_be_shown(self, said: pytest.LogCaptureFixture) -> None:
        logs.task_succeeded(MESSAGE, 1, Unprintable())
        assert said.messages[0].endswith("s: <Unprintable that cannot be shown>")

    def test_long_reasons_are_cut(self, said: pytest.LogCaptureFixture) -> None:
        logs.task_failed(MESSAGE, ValueError("x" * 5000))
        logs.task_retried(MESSAGE, Retry("x" * 5000))
        logs.task_rejected(MESSAGE, Reject("x" * 5000))
        for message in said.messages:
            assert len(message) < 1200
            assert message.endswith("xxx...")

    def test_failed(self, said: pytest.LogCaptureFixture) -> None:
        error = raised(ValueError("x"))
        logs.task_failed(MESSAGE, error)
        record = self.expect(said, logging.ERROR, "Task proj.tasks.add[ID] raised unexpected: ValueError('x')")
        assert record.exc_info is not None
        assert record.exc_info[1] is error
        assert "Traceback (most recent call last):" in said.text

    def test_failed_as_expected(self, said: pytest.LogCaptureFixture) -> None:
        logs.task_failed(MESSAGE, raised(KeyError("x")), expected=True)
        record = self.expect(said, logging.INFO, "Task proj.tasks.add[ID] raised expected: KeyError('x')")
        assert not record.exc_info
        assert "Traceback" not in said.text

    def test_retried(self, said: pytest.LogCaptureFixture) -> None:
        logs.task_retried(MESSAGE, Retry(exc=ValueError("x"), when=1))
        self.expect(said, logging.INFO, "Task proj.tasks.add[ID] retry: Retry in 1s: ValueError('x')")

    def test_ignored(self, said: pytest.LogCaptureFixture) -> None:
        logs.task_ignored(MESSAGE)
        self.expect(said, logging.INFO, "Task proj.tasks.add[ID] ignored")

    @pytest.mark.parametrize(
        ("reason", "text"),
        [
            ("revoked", "Discarding revoked task: proj.tasks.add[ID]"),
            ("expired", "Discarding expired task: proj.tasks.add[ID]"),
            ("terminated", "Task proj.tasks.add[ID] terminated"),
        ],
    )
    def test_revoked(self, said: pytest.LogCaptureFixture, reason: str, text: str) -> None:
        logs.task_revoked(MESSAGE, reason)
        self.expect(said, logging.INFO, text)

    def test_rejected(self, said: pytest.LogCaptureFixture) -> None:
        logs.task_rejected(MESSAGE, Reject("full", requeue=True))
        self.expect(said, logging.WARNING, "Task proj.tasks.add[ID] rejected, requeue=True: full")

    def test_ended_by_another_process(self, said: pytest.LogCaptureFixture) -> None:
        logs.task_ended(MESSAGE, TimeLimitExceeded(5))
        self.expect(said, logging.ERROR, "Task proj.tasks.add[ID] failed: TimeLimitExceeded(5)")

    def test_facts_stand_apart(self, said: pytest.LogCaptureFixture) -> None:
        logs.task_received(MESSAGE)
        logs.task_succeeded(MESSAGE, 1.23456789, 5)
        logs.task_failed(MESSAGE, ValueError("x"), 0.5)
        logs.task_failed(MESSAGE, ValueError("x"), 0.6, expected=True)
        logs.task_retried(MESSAGE, Retry("x"), 0.7)
        logs.task_ignored(MESSAGE, 0.8)
        logs.task_rejected(MESSAGE, Reject("x"), 0.9)
        logs.task_revoked(MESSAGE)
        logs.task_ended(MESSAGE, TimeLimitExceeded(5))
        assert [(vars(record)["state"], vars(record).get("runtime")) for record in said.records] == [
            ("RECEIVED", None), ("SUCCESS", 1.234568), ("FAILURE", 0.5), ("FAILURE", 0.6), ("RETRY", 0.7),
            ("IGNORED", 0.8), ("REJECTED", 0.9), ("REVOKED", None), ("FAILURE", None),
        ]  # fmt: skip
        assert {(vars(record)["task_name"], vars(record)["task_id"]) for record in said.records} == {
            ("proj.tasks.add", ID)
        }

    def test_nothing_is_built_for_nobody(self, said: pytest.LogCaptureFixture) -> None:
        said.set_level(logging.WARNING, "django_tasks.worker")
        value, error = Unprintable(), Unprintable()
        logs.task_received(MESSAGE)
        logs.task_succeeded(MESSAGE, 1, value)
        logs.task_failed(MESSAGE, ValueError(error), expected=True)
        logs.task_retried(MESSAGE, Retry(exc=None, when=1))
        logs.task_ignored(MESSAGE)
        logs.task_revoked(MESSAGE)
        assert said.records == []
        assert not value.asked
        assert not error.asked


class TestBanner:
    FACTS = banner.Facts(
        node="celery@web1",
        version="0.1.0",
        platform="Linux x86_64, Python 3.13.0, Django 6.1",
        app="proj",
        broker="amqp://user:secret@host:5672//",
        results="redis://:other-secret@host:6379/1",
        concurrency=4,
        pool="prefork",
        queues=["celery", "feeds"],
        tasks=["proj.tasks.sub", "proj.tasks.add"],
    )

    def test_tells_everything(self) -> None:
        text = banner.banner(self.FACTS)
        for fact in (
            "celery@web1  django-celeriac 0.1.0",
            "Linux x86_64, Python 3.13.0, Django 6.1",
            "[config]",
            "app:          proj",
            "broker:       amqp://user:**@host:5672//",
            "results:      redis://:**@host:6379/1",
            "concurrency:  4 (prefork)",
        ):
            assert any(line.endswith(f"  {fact}") for line in text.splitlines()), fact
        assert "secret" not in text

    def test_lists_queues_in_order_and_tasks_by_name(self) -> None:
        text = banner.banner(self.FACTS)
        assert "\n[queues]\n  celery\n  feeds\n" in text
        assert text.endswith("\n[tasks]\n  proj.tasks.add\n  proj.tasks.sub\n")

    def test_without_tasks(self) -> None:
        facts = banner.Facts(**{**vars(self.FACTS), "tasks": []})
        assert banner.banner(facts).endswith("\n[tasks]\n  (none)\n")

    def test_fits_a_terminal(self) -> None:
        lines = banner.banner(self.FACTS).splitlines()
        assert all(len(line) <= 80 and line == line.rstrip() for line in lines)
