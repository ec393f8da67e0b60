"""Periodic tasks in Django's admin."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils.timezone import now

from django_tasks import App
from django_tasks.brokers.beat import EntryState
from django_tasks.models import PeriodicTask, QueuedMessage
from django_tasks.periodic.meaning import entry_of
from django_tasks.schedules import BaseSchedule, crontab
from tests.running import drain

Make = Callable[..., PeriodicTask]
ADD = "tests.testapp.tasks.add"
LIST, NEW = "admin:django_tasks_periodictask_changelist", "admin:django_tasks_periodictask_add"


@pytest.fixture
def scheduled_app(database_app: App) -> App:
    """An app with an entry in its settings."""
    database_app.conf.beat_schedule = {"nightly": {"task": ADD, "schedule": crontab(30, 2), "args": [1, 2]}}
    return database_app


@pytest.fixture
def admin(scheduled_app: App) -> Client:
    client = Client(enforce_csrf_checks=False)
    client.force_login(User.objects.create_superuser("admin"))
    return client


@pytest.fixture
def someone(scheduled_app: App) -> Callable[..., Client]:
    """Make a client of a user with some permissions: ``someone("view")``."""

    def log_in(*verbs: str) -> Client:
        user = User.objects.create_user("someone", is_staff=True)
        names = [f"{verb}_periodictask" for verb in verbs]
        user.user_permissions.set(Permission.objects.filter(codename__in=names))
        client = Client()
        client.force_login(user)
        return client

    return log_in


def change(row: PeriodicTask) -> str:
    return reverse("admin:django_tasks_periodictask_change", args=[row.pk])


def filled(**values: Any) -> dict[str, Any]:
    """Return a form as a browser sends it."""
    usual = {
        "name": "sums", "task": ADD, "enabled": "on", "kind": "interval", "schedule": "5 minutes", "timezone": "",
        "args": "[1, 2]", "kwargs": "{}", "options": "{}", "start_time_0": "", "start_time_1": "", "end_time_0": "",
        "end_time_1": "", "catch_up": "once", "catch_up_max": "100", "overlap": "allow", "jitter": "0", "grace": "",
        "expires": "", "description": "",
    }  # fmt: skip
    return {key: value for key, value in {**usual, **values}.items() if value is not None}


def act(client: Client, action: str, *rows: PeriodicTask) -> str:
    """Run an action of the list and return the page after it."""
    data = {"action": action, "_selected_action": [row.pk for row in rows]}
    return client.post(reverse(LIST), data, follow=True).content.decode()


def fired(app: App, row: PeriodicTask, task_id: str) -> None:
    at = now().timestamp() - 20
    state = EntryState(row.name, at - 3600, at - 3600, slot=at, fired=at, runs=3, last_id=task_id)
    app.broker.claim_store.add([state])


def history(client: Client, row: PeriodicTask) -> list[str]:
    """Return what the page of a row's history says of it."""
    page = client.get(reverse("admin:django_tasks_periodictask_history", args=[row.pk]))
    return [entry.get_change_message() for entry in page.context["action_list"]]


# -- the list


def test_the_list_shows_the_settings_and_what_became_of_each(admin: Client, scheduled_app: App, make: Make) -> None:
    row = make("sums", kind="cron", schedule="0 7 * * mon", timezone="Europe/Berlin")
    result = scheduled_app.send_task(ADD, [1, 2])
    drain(scheduled_app)
    fired(scheduled_app, row, result.id)
    assert f"<small>(task id {result.id})</small>" in admin.get(change(row)).content.decode()
    make("broken", schedule="often")
    make("off", enabled=False)
    page = admin.get(reverse(LIST)).content.decode()
    for text in (
        "nightly", "at 02:30", "at 07:00 on Monday (Europe/Berlin)", "SUCCESS", f'title="task id {result.id}"',
        "&#x27;often&#x27; is no interval", ">broken<", ">off<", "settings",
    ):  # fmt: skip
        assert text in page, text
    assert "20 s ago" in page or "21 s ago" in page


def test_instants_are_in_the_zone_of_their_row(admin: Client, scheduled_app: App, make: Make) -> None:
    row = make("tokyo", kind="cron", schedule="30 7 * * *", timezone="Asia/Tokyo", args=[1, 2])
    plain = make("plain", kind="cron", schedule="45 7 * * *")
    for each in (row, plain):
        fired(scheduled_app, each, "some-id")
    page = admin.get(reverse(LIST)).content.decode()
    assert "<span>07:30:00 JST</span>" in page
    assert "<span>07:45:00 UTC</span>" in page
    assert page.count(" JST</span>") == 2  # the last run, too
    make("nowhere", timezone="Mars")
    assert admin.get(reverse(LIST)).status_code == 200


def test_a_page_of_100_rows_takes_as_many_queries_as_one_of_2(admin: Client, scheduled_app: App, make: Make) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert admin.get(reverse(LIST)).status_code == 200
        return len(captured)

    for number in range(2):
        fired(scheduled_app, make(f"row-{number}"), f"id-{number}")
    queries()  # the first look writes the rows of the settings
    few = queries()
    for number in range(2, 99):
        fired(scheduled_app, make(f"row-{number}"), f"id-{number}")
    assert queries() == few <= 14


def test_search_and_filters(admin: Client, make: Make) -> None:
    make("sums", description="adds up")
    make("others", enabled=False)
    for query, there, not_there in (
        ("q=adds", "sums", "others"),
        ("enabled__exact=0", "others", "nightly"),
        ("origin__exact=settings", "nightly", "sums"),
        ("kind__exact=interval", "sums", "nightly"),
    ):
        page = admin.get(f"{reverse(LIST)}?{query}").content.decode()
        assert f">{there}</a>" in page, query
        assert f">{not_there}</a>" not in page, query


def test_the_list_is_there_though_the_broker_is_away(admin: Client, scheduled_app: App, make: Make) -> None:
    make("sums")
    scheduled_app.conf.broker_url = "redis://127.0.0.1:1/0"
    scheduled_app.conf.broker_connection_timeout = 0.5
    page = admin.get(reverse(LIST)).content.decode()
    assert "Last runs and results are not known" in page
    assert ">sums</a>" in page
    assert "every 5 minutes" in page


# -- the form


def test_a_task_is_added(admin: Client) -> None:
    page = admin.get(reverse(NEW)).content.decode()
    assert f'<option value="{ADD}"></option>' in page
    assert '<option value="Europe/Berlin"></option>' in page
    assert (page.count("\n[]</textarea>"), page.count("\n{}</textarea>")) == (1, 2)
    assert "<script>" not in page  # as a strict Content-Security-Policy wants it
    data = filled(kind="crontab", schedule="0 8 * * mon", args="", kwargs='{"x": 1, "y": 2}', options='{"priority": 3}')
    assert admin.post(reverse(NEW), data).status_code == 302
    row = PeriodicTask.objects.get(name="sums")
    assert (row.kind, row.schedule, row.args, row.kwargs) == ("crontab", "0 8 * * mon", [], {"x": 1, "y": 2})
    assert (row.options, row.origin, row.enabled) == ({"priority": 3}, "database", True)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("args", "[1, 2", "This is not JSON: Expecting &#x27;,&#x27; delimiter at line 1, column 6"),
        ("args", "{}", "{} is not a list in square brackets. Write it like [1, &quot;two&quot;]"),
        ("args", "[NaN]", "NaN is no number that JSON knows"),
        ("kwargs", "[1]", "[1] is not an object in braces"),
        ("options", '{"cuntdown": 5}', "Did you mean countdown?"),
        ("schedule", "often", "&#x27;often&#x27; is no interval. Write it like 30 seconds"),
        ("timezone", "Mars/Olympus", "no time zone &#x27;Mars/Olympus&#x27;"),
        ("name", "taken", "Periodic task with this Name already exists"),
        ("grace", "-1", "-1.0 is no number of seconds from 0 on. Leave it empty for none."),
    ],
)
def test_what_is_wrong_is_said_at_its_field(admin: Client, make: Make, field: str, value: str, message: str) -> None:
    make("taken")
    answer = admin.post(reverse(NEW), filled(**{field: value}))
    assert answer.status_code == 200
    form = answer.context["adminform"].form
    assert list(form.errors) == [field]
    page = answer.content.decode()
    assert message in page, form.errors
    assert PeriodicTask.objects.filter(origin="database").count() == 1


def test_a_name_that_nobody_knows_is_kept_and_warned_of(admin: Client) -> None:
    page = admin.post(reverse(NEW), filled(task="tests.testapp.tasks.ad"), follow=True).content.decode()
    assert "is known here; a worker must know it. Did you mean tests.testapp.tasks.add?" in page
    row = PeriodicTask.objects.get(name="sums")
    assert row.task == "tests.testapp.tasks.ad"
    assert 'value="tests.testapp.tasks.ad"' in admin.get(change(row)).content.decode()


def test_a_form_that_is_saved_unchanged_changes_nothing(admin: Client, make: Make) -> None:
    row = make("sums", grace=60.0, expires=5.0, args=[1], kwargs={"y": [1]}, options={"queue": "slow"})
    page = admin.get(change(row))
    form = page.context["adminform"].form
    data = {}
    for bound in form:
        value = bound.value()
        if bound.name in ("start_time", "end_time"):
            data |= {f"{bound.name}_0": "", f"{bound.name}_1": ""}
        elif value is not None and value is not False:
            data[bound.name] = "on" if value is True else value
    before = PeriodicTask.objects.filter(pk=row.pk).values().get()
    assert admin.post(change(row), data).status_code == 302
    after = PeriodicTask.objects.filter(pk=row.pk).values().get()
    unimportant = ("changed_at", "version")
    assert {k: v for k, v in after.items() if k not in unimportant} == {
        k: v for k, v in before.items() if k not in unimportant
    }


def test_what_never_runs_is_an_error_of_a_new_row_and_a_warning_later(admin: Client, make: Make) -> None:
    values = {"kind": "clocked", "schedule": "2020-01-01 08:00"}
    answer = admin.post(reverse(NEW), filled(**values))
    assert list(answer.context["adminform"].form.errors) == ["schedule"]
    row = make("sums", **values)
    page = admin.post(change(row), filled(**values, description="gone by"), follow=True).content.decode()
    assert "Schedule: it never runs any more: &#x27;once at 2020-01-01 08:00:00&#x27;, its only run has passed." in page
    assert ">never</span>" in page


def test_the_form_runs_a_task(admin: Client, make: Make, scheduled_app: App) -> None:
    row = make("sums")
    page = admin.post(change(row), filled(args="[20, 22]", _run_now="x"), follow=True).content.decode()
    assert "1 periodic task called." in page
    assert [outcome.value for outcome in drain(scheduled_app)] == [42]


# -- entries of the settings


def test_an_entry_of_the_settings_is_only_paused(admin: Client) -> None:
    admin.get(reverse(LIST))
    row = PeriodicTask.objects.get(name="nightly")
    page = admin.get(change(row)).content.decode()
    assert 'name="schedule"' not in page
    assert 'name="enabled"' in page
    assert "at 02:30" in admin.get(reverse(LIST)).content.decode()
    assert "deletelink" not in page
    admin.post(change(row), {"name": "other", "schedule": "1 day"})
    row.refresh_from_db()
    assert (row.name, row.schedule, row.enabled, row.origin) == ("nightly", "30 2 * * *", False, "settings")


def test_an_entry_of_the_settings_is_overridden_and_given_back(admin: Client) -> None:
    admin.get(reverse(LIST))
    row = PeriodicTask.objects.get(name="nightly")
    page = admin.post(change(row), {"enabled": "on", "_override": "x"}, follow=True).content.decode()
    assert 'name="schedule"' in page
    row.refresh_from_db()
    assert (row.origin, row.enabled) == ("database", True)
    assert "database, in place of the entry of this name in the settings" in page
    assert "<small>overrides the settings</small>" in admin.get(reverse(LIST)).content.decode()
    data = filled(name="nightly", kind="cron", schedule="0 5 * * *", _restore="x")
    admin.post(change(row), data, follow=True)
    row.refresh_from_db()
    assert (row.origin, row.schedule) == ("settings", "30 2 * * *")
    assert history(admin, row)[::2] == [
        "Overridden: the settings do not count any more.", "Given back: what the settings say counts again."
    ]  # fmt: skip
    assert history(admin, row)[1].startswith("Changed ")
    assert "settings: read-only here but for Enabled; override them to" in admin.get(change(row)).content.decode()
    assert "<small>from the settings</small>" in admin.get(reverse(LIST)).content.decode()


def test_what_the_settings_have_no_more_is_said_and_can_be_deleted(admin: Client, scheduled_app: App) -> None:
    admin.get(reverse(LIST))
    row = PeriodicTask.objects.get(name="nightly")
    delete = reverse("admin:django_tasks_periodictask_delete", args=[row.pk])
    assert admin.post(delete, {"post": "yes"}).status_code == 403
    scheduled_app.conf.beat_schedule = {}
    assert "they have no such entry any more" in admin.get(reverse(LIST)).content.decode()
    assert "settings, which do not have it any more: delete it" in admin.get(change(row)).content.decode()
    assert admin.post(delete, {"post": "yes"}).status_code == 302
    assert not PeriodicTask.objects.exists()


def test_a_new_row_takes_the_place_of_an_entry_of_the_settings(admin: Client) -> None:
    admin.get(reverse(LIST))
    row = PeriodicTask.objects.get(name="nightly")
    page = admin.post(reverse(NEW), filled(name="nightly", schedule="2 hours"), follow=True).content.decode()
    assert "It takes the place of the entry &#x27;nightly&#x27; of the settings, which does not run any more." in page
    found = PeriodicTask.objects.get()
    assert (found.pk, found.origin, found.kind, found.schedule) == (row.pk, "database", "interval", "2 hours")


# -- actions


def test_actions(admin: Client, make: Make, scheduled_app: App) -> None:
    admin.get(reverse(LIST))
    sums, nightly = make("sums"), PeriodicTask.objects.get(name="nightly")
    assert "2 periodic tasks called." in act(admin, "run_now", sums, nightly)
    assert [outcome.value for outcome in drain(scheduled_app)] == [3, 3]
    assert "2 periodic tasks disabled." in act(admin, "disable", sums, nightly)
    assert not PeriodicTask.objects.filter(enabled=True).exists()
    assert "2 periodic tasks enabled." in act(admin, "enable", sums, nightly)
    assert "1 periodic task can be changed here now" in act(admin, "override", nightly)
    assert PeriodicTask.objects.get(name="nightly").origin == "database"
    assert "Periodic task &#x27;sums&#x27; is not of the settings" in act(admin, "override", sums)
    assert "1 periodic task back to what the settings say" in act(admin, "back_to_settings", nightly)
    assert "The settings have no entry &#x27;sums&#x27;" in act(admin, "back_to_settings", sums)
    for rows in ([nightly], [sums, nightly]):  # none where one of them is the settings'
        assert "Nothing was deleted: &#x27;nightly&#x27; would come back" in act(admin, "delete_selected", *rows)
        data = {"action": "delete_selected", "_selected_action": [row.pk for row in rows], "post": "yes"}
        assert "would come back" in admin.post(reverse(LIST), data, follow=True).content.decode()
    assert PeriodicTask.objects.count() == 2
    assert history(admin, sums) == ["Called now.", "Disabled.", "Enabled."]
    assert history(admin, nightly) == [
        "Called now.", "Disabled.", "Enabled.", "Overridden: the settings do not count any more.",
        "Given back: what the settings say counts again.",
    ]  # fmt: skip
    act_page = admin.post(
        reverse(LIST), {"action": "delete_selected", "_selected_action": [sums.pk], "post": "yes"}, follow=True
    )
    assert act_page.status_code == 200
    assert [row.name for row in PeriodicTask.objects.all()] == ["nightly"]


def test_many_are_called_by_few_statements(admin: Client, make: Make) -> None:
    counts = []
    for count in (2, 30):
        rows = [make(f"{count}-{number}") for number in range(count)]
        with CaptureQueriesContext(connection) as queries:
            assert f"{count} periodic tasks called." in act(admin, "run_now", *rows)
        counts.append(sum("INTO" in query["sql"] and "django_tasks_message" in query["sql"] for query in queries))
        PeriodicTask.objects.all().delete()
    assert counts == [1, 1]


def test_nothing_is_called_where_one_cannot_be(admin: Client, make: Make) -> None:
    page = act(admin, "run_now", make("sums"), make("broken", schedule="often"))
    assert "Periodic task &#x27;broken&#x27; cannot be run" in page
    page = act(admin, "run_now", make("other"), make("misfit", args=[1, 2, 3]))
    assert "Periodic task &#x27;misfit&#x27; cannot be run: tests.testapp.tasks.add does not take args" in page
    assert not QueuedMessage.objects.exists()


def test_a_task_that_is_not_known_here_is_called_with_a_warning(admin: Client, make: Make) -> None:
    page = act(admin, "run_now", make("one", task="tests.testapp.tasks.ad"), make("other"))
    assert "2 periodic tasks called." in page
    assert "No task &#x27;tests.testapp.tasks.ad&#x27; is known here; a worker must know it. Did you mean" in page


# -- permissions


def test_who_may_look_may_not_change(someone: Callable[..., Client], make: Make) -> None:
    row = make("sums")
    client = someone("view")
    assert client.get(reverse(LIST)).status_code == 200
    page = client.get(change(row)).content.decode()
    assert "_run_now" not in page
    assert 'name="schedule"' not in page
    assert client.post(change(row), filled()).status_code == 403
    assert client.post(f"{change(row)}preview/", filled()).status_code == 403
    assert client.get(reverse(NEW)).status_code == 403
    assert client.post(f"{reverse(NEW)}preview/", filled()).status_code == 403
    for action in ("run_now", "disable", "enable", "override", "back_to_settings"):
        act(client, action, row)
    assert not QueuedMessage.objects.exists()
    assert PeriodicTask.objects.get(name="sums").enabled


def test_who_may_nothing_sees_nothing(someone: Callable[..., Client], make: Make) -> None:
    row = make("sums")
    client = someone()
    for url in (reverse(LIST), change(row), reverse(NEW)):
        assert client.get(url).status_code == 403
    assert Client().post(f"{change(row)}preview/", filled()).status_code == 302


def test_who_may_change_may_run(someone: Callable[..., Client], make: Make) -> None:
    row = make("sums")
    client = someone("change", "view")
    assert "1 periodic task called." in act(client, "run_now", row)
    assert client.post(f"{change(row)}preview/", filled()).status_code == 200


# -- the next runs


def next_runs(client: Client, url: str = "", **values: Any) -> Any:
    return client.post(f"{url or reverse(NEW)}preview/", filled(**values)).json()


def test_the_next_runs_are_told_while_the_rest_is_not_filled_in(admin: Client) -> None:
    answer = next_runs(admin, name="", task="", args="[", kind="cron", schedule="30 7 * * *", timezone="Asia/Tokyo")
    assert answer["errors"] == []
    assert len(answer["runs"]) == 5
    assert all(run["text"].endswith("07:30:00 JST") for run in answer["runs"])
    assert all(run["at"].endswith("22:30:00+00:00") for run in answer["runs"])
    assert answer["runs"][0]["distance"].startswith("in ")


def test_what_is_wrong_with_a_schedule_is_told(admin: Client) -> None:
    assert "is no interval" in next_runs(admin, schedule="5 parsecs")["errors"][0]
    assert "no time zone" in next_runs(admin, timezone="Mars")["errors"][0]
    assert "never due" in next_runs(admin, kind="cron", schedule="0 0 31 2 *")["errors"][0]
    assert "up to 100 years" in next_runs(admin, schedule="3000000 days")["errors"][0]


def test_it_heeds_start_end_and_once(admin: Client) -> None:
    assert len(next_runs(admin, one_off="on")["runs"]) == 1
    [error] = next_runs(admin, end_time_0="2020-01-01", end_time_1="00:00:00")["errors"]
    assert (
        error
        == "it never runs any more: 2020-01-01 00:00:00+00:00 has passed. Give a later end, or take the entry away."
    )
    answer = next_runs(admin, start_time_0="2099-01-01", start_time_1="00:00:00")
    assert answer["runs"][0]["at"] == "2099-01-01T00:00:00+00:00"


@pytest.mark.parametrize(
    "values",
    [{}, {"schedule": "2 hours"}, {"name": "renamed"}, {"relative": "on"}, {"one_off": "on"}],
    ids=["nothing", "schedule", "name", "relative", "one-off"],
)
def test_the_next_runs_are_those_that_saving_brings(
    admin: Client, make: Make, scheduled_app: App, values: dict[str, Any]
) -> None:
    row = make("sums", schedule="1 hour")
    began = now().timestamp() - 2400
    state = EntryState(row.name, began, began, definition=entry_of(row, scheduled_app).definition)
    scheduled_app.broker.claim_store.add([state])
    values = {"schedule": "1 hour", **values}
    shown = [datetime.fromisoformat(run["at"]) for run in next_runs(admin, change(row), **values)["runs"]]
    assert admin.post(change(row), filled(**values)).status_code == 302
    row.refresh_from_db()
    runs = row.next_runs(5)
    assert len(shown) == len(runs) > 0
    assert all(abs((one - other).total_seconds()) < 10 for one, other in zip(shown, runs, strict=True))
    if values == {"schedule": "1 hour"}:
        assert 1190 < (runs[0] - now()).total_seconds() <= 1200


def test_no_row_takes_the_page_away_from_the_others(admin: Client, make: Make, scheduled_app: App) -> None:
    class Failing(BaseSchedule):
        def next_slot(self, after: Any, *, anchor: Any, zone: Any) -> Any:
            raise RuntimeError("no moon")

    scheduled_app.conf.beat_schedule = {"moon": {"task": ADD, "schedule": Failing()}}
    rows = [
        make("sums"),
        make("huge", schedule="3000000 days"),
        make("early", start_time=datetime(1, 1, 1, tzinfo=timezone.utc), timezone="Europe/Berlin"),
        make("late", kind="clocked", schedule="9999-12-31 23:59Z", timezone="Asia/Tokyo"),
        make("nowhere", timezone="Mars"),
    ]
    answer = admin.get(reverse(LIST))
    assert answer.status_code == 200
    assert "no moon" in answer.content.decode()
    for row in [*rows, PeriodicTask.objects.get(name="moon")]:
        assert admin.get(change(row)).status_code == 200, row.name


def test_a_preview_saves_nothing(admin: Client, make: Make) -> None:
    row = make("sums")
    before = PeriodicTask.objects.filter(pk=row.pk).values().get()
    assert len(next_runs(admin, change(row), schedule="1 day")["runs"]) == 5
    assert PeriodicTask.objects.filter(pk=row.pk).values().get() == before
    assert admin.get(f"{change(row)}preview/").status_code == 405
