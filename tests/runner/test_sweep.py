"""Dead markets: closed, not asked for, and looked at again now and then by one bulk ticker."""

import pytest

from tradeflood.live.witness import LOOK_AGAIN
from tradeflood.models import Market, Trade
from tradeflood.models.time import HOUR, parse_time
from tradeflood.replay.desk import Clock, desk_of
from tradeflood.replay.simulated import Simulated
from tradeflood.runner.flood import Flood
from tradeflood.runner.sweep import Sweeper
from tradeflood.spans import EMPTY
from tradeflood.testing import FakeTransport, answers_of
from tradeflood.testing.classes import venues
from tradeflood.testing.virtual import VirtualClock, run
from tradeflood.turns import Ask

START = parse_time("2026-03-04T05:06:07")


class Listener:
    """What a stream is told."""

    def __init__(self):
        self.told = []

    def shut(self, dataset, now):
        self.told.append(("shut", dataset.market, (now - START) // HOUR))

    def wake(self, dataset, now):
        self.told.append(("wake", dataset.market, (now - START) // HOUR))


@pytest.fixture(autouse=True)
def synthetic(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with venues():
        yield


def asked(market, status):
    listing = Market("contiguous", market, market, *market.split("/"), "spot", status)
    return Ask(Trade, "contiguous", market, market.replace("/", ""), ("raw",), EMPTY, START, listing)


def looked(asks, *hours, last=None):
    """What the stream was told, which markets are dead after each look, and what was asked of the venue."""
    stream, dead = Listener(), []

    async def main():
        clock = VirtualClock(START)
        desk = desk_of("contiguous")(Simulated(5), Clock(1, START, monotonic=clock.now))
        wire = FakeTransport(answers_of(desk, clock), clock)
        async with Flood({}, transport=wire, clock=clock) as flood:
            sweeper = Sweeper(flood.venues, flood.network)
            for hour in hours:
                await clock.sleep(START + hour * HOUR - clock.now())
                await sweeper.look(stream, "contiguous", asks, last or {}, clock.now())
                dead.append({ask.market for ask in asks if sweeper.is_dead(ask.dataset)})
        return stream.told, dead, [call.request.path for call in wire.calls]

    return run(main())


def test_a_market_that_does_not_trade_by_its_status_is_closed_at_once_and_without_a_question():
    told, dead, paths = looked([asked("BTC/USDT", "trading"), asked("ETH/USDT", "halted")], 0)
    assert (told, dead, paths) == ([("shut", "ETH/USDT", 0)], [{"ETH/USDT"}], [])


def test_it_is_looked_at_again_at_a_cheap_interval_and_listened_to_when_it_lives():
    """Five looks in as many hours ask nothing; the one after six asks for the list and one ticker of all markets."""
    asks = [asked("BTC/USDT", "trading"), asked("ETH/USDT", "halted")]
    told, dead, paths = looked(asks, 0, 1, 2, 3, 5, LOOK_AGAIN // HOUR, 7)
    assert told == [("shut", "ETH/USDT", 0), ("wake", "ETH/USDT", LOOK_AGAIN // HOUR)]
    assert dead == [{"ETH/USDT"}] * 5 + [set()] * 2
    assert sorted(paths) == ["/markets", "/tickers"]


def test_a_market_that_is_listed_no_more_is_dead():
    told, dead, _ = looked([asked("BTC/USDT", "trading"), asked("GONE/USDT", "trading")], 0, 6)
    assert told == [("shut", "GONE/USDT", 6)]
    assert dead == [set(), {"GONE/USDT"}]
