"""The form of a periodic task in a real browser, under a strict Content-Security-Policy."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils.timezone import now
from pytest_django.live_server_helper import LiveServer

from django_tasks import App
from django_tasks.brokers.beat import EntryState
from django_tasks.models import PeriodicTask
from django_tasks.schedules import crontab
from tests.browser import chromium
from tests.running import drain
from tests.waiting import wait_for

ADD = "tests.testapp.tasks.add"
#: Where pictures go, for somebody to look at.
PICTURES = os.environ.get("TEST_PICTURES")


class StrictPolicy:
    """Middleware that allows nothing inline."""

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> Any:
        response = self.get_response(request)
        response["Content-Security-Policy"] = "default-src 'self'; img-src 'self' data:"
        return response


@pytest.fixture
def site(database_app: App, live_server: LiveServer, settings: Any) -> str:
    """The address of the admin, with two rows and an entry of the settings."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "tests.periodic.test_browser.StrictPolicy"]
    nightly = {"task": ADD, "schedule": crontab(30, 2), "args": [1, 2]}
    database_app.conf.beat_schedule = {"nightly report": nightly, "overridden": nightly}
    PeriodicTask.objects.create(
        name="sums", task=ADD, kind="cron", schedule="0 7 * * mon-fri", timezone="Europe/Berlin", args=[1, 2]
    )
    result = database_app.send_task(ADD, [1, 2])
    drain(database_app)
    at = now().timestamp() - 3600
    store = database_app.broker.claim_store
    assert store is not None
    store.add([EntryState("sums", at, at, slot=at, fired=at, runs=3, last_id=result.id)])
    PeriodicTask.objects.create(name="overridden", task=ADD, kind="cron", schedule="0 9 13 * fri", args=[1, 2])
    PeriodicTask.objects.create(name="paused", task=ADD, schedule="90 seconds", enabled=False)
    return str(live_server.url)


def log_in(browser: Any, site: str) -> None:
    """Give the browser the session of an administrator."""
    client = Client()
    client.force_login(User.objects.create_superuser("admin"))
    browser.get(f"{site}{reverse('admin:login')}")
    browser.add_cookie({"name": "sessionid", "value": client.cookies["sessionid"].value, "path": "/"})


@pytest.fixture(params=["desktop", "phone"])
def browser(request: pytest.FixtureRequest, site: str) -> Iterator[Any]:
    size = {"desktop": (1280, 1000), "phone": (390, 844)}[request.param]
    with chromium(*size, dark=request.param == "phone") as driver:
        log_in(driver, site)
        driver.celeriac_name = request.param
        yield driver


def picture(browser: Any, name: str) -> None:
    if PICTURES:
        Path(PICTURES).mkdir(parents=True, exist_ok=True)
        browser.save_screenshot(f"{PICTURES}/{name}-{browser.celeriac_name}.png")


def test_the_next_runs_are_shown_as_one_types(browser: Any, site: str) -> None:
    def runs() -> list[str]:
        script = "return [...document.querySelectorAll('.periodic-preview li')].map(each => each.textContent)"
        found: list[str] = browser.execute_script(script)
        return found

    def problem() -> str:
        return str(browser.execute_script("return document.querySelector('.periodic-preview p').textContent"))

    def type_into(name: str, text: str) -> None:
        field = browser.find_element("name", name)
        field.clear()
        field.send_keys(text)

    browser.get(f"{site}{reverse('admin:django_tasks_periodictask_add')}")
    type_into("schedule", "10 minutes")
    wait_for(lambda: len(runs()) == 5, 10)
    browser.find_element("css selector", "select[name=kind] option[value=cron]").click()
    type_into("schedule", "30 7 * * mon")
    type_into("timezone", "Asia/Tokyo")
    wait_for(lambda: len(runs()) == 5 and all("Mon" in run and "07:30:00 JST" in run for run in runs()), 10)
    shown = browser.execute_script(
        "return [...document.querySelectorAll('.periodic-examples [data-kind]')].filter(e => !e.hidden).length"
    )
    assert shown == 1
    picture(browser, "form")
    type_into("schedule", "0 0 31 2 *")
    wait_for(lambda: "never due" in problem(), 10)
    assert runs() == []
    type_into("schedule", "30 7 * * mon")
    wait_for(lambda: len(runs()) == 5 and not problem(), 10)
    browser.find_element("name", "schedule").clear()
    wait_for(lambda: not runs() and not problem(), 10)
    complaints = [line["message"] for line in browser.get_log("browser") if "django_tasks" in line["message"]]
    assert complaints == []


def test_pages_fit(browser: Any, site: str) -> None:
    browser.get(f"{site}{reverse('admin:django_tasks_periodictask_changelist')}")  # shows the settings
    row, nightly = PeriodicTask.objects.get(name="sums"), PeriodicTask.objects.get(name="nightly report")
    pages = {
        "list": reverse("admin:django_tasks_periodictask_changelist"),
        "change": reverse("admin:django_tasks_periodictask_change", args=[row.pk]),
        "settings": reverse("admin:django_tasks_periodictask_change", args=[nightly.pk]),
    }
    for name, path in pages.items():
        browser.get(f"{site}{path}")
        picture(browser, name)
        browser.execute_script("scrollTo(0, document.body.scrollHeight)")
        picture(browser, f"{name}-end")
        # The admin's own list scrolls within its frame; nothing else may be wider than the window.
        ours = ".periodic-preview, .periodic-buttons, #periodictask_form textarea, #periodictask_form select"
        wide = browser.execute_script(
            f"return [...document.querySelectorAll('{ours}')]"
            ".filter(each => each.getBoundingClientRect().right > innerWidth + 1).length"
        )
        assert wide == 0, name
        table = browser.execute_script(
            "const table = document.querySelector('.results');return table && [table.scrollWidth, table.clientWidth]"
        )
        # On a phone it can only be scrolled.
        assert table is None or table[0] <= table[1] or browser.celeriac_name == "phone", name
