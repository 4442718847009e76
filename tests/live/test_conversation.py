"""The conversation with a venue, without a wire: what is written when, and what is taken from what comes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradeflood.errors import PayloadChanged
from tradeflood.live import Conversation
from tradeflood.models.time import HOUR, MINUTE, MS, SECOND
from tradeflood.turns import (
    Acked,
    Alive,
    Answer,
    Budget,
    Connector,
    Denied,
    Feed,
    Heartbeat,
    Leaving,
    Rest,
    Rows,
    registry,
)

EVENTS = {
    "rows": lambda said: Rows(said["topic"], said["rows"], said.get("at"), None, said.get("id")),
    "ack": lambda said: Acked(tuple(said.get("topics", ())), said.get("id"), said.get("epoch")),
    "deny": lambda said: Denied(said["why"], tuple(said.get("topics", ())), said.get("id")),
    "ping": lambda said: Answer("pong"),
    "alive": lambda said: Alive(),
    "leave": lambda said: Leaving(said.get("why", "")),
}


@pytest.fixture(scope="module")
def venue():
    """A connector whose frames say in JSON what they are."""
    with registry.scope():

        class Toy(Connector):
            venue = "toy"
            rest = Rest("http://toy", Budget("x", 1, 1))
            feed = Feed("ws://toy")

            def say(self, verb, topics, number):
                return (json.dumps({"id": number, verb: list(topics)}),)

            def hear(self, frame):
                return [EVENTS[said["is"]](said) for said in json.loads(frame)]

        yield Toy()


def talk(venue, topics, **feed):
    return Conversation(venue, Feed("ws://toy", **feed), topics, 0)


def frame(*said):
    return json.dumps([{"is": kind, **words} for kind, words in said]).encode()


def topics_in(messages):
    return [json.loads(text)["subscribe"] for text in messages]


# ---------------------------------------------------------------- out


@given(
    st.lists(st.text(max_size=30), unique=True, max_size=60), st.integers(1, 20), st.integers(20, 400),
    st.integers(1, 5), st.integers(1, 3),
)  # fmt: skip
def test_every_topic_is_asked_for_once_within_every_limit(venue, topics, per_message, size, most, seconds):
    """Messages are never wider than the venue takes, never longer unless of one topic, never more in a window."""
    talk = Conversation(
        venue,
        Feed("ws://toy", topics_per_message=per_message, bytes_per_message=size, messages=(most, seconds * SECOND)),
        topics,
        0,
    )
    now, sent = 0, []
    while True:
        sent += [(now, text) for text in talk.send(now)]
        if not talk.has_more_to_say:
            break
        due = talk.due(now)
        assert due > now
        now = due
    asked = topics_in(text for _, text in sent)
    assert [topic for part in asked for topic in part] == topics
    assert all(len(part) <= per_message for part in asked)
    assert all(len(text.encode()) <= size or len(part) == 1 for (_, text), part in zip(sent, asked, strict=True))
    for begin, _ in sent:
        assert len([at for at, _ in sent if begin <= at < begin + seconds * SECOND]) <= most
    numbers = [json.loads(text)["id"] for _, text in sent]
    assert numbers == list(range(1, len(sent) + 1))


def test_a_heartbeat_is_sent_after_silence_only(venue):
    told = talk(venue, ["a"], heartbeat=Heartbeat(20 * SECOND, "ping"))
    assert len(told.send(0)) == 1
    assert told.due(0) == 20 * SECOND
    assert told.send(19 * SECOND) == []
    assert told.send(20 * SECOND) == ["ping"]
    told.receive(frame(("ping", {})), 30 * SECOND)
    assert told.send(30 * SECOND) == ["pong"]
    assert told.due(31 * SECOND) == 50 * SECOND


@pytest.mark.parametrize("beat", [None, Heartbeat(20 * SECOND)])
def test_a_venue_that_wants_no_heartbeat_is_pinged_by_the_protocol_alone(venue, beat):
    """After twenty seconds without a word, once, and again only after it answered; it counts as a message."""
    told = talk(venue, ["a"], heartbeat=beat, messages=(1, SECOND))
    told.send(0)
    assert not told.pings(19 * SECOND)
    assert told.due(SECOND) == 20 * SECOND
    assert told.pings(20 * SECOND)
    assert not told.pings(21 * SECOND)
    told.again("a")
    assert told.send(20 * SECOND) == []
    told.heard(22 * SECOND)
    assert not told.pings(41 * SECOND)
    assert told.pings(42 * SECOND)
    assert len(told.send(HOUR)) == 1


def test_a_connection_that_says_nothing_though_it_was_pinged_is_dead(venue):
    """Silence alone is no proof, silence after a ping is; whatever comes is a proof of life, be it garbage."""
    for beat in (Heartbeat(20 * SECOND, "ping"), None):
        told = talk(venue, ["a"], heartbeat=beat)
        told.send(0)
        assert told.dead(HOUR) is None
        assert told.pings(20 * SECOND) or told.send(20 * SECOND) == ["ping"]
        assert told.dead(49 * SECOND) is None
        assert told.due(21 * SECOND) <= 50 * SECOND
        assert told.dead(50 * SECOND) == "nothing was heard for 50 s, and no answer to a ping"
        with pytest.raises(PayloadChanged):
            told.receive(b"{", 50 * SECOND)
        assert told.dead(HOUR) is None


def test_a_ping_that_waits_behind_subscriptions_is_not_late(venue):
    """The hourly limit of subscriptions holds back what is left of them, not the heartbeat and not a pong."""
    told = talk(
        venue, list("abc"), topics_per_message=1, subscriptions=((2, HOUR),), heartbeat=Heartbeat(20 * SECOND, "hi")
    )
    assert topics_in(told.send(0)) == [["a"], ["b"]]
    assert told.has_more_to_say
    assert not told.may_subscribe(SECOND)
    assert told.send(20 * SECOND) == ["hi"]
    told.receive(frame(("ping", {})), 21 * SECOND)
    assert told.send(21 * SECOND) == ["pong"]
    assert topics_in(told.send(HOUR - SECOND)[:-1]) == []
    assert topics_in(told.send(HOUR)) == [["c"]]


@given(st.integers(1, 40), st.lists(st.tuples(st.integers(1, 4), st.integers(1, 40)), min_size=1, max_size=3))
def test_several_windows_hold_at_once_and_nothing_waits_longer_than_they_demand(venue, count, windows):
    """Each message goes at the first moment that every window allows."""
    windows = tuple((most, seconds * SECOND) for most, seconds in windows)
    told = talk(venue, [str(number) for number in range(count)], topics_per_message=1, messages=windows)
    now, sent = 0, []
    while True:
        sent += [now] * len(told.send(now))
        if not told.has_more_to_say:
            break
        now = told.due(now)
    expected = []
    for number in range(count):
        expected.append(
            max([expected[-1] if expected else 0, *(expected[number - m] + per for m, per in windows if number >= m)])
        )
    assert sent == expected


def test_a_topic_is_taken_back_and_wanted_again(venue):
    told = talk(venue, ["a", "b"])
    told.send(0)
    told.receive(frame(("ack", {"id": 1})), 1)
    told.shut("a")
    assert [list(json.loads(text))[1:] for text in told.send(SECOND)] == [["unsubscribe"]]
    told.receive(frame(("ack", {"id": 2})), 2)
    assert (set(told.wanted), told.acked) == ({"b"}, {"b"})
    told.again("a")
    assert [list(json.loads(text))[1:] for text in told.send(2 * SECOND)] == [["subscribe"]]
    assert set(told.wanted) == {"a", "b"}


def test_numbered_data_get_the_epoch_and_the_topic_of_their_acknowledgement(venue):
    told = talk(venue, ["a"])
    told.send(0)
    said = frame(("ack", {"id": 1, "epoch": "x"}), ("rows", {"topic": "", "rows": [1], "at": 7, "id": 1}))
    assert told.receive(said, 1) == [Rows("a", [1], 7, "x")]
    assert told.receive(frame(("rows", {"topic": "a", "rows": [2], "at": 8})), 1) == [Rows("a", [2], 8, "x")]


def test_an_answer_goes_first_and_counts_as_a_message(venue):
    """A pong is written before what still waits, and within the venue's limit."""
    told = talk(venue, ["a", "b", "c"], topics_per_message=1, messages=(1, SECOND))
    assert topics_in(told.send(0)) == [["a"]]
    told.receive(frame(("ping", {})), 1)
    assert told.has_more_to_say
    assert told.send(1) == []
    assert told.due(1) == SECOND
    assert told.send(SECOND) == ["pong"]
    assert topics_in(told.send(2 * SECOND)) == [["b"]]


def test_a_connection_expires_before_the_venue_ends_it(venue):
    told = talk(venue, ["a"], lifetime=24 * HOUR)
    told.send(0)
    assert 23 * HOUR < told.expires < 24 * HOUR
    told.heard(told.expires - SECOND)
    assert told.due(told.expires - SECOND) == told.expires
    assert talk(venue, ["a"]).expires is None


def test_subscribing_anew_takes_the_topic_back_first(venue):
    told = talk(venue, ["a", "b"])
    told.send(0)
    told.receive(frame(("ack", {"id": 1})), 1)
    told.again("a")
    assert told.acked == {"b"}
    assert [list(json.loads(text))[1:] for text in told.send(SECOND)] == [["unsubscribe"], ["subscribe"]]
    told.receive(frame(("ack", {"id": 3})), 2 * SECOND)
    assert told.acked == {"a", "b"}


# ---------------------------------------------------------------- in


def test_an_acknowledgement_is_of_its_number_or_of_its_topics(venue):
    told = talk(venue, ["a", "b", "c", "d"], topics_per_message=2)
    told.send(0)
    told.receive(frame(("ack", {"id": 2})), 1)
    assert told.acked == {"c", "d"}
    told.receive(frame(("ack", {"topics": ["a"]})), 2)
    assert told.acked == {"a", "c", "d"}
    told.receive(frame(("ack", {"id": 77}), ("ack", {})), 3)
    assert told.acked == {"a", "c", "d"}


def test_a_denial_is_of_its_number_of_its_topics_or_of_all_that_is_not_acknowledged(venue):
    told = talk(venue, ["a", "b", "c", "d", "e"], topics_per_message=2)
    told.send(0)
    told.receive(frame(("deny", {"id": 1, "why": "one"}), ("deny", {"topics": ["c"], "why": "two"})), 1)
    assert told.denied == {"a": "one", "b": "one", "c": "two"}
    told.receive(frame(("ack", {"topics": ["e"]}), ("deny", {"why": "three"})), 2)
    assert told.denied["d"] == "three"
    assert "e" not in told.denied


def test_data_before_the_acknowledgement_count(venue):
    told = talk(venue, ["a"])
    (rows,) = told.receive(frame(("rows", {"topic": "a", "rows": [1]}), ("ack", {"id": 1})), 1)
    assert rows == Rows("a", [1])
    assert told.acked == {"a"}


def test_a_frame_of_many_things_loses_none(venue):
    told = talk(venue, ["a"])
    told.send(0)
    said = frame(
        ("rows", {"topic": "a", "rows": [1]}), ("ping", {}), ("alive", {}), ("rows", {"topic": "b", "rows": [2]}), ("leave", {}),
    )  # fmt: skip
    assert [event.topic for event in told.receive(said, 1)] == ["a", "b"]
    assert told.send(SECOND) == ["pong"]
    assert told.leaving == "the venue closes this connection"


@pytest.mark.parametrize(
    "data", [b"", b"nonsense", b"\xff\xfe", b"5", b"[5]", b'[{"is":"unheard of"}]', b"[{}]", b"null", b"[" * 100]
)
def test_a_frame_that_is_none_is_named_and_the_conversation_goes_on(venue, data):
    """Also where the connector stumbles in a way that nobody foresaw."""
    told = talk(venue, ["a"])
    told.send(0)
    with pytest.raises(PayloadChanged) as error:
        told.receive(data, 1)
    assert str(error.value).startswith("toy: a frame that cannot be read: ")
    assert "\n" not in str(error.value)
    assert error.value.body == data
    told.receive(frame(("ack", {"id": 1})), 2)
    assert told.acked == {"a"}


@given(st.lists(st.sampled_from(["ping", "send", "wait", "garbage"]), max_size=60))
def test_whatever_comes_in_whatever_order_the_limit_of_messages_holds(venue, steps):
    told = Conversation(
        venue,
        Feed("ws://toy", messages=(3, SECOND), topics_per_message=1, heartbeat=Heartbeat(MINUTE, "hi")),
        list("abcde"),
        0,
    )
    now, sent = 0, []
    for step in steps:
        if step == "ping":
            told.receive(frame(("ping", {})), now)
        elif step == "garbage":
            with pytest.raises(PayloadChanged):
                told.receive(b"{", now)
        elif step == "send":
            sent += [now] * len(told.send(now))
        else:
            now += 300 * MS
    assert all(len([at for at in sent if begin <= at < begin + SECOND]) <= 3 for begin in sent)
