"""Options of calls: a misspelt one is an error where it is written, and all that Celery has are taken."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from django_tasks import App, Task, checks, shared_task, signature, states
from django_tasks.conf import Settings
from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.routing import Router
from tests.running import drain, message_of, waiting
from tests.testapp.tasks import add, echo

pytestmark = pytest.mark.usefixtures("memory_app")

#: What Celery documents for ``apply_async`` and ``send_task``, and what programs have of kombu's ``Producer.publish``;
#: none of it means anything here.
WITHOUT_MEANING = {
    "connection": object(), "producer": object(), "publisher": object(), "router": object(), "result_cls": object(),
    "route_name": "x", "task_type": object(), "delivery_mode": 1, "mandatory": True, "immediate": True, "declare": [],
    "exchange_type": "direct", "timeout": 3, "confirm_timeout": 3, "expiration": 3, "content_type": "text/plain",
    "content_encoding": "utf-8", "create_sent_event": True, "event_dispatcher": None, "now": None, "timezone": None,
    "origin": "me", "user_id": "1", "app_id": "2", "message_id": "3", "correlation_id": "4", "type": "t", "throw": True,
}  # fmt: skip


@pytest.fixture
def app(memory_app: App) -> App:
    return memory_app


@pytest.mark.parametrize(
    "call",
    [
        lambda **options: add.apply_async((1, 2), **options),
        lambda **options: add.apply_async_on_commit((1, 2), **options),
        lambda **options: async_to_sync(add.aapply_async)((1, 2), **options),
        lambda **options: add.apply((1, 2), **options),
        lambda **options: add.delay_many([(1, 2)], **options),
        lambda **options: add.app.send_task(add.name, (1, 2), **options),
        lambda **options: add.signature((1, 2), **options),
        lambda **options: signature(add.name, (1, 2), **options),
        lambda **options: signature(add.name, options=options),
        lambda **options: add.s(1, 2).set(**options),
        lambda **options: add.s(1, 2).clone(**options),
        lambda **options: add.s(1, 2).apply_async(**options),
    ],
)
def test_a_misspelt_option(app: App, call: Callable[..., Any]) -> None:
    with pytest.raises(TypeError) as caught:
        call(queue="q", cuntdown=5)
    assert str(caught.value) == (
        "A call of tests.testapp.tasks.add has no option 'cuntdown'. Did you mean countdown? "
        "Data of your own goes into headers={...}."
    )
    assert waiting(app) == []


def test_one_that_resembles_none() -> None:
    with pytest.raises(TypeError, match=r"has no option 'customer'\. Data of your own goes into headers=\{\.\.\.\}\."):
        add.apply_async((1, 2), customer="acme")


def test_one_under_task_always_eager(app: App) -> None:
    app.conf.task_always_eager = True
    with pytest.raises(TypeError, match="Did you mean countdown"):
        add.apply_async((1, 2), cuntdown=5)


def test_one_in_a_retry(app: App) -> None:
    @shared_task(bind=True)
    def job(self: Any) -> None:
        self.retry(cuntdown=5)

    job.delay()
    (outcome,) = drain(app)
    assert outcome.state == states.FAILURE
    assert "Did you mean countdown?" in str(outcome.value)


def test_a_signature_from_elsewhere_may_know_more(app: App) -> None:
    """What a producer of another version or kind linked is run by the worker, not refused."""
    add.apply_async((1, 2), link={"task": echo.name, "args": [], "kwargs": {}, "options": {"of_the_future": 1},
                                  "subtask_type": None, "immutable": False})  # fmt: skip
    assert [outcome.value for outcome in drain(app)] == [3, [[3], {}]]


@pytest.mark.parametrize("option", WITHOUT_MEANING)
def test_celerys_options_without_meaning_are_taken(app: App, option: str) -> None:
    add.apply_async((1, 2), **{option: WITHOUT_MEANING[option]})
    add.s(1, 2).set(**{option: WITHOUT_MEANING[option]}).delay()
    assert [outcome.value for outcome in drain(app)] == [3, 3]


def test_add_to_parent(app: App) -> None:
    @shared_task
    def parent() -> None:
        add.apply_async((1, 2), add_to_parent=False)
        add.delay_many([(1, 2)], add_to_parent=False)
        app.send_task(add.name, (1, 2), add_to_parent=False)
        add.apply_async((1, 2), task_id="child", add_to_parent=True)

    result = parent.delay()
    assert len(drain(app)) == 5
    assert [child.id for child in result.children] == ["child"]


def test_stamps_are_options_too(app: App) -> None:
    add.apply_async((1, 2), stamped_headers=["customer", "absent"], customer="acme")
    message = message_of(app)
    assert (message.stamped_headers, message.stamps) == (["customer", "absent"], {"customer": "acme"})
    with pytest.raises(TypeError, match="'other'"):
        add.apply_async((1, 2), stamped_headers=["customer"], other="acme")


# -- in settings


def errors(**settings: Any) -> list[str]:
    """Return what ``manage.py check`` says about these settings."""
    return [error.msg for error in checks.wrong_values(Settings(**settings))]


@pytest.mark.parametrize(
    "routes", [{add.name: {"quee": "q"}}, [{"other": "x"}, {"tests.*": {"quee": "q"}}], [(add.name, {"quee": "q"})]]
)
def test_a_misspelt_option_of_a_route(app: App, routes: Any) -> None:
    (error,) = errors(task_routes=routes)
    assert "the route {'quee': 'q'} has no option 'quee'. Did you mean queue?" in error
    app.conf.task_routes = routes
    with pytest.raises(ImproperlyConfigured, match="Did you mean queue"):
        add.delay(1, 2)


def test_a_misspelt_option_of_a_function_that_routes(app: App) -> None:
    app.conf.task_routes = lambda name, args, kwargs, options, task=None: {"quee": "q"}
    with pytest.raises(ImproperlyConfigured, match=r"TASK_ROUTES: .* Did you mean queue\?"):
        add.delay(1, 2)


def test_a_misspelt_attribute_in_a_route(app: App) -> None:
    app.conf.task_routes = {add.name: {"queue": "q", "rate_limt": "1/s"}}
    with pytest.raises(ImproperlyConfigured, match=rf"TASK_ROUTES: the task {add.name} has no option 'rate_limt'"):
        app.finalize()


def test_a_misspelt_attribute_in_an_annotation(app: App) -> None:
    annotations = {"*": {"max_retris": 5}}
    (error,) = errors(task_annotations=annotations)
    assert "what it says about '*' has no option 'max_retris'. Did you mean max_retries?" in error
    app.conf.task_annotations = annotations
    with pytest.raises(ImproperlyConfigured, match="Did you mean max_retries"):
        app.finalize()


def test_values_that_cannot_be(app: App) -> None:
    complaint = "time_limit must be a number of seconds, not 'x'"
    for settings in (
        {"task_routes": {add.name: {"time_limit": "x"}}},
        {"task_annotations": {"*": {"time_limit": "x"}}},
    ):
        (error,) = errors(**settings)
        assert complaint in error
    app.conf.task_routes = {add.name: {"time_limit": "x"}}
    with pytest.raises(ImproperlyConfigured, match=complaint):
        add.delay(1, 2)
    with pytest.raises(ImproperlyConfigured, match=complaint):
        shared_task(name="job", time_limit="x")(lambda: None)
    with pytest.raises(ImproperlyConfigured, match="soft_time_limit = 2 must not be more than time_limit = 1"):

        class Job(Task[..., Any]):
            time_limit, soft_time_limit = 1, 2


@pytest.mark.parametrize("queue", ["", 7])
def test_a_queue_without_a_name(app: App, queue: Any) -> None:
    for call in (add.apply_async, add.s(1, 2).apply_async, add.s(1, 2).set):
        with pytest.raises(ValueError, match=f"queue must be the name of a queue, not {queue!r}"):
            call(queue=queue)
    with pytest.raises(ImproperlyConfigured, match="queue must be the name of a queue"):
        Router({add.name: {"queue": queue}})
    assert waiting(app) == []


def test_settings_may_give_tasks_attributes_of_their_own(app: App) -> None:
    settings = {"task_routes": {add.name: {"queue": "q", "throws": (), "tenant": "a"}},
                "task_annotations": {add.name: {"owner": "b"}}}  # fmt: skip
    assert errors(**settings) == []
    app.conf.update(settings)
    app.finalize()
    assert (add.tenant, add.owner, add.throws) == ("a", "b", ())  # type: ignore[attr-defined]  # made by settings


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"rate_limit": "often"}, "rate_limit = 'often' is not a rate limit"),
        ({"max_retries": "x"}, "max_retries must be a whole number or None, not 'x'"),
        ({"time_limit": "soon"}, "time_limit must be a number of seconds, not 'soon'"),
        ({"bind": "x"}, "bind must be True or False, not 'x'"),
        ({"queue": 7}, "queue must be a name, not 7"),
        ({"default_retry_delay": -1}, "default_retry_delay must be a number of seconds"),
    ],
)
def test_values_of_task_options(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=re.escape(f"Task shop.tasks.pay: {text}")):
        shared_task(name="shop.tasks.pay", **options)(len)


def test_values_that_celery_takes() -> None:
    @shared_task(
        autoretry_for=[OSError], retry_backoff=2.5, max_retries=None, rate_limit="10/m", acks_late=None, color="blue"
    )
    def job() -> None: ...

    assert (job.max_retries, job.rate_limit, job.color) == (None, "10/m", "blue")
