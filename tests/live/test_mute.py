"""Acknowledged and silent: found in the time that the market's rate gives, escalated, repaired by REST, told.

The runner works in virtual time against a simulated venue whose truth is known; nothing here is faster than life.
"""

import asyncio
import random

import pytest
from attrs import evolve

import tradeflood.runner.group
import tradeflood.runner.runner
from tradeflood.coverage import Dataset, held
from tradeflood.errors import DeclarationError, TransportError
from tradeflood.live import Standing
from tradeflood.models import Trade
from tradeflood.models.time import SECOND, parse_time
from tradeflood.replay.desk import Clock, desk_of
from tradeflood.replay.faults import Faults, FaultyDesk
from tradeflood.replay.simulated import Simulated
from tradeflood.runner.flood import Flood
from tradeflood.runner.runner import Runner
from tradeflood.spans import EMPTY
from tradeflood.testing import FakeTransport, answers_of
from tradeflood.testing.virtual import VirtualClock, run, sockets_of
from tradeflood.turns import Ask

START = parse_time("2026-03-04T05:06:07")
BUSY = ("BTC/USDT", "ETH/USDT", "SOL/USDT")
PASS = 5 * SECOND
"""How often the runner looks."""

SLACK = 4 * SECOND
"""What comes on top: the wait for rows that the stream may still bring, the answer, the next look."""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random.seed(7)


class Told:
    """What a run was: its report, the store, the stream, and every step with its moment."""

    def __init__(self):
        self.steps, self.states = [], []

    def times(self, name):
        return [at for step, at, _ in self.steps if step == name]

    def datasets(self, name):
        return [facts["dataset"].market for step, _, facts in self.steps if step == name]


def collected(*faults, venue="binance", markets=BUSY, seconds=120, others=None, change=None, earlier=0):
    """What a run was, with its store looked into before it is closed. `change` (desk, clock) goes on beside it.

    `earlier` is how long, in seconds, another run collected before it into the same store.
    """
    told = Told()

    async def main():
        clock = VirtualClock(START)
        desk = FaultyDesk(desk_of(venue), Simulated(5), Clock(1, START, monotonic=clock.now), Faults(faults, 1))
        config = {
            "store": "memory://",
            "venues": {venue: {"feed": {"others": others}} if others else {}},
            "collect": [{"model": "trade", "markets": [f"{venue}:{market}" for market in markets], "history": "2m"}],
        }

        def observe(step, **facts):
            if step.startswith("stream."):
                told.steps.append((step, clock.now() - START, facts))

        transport = FakeTransport(answers_of(desk, clock), clock)
        async with Flood(config, transport=transport, clock=clock, observe=observe) as flood:
            flood.network = evolve(flood.network, sockets=sockets_of(desk, clock))
            if earlier:
                await Runner(flood).run(asyncio.Event(), earlier * SECOND)
                told.steps.clear()
            told.began = clock.now() - START
            runner = Runner(flood)

            async def watch():
                while True:
                    await clock.sleep(SECOND)
                    if runner.stream is not None:
                        told.states.append({d.market: str(c.state) for d, c in runner.stream.states().items()})

            beside = [asyncio.ensure_future(watch())]
            if change is not None:
                beside.append(asyncio.ensure_future(change(desk, clock)))
            told.report = await runner.run(asyncio.Event(), seconds * SECOND)
            for task in beside:
                task.cancel()
            told.health = runner.stream.health[venue]
            told.ended = clock.now()
            told.held = {}
            for market in markets:
                dataset = Dataset(Trade, venue, market, ("raw",))
                told.held[market] = held(flood.store.claims(dataset))
                judge(flood.store, dataset, told.held[market])
            return told

    return run(main())


def judge(store, dataset, sure):
    """Nothing, where every trade that lies inside what is held is there."""
    source = Simulated(5).at(dataset.venue)
    have = {row.trade_id for row in store.read(dataset, 0, 1 << 62)}
    for start, end in sure:
        truth = source.trades(dataset.market, "raw", now=end, start=start, end=end, limit=1 << 40)
        if dataset.venue != "nobitex":
            assert not [row for row in truth if row.trade_id not in have]


def whole(told, market, *, until=3 * SECOND):
    """Nothing, where a market is held from its history to the end of the run in one piece."""
    ((start, end),) = told.held[market]
    assert start <= START - 110 * SECOND
    assert end >= told.ended - until - 5 * SECOND


def test_one_mute_stream_of_many_is_found_and_repaired():
    """BTC, of three on a connection whose others speak: a watchdog that any message resets would never bark."""
    told = collected("mutetopic#1")
    assert set(told.datasets("stream.mute")) == {"BTC/USDT"}
    (found, *_) = told.times("stream.mute")
    assert found <= 10 * SECOND + PASS + SLACK  # twenty gaps of half a second
    assert told.times("stream.resubscribed")
    assert told.health.mute == 1
    assert told.health.resubscribed == 1
    assert any("BTC/USDT trade raw: mute; subscribing anew" in text for text in told.health.trouble)
    assert {states["BTC/USDT"] for states in told.states} >= {"starting", "suspicious", "mute"}
    assert {states["ETH/USDT"] for states in told.states[15:]} == {"fresh"}
    for market in BUSY:
        whole(told, market)


def test_the_ladder_is_climbed_to_its_top_where_nothing_helps():
    """Subscribed anew, opened anew, at the other address, polled; the consumer is told, and nothing is missing."""
    told = collected("mute", others=["ws://elsewhere:1"], markets=("BTC/USDT",), seconds=180)
    order = [
        step
        for step, _, _ in told.steps
        if step.removeprefix("stream.") in {"mute", "resubscribed", "reopened", "fallback"}
    ]
    assert order[:5] == ["stream.mute", "stream.resubscribed", "stream.reopened", "stream.reopened", "stream.fallback"]
    assert told.health.polled == 1
    assert told.states[-1]["BTC/USDT"] == "polled"
    (polled,) = told.times("stream.fallback")
    assert polled <= 4 * (10 * SECOND + PASS + SLACK)  # four silences
    assert min(at for at in told.times("stream.reopened") if at > polled) >= polled + 60 * SECOND  # tried now and then
    whole(told, "BTC/USDT")


def test_all_mute_is_found_for_each():
    told = collected("mute")
    assert set(told.datasets("stream.mute")) == set(BUSY)
    found = dict(zip(told.datasets("stream.mute"), told.times("stream.mute"), strict=True))
    assert found["BTC/USDT"] <= 10 * SECOND + PASS + SLACK
    assert found["ETH/USDT"] <= 20 * SECOND + PASS + SLACK
    assert found["SOL/USDT"] <= 60 * SECOND + PASS + SLACK  # the longest that any silence is believed
    for market in BUSY:
        whole(told, market)


def test_a_run_that_goes_on_finds_it_as_soon():
    """Its own answers are of a few rows; how fast rows come, the store knows."""
    told = collected("mute", markets=("BTC/USDT",), earlier=60, seconds=30)
    assert told.times("stream.mute")[0] <= told.began + 10 * SECOND + PASS + SLACK


@pytest.mark.parametrize("every", [SECOND // 2, PASS])
def test_what_earlier_answers_brought_counts_against_a_silence(every, monkeypatch):
    """A trade a minute: an answer brought it long before the silence is suspicious, and the next one is empty."""
    monkeypatch.setattr(tradeflood.runner.runner, "PASS_EVERY", every)
    told = collected("mute", markets=("DOGE/USDT",), seconds=200)
    source = Simulated(5).at("binance")
    first, *_ = source.trades("DOGE/USDT", "raw", now=told.ended, start=START, end=told.ended, limit=1 << 40)
    looked = 60 * SECOND * -(-(first.venue_time - START) // (60 * SECOND))  # once a minute
    assert told.times("stream.mute")[0] <= looked + PASS + SLACK
    assert "quiet" not in {states["DOGE/USDT"] for states in told.states[looked // SECOND + 10 :]}


def test_one_connection_is_opened_for_all_that_is_mute_on_it():
    """Each subscription climbs its own ladder; the connection that they share is not opened once for each."""
    told = collected("mute", seconds=60)
    assert told.health.opened <= 5


def test_partial_delivery_is_found_by_the_numbers():
    """18 % withheld: nothing is silent, every missing trade is a hole, and each is filled."""
    told = collected("withhold=0.18")
    assert not told.times("stream.mute")
    for market in BUSY:
        whole(told, market)


@pytest.mark.parametrize(("venue", "market"), [("bitget", "BTC/USDT"), ("nobitex", "USDT/IRT")])
def test_partial_delivery_without_numbers_is_not_believed(venue, market):
    """Nothing shows that rows are missing, so that what REST does not confirm is not held."""
    told = collected("withhold=0.18", venue=venue, markets=(market,))
    assert told.held[market]  # `collected` has held it against the truth


@pytest.mark.parametrize("seconds", [61, 64, 68])
def test_mute_at_the_right_edge_just_before_the_end(seconds):
    """A stream falls silent moments before the run is stopped: the edge is asked for once more."""
    told = collected("mutelate=60", seconds=seconds)
    for market in BUSY:
        whole(told, market)


def test_a_feed_that_speaks_again_is_believed_again():
    """Mute for a minute, polled at last; when it speaks the ladder is left, and consumers are told."""

    async def change(desk, clock):
        await clock.sleep(100 * SECOND)
        desk.faults.chosen.clear()

    told = collected("mute", markets=("BTC/USDT",), seconds=300, change=change)
    assert told.states[90]["BTC/USDT"] == "polled"
    assert told.states[-1]["BTC/USDT"] == "fresh"
    assert told.health.recovered == 1
    assert told.times("stream.recovered")
    whole(told, "BTC/USDT")


def test_a_quiet_market_is_told_from_a_mute_one():
    """DOGE trades every minute or two: its silences are asked about, believed, and nothing is opened anew."""
    told = collected(markets=("DOGE/USDT",), seconds=600)
    assert not told.times("stream.mute")
    assert told.health.opened == 1
    assert {states["DOGE/USDT"] for states in told.states} >= {"fresh", "quiet"}


def test_a_stream_that_never_delivered_counts_from_its_start():
    """Trap 1: no first message ever came, and others speak on the same socket."""
    told = collected("mutetopic=2#9", seconds=60)
    assert set(told.datasets("stream.mute")) == {"ETH/USDT"}
    (found, *_) = told.times("stream.mute")
    assert found <= 20 * SECOND + PASS + SLACK


def test_an_acknowledged_subscription_is_no_success():
    """Trap 2: everything is acknowledged at once, and until something comes nothing is called fresh."""
    told = collected("mute", seconds=30)
    assert told.health.acked == {"btcusdt@trade", "ethusdt@trade", "solusdt@trade"}
    assert all(state != Standing.FRESH for states in told.states for state in states.values())


def test_a_venue_without_history_is_polled_by_the_stream():
    """Nobitex has the last rows only: once its feed is mute they are asked for by the binding's own fallback."""
    told = collected("mute", venue="nobitex", markets=("USDT/IRT",), seconds=5 * 60)
    assert told.times("stream.fallback")
    assert told.times("stream.polled")
    assert told.states[-1]["USDT/IRT"] == "polled"


def test_a_poll_that_fails_in_the_place_of_a_feed_fails_the_stream(monkeypatch):
    """It is somebody else's code that makes the request: nobody would hear of it, and the dataset would be called polled."""

    async def broken(*_):
        raise ZeroDivisionError

    async def refused(*_, **__):
        raise TransportError("nobody there")

    monkeypatch.setattr(tradeflood.runner.group, "_poll", broken)

    async def main():
        clock = VirtualClock(START)
        async with Flood({}, transport=FakeTransport(list, clock), clock=clock) as flood:
            flood.network = evolve(flood.network, sockets=refused)
            live = flood.stream_of([Ask(Trade, "nobitex", "BTC/IRT", "BTCIRT", ("raw",), EMPTY, START)])
            with pytest.raises(DeclarationError, match="ZeroDivisionError"):
                await asyncio.wait_for(anext(aiter(live)), 60)

    run(main())
