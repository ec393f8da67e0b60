"""The ways into a project's tests: pytest's fixtures, the mixin for ``unittest``, and the worker in a thread."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction

from django_tasks import shared_task
from django_tasks.current import get_current_app
from django_tasks.testing import TaskWorker, plugin, task_worker
from django_tasks.testing import worker as worker_module
from tests.testapp.models import Note
from tests.testapp.tasks import add, count_notes, create_note, fail
from tests.waiting import wait_for

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parent.parent

release = threading.Event()


@shared_task
def wait_for_release() -> None:
    assert release.wait(10)


@shared_task(bind=True, max_retries=2)
def second_time_lucky(self: Any) -> str:
    if not self.request.retries:
        self.retry(countdown=0.05)
    return f"{threading.current_thread().name}, retry {self.request.retries}"


@pytest.fixture(autouse=True)
def _released() -> Iterator[None]:
    release.clear()
    yield
    release.set()


@pytest.fixture
def worker(transactional_db: None) -> Iterator[TaskWorker]:
    with task_worker() as running:
        yield running


def worker_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "task-worker"]


class TestWorker:
    def test_it_runs_calls_as_they_come(self, worker: TaskWorker) -> None:
        result = create_note.delay("by a thread")
        assert Note.objects.get(pk=result.get(timeout=10)).title == "by a thread"
        assert add.apply_async((1, 2), queue="any").get(timeout=10) == 3

    def test_in_a_thread_with_retries(self, worker: TaskWorker) -> None:
        assert second_time_lucky.delay().get(timeout=10) == "task-worker, retry 1"

    def test_it_sees_what_is_committed(self, worker: TaskWorker) -> None:
        with transaction.atomic():
            Note.objects.create(title="committed")
            result = count_notes.delay("committed")
        assert result.get(timeout=10) == 1

    def test_join(self, worker: TaskWorker) -> None:
        results = add.delay_many([(number, 1) for number in range(20)])
        later = add.apply_async((0, 0), countdown=3600)
        failed = fail.delay()
        worker.join()
        assert [result.get() for result in results] == list(range(1, 21))
        assert (failed.state, later.state) == ("FAILURE", "PENDING")

    def test_join_tells_what_it_waits_for(self, worker: TaskWorker) -> None:
        wait_for_release.delay()
        add.delay(1, 2)
        with pytest.raises(AssertionError) as raised:
            worker.join(timeout=0.1)
        assert "was not done with:\n  tests.test_testing_plugin.wait_for_release() to queue 'celery'" in str(
            raised.value
        )
        assert "\n  tests.testapp.tasks.add(1, 2) to queue 'celery'" in str(raised.value)
        release.set()
        worker.join()

    def test_it_stops_with_its_block(self, transactional_db: None) -> None:
        app = get_current_app()
        url = app.conf.broker_url
        with task_worker():
            assert app.conf.broker_url != url
            assert worker_threads()
        assert app.conf.broker_url == url
        assert not worker_threads()

    def test_a_task_that_outlives_its_test_is_told(
        self, transactional_db: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(worker_module, "PATIENCE", 0.2)

        def use() -> None:
            with task_worker():
                wait_for_release.delay()
                wait_for(lambda: get_current_app().broker.sizes()["celery"].reserved)

        with pytest.raises(AssertionError, match=r"still runs 0\.2 s after its test"):
            use()
        release.set()
        wait_for(lambda: not worker_threads())


class TestPytest:
    """The fixtures in a project of their own, whose test database is in memory as in most projects."""

    @pytest.fixture
    def project(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(pytester.path)]))
        monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "shop.settings")
        for name, text in PROJECT.items():
            path = pytester.path / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        return pytester

    def run(self, project: pytest.Pytester, tests: str) -> pytest.RunResult:
        project.makepyfile(tests)
        # Named twice, so that it does not matter whether the package is installed.
        return project.runpytest_subprocess("-p", "no:django_tasks", "-p", "django_tasks.testing.plugin")

    def test_task_queue(self, project: pytest.Pytester) -> None:
        result = self.run(
            project,
            """
            import pytest
            from django.contrib.auth.models import Group
            from shop.tasks import create_group, double

            def test_without_a_database(task_queue):
                result = double.delay(21)
                task_queue.run()
                assert result.get() == 42

            @pytest.mark.django_db
            def test_a_view(client, task_queue):
                client.post("/groups/", {"name": "staff"})  # which has ATOMIC_REQUESTS
                task_queue.assert_sent(create_group, ("staff",))
                assert not Group.objects.exists()
                task_queue.run()
                assert Group.objects.get().name == "staff"

            def test_that_fails(task_queue):
                double.delay(1)
                task_queue.assert_sent(double, (2,))
            """,
        )
        result.assert_outcomes(passed=2, failed=1)
        result.stdout.fnmatch_lines(["*AssertionError: shop.tasks.double(2, *) was not sent. Sent were:*"])

    def test_task_worker(self, project: pytest.Pytester) -> None:
        result = self.run(
            project,
            """
            from urllib.request import urlopen
            from django.contrib.auth.models import Group
            from django.db import connection
            from shop.tasks import create_group

            def test_a_page_that_waits_for_its_task(live_server, task_worker):
                assert connection.is_in_memory_db()
                for name in ("staff", "guests"):
                    assert urlopen(f"{live_server.url}/wait/?name={name}").read() == name.encode()
                assert Group.objects.count() == 2

            def test_that_looks_while_tasks_write(task_worker):
                results = create_group.delay_many([(str(number),) for number in range(50)])
                while not all(result.ready() for result in results):
                    assert Group.objects.count() <= 50
                assert Group.objects.count() == 50
            """,
        )
        result.assert_outcomes(passed=2)

    def test_loading_the_plugin_loads_no_django(self) -> None:
        code = "import sys, django_tasks.testing.plugin; sys.exit('django' in sys.modules)"
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)

    def test_pytest_finds_the_plugin(self) -> None:
        config = configparser.ConfigParser()
        config.read(ROOT / "setup.cfg")
        name, _, module = config["options.entry_points"]["pytest11"].strip().partition(" = ")
        assert (name, module) == ("django_tasks", plugin.__name__)

    def test_with_unittest_and_djangos_own_runner(self, project: pytest.Pytester) -> None:
        project.makepyfile(
            test_unittest="""
            from urllib.request import urlopen
            from django.contrib.auth.models import Group
            from django.test import LiveServerTestCase, TestCase
            from django_tasks.testing import TaskTestMixin, task_worker
            from shop.tasks import create_group, double

            class ShopTests(TaskTestMixin, TestCase):
                def test_a_view(self):
                    self.client.post("/groups/", {"name": "staff"})
                    self.tasks.run()
                    self.assertEqual(Group.objects.get().name, "staff")

                async def test_a_coroutine(self):
                    from asgiref.sync import sync_to_async
                    result = await double.adelay(21)
                    await sync_to_async(self.tasks.run)()
                    self.assertEqual(await result.aget(), 42)

            class ShopTestsTheOtherWayRound(TestCase, TaskTestMixin):
                def setUp(self):
                    super().setUp()
                    create_group.delay("from setUp")

                def test_nothing_is_left_of_other_tests(self):
                    self.tasks.assert_sent(create_group, times=1)

            class LiveTests(LiveServerTestCase):
                def test_a_page_that_waits_for_its_task(self):
                    with task_worker() as worker:
                        self.assertEqual(urlopen(f"{self.live_server_url}/wait/?name=staff").read(), b"staff")
                        create_group.delay("guests")
                        worker.join()
                    self.assertEqual(Group.objects.count(), 2)
            """
        )
        run = project.run(sys.executable, "-m", "django", "test")
        assert run.ret == 0
        run.stderr.fnmatch_lines(["Ran 4 tests*", "OK"])


PROJECT = {
    "shop/__init__.py": "",
    "shop/settings.py": """
SECRET_KEY = "of a test"
ROOT_URLCONF = "shop.urls"
STATIC_URL = "/static/"
MEDIA_URL = "/media/"
USE_TZ = True
INSTALLED_APPS = ["django_tasks", "shop", "django.contrib.auth", "django.contrib.contenttypes"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "shop.sqlite3", "ATOMIC_REQUESTS": True}}
""",
    "shop/tasks.py": """
from django.contrib.auth.models import Group
from django_tasks import shared_task

@shared_task
def double(x):
    return 2 * x

@shared_task
def create_group(name):
    return Group.objects.create(name=name).name
""",
    "shop/urls.py": """
from django.db import transaction
from django.http import HttpResponse
from django.urls import path
from shop.tasks import create_group

def groups(request):
    create_group.delay(request.POST["name"])
    return HttpResponse()

@transaction.non_atomic_requests
def wait(request):
    return HttpResponse(create_group.delay(request.GET["name"]).get(timeout=10))

urlpatterns = [path("groups/", groups), path("wait/", wait)]
""",
}
