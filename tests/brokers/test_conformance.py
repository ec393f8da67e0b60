"""What every broker does, and each in the same way; where they differ, an attribute of their ``Kind`` says so."""

from __future__ import annotations

import json
import os
from base64 import b64decode
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from django_tasks.backends.memory import MemoryBackend
from django_tasks.brokers.base import UNKNOWN_RESERVATION_AGE, Broker, Settlement, Size, Verb, new_lease
from django_tasks.brokers.browse import Wanted
from django_tasks.exceptions import EncodeError, MessageTooLarge
from django_tasks.message import Message
from django_tasks.outcome import Outcome, TaskMeta
from django_tasks.states import SUCCESS
from tests.brokers.hands import ACCEPT, Clock, Hand, Kind, message, pass_time, rescue, send
from tests.tables import our_tables

pytestmark = our_tables


def eta(broker: Broker, seconds: float) -> datetime:
    return datetime.fromtimestamp(broker.now() + seconds, timezone.utc)


# -- sending and the order of reserving


def test_a_message_arrives_as_it_was_sent(broker: Broker, hand: Hand) -> None:
    when = datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=timezone(timedelta(hours=3)))
    broker.send([
        message(
            "id", "app.task", args=(1, "zwölf \U0001f40d \0"), kwargs={"k": [None, 2.5]}, queue="celery", priority=5,
            expires=when, retries=2, timelimit=(10.0, 5.0), root_id="root", parent_id="parent", group="group",
            group_index=3, headers={"mine": "\U0001f389"}, stamps={}, ignore_result=True,
            embed={"callbacks": [{"task": "next", "args": [], "kwargs": {}, "options": {}}], "errbacks": None,
                   "chain": None, "chord": None},
        )
    ])  # fmt: skip
    [delivery] = hand.take()
    got = delivery.message
    assert (got.task, got.id, list(got.args), got.kwargs) == (
        "app.task", "id", [1, "zwölf \U0001f40d \0"], {"k": [None, 2.5]},
    )  # fmt: skip
    assert (got.queue, got.retries, tuple(got.timelimit), got.ignore_result) == ("celery", 2, (10.0, 5.0), True)
    assert (got.root_id, got.parent_id, got.group, got.group_index) == ("root", "parent", "group", 3)
    assert got.expires == when
    assert got.headers["mine"] == "\U0001f389"
    assert got.embed is not None
    assert got.embed["callbacks"][0]["task"] == "next"
    assert (delivery.deaths, delivery.refusals, delivery.alone, delivery.redelivered) == (0, 0, False, False)
    assert not got.redelivered


def test_names_of_all_characters(broker: Broker) -> None:
    broker.send([message("Ünique \U0001f40d'\"\\%s", "täsk.%d\\", queue="queue %s \U0001f389")])
    [delivery] = Hand(broker, "w\U0001f40d%s").take(queues=["queue %s \U0001f389"])
    assert (delivery.message.id, delivery.message.task) == ("Ünique \U0001f40d'\"\\%s", "täsk.%d\\")
    assert delivery.queue == "queue %s \U0001f389"


def test_first_in_first_out(broker: Broker, hand: Hand) -> None:
    send(broker, "1", "2", "3")
    send(broker, "4")
    assert hand.ids(2) == ["1", "2"]
    assert hand.ids() == ["3", "4"]
    assert hand.ids() == []


def test_the_most_urgent_comes_first(kind: Kind, broker: Broker, hand: Hand) -> None:
    for number, priority in enumerate([None, 9, -1, 0, 9, 3, 5]):
        send(broker, str(number), priority=priority)
    if kind.by_number:
        assert hand.ids(1) == ["1"]
        assert hand.ids() == ["4", "6", "5", "0", "3", "2"]
    else:
        assert hand.ids(1) == ["0"]
        assert hand.ids() == ["2", "3", "5", "6", "1", "4"]


def test_no_more_than_the_limit(broker: Broker, hand: Hand) -> None:
    send(broker, *map(str, range(5)))
    assert [len(hand.take(2)) for _ in range(4)] == [2, 2, 1, 0]


def test_only_the_queues_asked_for(broker: Broker, hand: Hand) -> None:
    for queue in ("a", "b", "c", "A"):
        send(broker, queue, queue=queue)
    assert sorted(hand.ids(queues=["a", "c"])) == ["a", "c"]
    assert hand.ids(queues=["a"]) == []
    assert hand.ids(queues=["b"]) == ["b"]
    assert hand.ids(queues=["A"]) == ["A"]


def test_turns_of_queues(kind: Kind, broker: Broker, hand: Hand) -> None:
    send(broker, *(f"a{n}" for n in range(4)), queue="a")
    send(broker, *(f"b{n}" for n in range(4)), queue="b")
    taken = [hand.ids(1, queues=["a", "b"])[0] for _ in range(6)]
    if kind.takes_turns:
        assert [each[0] for each in taken] in (list("ababab"), list("bababa"))
    else:
        assert taken == ["a0", "a1", "a2", "a3", "b0", "b1"]


def test_one_reserve_fills_up_from_several_queues(broker: Broker, hand: Hand) -> None:
    send(broker, "a", queue="a")
    send(broker, "b1", "b2", "b3", queue="b")
    assert len(hand.take(3, queues=["a", "b"])) == 3
    assert len(hand.take(3, queues=["a", "b"])) == 1


def test_sending_nothing(broker: Broker) -> None:
    broker.send([])
    assert broker.sizes() == {}


def test_many_messages_at_once(broker: Broker, hand: Hand) -> None:
    ids = [f"{number:05}" for number in range(1203)]
    send(broker, *ids)
    got = []
    while some := hand.ids(400):
        got += some
    assert got == ids


def test_large_messages(broker: Broker, hand: Hand) -> None:
    texts = ["\U0001f40d" * 700_000, '\\"' * 700_000, "x" * 3_000_000]
    broker.send([message(str(number), args=(text,)) for number, text in enumerate(texts)])
    assert [delivery.message.args[0] == text for delivery, text in zip(hand.take(), texts, strict=True)] == [True] * 3


@pytest.mark.parametrize(
    ("bad", "error", "says"),
    [
        pytest.param({"args": (object(),)}, EncodeError, "task", id="unencodable"),
        pytest.param({"args": ("x" * 2000,)}, MessageTooLarge, "TASK_MAX_MESSAGE_SIZE", id="too large"),
        pytest.param({"id": "i" * 256}, EncodeError, "the id 'iii.*256 characters, more than the 255", id="long id"),
        pytest.param({"task": "t" * 256}, EncodeError, "the name 'ttt.*256 characters", id="long name"),
        pytest.param({"queue": "q" * 256}, EncodeError, "the queue 'qqq.*256 characters", id="long queue"),
        pytest.param({"id": "a\0b"}, EncodeError, "NUL", id="NUL"),
        pytest.param({"id": "a\ud800"}, EncodeError, "not valid Unicode", id="lone surrogate"),
        pytest.param({"id": ""}, EncodeError, "must be a text", id="no id"),
        pytest.param({"eta": datetime(2030, 1, 1)}, EncodeError, "no time zone", id="naive eta"),
    ],
)
def test_all_are_sent_or_none(kind: Kind, clock: Clock, bad: dict[str, Any], error: type[Exception], says: str) -> None:
    broker = kind.make(clock, max_size=1500)
    with pytest.raises(error, match=says):
        broker.send([message("good"), message(**bad), message("good too")])
    assert broker.sizes() == {}


def test_names_as_long_as_can_be(broker: Broker) -> None:
    broker.send([message("\U0001f40d" * 255, "ü" * 255, queue="q" * 255)])
    [delivery] = Hand(broker).take(queues=["q" * 255])
    assert (delivery.message.id, delivery.message.task) == ("\U0001f40d" * 255, "ü" * 255)


# -- delayed messages


def test_a_delayed_message_is_never_early(broker: Broker, hand: Hand, clock: Clock) -> None:
    send(broker, "later", eta=eta(broker, 60))
    send(broker, "now")
    assert hand.ids() == ["now"]
    assert broker.sizes()["celery"] == Size(delayed=1, reserved=1)
    clock.advance(59.9)
    rescue(broker)
    assert hand.ids() == []
    clock.advance(0.2)
    rescue(broker)
    assert hand.ids() == ["later"]


def test_a_due_message_takes_no_other_along(broker: Broker, hand: Hand, clock: Clock) -> None:
    send(broker, "later", eta=eta(broker, 10.5))
    send(broker, "soon", eta=eta(broker, 10))
    clock.advance(10.2)
    rescue(broker)
    assert hand.ids() == ["soon"]
    assert broker.sizes()["celery"].delayed == 1


def test_an_eta_in_the_past_is_now(broker: Broker, hand: Hand) -> None:
    send(broker, "past", eta=eta(broker, -3600))
    assert hand.ids() == ["past"]


def test_due_messages_come_in_the_order_of_their_queue(kind: Kind, broker: Broker, hand: Hand, clock: Clock) -> None:
    low, high = (1, 9) if kind.by_number else (9, 1)
    send(broker, "low", eta=eta(broker, 5), priority=low)
    send(broker, "high", eta=eta(broker, 10), priority=high)
    clock.advance(11)
    rescue(broker)
    assert hand.ids() == ["high", "low"]


def test_more_due_messages_than_one_statement_takes(broker: Broker, hand: Hand, clock: Clock) -> None:
    send(broker, *map(str, range(2300)), eta=eta(broker, 5))
    clock.advance(6)
    rescue(broker)
    assert broker.sizes()["celery"].waiting == 2300


# -- leases


def test_acknowledged_is_gone(broker: Broker, hand: Hand) -> None:
    send(broker, "1", "2")
    deliveries = hand.take()
    assert broker.settle([Settlement(delivery, Verb.ACK) for delivery in deliveries]) == []
    assert broker.sizes() == {}


def test_a_lost_lease_settles_nothing_and_is_reported(broker: Broker, clock: Clock) -> None:
    first, second = Hand(broker, "first"), Hand(broker, "second")
    send(broker, "lost", "kept")
    lost, kept = first.take()
    clock.advance(UNKNOWN_RESERVATION_AGE + 1)
    assert first.settle(lost, Verb.RETURN)
    [taken] = second.take()
    settlements = [Settlement(lost, Verb.ACK), Settlement(kept, Verb.ACK)]
    assert broker.settle(settlements) == settlements[:1]
    assert broker.sizes()["celery"] == Size(reserved=1)
    assert second.settle(taken, Verb.ACK)
    assert not second.settle(taken, Verb.ACK)


@pytest.mark.parametrize("verb", list(Verb))
def test_no_verb_touches_what_was_lost(broker: Broker, hand: Hand, verb: Verb) -> None:
    send(broker, "1")
    [old] = hand.take()
    hand.settle(old, Verb.RETURN)
    [new] = hand.take()
    assert not hand.settle(old, verb, delay=60.0, died=True, refused=True, reason="lost")
    assert hand.settle(new, Verb.RETURN)
    [again] = hand.take()
    assert (again.alone, again.redelivered, again.refusals, again.deaths) == (False, False, 0, 0)


def test_a_lease_counts_for_its_own_message_only(broker: Broker, hand: Hand) -> None:
    """One worker may lose a message and take it again beside others: the old delivery is still void."""
    send(broker, "1")
    [old] = hand.take()
    hand.settle(old, Verb.RETURN)
    send(broker, "2")
    new, other = hand.take()
    assert new.message.id == "1"
    settlements = [Settlement(old, Verb.ACK), Settlement(other, Verb.ACK)]
    assert broker.settle(settlements) == settlements[:1]
    assert broker.sizes()["celery"] == Size(reserved=1)


def test_confirm_tells_what_is_still_held(broker: Broker, hand: Hand) -> None:
    send(broker, "1", "2")
    settlements = [Settlement(delivery, Verb.ACK) for delivery in hand.take()]
    assert broker.confirm(settlements) == settlements
    broker.settle(settlements[:1])
    assert broker.confirm(settlements) == settlements[1:]
    assert broker.confirm([]) == []


def test_settling_one_delivery_twice_in_one_call(broker: Broker, hand: Hand) -> None:
    send(broker, "1", "2")
    one, two = hand.take()
    assert broker.settle([Settlement(one, Verb.ACK), Settlement(one, Verb.ACK), Settlement(two, Verb.ACK)]) == []
    assert broker.sizes() == {}


# -- sending once


def test_what_follows_from_something_is_there_once(broker: Broker, hand: Hand) -> None:
    """Also when it is sent again among others, and while it is delayed or runs."""
    send(broker, "1", cause="the end of 0")
    send(broker, "2", "1", "3", cause="the end of 0")
    send(broker, "late", cause="the end of 0", eta=eta(broker, 60))
    send(broker, "late", cause="the end of 0")
    assert hand.ids() == ["1", "2", "3"]
    send(broker, "3", "4", "4", cause="the end of 0")
    assert hand.ids() == ["4"]
    assert broker.sizes()["celery"] == Size(delayed=1, reserved=4)


def test_many_of_which_some_are_there(broker: Broker, hand: Hand) -> None:
    send(broker, "7", "2500", cause="c")
    broker.send([message(str(n), cause="c" if n % 2 else None) for n in range(2502)])
    assert (
        broker.sizes()["celery"].waiting == 2503
    )  # 2500 is even: of those without a cause there are as many as are sent


def test_other_messages_of_one_id_are_no_repetition(broker: Broker, hand: Hand) -> None:
    send(broker, "1", "1")
    send(broker, "1", cause="run 0")
    send(broker, "1", cause="run 1")
    send(broker, "2", cause="run 1")
    assert hand.ids() == ["1", "1", "1", "1", "2"]


def test_after_its_end_it_may_be_sent_again(kind: Kind, broker: Broker, hand: Hand) -> None:
    """Most brokers remember what they hold and no more."""
    if kind.remembers_ends:
        send(broker, "1", cause="c")
        hand.settle(hand.take()[0], Verb.ACK)
        send(broker, "1", cause="c")
        assert hand.ids() == []
        return
    for end in (Verb.ACK, Verb.DEAD):
        send(broker, "1", cause="c")
        [delivery] = hand.take()
        hand.settle(delivery, end, reason="dead")
    send(broker, "1", cause="c")
    assert hand.ids() == ["1"]


# -- giving back


def test_returned_comes_again_in_its_old_place(kind: Kind, broker: Broker, hand: Hand) -> None:
    send(broker, "1", "2", "3")
    assert broker.settle([Settlement(delivery, Verb.RETURN) for delivery in hand.take(2)]) == []
    first = hand.take(2)
    for delivery in first if kind.exact_places else reversed(first):
        assert hand.settle(delivery, Verb.RETURN)
    again = hand.take()
    assert [delivery.message.id for delivery in again] == ["1", "2", "3"]
    assert not any(delivery.redelivered or delivery.alone for delivery in again)


def test_returned_by_who_knows_that_it_may_have_run(broker: Broker, hand: Hand) -> None:
    """Whoever ended its worker says so, though no death is counted: the next one looks whether it has ended."""
    send(broker, "1")
    [delivery] = hand.take()
    delivery.redelivered = True
    hand.settle(delivery, Verb.RETURN)
    [again] = hand.take()
    assert again.redelivered
    assert again.message.redelivered
    assert (again.alone, again.deaths) == (False, 0)


def test_returned_with_a_delay(broker: Broker, hand: Hand, clock: Clock) -> None:
    send(broker, "1")
    hand.settle(hand.take()[0], Verb.RETURN, delay=20)
    assert broker.sizes()["celery"] == Size(delayed=1)
    clock.advance(19)
    rescue(broker)
    assert hand.ids() == []
    clock.advance(2)
    rescue(broker)
    assert hand.ids() == ["1"]


def test_refusals_are_counted(broker: Broker, hand: Hand, clock: Clock) -> None:
    send(broker, "1")
    for refusals in range(3):
        [delivery] = hand.take()
        assert delivery.refusals == refusals
        hand.settle(delivery, Verb.RETURN, delay=1, refused=True)
        clock.advance(2)
        rescue(broker)
    hand.settle(hand.take()[0], Verb.RETURN)
    assert hand.take()[0].refusals == 3


def test_admission_stays(broker: Broker, hand: Hand, clock: Clock) -> None:
    send(broker, "1")
    [delivery] = hand.take()
    assert not delivery.admitted
    hand.settle(delivery, Verb.RETURN, delay=1, admitted=True)
    clock.advance(2)
    rescue(broker)
    [delivery] = hand.take()
    assert delivery.admitted
    hand.settle(delivery, Verb.RETURN)
    assert hand.take()[0].admitted


# -- messages whose worker died


def test_after_a_death_a_message_comes_alone_and_first(broker: Broker, hand: Hand, clock: Clock) -> None:
    send(broker, "1", "2", "3", "4")
    broker.settle([Settlement(delivery, Verb.RETURN, died=True) for delivery in hand.take(2)])
    clock.advance(2)
    [first] = hand.take()
    assert (first.message.id, first.alone, first.redelivered, first.deaths) == ("1", True, True, 0)
    assert first.message.redelivered
    clock.advance(2)
    assert hand.ids() == ["2"]
    assert hand.ids() == ["3", "4"]


def test_only_deaths_while_alone_are_counted(broker: Broker, hand: Hand, clock: Clock) -> None:
    send(broker, "1", "2")
    for expected in range(3):
        clock.advance(2)
        delivery = hand.take()[0]
        assert (delivery.message.id, delivery.deaths) == ("1", max(0, expected - 1) if expected else 0)
        hand.settle(delivery, Verb.RETURN, died=True)
    clock.advance(2)
    delivery = hand.take()[0]
    assert delivery.deaths == 2
    hand.settle(delivery, Verb.RETURN)
    clock.advance(2)
    delivery = hand.take()[0]
    assert (delivery.deaths, delivery.alone, delivery.redelivered) == (2, True, True)


def test_alone_and_delayed(broker: Broker, hand: Hand, clock: Clock) -> None:
    send(broker, "1", "2")
    hand.settle(hand.take(1)[0], Verb.RETURN, died=True, delay=30)
    clock.advance(2)
    assert hand.ids() == ["2"]
    clock.advance(30)
    rescue(broker)
    send(broker, "3")
    [delivery] = hand.take()
    assert (delivery.message.id, delivery.alone) == ("1", True)


def test_dead_letters_stay_and_are_not_handed_out(broker: Broker, hand: Hand, clock: Clock) -> None:
    send(broker, "1", "2")
    dead, _ = hand.take()
    assert hand.settle(dead, Verb.DEAD, reason="nobody \0 can run it \ud800")
    assert not hand.settle(dead, Verb.ACK)
    assert broker.sizes()["celery"] == Size(reserved=1, dead=1)
    clock.advance(3600)
    rescue(broker, "worker")
    assert hand.ids() == []
    assert broker.sizes()["celery"].dead == 1


# -- rescue


def test_silence_is_death(broker: Broker) -> None:
    dead, alive = Hand(broker, "dead"), Hand(broker, "alive")
    send(broker, "1", "2", "3")
    dead.take(2)
    alive.take(1)
    dead.beat()
    pass_time(broker, broker.lease - 6, alive)
    assert rescue(broker) == []
    pass_time(broker, 7, alive)
    orphans = rescue(broker)
    assert [(each.message.id, each.holder) for each in orphans] == [("1", "dead"), ("2", "dead")]
    assert broker.settle([Settlement(each, Verb.RETURN, died=True) for each in orphans]) == []


def test_what_a_living_worker_holds_stays(broker: Broker) -> None:
    hand = Hand(broker)
    send(broker, "long")
    [delivery] = hand.take()
    for _ in range(10):
        pass_time(broker, broker.lease / 2, hand)
        assert rescue(broker) == []
    assert hand.settle(delivery, Verb.ACK)


def test_the_janitor_owns_what_it_rescues(broker: Broker) -> None:
    hand = Hand(broker)
    send(broker, "1")
    [lost] = hand.take()
    hand.beat()
    pass_time(broker, broker.lease + 1)
    [orphan] = rescue(broker, janitor="another")
    assert orphan.lease != lost.lease
    assert not hand.settle(lost, Verb.ACK)  # the worker was frozen and thaws
    pass_time(broker, broker.lease / 2)
    assert rescue(broker) == []
    pass_time(broker, broker.lease)
    assert [each.holder for each in rescue(broker)] == ["another"]
    settlement = Settlement(orphan, Verb.ACK)
    assert broker.settle([settlement]) == [settlement]


def test_known_deaths_need_no_silence(broker: Broker) -> None:
    dead, alive = Hand(broker, "dead"), Hand(broker, "alive")
    send(broker, "1", "2")
    dead.take(1)
    alive.take(1)
    dead.beat()
    alive.beat()
    assert [each.message.id for each in rescue(broker, "dead", "never was")] == ["1"]
    assert rescue(broker, "dead") == []


def test_a_worker_that_died_before_its_first_heartbeat(broker: Broker) -> None:
    send(broker, "1")
    Hand(broker).take()
    assert rescue(broker) == []
    pass_time(broker, broker.lease - 6)
    assert rescue(broker) == []
    pass_time(broker, 7)
    assert [(each.message.id, each.holder) for each in rescue(broker)] == [("1", "worker")]


def test_rescued_messages_keep_their_history(broker: Broker, hand: Hand, clock: Clock) -> None:
    send(broker, "1")
    hand.settle(hand.take()[0], Verb.RETURN, died=True, refused=True, admitted=True)
    clock.advance(2)
    hand.take()
    [orphan] = rescue(broker, "worker")
    assert (orphan.alone, orphan.redelivered, orphan.admitted, orphan.refusals) == (True, True, True, 1)


def test_a_worker_that_was_taken_for_dead_can_go_on(broker: Broker) -> None:
    hand = Hand(broker)
    hand.beat()
    pass_time(broker, broker.lease + 1)
    rescue(broker)
    send(broker, "1")
    [delivery] = hand.take()
    pass_time(broker, 2 * broker.lease, hand)
    assert rescue(broker) == []
    assert hand.settle(delivery, Verb.ACK)


def test_who_was_silent_himself_judges_nobody(broker: Broker, clock: Clock) -> None:
    """After an outage of the server, or the sleep of a machine, the first janitor awake must not declare all dead."""
    janitor, hand = Hand(broker, "janitor"), Hand(broker)
    send(broker, "1", "2")
    hand.take(1)
    known = Hand(broker, "known")
    known.take(1)
    for each in (janitor, hand, known):
        each.beat()
    clock.advance(3 * broker.lease)
    assert rescue(broker) == []  # its own heartbeat is old
    janitor.beat()
    assert rescue(broker) == []  # the others have not had the time to beat
    assert [each.message.id for each in rescue(broker, "known")] == ["2"]  # seen to die: no need to wait
    clock.advance(broker.lease / 2)
    janitor.beat()
    assert rescue(broker) == []
    clock.advance(broker.lease / 2 + 1)
    janitor.beat()
    assert "1" in [each.message.id for each in rescue(broker)]


def test_goodbye_forgets_a_worker(broker: Broker) -> None:
    assert broker.browser is not None
    Hand(broker).beat()
    Hand(broker, "other").beat()
    assert {each.identity for each in broker.browser.workers()} == {"other", "worker"}
    broker.goodbye(["worker", "unknown"])
    assert [each.identity for each in broker.browser.workers()] == ["other"]
    broker.goodbye([])


def test_a_worker_that_was_seen_to_die_is_forgotten_at_once(broker: Broker) -> None:
    assert broker.browser is not None
    for each in ("worker", "other", "janitor"):
        Hand(broker, each).beat()
    rescue(broker, "worker")
    assert {each.identity for each in broker.browser.workers()} == {"janitor", "other"}


# -- reservations that nobody knows of


def test_a_reserve_whose_reply_was_lost_goes_back(broker: Broker, hand: Hand, clock: Clock) -> None:
    send(broker, "known", "lost", "young")
    [known] = hand.take(1)
    broker.reserve("worker", ["celery"], 1, new_lease())
    hand.beat()
    assert broker.sizes()["celery"].reserved == 2
    clock.advance(UNKNOWN_RESERVATION_AGE - 1)
    broker.reserve("worker", ["celery"], 1, new_lease())
    hand.beat()
    assert broker.sizes()["celery"].reserved == 3
    clock.advance(2)
    hand.beat()
    assert broker.sizes()["celery"] == Size(waiting=1, reserved=2, oldest=pytest.approx(11, abs=1))
    [again] = hand.take()
    assert (again.message.id, again.redelivered, again.alone) == ("lost", False, False)
    assert hand.settle(known, Verb.ACK)


def test_a_heartbeat_touches_only_its_own_workers(broker: Broker, clock: Clock) -> None:
    one, two = Hand(broker, "one"), Hand(broker, "two")
    send(broker, "1")
    [delivery] = one.take()
    one.beat()
    clock.advance(UNKNOWN_RESERVATION_AGE + 1)
    two.beat()
    assert one.settle(delivery, Verb.ACK)


# -- looking, and ending what waits


def test_sizes(broker: Broker, hand: Hand, clock: Clock) -> None:
    assert broker.sizes() == {}
    assert broker.sizes(["empty"]) == {"empty": Size()}
    hand.beat()
    send(broker, "1", "2", "3")
    send(broker, "4", eta=eta(broker, 60))
    send(broker, "5", queue="other")
    dead, alone = hand.take(2)
    hand.settle(dead, Verb.DEAD)
    clock.advance(7)
    hand.settle(alone, Verb.RETURN, died=True)
    sizes = broker.sizes()
    assert sizes["celery"] == Size(waiting=2, delayed=1, dead=1, oldest=pytest.approx(7, abs=1))
    assert sizes["other"].waiting == 1
    assert list(broker.sizes(["other"])) == ["other"]


def test_taking_back_by_id(broker: Broker, hand: Hand, clock: Clock) -> None:
    assert broker.control is not None
    send(broker, "running")
    [running] = hand.take()
    send(broker, "waiting", "other")
    send(broker, "delayed", eta=eta(broker, 60))
    send(broker, "alone")
    [alone] = [each for each in hand.take() if each.message.id == "alone"]
    hand.settle(alone, Verb.RETURN, died=True)
    broker.heartbeat([])
    send(broker, "waiting")
    lease = new_lease()
    wanted = ["running", "waiting", "delayed", "alone", "unknown", *map(str, range(1100))]
    taken = broker.control.take(wanted, lease)
    assert sorted(each.message.id for each in taken) == ["alone", "delayed", "waiting"]
    assert broker.settle([Settlement(each, Verb.ACK) for each in taken]) == []
    assert hand.settle(running, Verb.ACK)
    assert broker.control.take([], new_lease()) == []


def test_marking_by_id_what_workers_hold(broker: Broker, hand: Hand) -> None:
    assert broker.control is not None
    send(broker, "marked", "other")
    for each in hand.take():
        assert not each.redelivered
        broker.control.mark_redelivered(["marked", "unknown", *map(str, range(1100))])
        assert hand.settle(each, Verb.RETURN)
    broker.control.mark_redelivered([])
    assert {each.message.id: each.redelivered for each in hand.take()} == {"marked": True, "other": False}


def test_what_was_taken_back_and_forgotten_is_rescued(broker: Broker) -> None:
    assert broker.control is not None
    send(broker, "1")
    broker.control.take(["1"], new_lease())
    assert Hand(broker).ids() == []
    pass_time(broker, broker.lease + 1)
    assert [each.message.id for each in rescue(broker)] == ["1"]


def test_orders(broker: Broker) -> None:
    control = broker.control
    assert control is not None
    assert control.orders(-1) == []
    control.give_order("pause", "", {"n": 1})
    [newest] = control.orders(-1)
    control.give_order("resume", "node@host", {"ids": ["ü"]})
    control.give_order("shutdown", "", {})
    orders = control.orders(newest.number)
    assert [(each.kind, each.node, each.arguments) for each in orders] == [
        ("resume", "node@host", {"ids": ["ü"]}),
        ("shutdown", "", {}),
    ]
    assert control.orders(orders[-1].number) == []
    assert [each.kind for each in control.orders(-1)] == ["shutdown"]


# -- what cannot be read


def test_a_message_that_cannot_be_read_is_delivered_with_its_error(broker: Broker, hand: Hand) -> None:
    broker.send([message("pickled", args=({1, 2},), serializer="pickle"), message("plain")])
    bad, good = hand.take()
    assert bad.error is not None
    assert "pickle" in str(bad.error)
    assert (bad.message.task, bad.message.id, bad.queue) == ("task", "pickled", "celery")
    assert good.error is None
    assert broker.settle([Settlement(bad, Verb.DEAD, reason=str(bad.error)), Settlement(good, Verb.ACK)]) == []


# -- waiting


def test_the_wakeup_pipe_ends_a_wait(broker: Broker, hand: Hand, wakeup: tuple[int, int]) -> None:
    hand.take()
    broker.wait(["celery"], 0.01, wakeup[0])  # the first may end at once
    os.write(wakeup[1], b"xx")
    broker.wait(["celery"], 60, wakeup[0])
    with pytest.raises(BlockingIOError):
        os.read(wakeup[0], 1)


def test_a_wait_ends(broker: Broker, hand: Hand, wakeup: tuple[int, int]) -> None:
    hand.take()
    for _ in range(3):
        broker.wait(["celery"], 0.01, wakeup[0])


# -- finishing


def outcome_of(hand: Hand, number: int = 0, value: str = "1", **fields: Any) -> Outcome:
    [delivery] = hand.take(1)
    meta = TaskMeta(delivery.message.id, SUCCESS, name="task", worker=hand.identity, **fields)
    return Outcome(delivery.message, SUCCESS, value, meta=meta, settlement=Settlement(delivery, Verb.ACK))


def test_finish_stores_sends_and_settles(broker: Broker, hand: Hand) -> None:
    backend = MemoryBackend("memory://", accept=ACCEPT)
    send(broker, "1", "2")
    outcomes = [outcome_of(hand), outcome_of(hand)]
    counted = broker.finish(backend, outcomes, lambda outcome: [message(f"after {outcome.message.id}")])
    assert counted == outcomes
    assert set(backend.get(["1", "2"])) == {"1", "2"}
    assert hand.ids() == ["after 1", "after 2"]


def test_finish_without_the_lease_leaves_no_trace(broker: Broker, hand: Hand) -> None:
    backend = MemoryBackend("memory://", accept=ACCEPT)
    send(broker, "lost")
    lost = outcome_of(hand)
    assert lost.settlement is not None
    hand.settle(lost.settlement.delivery, Verb.RETURN)
    Hand(broker, "other").take()
    send(broker, "kept")
    kept = outcome_of(hand)
    counted = broker.finish(backend, [lost, kept], lambda outcome: [message(f"after {outcome.message.id}")])
    assert counted == [kept]
    assert set(backend.get(["lost", "kept"])) == {"kept"}
    assert hand.ids() == ["after kept"]
    assert broker.finish(backend, [lost], lambda outcome: [message("never")]) == []
    assert hand.ids() == []


def test_what_has_no_delivery_is_finished_too(broker: Broker, hand: Hand) -> None:
    backend = MemoryBackend("memory://", accept=ACCEPT)
    outcome = Outcome(Message("task", "1"), SUCCESS, meta=TaskMeta("1", SUCCESS))
    assert broker.finish(backend, [outcome], lambda outcome: [message("after")]) == [outcome]
    assert set(backend.get(["1"])) == {"1"}
    assert hand.ids() == ["after"]
    assert broker.finish(backend, [], lambda outcome: [message("never")]) == []


def test_the_earlier_end_decides_what_follows(broker: Broker, hand: Hand) -> None:
    backend = MemoryBackend("memory://", accept=ACCEPT)
    revoked = TaskMeta("1", "REVOKED", backend.encode(ValueError("revoked"), "REVOKED"))
    backend.store([revoked])
    send(broker, "1")
    outcome = outcome_of(hand)
    outcome.next_run = message("1", retries=1)
    seen = []
    broker.finish(backend, [outcome], lambda outcome: seen.append((outcome.state, outcome.next_run)) or [])
    assert seen == [("REVOKED", None)]
    assert isinstance(outcome.value, ValueError)
    assert broker.sizes() == {}


def test_an_unreadable_earlier_end_does_not_hold_up_the_message(
    broker: Broker, hand: Hand, caplog: pytest.LogCaptureFixture
) -> None:
    backend = MemoryBackend("memory://", accept=ACCEPT)
    other = MemoryBackend("memory://", serializer="pickle", accept=frozenset())
    backend.store([TaskMeta("1", SUCCESS, other.encode({1}, SUCCESS))])
    send(broker, "1")
    outcome = outcome_of(hand)
    assert broker.finish(backend, [outcome], lambda outcome: []) == [outcome]
    assert not outcome.follow
    assert "cannot be read" in caplog.text
    assert broker.sizes() == {}


def test_nothing_is_settled_when_what_follows_cannot_be_made(broker: Broker, hand: Hand) -> None:
    backend = MemoryBackend("memory://", accept=ACCEPT)
    send(broker, "1")
    outcome = outcome_of(hand)

    def follow(outcome: Outcome) -> list[Message]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broker.finish(backend, [outcome], follow)
    assert outcome.settlement is not None
    assert broker.confirm([outcome.settlement]) == [outcome.settlement]


def test_payloads_stay_readable(kind: Kind, broker: Broker, hand: Hand) -> None:
    """Operators read them in the database; what Celery can read is told by the tests of messages."""
    broker.send([message("1", args=("plain",))])
    assert broker.browser is not None
    [stored] = broker.browser.messages(Wanted(), 10, payload=True)
    assert stored.payload is not None
    body = json.loads(stored.payload)["body"]
    assert "plain" in (body if kind.readable else b64decode(body).decode())
