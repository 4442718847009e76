"""Connections are replaced under load: no trade lost, none visible twice, whatever a venue sends first.

Time is virtual: the desks answer without sockets, and minutes take as long as their frames take to be read. One case
talks over loopback.
"""

import asyncio
import random

import pytest
from attrs import evolve

import tradeflood as tf
from tradeflood.models.time import MS, SECOND, parse_time
from tradeflood.replay.desk import Clock, Conversation, desk_of
from tradeflood.replay.faults import Faults, FaultyDesk
from tradeflood.replay.server import serve
from tradeflood.replay.simulated import Simulated
from tradeflood.runner.flood import Flood
from tradeflood.testing import FakeTransport, answers_of
from tradeflood.testing.classes import venues
from tradeflood.testing.virtual import VirtualClock, run, sockets_of

START = parse_time("2026-03-04T05:06:07")
VENUES = {"binance": "BTC/USDT", "okx": "BTC/USDT", "bitget": "BTC/USDT", "nobitex": "BTC/IRT"}
LIFE = 10 * SECOND


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random.seed(7)


class OldFirst(Conversation):
    """A feed that begins every subscription with the newest trade that there was before it."""

    def __init__(self, inner, earlier):
        super().__init__(inner.clock, inner.sent_to)
        self._inner, self._earlier = inner, earlier
        self._first = []

    def receive(self, message, now):
        said = self._inner.receive(message, now)
        if b"ubscribe" in (message if isinstance(message, bytes) else message.encode()).lower():
            then = now - 600 * SECOND
            shadow = self._earlier(then)
            shadow.receive(message, then)
            self._first += [frame for _, frame in sorted(shadow.due(then, now), key=lambda owed: owed[0])][-1:]
        return said

    def due(self, after, up_to):
        return ()

    def advance(self, now):
        first, self._first = self._first, []
        return first or self._inner.advance(now)


class OldFirstDesk:
    """A desk whose every subscription begins with an old trade."""

    def __init__(self, inner):
        self.inner = inner

    def connect(self, path, params, now, client):
        return OldFirst(
            self.inner.connect(path, params, now, client),
            lambda then: self.inner.inner.connect(path, params, then, client),
        )


def rows_of(venue, *faults, rotations, model=tf.Trade, first=None, market=None, feed=None, pair=False):
    """The rows that a consumer sees while so many connections are replaced, with the venue's health."""
    market = market or VENUES[venue]

    async def main():
        clock = VirtualClock(START)
        paced = Clock(1, START, monotonic=clock.now)
        desk = FaultyDesk(desk_of(venue), Simulated(3), paced, Faults(faults, 1))
        config = {"venues": {venue: {"feed": {"lifetime": LIFE, **(feed or {})}, "pair": pair}}}
        rows = []
        async with Flood(config, transport=FakeTransport(answers_of(desk, clock), clock), clock=clock) as flood:
            flood.network = evolve(flood.network, sockets=sockets_of(first(desk) if first else desk, clock))
            live = flood.stream(model, f"{venue}:{market}")
            async for batch in live.batches():
                rows += batch
                if live.health[venue].replaced >= rotations * (2 if pair else 1):
                    break
                assert clock.now() < START + 20 * rotations * LIFE
            return rows, live.health[venue]

    return run(main())


def judge(venue, rows, market=None):
    """Nothing, where the rows are the trades of the market from the first to the last, each once and in no other order."""
    source = Simulated(3).at(venue)
    times = [row.venue_time for row in rows]
    truth = source.trades(
        market or VENUES[venue], "raw", now=max(times), start=min(times), end=max(times) + 1, limit=1 << 40
    )
    if venue == "nobitex":
        have, want = [(r.venue_time, r.price, r.size) for r in rows], [(r.venue_time, r.price, r.size) for r in truth]
        assert len({row.trade_id for row in rows}) == len(rows)
    else:
        have, want = [r.trade_id for r in rows], [r.trade_id for r in truth]
    begin = want.index(have[0])
    assert have == want[begin : begin + len(have)]


CASES = [  # Bitget begins with a snapshot of old trades by itself
    *(pytest.param(venue, None, id=venue) for venue in VENUES),
    *(pytest.param(venue, OldFirstDesk, id=f"{venue}, old first") for venue in VENUES if venue != "bitget"),
]


@pytest.mark.parametrize(("venue", "first"), CASES)
def test_connections_are_replaced_and_nobody_notices(venue, first):
    rows, health = rows_of(venue, rotations=5, first=first)
    assert (health.replaced, health.lost) == (5, 0)
    assert health.opened >= 6
    assert not health.trouble
    judge(venue, rows)


@pytest.mark.chaos
@pytest.mark.parametrize(("venue", "first"), CASES)
def test_forty_lifetimes_in_a_row(venue, first):
    rows, health = rows_of(venue, rotations=40, first=first)
    assert (health.replaced, health.lost) == (40, 0)
    judge(venue, rows)


@pytest.mark.parametrize("venue", VENUES)
def test_a_pair_is_replaced_connection_by_connection(venue):
    """Two connections, each with a life of its own: every trade is seen once."""
    rows, health = rows_of(venue, rotations=5, pair=True)
    assert (health.lost, health.replaced) == (0, 10)
    judge(venue, rows)


def test_a_successor_that_brings_nothing_does_not_take_over():
    """The second and the third connection are acknowledged and mute: the old one stays until one overlaps it."""

    class Mute(Conversation):
        def __init__(self, inner):
            super().__init__(inner.clock, inner.sent_to)
            self._inner = inner

        def receive(self, message, now):
            return self._inner.receive(message, now)

        def due(self, after, up_to):
            return ()

        def advance(self, now):
            return [frame for frame in self._inner.advance(now) if not isinstance(frame, str) or "stream" not in frame]

    class MuteSuccessors:
        def __init__(self, inner):
            self.inner, self.count = inner, 0

        def connect(self, path, params, now, client):
            self.count += 1
            talk = self.inner.connect(path, params, now, client)
            return Mute(talk) if self.count in {2, 3} else talk

    rows, health = rows_of("binance", rotations=1, first=MuteSuccessors)
    assert (health.replaced, health.lost, health.opened) == (1, 0, 4)
    assert health.trouble[0] == "binance: no successor yet: btcusdt@trade comes on the old connection only"
    judge("binance", rows)


@pytest.mark.parametrize("venue", ["multiplicity", "snowflake"])
def test_what_came_after_a_loss_is_replaced_like_any_other(venue):
    """Of rows without ids each connection makes observations of its own: here too what both bring is handed on once."""

    async def main():
        clock, rows = VirtualClock(START), []
        desk = FaultyDesk(desk_of(venue), Simulated(3), Clock(1, START, monotonic=clock.now), Faults((), 1))
        config = {"venues": {venue: {"feed": {"lifetime": LIFE}}}}
        async with Flood(config, transport=FakeTransport(answers_of(desk, clock), clock), clock=clock) as flood:
            flood.network = evolve(flood.network, sockets=sockets_of(desk, clock))
            live = flood.stream(tf.Trade, f"{venue}:BTC/USDT")
            async for batch in live.batches():
                rows += batch
                health = live.health[venue]
                if not health.lost and clock.now() > START + 3 * SECOND:
                    (line,) = live._wires.lines
                    line.lost("the test says so")
                if health.replaced >= 2:
                    break
                assert clock.now() < START + 5 * LIFE  # an overlap that is not seen is waited for
            return rows, health

    with venues():
        rows, health = run(main())
    assert (health.lost, health.replaced) == (1, 2)
    assert len({row.position for row in rows}) == len(rows)


def test_closing_in_the_midst_of_a_replacement_closes_both_connections():
    async def main():
        clock, opened = VirtualClock(START), []
        paced = Clock(1, START, monotonic=clock.now)
        desk = FaultyDesk(desk_of("binance"), Simulated(3), paced, Faults(["mute"], 1))
        config = {"venues": {"binance": {"feed": {"lifetime": LIFE}}}}
        async with Flood(config, transport=FakeTransport(answers_of(desk, clock), clock), clock=clock) as flood:
            flood.network = evolve(flood.network, sockets=sockets_of(desk, clock, opened=opened))
            live = flood.stream(tf.Trade, "binance:BTC/USDT")
            await live.begin()
            while len(opened) < 2:
                await clock.sleep(100 * MS)
            await clock.sleep(SECOND)
            await live.close()
            assert [socket._ended for socket in opened] == [True, True]
            await clock.sleep(SECOND)
            assert len(asyncio.all_tasks()) == 1

    run(main())


@pytest.mark.loopback
@pytest.mark.parametrize(("venue", "fast"), [("binance", False), ("binance", True), ("bitget", None)])
def test_connections_are_replaced_on_sockets_too(venue, fast):
    """Five lives of 300 ms each on a market thirty times as fast, through the real transports: every trade, once.

    Two sockets are read in the order in which the system says that they can be: of two connections that overlap, the new
    one may bring a trade before the old one has brought the one before.
    """
    if fast:
        pytest.importorskip("picows")

    async def main():
        rows = []
        async with serve(Simulated(3), [venue], speed=30, start=START) as served:
            settings = served.settings()
            settings[venue]["feed"] = {"lifetime": 300 * MS}
            async with Flood({"venues": settings}) as flood:
                live = flood.stream(tf.Trade, f"{venue}:{VENUES[venue]}", fast=fast)
                async for batch in live.batches():
                    rows += batch
                    if live.health[venue].replaced >= 5:
                        break
                return rows, live.health[venue]

    rows, health = asyncio.run(asyncio.wait_for(main(), 20))
    assert health.lost == 0
    judge(venue, sorted(rows, key=lambda row: int(row.trade_id)))
