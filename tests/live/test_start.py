"""Starting takes as long as a venue's limits demand, and not longer: thousands of topics, in virtual time."""

import asyncio
import json
import random
from collections import Counter
from itertools import pairwise

import pytest
from attrs import evolve

import tradeflood as tf
from tradeflood import plugins
from tradeflood.coverage import Dataset
from tradeflood.errors import TransportError
from tradeflood.models.time import HOUR, MINUTE, MS, SECOND, parse_time
from tradeflood.replay.desk import Close, Conversation, HttpAnswer
from tradeflood.runner.flood import Flood
from tradeflood.spans import EMPTY
from tradeflood.testing import FakeTransport
from tradeflood.testing.virtual import JOURNEY, VirtualClock, run, sockets_of
from tradeflood.turns import Acked, Ask, Binding, Budget, Connector, Feed, Leaving, Rest, registry, turn, turn_execution

START = parse_time("2026-03-04T05:06:07")
TICK = 20 * MS + 2 * JOURNEY


class Server(Conversation):
    """A venue's side that acknowledges, and closes when it is told more than its limits allow."""

    def __init__(self, venue, now):
        super().__init__(venue.clock, now)
        self.venue, self.topics_here, self.messages, self.subscriptions = venue, set(), [], []
        self.leaving = self.closing = None

    def receive(self, message, now):
        if not isinstance(message, str):
            return []
        said = json.loads(message)
        self.messages.append(now)
        self.subscriptions.append(now)
        feed = self.venue.feed
        for most, per in feed.messages:
            assert len([at for at in self.messages if at > now - per]) <= most, "too many messages"
        for most, per in feed.subscriptions:
            assert len([at for at in self.subscriptions if at > now - per]) <= most, "too many subscriptions"
        assert len(said["topics"]) <= feed.topics_per_message
        assert len(message.encode()) <= feed.bytes_per_message
        if said["verb"] == "subscribe":
            self.topics_here |= set(said["topics"])
        assert len(self.topics_here) <= feed.streams
        self.venue.subscribed[now] += len(said["topics"])
        return [json.dumps({"ack": said["id"]})]

    def due(self, after, up_to):
        return ()

    def advance(self, now):
        if self.closing is not None and now >= self.closing and not self.ended:
            self.ended = True
            return [Close(1001)]
        if self.leaving is not None and now >= self.leaving:
            self.leaving = None
            return ['{"leave": true}']
        return []


class Venue:
    """Counts its clients' connections and attempts."""

    def __init__(self, feed):
        self.feed, self.clock = feed, None
        self.attempts, self.open, self.most, self.subscribed, self.talks = [], 0, 0, Counter(), []

    def connect(self, path, params, now, client):
        self.attempts.append(now)
        for most, per in self.feed.attempts:
            assert len([at for at in self.attempts if at > now - per]) <= most, "too many attempts"
        self.talks.append(Server(self, now))
        return self.talks[-1]


@pytest.fixture
def toy():
    """Defines a venue with a feed of these limits."""
    plugins.load()
    with registry.scope():

        def define(**limits):
            class Toy(Connector):
                venue = "toy"
                rest = Rest("http://toy", Budget("x", 1, 1))
                feed = Feed("ws://toy", **limits)

                @turn(list[int], live=True)
                def trades(self, symbol):
                    return f"{symbol.lower()}@trade"

                def say(self, verb, topics, number):
                    return (json.dumps({"id": number, "verb": verb, "topics": list(topics)}),)

                def hear(self, frame):
                    said = json.loads(frame)
                    return [Acked(number=said["ack"])] if "ack" in said else [Leaving("soon")]

            class ToyTrades(Binding[tf.Trade], connector=Toy, kind="raw"):
                def live(self, venue, ask):
                    return self.pack(venue.trades(ask.symbol))

                @turn_execution
                def pack(self, rows):
                    return []

            return Toy.feed

        yield define


def started(feed, count, until=None, **settings):
    """How long it takes until so many topics are acknowledged, and the venue. Then `until` may look on."""
    venue = Venue(feed)

    async def main():
        random.seed(7)
        clock = venue.clock = VirtualClock(START)
        async with Flood({"venues": {"toy": settings}}, transport=FakeTransport(list, clock), clock=clock) as flood:
            flood.network = evolve(flood.network, sockets=sockets_of(venue, clock))
            live = flood.stream_of(
                [
                    Ask(tf.Trade, "toy", f"M{number}/USDT", f"M{number}USDT", ("raw",), EMPTY, START)
                    for number in range(count)
                ]
            )
            await live.begin()
            while not (live.health and len(live.health["toy"].acked) == count):
                await clock.sleep(10 * MS)
                assert live.failed is None, live.failed
            took = clock.now() - START
            if until is not None:
                await until(live, venue, clock)
            await live.close()
            return took

    return run(main()), venue


def least(feed, count):
    """The shortest time that the limits of a feed allow for so many topics."""
    connections = -(-count // feed.streams)

    def paced(number, windows):
        at = []
        for place in range(number):
            at.append(max([0, *at[-1:], *(at[place - most] + per for most, per in windows if place >= most)]))
        return at[-1]

    per_connection = min(count, feed.streams)
    messages = -(-per_connection // feed.topics_per_message)
    return paced(connections, feed.attempts) + paced(messages, (*feed.messages, *feed.subscriptions))


@pytest.mark.parametrize(
    "limits",
    [
        pytest.param(
            {
                "streams": 1024, "messages": (5, SECOND), "attempts": (300, 5 * MINUTE), "topics_per_message": 100,
                "bytes_per_message": 1 << 20,
            },
            id="1024 a connection, 5 messages a second",
        ),
        pytest.param(
            {
                "streams": 50, "messages": ((10, SECOND),), "attempts": (300, 5 * MINUTE), "topics_per_message": 10,
                "subscriptions": (240, HOUR),
            },
            id="50 a connection, 10 a message",
        ),
        pytest.param(
            {
                "streams": 200, "messages": (100, SECOND), "attempts": ((3, SECOND), (10, 10 * SECOND)), "topics_per_message": 1,
                "subscriptions": ((30, 10 * SECOND), (480, HOUR)),
            },
            id="several windows of everything",
        ),
    ],
)  # fmt: skip
def test_three_thousand_topics_start_as_soon_as_the_limits_allow(toy, limits):
    """The fewest connections; the venue sees no limit passed; and it takes no longer than the limits demand, and a tick."""
    feed = toy(**limits)
    took, venue = started(feed, 3000)
    assert len(venue.attempts) == -(-3000 // feed.streams)
    bound = least(feed, 3000)
    assert bound <= took + TICK
    assert took <= bound + TICK + 20 * MS * len(feed.attempts) + bound // 500  # windows are kept 5 ms apart


def test_no_more_connections_than_may_be_open_at_once(toy):
    """The third waits for a seat, which comes free when one of the two is closed for good."""

    async def until(live, venue, clock):
        raise AssertionError("never all of them")

    feed = toy(streams=10, connections=2)
    with pytest.raises(TimeoutError):
        started_within(feed, 30, until)


def started_within(feed, count, until):
    async def main():
        venue = Venue(feed)
        clock = venue.clock = VirtualClock(START)
        async with Flood({}, transport=FakeTransport(list, clock), clock=clock) as flood:
            flood.network = evolve(flood.network, sockets=sockets_of(venue, clock))
            live = flood.stream_of(
                [Ask(tf.Trade, "toy", f"M{n}/USDT", f"M{n}USDT", ("raw",), EMPTY, START) for n in range(count)]
            )
            await live.begin()
            await clock.sleep(2 * MINUTE)
            assert len(venue.attempts) == 2
            assert len(live.health["toy"].acked) == 20
            venue.talks[0].closing = clock.now()
            await clock.sleep(MINUTE)
            assert len(venue.attempts) == 3
            async with asyncio.timeout(10):
                while len(live.health["toy"].acked) < count + 1:
                    await clock.sleep(SECOND)

    run(main())


@pytest.mark.parametrize(
    ("venue", "facts"),
    [
        ("binance", {"streams": 1024, "messages": ((5, SECOND),), "attempts": ((300, 5 * MINUTE),), "lifetime": 24 * HOUR}),
        ("okx", {"subscriptions": ((480, HOUR),), "attempts": ((3, SECOND),), "bytes_per_message": 64_000}),
        (
            "bitget",
            {
                "subscriptions": ((240, HOUR),), "messages": ((10, SECOND),), "attempts": ((300, 5 * MINUTE),),
                "connections": 100, "lifetime": 24 * HOUR,
            },
        ),
        ("nobitex", {"streams": 300, "connections": 100}),
    ],
)  # fmt: skip
def test_what_the_venues_state_is_declared(venue, facts):
    plugins.load()
    feed = registry.connector(venue).feed
    assert {name: getattr(feed, name) for name in facts} == facts


def test_settings_replace_windows_and_addresses():
    """One window or several; another address of the feed leaves out its further ones, unless they are named."""
    told = {"messages": [[2, SECOND], [9, MINUTE]], "subscriptions": [3, HOUR], "connections": 4}
    flood = Flood({"venues": {"binance": {"feed": told}}})
    feed = flood.venues.connector("binance").feed
    assert (feed.messages, feed.subscriptions, feed.connections) == (((2, SECOND), (9, MINUTE)), ((3, HOUR),), 4)
    assert len(feed.others) == 2
    here = Flood({"venues": {"binance": {"feed_url": "ws://127.0.0.1:1"}}}).venues.connector("binance").feed
    assert here.others == ()
    named = Flood({"venues": {"binance": {"feed": {"others": ["ws://127.0.0.1:2"]}, "feed_url": "ws://127.0.0.1:1"}}})
    assert named.venues.connector("binance").feed.others == ("ws://127.0.0.1:2",)


def test_room_is_left_for_the_pongs_that_a_venue_counts(toy):
    """Of five messages a second that it takes, one is left to the client, which answers pings by itself."""
    took, venue = started(toy(messages=(5, SECOND), pongs=1, topics_per_message=1), 40)
    (talk,) = venue.talks
    assert max(sum(at <= other < at + SECOND for other in talk.messages) for at in talk.messages) == 4
    assert took < 11 * SECOND
    assert registry.connector("binance").feed.pongs == 1


def test_a_storm_in_which_every_connection_is_lost_at_once_passes_no_limit(toy):
    """Thrice, and again while they come back, and while topics are subscribed anew; the venue asserts every limit."""

    async def until(live, venue, clock):
        for _ in range(3):
            for talk in venue.talks:
                talk.closing = clock.now()
            for _ in range(20):
                for group in live._groups:
                    group.again(group.places[0])
                await clock.sleep(700 * MS)
        for talk in venue.talks:
            talk.closing = clock.now()
        topics = {place.topic for group in live._groups for place in group.places}
        began = clock.now()
        while {t for talk in venue.talks if not talk.ended for t in talk.topics_here} != topics:
            await clock.sleep(SECOND)
            assert clock.now() < began + 6 * MINUTE
        assert sum(not talk.ended for talk in venue.talks) == 60
        assert live.failed is None

    feed = toy(
        streams=50, messages=(10, SECOND), attempts=((3, SECOND), (100, MINUTE)), topics_per_message=10,
        subscriptions=(240, HOUR), connections=60, bytes_per_message=200,
    )  # fmt: skip
    started(feed, 3000, until)


# ---------------------------------------------------------------- refused at the handshake


def refusing(venue, clock, answer, until):
    """Refuses every connection up to a moment."""
    connect, tried = venue.connect, []

    def refuse(*args):
        tried.append(clock.now())
        return answer(clock.now()) if clock.now() < until else connect(*args)

    venue.connect = refuse
    return tried


@pytest.mark.parametrize("status", [403, 418, 429])
def test_no_connection_is_tried_before_the_moment_that_a_refusal_names(toy, status):
    """All groups of the feed wait; the refusal is named, and counts as one attempt; afterwards all are back."""

    async def until(live, venue, clock):
        end = clock.now() + 20 * MINUTE
        before = len(venue.attempts)
        tried = refusing(
            venue, clock, lambda now: HttpAnswer(status, {"Retry-After": str(-(-(end - now) // SECOND))}), end
        )
        venue.talks[0].closing = clock.now()
        await clock.sleep(10 * SECOND)
        venue.talks[1].closing = clock.now()
        await clock.sleep(15 * MINUTE)
        assert len(tried) == 1
        (pause,) = live._network.limiter.pauses()
        assert (pause.venue, pause.budget, pause.held) == ("toy", "connection attempts", ("connections",))
        assert end <= pause.until <= end + 2 * SECOND
        assert any(f"HTTP {status}" in text and "before" in text for text in live.health["toy"].trouble)
        await clock.sleep(6 * MINUTE)
        assert len(tried) == 3
        assert len(venue.attempts) == before + 2
        assert all(group.line is not None for group in live._groups)
        assert live._network.limiter.pauses() == []

    started(toy(streams=10), 20, until)


def test_refusals_that_name_no_end_are_waited_for_ever_longer(toy):
    async def until(live, venue, clock):
        tried = refusing(venue, clock, lambda now: HttpAnswer(429), clock.now() + 10 * MINUTE)
        venue.talks[0].closing = clock.now()
        await clock.sleep(11 * MINUTE + 30 * SECOND)
        assert 8 <= len(tried) <= 16
        assert max(b - a for a, b in pairwise(tried)) < 2 * MINUTE
        assert live._groups[0].line is not None

    started(toy(), 5, until)


def test_what_is_lost_while_its_successor_is_barred_is_known_as_lost(toy):
    """The old connection ends while nobody may open another one: it is not waited for as if it were still there."""

    async def until(live, venue, clock):
        end = clock.now() + HOUR
        tried = refusing(venue, clock, lambda now: HttpAnswer(429, {"Retry-After": "3600"}), end)
        venue.talks[0].leaving = clock.now()
        await clock.sleep(10 * SECOND)
        assert len(tried) == 1
        venue.talks[0].closing = clock.now()
        await clock.sleep(10 * SECOND)
        (group,) = live._groups
        assert group.line is None
        assert group.standing_in

    started(toy(), 5, until)


def test_to_wait_for_its_turn_is_not_to_have_lasted(toy):
    """A feed whose attempts are a minute and a half apart: that none succeeds is a failure each time, and the next address is tried."""

    async def until(live, venue, clock):
        def refuse(*_):
            raise TransportError("nobody there")

        venue.connect = refuse
        venue.talks[0].closing = clock.now()
        await clock.sleep(10 * MINUTE)
        (group,) = live._groups
        assert group.standing_in
        assert group._url

    started(toy(attempts=(1, 90 * SECOND), others=("ws://other",)), 5, until)


# ---------------------------------------------------------------- notices, losses


def test_a_venue_that_says_it_will_close_gets_a_successor_first(toy):
    """It closes ten minutes after its notice: by then the topics are on another connection, and nothing was lost."""

    async def until(live, venue, clock):
        old = venue.talks[0]
        old.leaving, old.closing = clock.now(), clock.now() + 10 * MINUTE
        await clock.sleep(MINUTE)
        (_, new) = venue.talks
        assert new.topics_here == old.topics_here
        await clock.sleep(20 * MINUTE)
        health = live.health["toy"]
        assert (health.replaced, health.lost, health.opened) == (1, 0, 2)

    started(toy(), 40, until)


def test_a_connection_that_is_lost_again_and_again_is_opened_ever_more_slowly(toy):
    """Delays grow to half a minute, with jitter, and the budget of attempts holds."""

    async def until(live, venue, clock):
        async def kill():
            while True:
                for talk in venue.talks:
                    talk.closing = clock.now()
                await clock.sleep(20 * MS)

        killer = asyncio.create_task(kill())
        await clock.sleep(10 * MINUTE)
        killer.cancel()
        gaps = [after - before for before, after in zip(venue.attempts[1:], venue.attempts[2:], strict=False)]
        assert max(gaps) <= 31 * SECOND
        assert all(gap > 10 * SECOND for gap in gaps[10:])
        assert len(set(gaps[10:])) > 5
        health = live.health["toy"]
        assert health.lost == len(venue.attempts) - 1 or health.lost == len(venue.attempts)

    started(toy(attempts=((4, 10 * SECOND), (100, 5 * MINUTE))), 5, until)


def test_a_connection_that_died_without_a_word_is_noticed_and_replaced(toy):
    """Nothing comes, not even an answer to a ping: given up within the declared time."""

    async def until(live, venue, clock):
        (socket,) = live._wires.lines
        socket.socket.pause()
        socket.socket.ping = _silent
        began = clock.now()
        while live.health["toy"].opened < 2:
            await clock.sleep(SECOND)
        assert 30 * SECOND < clock.now() - began < 55 * SECOND
        assert "no answer to a ping" in live.health["toy"].trouble[0]

    started(toy(), 5, until)


async def _silent():
    pass


def test_a_dead_market_is_taken_back_and_listened_to_again(toy):
    async def until(live, venue, clock):
        dataset = Dataset(tf.Trade, "toy", "M3/USDT", ("raw",))
        live.shut(dataset, clock.now())
        await clock.sleep(SECOND)
        assert str(live.states()[dataset].state) == "closed"
        assert not live.is_suspicious(dataset, clock.now() + HOUR)
        venue.talks[0].closing = clock.now()
        await clock.sleep(MINUTE)
        assert venue.talks[1].topics_here == {f"m{n}usdt@trade" for n in (0, 1, 2, 4)}
        live.wake(dataset, clock.now())
        await clock.sleep(SECOND)
        assert "m3usdt@trade" in venue.talks[1].topics_here

    started(toy(), 5, until)


def test_a_venue_that_cannot_be_reached_is_told_and_tried_again(toy):
    """The states say so; nothing raises."""

    async def until(live, venue, clock):
        def refuse(*_):
            raise TransportError("nobody there")

        venue.connect = refuse
        venue.talks[0].closing = clock.now()
        await clock.sleep(MINUTE)
        assert {str(each.state) for each in live.states().values()} == {"suspicious"}
        assert live.health["toy"].lost > 3

    started(toy(), 5, until)
