"""``App``: settings, tasks and parts; in a Django project, beside an unchanged ``celery.py``, and in a plain script."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import psutil
import pytest
from django.test import override_settings

from django_tasks import App, Task, current, current_app, shared_task
from django_tasks.backends.cache import CacheBackend
from django_tasks.backends.memory import MemoryBackend
from django_tasks.brokers.memory import MemoryBroker
from django_tasks.brokers.orm import ORMBroker
from django_tasks.exceptions import ImproperlyConfigured, TimeoutError
from django_tasks.registry import tasks
from django_tasks.serialization import content_types
from tests.processes import ROOT, die_with_parent
from tests.running import app_of_test, drain
from tests.servers import Redis
from tests.testapp.tasks import add, echo, fail
from tests.waiting import wait_for


@pytest.fixture
def app(memory_app: App) -> App:
    return memory_app


# -- settings


def test_settings_of_django(settings: Any) -> None:
    settings.TASK_DEFAULT_QUEUE = "house"
    settings.CELERY_TASK_TIME_LIMIT = 30
    with app_of_test() as app:
        assert app.conf.task_default_queue == "house"
        assert app.conf.task_time_limit == 30
        assert app.conf["TASK_TIME_LIMIT"] == 30


def test_what_the_app_is_given_wins(settings: Any) -> None:
    settings.BROKER_URL = settings.CELERY_RESULT_BACKEND = "django-db://"
    with app_of_test() as app:
        app = App("own", broker="memory://", backend="memory://", task_default_queue="mine")
        assert isinstance(app.broker, MemoryBroker)
        assert isinstance(app.backend, MemoryBackend)
        assert app.conf.task_default_queue == "mine"
        assert repr(app) == "<App own>"


def test_config_from_django_with_a_namespace(settings: Any) -> None:
    settings.CELERY_TASK_DEFAULT_QUEUE = "house"
    with app_of_test():
        app = App("proj")
        app.config_from_object("django.conf:settings", namespace="CELERY")
        assert app.conf.task_default_queue == "house"


def test_config_source(app: App) -> None:
    configured = App(set_as_current=False, config_source={"task_default_queue": "other"})
    assert configured.conf.task_default_queue == "other"


def test_settings_that_change_make_new_parts(app: App) -> None:
    broker, backend = app.broker, app.backend
    assert app.broker is broker
    app.conf.broker_url = "django-db://"
    app.conf.result_backend = "django-cache://"
    assert isinstance(app.broker, ORMBroker)
    assert isinstance(app.backend, CacheBackend)
    assert app.backend is not backend


@pytest.mark.parametrize(
    ("name", "value", "part", "attribute", "expected"),
    [
        ("ACCEPT_CONTENT", ["yaml"], "broker", "accept", content_types(["yaml"])),
        ("TASK_MAX_MESSAGE_SIZE", 123, "broker", "max_size", 123),
        ("WORKER_LEASE", 12, "broker", "lease", 12),
        ("BROKER_TRANSPORT_OPTIONS", {"wait_replicas": 1}, "broker", "options", {"wait_replicas": 1}),
        ("BROKER_CONNECTION_TIMEOUT", 7, "broker", "timeout", 7),
        ("RESULT_SERIALIZER", "pickle", "backend", "serializer", "pickle"),
        ("RESULT_ACCEPT_CONTENT", ["yaml"], "backend", "accept", content_types(["yaml", "json"])),
        ("RESULT_EXPIRES", 60, "backend", "expires", 60),
        ("RESULT_EXTENDED", True, "backend", "extended", True),
        ("RESULT_BACKEND_TRANSPORT_OPTIONS", {"key": "x"}, "backend", "options", {"key": "x"}),
    ],
)
def test_other_settings_that_change_make_new_parts_too(
    app: App, name: str, value: Any, part: str, attribute: str, expected: Any
) -> None:
    before = getattr(app, part)
    with override_settings(**{name: value}):
        during = getattr(app, part)
        assert during is not before
        assert during is getattr(app, part)
        assert getattr(during, attribute) == expected
    assert getattr(app, part) is not during
    app.conf[name] = value
    assert getattr(getattr(app, part), attribute) == expected


def test_settings_that_make_no_difference_leave_parts_as_they_are(app: App) -> None:
    parts = (app.broker, app.backend, app.router)
    with override_settings(LANGUAGE_CODE="de", TASK_ALWAYS_EAGER=True):
        assert (app.broker, app.backend, app.router) == parts
    app.conf.worker_lease = app.conf.worker_lease
    assert (app.broker, app.backend, app.router) == parts


def test_what_is_in_memory_outlives_a_change_of_settings(app: App) -> None:
    before, broker, backend = add.delay(1, 2), app.broker, app.backend
    with override_settings(TASK_MAX_MESSAGE_SIZE=100_000, RESULT_EXPIRES=60):
        assert app.broker is not broker
        assert app.backend is not backend
        drain(app)
        assert before.get(timeout=0) == 3
        during = add.delay(3, 4)
        app.broker.control.give_order("pause", "", {})  # type: ignore[union-attr]
    assert [order.kind for order in app.broker.control.orders(0)] == ["pause"]  # type: ignore[union-attr]
    drain(app)
    assert (before.get(timeout=0), during.get(timeout=0)) == (3, 7)


def test_what_is_in_memory_is_kept_for_the_way_back(app: App) -> None:
    result = add.delay(1, 2)
    for url in ("memory://other", "django-db://"):
        app.conf.update(broker_url=url, result_backend=url)
        assert (app.broker.url, app.backend.url) == (url, url)
        if url == "memory://other":
            assert app.broker.sizes() == {}
    app.conf.update(broker_url="memory://", result_backend="memory://")
    assert app.broker.sizes()["celery"].waiting == 1
    drain(app)
    assert result.get(timeout=0) == 3


def test_apps_do_not_share_what_is_in_memory(app: App) -> None:
    add.delay(1, 2)
    assert App("other", broker="memory://", set_as_current=False).broker.sizes() == {}


def test_parts_that_are_replaced_leave_nothing_open(redis_url: str, redis_server: Redis) -> None:
    admin, process = redis_server.connect(), psutil.Process()
    strangers = {each["id"] for each in admin.client_list()}

    def now_open() -> tuple[int, int, int]:
        gc.collect()
        clients = {each["id"] for each in admin.client_list()} - strangers
        return len(clients), threading.active_count(), process.num_fds()

    with app_of_test(redis_url) as app:

        def use() -> None:
            app.broker.reserve("worker", ["unused"], 1, 1)
            app.broker.wait(["unused"], 0.01, wakeup)
            with pytest.raises(TimeoutError):
                add.delay(1, 2).get(timeout=0.01)

        wakeup, other_end = os.pipe()
        use()
        before = now_open()
        for number in range(4):
            with override_settings(RESULT_EXPIRES=60 + number, WORKER_LEASE=60 + number):
                use()
            use()
        wait_for(lambda: all(now <= then for now, then in zip(now_open(), before, strict=True)), timeout=5,
                 message=lambda: f"{now_open()} to be {before}")  # fmt: skip
        app.close()
    os.close(wakeup)
    os.close(other_end)


def test_options_that_are_changed_in_place_count_from_the_next_change_on(app: App) -> None:
    app.conf.broker_transport_options = {"some": {"of": [1]}}
    broker = app.broker
    app.conf.broker_transport_options["some"]["of"].append(2)
    assert app.broker is broker
    assert broker.options == {"some": {"of": [1]}}
    app.conf.task_always_eager = False
    assert app.broker is not broker
    assert app.broker.options == {"some": {"of": [1, 2]}}


def test_routes_that_change_are_heeded(app: App) -> None:
    app.conf.task_routes = {add.name: "one"}
    assert app.router.route(add.name)["queue"] == "one"
    app.conf.task_routes = {add.name: "two"}
    assert app.router.route(add.name)["queue"] == "two"


def test_routes_of_an_earlier_test_are_forgotten(app: App) -> None:
    """The dict of one ``override_settings`` may get the place in memory that another one's had."""
    for number in range(50):
        with override_settings(TASK_ROUTES={add.name: {"queue": f"q{number}"}}):
            assert app.router.route(add.name)["queue"] == f"q{number}"


def test_queues_that_change_are_heeded(app: App) -> None:
    for number in range(50):
        with override_settings(TASK_QUEUES={f"q{number}": {"routing_key": "key"}}):
            assert app.router.route(add.name, options={"routing_key": "key"})["queue"] == f"q{number}"


@pytest.mark.parametrize(("name", "url"), [("broker_url", "pigeon://"), ("result_backend", "shoebox://")])
def test_a_url_that_nobody_speaks(app: App, name: str, url: str) -> None:
    app.conf[name] = url
    part = {"broker_url": "broker", "result_backend": "backend"}[name]
    with pytest.raises(ImproperlyConfigured, match=f"{name.upper()} = '{url}'"):
        getattr(app, part)


@pytest.mark.parametrize("name", ["chain", "group", "chord"])
def test_what_comes_with_a_later_release(name: str) -> None:
    with pytest.raises(ImportError, match=f"^django_tasks.{name} is not in this release; it comes with a later one"):
        exec(f"from django_tasks import {name}")


def test_all_threads_have_one_broker() -> None:
    found: list[Any] = []
    start = threading.Barrier(8, timeout=30)
    with app_of_test() as app:

        def look() -> None:
            start.wait()
            found.append(app.broker)

        threads = [threading.Thread(target=look) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(set(map(id, found))) == 1


def test_close_is_no_end(app: App) -> None:
    app.close()
    result = add.delay(1, 2)
    drain(app)
    app.close()
    assert result.get() == 3


# -- the current app


def test_the_last_one_made_is_the_current_one() -> None:
    with app_of_test() as first:
        assert current.get_current_app() is first
        second = App("second")
        assert current.get_current_app() is second
        App("third", set_as_current=False)
        assert current_app.main == "second"
        assert add.app is second
        current_app.conf.task_default_queue = "through the stand-in"
        assert second.conf.task_default_queue == "through the stand-in"


def test_the_current_one_by_choice(app: App) -> None:
    other = App("other", set_as_current=False, broker="memory://", backend="memory://")
    for choose in (other.set_current, other.set_default):
        app.set_current()
        assert echo.app is app
        choose()
        assert echo.app is other


def test_settings_that_an_environment_variable_names(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_CONFIG", raising=False)
    assert app.config_from_envvar("MY_CONFIG", silent=True) is False
    with pytest.raises(ImproperlyConfigured, match="MY_CONFIG is not set"):
        app.config_from_envvar("MY_CONFIG")
    monkeypatch.setenv("MY_CONFIG", "tests.test_app")
    assert app.config_from_envvar("MY_CONFIG") is True
    assert app.conf.task_default_queue == "of this module"


#: What ``config_from_envvar`` is to find.
task_default_queue = "of this module"


def test_the_default_one_is_made_from_the_settings(app: App, settings: Any) -> None:
    settings.TASK_DEFAULT_QUEUE = "house"
    current.set_current_app(None)
    assert current.find_current_app() is None
    default = current.get_current_app()
    assert default.conf.task_default_queue == "house"
    assert repr(default) == "<App default>"
    assert current.get_current_app() is default


# -- tasks


def test_task(app: App) -> None:
    @app.task
    def bare() -> str:
        return "bare"

    @app.task(bind=True, queue="q")
    def bound(self: Any) -> Any:
        return self.app is app

    assert app.tasks[bare.name] is bare
    results = [bare.delay(), bound.delay()]
    drain(app)
    assert [each.get() for each in results] == ["bare", True]


def test_tasks_of_the_main_script_are_named_after_the_app(app: App) -> None:
    def job() -> None: ...

    job.__module__ = "__main__"
    assert app.task(job).name == "tests.job"
    del tasks["tests.job"]
    assert shared_task(job).name == "tests.job"


def test_task_cls() -> None:
    class Base(Task[..., Any]):
        kind = "of this app"

    with app_of_test(task_cls=Base) as app:

        @app.task
        def job() -> None: ...

        assert app.Task is Base
        assert isinstance(job, Base)
    with app_of_test(task_cls="tests.test_app:Another") as app:
        assert app.Task is Another
        assert isinstance(app.task(name="named")(print), Another)


class Another(Task[..., Any]):
    pass


def test_the_base_of_all(app: App) -> None:
    assert app.Task is Task

    class Job(app.Task):  # type: ignore[name-defined,misc]
        name = "job"

        def run(self) -> int:
            return 1

    result = app.register_task(Job()).delay()
    drain(app)
    assert result.get() == 1


def test_a_name_that_no_app_has(app: App) -> None:
    with pytest.raises(AttributeError, match="'App' object has no attribute 'nothing'"):
        app.nothing()  # type: ignore[attr-defined]


# -- modules


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package with modules that note their import."""
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").write_text("imported = []\n")
    for name in ("tasks", "jobs", "more"):
        (package / f"{name}.py").write_text("import shop; shop.imported.append(__name__)\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield package
    for name in [name for name in sys.modules if name.partition(".")[0] == "shop"]:
        del sys.modules[name]


def imported() -> list[str]:
    import shop  # type: ignore[import-not-found]

    found: list[str] = shop.imported
    return found


def test_include_and_imports(shop: Path) -> None:
    with app_of_test(include=["shop.more"], imports=["shop.jobs"]) as app:
        assert "shop" not in sys.modules
        app.finalize()
        assert imported() == ["shop.more", "shop.jobs"]


@pytest.mark.parametrize("packages", [["shop"], lambda: ["shop", "tests.testapp"]])
@pytest.mark.parametrize("related_name", ["tasks", "jobs"])
def test_autodiscover(app: App, shop: Path, packages: Any, related_name: str) -> None:
    app.autodiscover_tasks(packages, related_name=related_name)
    assert "shop" not in sys.modules  # celery.py is read before the packages can be
    app.finalize()
    assert imported() == [f"shop.{related_name}"]


def test_autodiscover_where_there_is_nothing(app: App, shop: Path) -> None:
    app.autodiscover_tasks(["shop"], related_name="nothing")
    app.finalize()
    assert "shop.nothing" not in sys.modules


@pytest.mark.parametrize("packages", [None, lambda: ["django.contrib.auth.apps.AuthConfig"]])
def test_autodiscover_in_installed_apps(app: App, packages: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    app.autodiscover_tasks(packages, related_name="tokens")
    monkeypatch.delitem(sys.modules, "django.contrib.auth.tokens", raising=False)
    app.finalize()
    assert "django.contrib.auth.tokens" in sys.modules


def test_autodiscover_of_a_package_that_does_not_exist(app: App) -> None:
    app.autodiscover_tasks(["no_such_package"])
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        app.finalize()


def test_an_error_in_a_module_is_shown(app: App, shop: Path) -> None:
    (shop / "tasks.py").write_text("1 / 0\n")
    app.autodiscover_tasks(["shop"])
    with pytest.raises(ZeroDivisionError):
        app.finalize()


# -- annotations


def test_annotations(app: App) -> None:
    app.conf.task_annotations = {"*": {"priority": 3, "track_started": True}, add.name: {"priority": 7, "own": "x"}}
    app.finalize()
    assert (add.priority, add.track_started, add.own) == (7, True, "x")  # type: ignore[attr-defined]
    assert (echo.priority, echo.track_started) == (3, True)
    assert Task.priority is None


def test_annotations_with_methods(app: App) -> None:
    seen: list[Any] = []

    def on_failure(self: Any, exc: BaseException, *rest: Any) -> None:
        seen.append((self.name, repr(exc)))

    app.conf.task_annotations = {"*": {"on_failure": on_failure}}
    app.finalize()
    fail.delay("bad")
    drain(app)
    assert seen == [(fail.name, "ValueError('bad')")]


def test_tasks_made_after_the_start_are_annotated_too(app: App) -> None:
    app.conf.task_annotations = {"late": {"priority": 8}, "later": {"priority": 9}}
    app.finalize()

    @shared_task(name="late")
    def late() -> None: ...

    class Later(Task[..., Any]):
        name = "later"

        def run(self) -> None: ...

    assert late.priority == 8
    assert app.register_task(Later).priority == 9
    assert Later.priority is None


def test_routes_may_hold_attributes_too(app: App) -> None:
    app.conf.task_routes = {add.name: {"queue": "q", "rate_limit": "5/m"}}
    app.finalize()
    assert add.rate_limit == "5/m"


def test_a_wrong_setting_does_not_keep_django_from_starting(tmp_path: Path) -> None:
    """``manage.py check`` could not tell of it otherwise."""
    write(tmp_path, {"wrong.py": SETTINGS + "TASK_ANNOTATIONS = 5\n"})
    done = run_python(tmp_path, "-m", "django", "check", DJANGO_SETTINGS_MODULE="wrong")
    assert done.returncode == 1
    assert "django_tasks.E001" in done.stderr
    assert "TASK_ANNOTATIONS = 5" in done.stderr
    assert "Traceback" not in done.stderr


# -- whole projects


SETTINGS = """
import django
SECRET_KEY = "of a test"
INSTALLED_APPS = ["django_tasks"]
USE_TZ = True
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "project.sqlite3", "OPTIONS": {"timeout": 20}}}
if django.VERSION >= (5, 1):
    DATABASES["default"]["OPTIONS"]["transaction_mode"] = "IMMEDIATE"
"""


def write(directory: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))


def start_python(directory: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start Python in a directory, without anything of these tests' Django."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "TEST_", "CELERY_"))}
    path = os.pathsep.join([str(directory), str(ROOT)])
    return subprocess.Popen(
        [sys.executable, *arguments], cwd=directory, env={**kept, "PYTHONPATH": path, **environment},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=die_with_parent,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def run_python(directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a directory to its end."""
    return finish(start_python(directory, *arguments, **environment))


def output(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the lines that a program has printed; it must have ended well."""
    assert done.returncode == 0, f"{done.args}:\n{done.stdout}\n{done.stderr}"
    return done.stdout.splitlines()


SCRIPT = """
import sys
from django_tasks import App

app = App("script")

@app.task
def add(x: int, y: int) -> int:
    return x + y

if __name__ == "__main__":
    if sys.argv[1:]:
        result = app.AsyncResult(sys.argv[1])
        print(result.state, result.get(timeout=1), result.name)
    else:
        print(add.delay(2, 3).id)
"""


def test_a_plain_script(tmp_path: Path) -> None:
    write(tmp_path, {"script.py": SCRIPT})
    (task_id,) = output(run_python(tmp_path, "script.py"))
    worker = run_python(
        tmp_path, "-m", "django_tasks", "-A", "script", "worker", "--loglevel=INFO", "--burst", "-c", "1"
    )
    assert "script.add" in "\n".join(output(worker))
    assert f"script.add[{task_id}] succeeded" in worker.stderr + worker.stdout
    assert output(run_python(tmp_path, "script.py", task_id)) == ["SUCCESS 5 script.add"]
    assert (tmp_path / "django_tasks.sqlite3").exists()


@pytest.mark.parametrize("call", ["app.start()", "app.worker_main()", "app.start(['worker', '--burst', '-c', '1'])"])
def test_a_script_that_runs_its_worker_itself(tmp_path: Path, call: str) -> None:
    """``if __name__ == "__main__": app.start()``, as for Celery."""
    write(
        tmp_path, {"script.py": SCRIPT, "jobs.py": SCRIPT[: SCRIPT.index("if __name__")] + f"{call}\nprint('after')\n"}
    )
    (task_id,) = output(run_python(tmp_path, "script.py"))
    assert output(run_python(tmp_path, "jobs.py", "worker", "--burst", "-c", "1"))[-1] == "after"
    assert output(run_python(tmp_path, "script.py", task_id)) == ["SUCCESS 5 script.add"]


def test_what_is_wrong_with_its_arguments(tmp_path: Path) -> None:
    script = SCRIPT[: SCRIPT.index("if __name__")]
    write(tmp_path, {"jobs.py": f"{script}app.start()\n", "main.py": f"{script}app.worker_main()\n",
                     "again.py": f"{script}app.start(['worker', '--reload'])\n"})  # fmt: skip
    done = run_python(tmp_path, "jobs.py", "wroker")
    assert (done.returncode, "invalid choice: 'wroker'" in done.stderr) == (2, True)
    done = run_python(tmp_path, "jobs.py", "worker", "-c=-1")
    assert (done.returncode, done.stderr.startswith("Error: ")) == (1, True)
    done = run_python(tmp_path, "main.py", "--burst")
    assert (done.returncode, "'worker' must be among the arguments" in done.stderr) == (1, True)
    done = run_python(tmp_path, "again.py")
    assert (done.returncode, "--reload runs the program again" in done.stderr) == (2, True)


def test_a_script_and_its_worker_started_together(tmp_path: Path) -> None:
    """Both find no tables, and both create them."""
    write(tmp_path, {"script.py": SCRIPT})
    processes = [start_python(tmp_path, "script.py") for _ in range(4)]
    ids = [output(finish(process))[0] for process in processes]
    assert len(set(ids)) == 4


def test_a_script_in_memory_needs_no_file(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"script.py": SCRIPT.replace('App("script")', 'App("script", broker="memory://", backend="memory://")')},
    )
    assert len(output(run_python(tmp_path, "script.py"))) == 1
    assert not (tmp_path / "django_tasks.sqlite3").exists()


#: What a project that comes from Celery has; only the first line of celery.py was changed.
PROJECT = {
    "manage.py": """
        import os
        from django.core.management import execute_from_command_line
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "proj.settings")
        import sys
        execute_from_command_line(sys.argv)
    """,
    "proj/__init__.py": """
        from .celery import app as celery_app
        __all__ = ("celery_app",)
    """,
    "proj/celery.py": """
        import os
        from django_tasks import App as Celery

        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "proj.settings")
        app = Celery("proj")
        app.config_from_object("django.conf:settings", namespace="CELERY")
        app.autodiscover_tasks()
        app.conf.task_routes = {"shop.tasks.*": {"queue": "shop"}}

        @app.task(bind=True, ignore_result=True)
        def debug_task(self):
            print(f"Request: {self.request!r}")
    """,
    "proj/settings.py": SETTINGS.replace("django_tasks", 'django_tasks", "shop') + "CELERY_TASK_TRACK_STARTED = True\n",
    "shop/__init__.py": "",
    "shop/tasks.py": """
        from django_tasks import shared_task

        @shared_task
        def bill(number):
            return number * 2
    """,
    "call.py": """
        import django
        django.setup()
        from django_tasks import current_app
        from proj import celery_app
        from shop.tasks import bill
        assert current_app == celery_app
        assert celery_app.conf.task_track_started
        assert {"proj.celery.debug_task", "shop.tasks.bill"} <= set(celery_app.tasks)
        print(bill.delay(4).id)
        print(celery_app.send_task("proj.celery.debug_task").id)
        revoked = bill.apply_async((1,), countdown=60)
        celery_app.control.revoke(revoked.id)
        print(celery_app.AsyncResult(revoked.id).state)
    """,
    "ask.py": """
        import sys, django
        django.setup()
        from django_tasks import AsyncResult
        print(AsyncResult(sys.argv[1]).get(timeout=1))
    """,
}  # fmt: skip


@pytest.mark.parametrize(
    "command",
    [
        ("manage.py", "runworker", "--burst", "-Q", "celery,shop", "-c", "1"),
        ("-m", "django_tasks", "-A", "proj", "worker", "--burst", "-Q", "celery,shop", "-c", "1"),
    ],
    ids=["runworker", "-A proj worker"],
)
def test_a_project_that_comes_from_celery(tmp_path: Path, command: tuple[str, ...]) -> None:
    write(tmp_path, PROJECT)
    output(run_python(tmp_path, "manage.py", "migrate"))
    task_id, _, state = output(run_python(tmp_path, "call.py", DJANGO_SETTINGS_MODULE="proj.settings"))
    assert state == "REVOKED"
    assert any("Request: <Context: proj.celery.debug_task[" in line for line in output(run_python(tmp_path, *command)))
    assert output(run_python(tmp_path, "ask.py", task_id, DJANGO_SETTINGS_MODULE="proj.settings")) == ["8"]


def test_a_project_without_a_database(tmp_path: Path) -> None:
    files = {
        "bare.py": 'SECRET_KEY = "x"\nINSTALLED_APPS = ["django_tasks"]\nBROKER_URL = RESULT_BACKEND = "memory://"\n',
        "call.py": """
            import django
            django.setup()
            from django_tasks import current_app, shared_task
            from django_tasks.exceptions import TimeoutError
            from tests.running import drain

            @shared_task(name="double")
            def double(x):
                return x * 2

            result = double.delay(2)
            try:
                result.get(timeout=0)
            except TimeoutError:
                drain(current_app)
            print(result.get(timeout=1), double.delay_on_commit(1).state)
        """,
    }
    write(tmp_path, files)
    assert output(run_python(tmp_path, "call.py", DJANGO_SETTINGS_MODULE="bare")) == ["4 PENDING"]


def test_without_migrate(tmp_path: Path) -> None:
    write(tmp_path, PROJECT)
    done = run_python(tmp_path, "call.py", DJANGO_SETTINGS_MODULE="proj.settings")
    assert done.returncode == 1
    assert "run `python manage.py migrate`" in done.stderr
