"""Routing: which queue and options a call gets, and what the settings say about tasks by name."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest

from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.routing import Queue, Router, resolve_annotations
from django_tasks.task_options import parse_rate_limit

# What dotted paths in these tests lead to.

HERE = __name__
not_a_router = 42


def route_by_argument(name: str, args: Any, kwargs: Any, options: Any, task: Any = None, **kw: Any) -> Any:
    """Route big jobs to a queue of their own, and leave the others to the next router."""
    return {"queue": "big"} if args and args[0] > 100 else None


class OldRouter:
    """A router as before Celery 4."""

    def route_for_task(self, task: str, args: Any = None, kwargs: Any = None) -> Any:
        return "old" if task.startswith("old.") else None


class CallableRouter:
    def __call__(self, name: str, args: Any, kwargs: Any, options: Any, task: Any = None, **kw: Any) -> Any:
        return {"queue": "called"} if name == "proj.tasks.called" else None


class Annotation:
    def annotate(self, task: Any) -> dict[str, Any] | None:
        return {"rate_limit": "1/s"} if task.name.startswith("tasks.") else None

    def annotate_any(self) -> dict[str, Any]:
        return {"acks_late": False}


def queue_of(router: Router, name: str, *args: Any, **options: Any) -> str:
    queue: str = router.route(name, args, {}, options)["queue"]
    return queue


class TestDefault:
    def test_no_routes(self) -> None:
        router = Router()
        assert router.route("proj.tasks.add", (), {}, {}) == {"queue": "celery"}
        assert router.route("proj.tasks.add") == {"queue": "celery"}

    def test_default_queue(self) -> None:
        assert queue_of(Router(default_queue="main"), "proj.tasks.add") == "main"

    def test_options_are_kept(self) -> None:
        options = {"priority": 3, "queue": None, "expires": None}
        assert Router().route("proj.tasks.add", (), {}, options) == {"priority": 3, "queue": "celery"}
        assert options == {"priority": 3, "queue": None, "expires": None}

    def test_a_result_may_be_changed(self) -> None:
        router = Router({"proj.tasks.add": {"queue": "a", "priority": 1}})
        router.route("proj.tasks.add")["queue"] = "b"
        router.route("proj.tasks.add").clear()
        assert router.route("proj.tasks.add") == {"queue": "a", "priority": 1}


class TestMaps:
    def test_exact_name(self) -> None:
        router = Router({"feed.tasks.import_feed": {"queue": "feeds", "priority": 9}})
        assert router.route("feed.tasks.import_feed") == {"queue": "feeds", "priority": 9}
        assert router.route("feed.tasks.import_feeds") == {"queue": "celery"}

    def test_queue_name_as_route(self) -> None:
        assert queue_of(Router({"feed.tasks.import_feed": "feeds"}), "feed.tasks.import_feed") == "feeds"

    def test_queue_object_as_route(self) -> None:
        feeds = Queue("feeds")
        assert queue_of(Router({"a": feeds, "b": {"queue": feeds}}), "a") == "feeds"
        assert queue_of(Router({"a": feeds, "b": {"queue": feeds}}), "b") == "feeds"

    @pytest.mark.parametrize(
        ("pattern", "name", "matches"),
        [
            ("feed.tasks.*", "feed.tasks.import_feed", True),
            ("feed.tasks.*", "feed.tasks.deep.down", True),
            ("feed.tasks.*", "feed.tasksimport", False),
            ("feed.tasks.*", "my.feed.tasks.x", False),
            ("*.import_*", "feed.tasks.import_feed", True),
            ("feed.task?.add", "feed.tasks.add", True),
            ("feed.task[ab].add", "feed.taskb.add", True),
            ("feed.task[ab].add", "feed.taskc.add", False),
            (re.compile(r"(video|image)\.tasks\..*"), "image.tasks.shrink", True),
            (re.compile(r"(video|image)\.tasks\..*"), "audio.tasks.shrink", False),
        ],
    )
    def test_patterns(self, pattern: Any, name: str, matches: bool) -> None:
        assert queue_of(Router({pattern: "there"}), name) == ("there" if matches else "celery")

    def test_exact_names_come_before_patterns(self) -> None:
        router = Router({"feed.*": "pattern", "feed.add": "exact"})
        assert queue_of(router, "feed.add") == "exact"
        assert queue_of(router, "feed.sub") == "pattern"

    def test_the_first_pattern_wins(self) -> None:
        router = Router({"feed.*": "first", "feed.a*": "second"})
        assert queue_of(router, "feed.add") == "first"

    def test_list_of_maps_in_order(self) -> None:
        router = Router([{"feed.*": "first"}, {"feed.add": "second", "web.add": "third"}])
        assert queue_of(router, "feed.add") == "first"
        assert queue_of(router, "web.add") == "third"
        assert queue_of(router, "db.add") == "celery"

    def test_celerys_list_of_pairs(self) -> None:
        router = Router(([("feed.tasks.*", {"queue": "feeds"}), (re.compile(r"(video|image)\."), {"queue": "media"})],))
        assert queue_of(router, "feed.tasks.add") == "feeds"
        assert queue_of(router, "image.shrink") == "media"

    def test_pairs_in_the_list_itself(self) -> None:
        router = Router([("feed.tasks.*", {"queue": "feeds"}), ("feed.tasks.add", "never")])
        assert queue_of(router, "feed.tasks.add") == "feeds"

    def test_an_empty_route_ends_the_search(self) -> None:
        assert queue_of(Router([{"feed.add": {}}, {"feed.*": "feeds"}]), "feed.add") == "celery"

    def test_a_route_without_a_queue(self) -> None:
        assert Router({"feed.add": {"priority": 5}}).route("feed.add") == {"queue": "celery", "priority": 5}

    @pytest.mark.parametrize("value", [42, None, ["feeds"]])
    def test_a_route_that_is_none(self, value: Any) -> None:
        with pytest.raises(ImproperlyConfigured, match=f"^{re.escape(repr(value))} is no route"):
            Router({"feed.add": value})

    @pytest.mark.parametrize("entry", [{42: "feeds"}, 42, [], [("a", "b", "c", "d"), 5]])
    def test_an_entry_that_is_no_router(self, entry: Any) -> None:
        with pytest.raises(ImproperlyConfigured, match=r"TASK_ROUTES holds"):
            Router([entry])


class TestRouters:
    @pytest.mark.parametrize("router", [route_by_argument, f"{HERE}.route_by_argument", f"{HERE}:route_by_argument"])
    def test_function(self, router: Any) -> None:
        for setting in (router, [router]):
            routes = Router(setting)
            assert queue_of(routes, "proj.tasks.add", 1000) == "big"
            # The answer depends on the call, so it is asked for each.
            assert queue_of(routes, "proj.tasks.add", 1) == "celery"
            assert queue_of(routes, "proj.tasks.add", 1000) == "big"

    def test_a_function_gets_the_whole_call(self) -> None:
        calls: list[Any] = []

        def route_task(name: str, args: Any, kwargs: Any, options: Any, task: Any = None, **kw: Any) -> None:
            calls.append((name, args, kwargs, options, task, kw))

        task = object()
        Router(route_task).route("proj.tasks.add", (1,), {"y": 2}, {"priority": 3}, task)
        Router(route_task).route("proj.tasks.add")
        assert calls == [
            ("proj.tasks.add", (1,), {"y": 2}, {"priority": 3}, task, {}),
            ("proj.tasks.add", (), {}, {}, None, {}),
        ]

    @pytest.mark.parametrize("answer", ["there", {"queue": "there"}, Queue("there")])
    def test_what_a_function_may_answer(self, answer: Any) -> None:
        assert queue_of(Router(lambda *args, **kwargs: answer), "proj.tasks.add") == "there"

    @pytest.mark.parametrize("router", [OldRouter, OldRouter(), f"{HERE}.OldRouter"], ids=["class", "object", "path"])
    def test_route_for_task(self, router: Any) -> None:
        assert queue_of(Router([router]), "old.add") == "old"
        assert queue_of(Router([router]), "new.add") == "celery"

    @pytest.mark.parametrize(
        "router", [CallableRouter, CallableRouter(), f"{HERE}.CallableRouter"], ids=["class", "object", "path"]
    )
    def test_callable_object(self, router: Any) -> None:
        assert queue_of(Router([router]), "proj.tasks.called") == "called"
        assert queue_of(Router([router]), "proj.tasks.other") == "celery"

    def test_mixed_with_maps_the_first_answer_wins(self) -> None:
        router = Router([route_by_argument, {"proj.tasks.*": "map"}, OldRouter()])
        assert queue_of(router, "proj.tasks.add", 1000) == "big"
        assert queue_of(router, "proj.tasks.add", 1) == "map"
        assert queue_of(router, "old.add") == "old"

    def test_paths_are_not_imported_before_they_are_needed(self) -> None:
        router = Router("nowhere.routers.route_task")
        with pytest.raises(ImproperlyConfigured, match=r"TASK_ROUTES names 'nowhere.routers.route_task', which cannot"):
            router.route("proj.tasks.add")

    def test_a_path_to_something_else(self) -> None:
        with pytest.raises(ImproperlyConfigured, match="neither a function nor a router"):
            Router(f"{HERE}.not_a_router").route("proj.tasks.add")

    def test_an_answer_that_is_no_route(self) -> None:
        with pytest.raises(ImproperlyConfigured, match="7 is no route"):
            Router(lambda *args, **kwargs: 7).route("proj.tasks.add")


class TestOptions:
    def test_options_win_over_the_route(self) -> None:
        router = Router({"feed.*": {"queue": "feeds", "priority": 1, "serializer": "yaml"}})
        options = {"queue": "other", "priority": 9, "retries": 2}
        assert router.route("feed.add", (), {}, options) == {
            "queue": "other",
            "priority": 9,
            "serializer": "yaml",
            "retries": 2,
        }

    def test_none_does_not(self) -> None:
        router = Router({"feed.*": {"queue": "feeds", "priority": 1}})
        assert router.route("feed.add", (), {}, {"queue": None, "priority": None}) == {"queue": "feeds", "priority": 1}

    def test_zero_does(self) -> None:
        assert Router({"feed.*": {"priority": 1}}).route("feed.add", (), {}, {"priority": 0})["priority"] == 0

    def test_another_queue_leaves_the_routes_key_behind(self) -> None:
        router = Router({"feed.*": {"queue": "feeds", "routing_key": "feed.import", "exchange": "feeds"}})
        assert router.route("feed.add", (), {}, {"queue": "other"}) == {"queue": "other"}
        assert router.route("feed.add", (), {}, {"queue": "feeds"})["routing_key"] == "feed.import"
        assert router.route("feed.add", (), {}, {"queue": "other", "routing_key": "mine"})["routing_key"] == "mine"

    def test_queue_object(self) -> None:
        assert queue_of(Router(), "proj.tasks.add", queue=Queue("video")) == "video"

    def test_attributes_for_the_task_stay_out_of_the_call(self) -> None:
        router = Router([{"tasks.add": {"rate_limit": "10/m", "queue": "slow"}}, {"tasks.*": {"acks_late": False}}])
        assert router.route("tasks.add") == {"queue": "slow"}
        assert router.route_attributes("tasks.add") == {"rate_limit": "10/m"}
        assert router.route_attributes("tasks.sub") == {"acks_late": False}
        assert router.route_attributes("other") == {}

    def test_functions_say_nothing_about_tasks(self) -> None:
        router = Router([lambda *args, **kwargs: {"rate_limit": "1/s"}, {"tasks.add": {"rate_limit": "10/m"}}])
        assert router.route_attributes("tasks.add") == {"rate_limit": "10/m"}
        assert router.route("tasks.add") == {"queue": "celery"}


class ForeignExchange:
    name = "media"
    type = "topic"


class ForeignQueue:
    """A queue object as kombu makes it."""

    name = "video"
    exchange = ForeignExchange()
    routing_key = "media.video.#"
    max_priority = 10
    queue_arguments = None


class TestQueues:
    def test_names(self) -> None:
        router = Router(queues=["a", "b"], default_queue="a")
        assert router.queues == {"a": Queue("a"), "b": Queue("b")}

    @pytest.mark.parametrize("nothing", [None, [], {}])
    def test_none_declared_means_the_default_one(self, nothing: Any) -> None:
        assert list(Router(queues=nothing, default_queue="main").queues) == ["main"]

    def test_dict(self) -> None:
        queues = {"video": {"exchange": "media", "binding_key": "media.video"}, "plain": None}
        assert Router(queues=queues).queues == {
            "video": Queue("video", "media", "media.video"),
            "plain": Queue("plain"),
        }

    def test_objects(self) -> None:
        mine = Queue("mine", routing_key="mine.#")
        assert Router(queues=(mine, ForeignQueue())).queues == {
            "mine": mine,
            "video": Queue("video", "media", "media.video.#", exchange_type="topic", max_priority=10),
        }

    @pytest.mark.parametrize("entry", [42, {"routing_key": "no name"}, {"name": "a", "colour": "red"}, None])
    def test_an_entry_that_is_no_queue(self, entry: Any) -> None:
        with pytest.raises(ImproperlyConfigured, match=rf"holds {re.escape(repr(entry))}, which is no queue"):
            Router(queues=[entry])

    @pytest.mark.parametrize("setting", ["celery", 42])
    def test_a_setting_that_is_no_list(self, setting: Any) -> None:
        with pytest.raises(ImproperlyConfigured, match=f"TASK_QUEUES = {setting!r} is not a list"):
            Router(queues=setting)

    def test_unknown_queues_are_made(self) -> None:
        assert queue_of(Router(queues=["a"]), "proj.tasks.add", queue="new") == "new"

    @pytest.mark.parametrize(
        ("name", "options"), [("feed.add", {}), ("web.add", {"queue": "lost"}), ("feed.add", {"priority": 1})]
    )
    def test_unknown_queues_are_refused(self, name: str, options: dict[str, Any]) -> None:
        router = Router({"feed.*": "lost"}, queues=["b", "a"], default_queue="a", create_missing=False)
        with pytest.raises(ImproperlyConfigured, match=rf"'{name}' .* 'lost', .* declares a, b\."):
            router.route(name, (), {}, options)

    def test_a_known_queue_saves_a_call_whose_route_is_unknown(self) -> None:
        router = Router({"feed.*": "lost"}, queues=["b", "a"], default_queue="a", create_missing=False)
        assert queue_of(router, "feed.add", queue="b") == "b"
        assert queue_of(router, "web.add") == "a"

    def test_without_declared_queues_the_default_one_is_known(self) -> None:
        router = Router(default_queue="main", create_missing=False)
        assert queue_of(router, "feed.add") == "main"
        with pytest.raises(ImproperlyConfigured, match="declares main"):
            queue_of(router, "feed.add", queue="other")


class TestRoutingKeys:
    QUEUES = (
        Queue("default", routing_key="task.#"),
        Queue("feeds", exchange="news", routing_key="feed.*"),
        Queue("media", exchange="media", routing_key="media.#.done"),
        Queue("plain"),
    )

    @pytest.mark.parametrize(
        ("key", "queue"),
        [
            ("task", "default"),
            ("task.a", "default"),
            ("task.a.b", "default"),
            ("tasks", "celery"),
            ("feed.import", "feeds"),
            ("feed.import.now", "celery"),
            ("feed", "celery"),
            ("media.done", "media"),
            ("media.a.b.done", "media"),
            ("media.adone", "celery"),
            ("plain", "plain"),
        ],
    )
    def test_a_key_without_a_queue_finds_the_queue_that_declares_it(self, key: str, queue: str) -> None:
        assert queue_of(Router(queues=self.QUEUES), "proj.tasks.add", routing_key=key) == queue
        assert queue_of(Router({"proj.*": {"routing_key": key}}, queues=self.QUEUES), "proj.tasks.add") == queue

    def test_the_exchange_must_fit(self) -> None:
        router = Router(queues=self.QUEUES)
        assert queue_of(router, "a", routing_key="feed.import", exchange="news") == "feeds"
        assert queue_of(router, "a", routing_key="feed.import", exchange=ForeignExchange()) == "celery"
        assert queue_of(router, "a", routing_key="plain", exchange="plain") == "plain"

    def test_a_callers_key_wins_over_the_routes_queue(self) -> None:
        router = Router({"proj.*": "plain"}, queues=self.QUEUES)
        assert queue_of(router, "proj.tasks.add", routing_key="feed.import") == "feeds"
        assert queue_of(router, "proj.tasks.add", routing_key="no such key") == "plain"

    def test_a_callers_queue_wins_over_the_key(self) -> None:
        assert queue_of(Router(queues=self.QUEUES), "a", queue="plain", routing_key="feed.import") == "plain"


class TestAnnotations:
    def test_none(self) -> None:
        assert resolve_annotations(None, "tasks.add") == {}
        assert resolve_annotations({}, "tasks.add") == {}

    def test_by_name(self) -> None:
        setting = {"tasks.add": {"rate_limit": "10/m"}}
        assert resolve_annotations(setting, "tasks.add") == {"rate_limit": "10/m"}
        assert resolve_annotations(setting, "tasks.sub") == {}

    def test_the_name_wins_over_the_star(self) -> None:
        setting = {"tasks.add": {"rate_limit": "10/m"}, "*": {"rate_limit": "1/s", "time_limit": 9}}
        assert resolve_annotations(setting, "tasks.add") == {"rate_limit": "10/m", "time_limit": 9}
        assert resolve_annotations(setting, "tasks.sub") == {"rate_limit": "1/s", "time_limit": 9}

    def test_the_first_of_a_list_wins(self) -> None:
        setting = [{"a": {"x": 1}}, {"a": {"x": 2, "y": 2}, "*": {"z": 1}}, {"*": {"z": 2, "w": 2}}]
        assert resolve_annotations(setting, "a") == {"x": 1, "z": 1}

    @pytest.mark.parametrize("entry", [Annotation(), Annotation, f"{HERE}.Annotation"], ids=["object", "class", "path"])
    def test_objects(self, entry: Any) -> None:
        for setting in (entry, [entry]):
            assert resolve_annotations(setting, "tasks.add") == {"rate_limit": "1/s", "acks_late": False}
            assert resolve_annotations(setting, "other") == {"acks_late": False}

    def test_objects_see_the_task(self) -> None:
        class BySize:
            def annotate(self, task: Any) -> dict[str, Any]:
                return {"queue": "big" if task.big else "small"}

        assert resolve_annotations(BySize(), "a", SimpleNamespace(name="a", big=True)) == {"queue": "big"}

    def test_a_path_to_nowhere(self) -> None:
        with pytest.raises(ImproperlyConfigured, match=r"TASK_ANNOTATIONS names 'nowhere\.Annotation'"):
            resolve_annotations("nowhere.Annotation", "a")


@pytest.mark.parametrize(
    ("value", "rate"),
    [
        ("10/s", 10),
        ("30/m", 0.5),
        ("3600/h", 1),
        ("0.5/s", 0.5),
        (" 30 / m ", 0.5),
        ("10", 10),
        (10, 10),
        (0.25, 0.25),
        (None, None),
        (0, None),
        ("0/m", None),
        ("", None),
    ],
)
def test_rate_limits(value: Any, rate: float | None) -> None:
    assert parse_rate_limit(value) == rate


@pytest.mark.parametrize("value", ["10/d", "fast", "10/m/s", "-1/s", -1, "nan/s", "inf", "/m", "10m", True, [10]])
def test_what_is_no_rate_limit(value: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match=rf"^{re.escape(repr(value))} is not a rate limit: use '5/s'"):
        parse_rate_limit(value)
