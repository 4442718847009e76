"""Names that a venue does not know: told before anybody waits for them, at the cost of one list a venue."""

import asyncio

import pytest

from tradeflood import plugins
from tradeflood.errors import TransportError, UnknownMarket
from tradeflood.models import Candle, Trade
from tradeflood.models.time import parse_time
from tradeflood.planner import Query
from tradeflood.replay.desk import Clock, desk_of
from tradeflood.replay.faults import Faults, FaultyDesk
from tradeflood.replay.simulated import Simulated
from tradeflood.runner.execute import Patience
from tradeflood.runner.flood import Flood
from tradeflood.runner.names import told
from tradeflood.testing import FakeClock, FakeTransport, answers_of, reply

NOW = parse_time("2026-03-04T05:06:07")
LIST, KLINES = "/api/v3/exchangeInfo", "/api/v3/klines"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plugins.load()


def looked_up(*queries, rule=lambda _: None, times=1):
    """Market → what is said of it, and the paths that were asked."""
    clock = FakeClock(NOW)
    desk = FaultyDesk(desk_of("binance"), Simulated(3), Clock(1, NOW, monotonic=clock.now), Faults((), 1))
    good = answers_of(desk, clock)

    async def answer(call):
        return rule(call) or await good(call)

    transport = FakeTransport(answer, clock)

    async def main():
        async with Flood({"store": None}, transport=transport, clock=clock, patience=Patience(attempts=1)) as flood:
            for _ in range(times):
                found = await flood.names.unknown(queries, flood.network)
            return found

    found = asyncio.run(main())
    return {name: str(error) for name, error in found.items()}, [call.request.path for call in transport.calls]


def test_names_that_are_in_the_list_cost_one_request_however_many_there_are():
    queries = [Query(Trade, "binance:BTC/USDT"), Query(Candle, "binance:ETH/USDT", interval="1m")]
    assert looked_up(*queries, times=3) == ({}, [LIST])


def test_patterns_cost_nothing():
    assert looked_up(Query(Trade, "binance:*/USDT")) == ({}, [])


@pytest.mark.parametrize("written", ["BCT/USDT", "BTC/USTD"])
def test_what_is_not_listed_and_refused_is_unknown_and_the_nearest_name_is_told(written):
    said, asked = looked_up(Query(Trade, f"binance:{written}"))
    assert said == {
        f"binance:{written}": f"binance: no market {written!r}; did you mean binance:BTC/USDT? "
        "list them with: tradeflood markets binance"
    }
    assert asked.count(LIST) == 1


def test_what_is_not_listed_and_answered_all_the_same_is_known():
    """A list may leave markets out; the venue's answer counts."""
    strange = Query(Candle, "binance:LUNC/EUR", interval="1m")
    assert looked_up(strange, rule=lambda call: None if call.request.path == LIST else reply(b"[]", at=NOW)) == (
        {},
        [LIST, KLINES],
    )


def test_a_list_that_cannot_be_had_condemns_nobody():
    def away(call):
        if call.request.path == LIST:
            raise TransportError("cut")

    assert looked_up(Query(Trade, "binance:NOPE/USDT"), rule=away) == ({}, [LIST])


def test_a_name_that_is_near_to_nothing_gets_no_guess():
    assert told(Query(Trade, "binance:NOPE/USDT"), {"BTC/USDT", "ETH/USDT"}) == (
        "binance: no market 'NOPE/USDT'; list them with: tradeflood markets binance"
    )


def test_a_stream_of_a_market_that_is_not_there_ends_at_once_where_the_venue_would_be_silent():
    clock = FakeClock(NOW)
    desk = FaultyDesk(desk_of("binance"), Simulated(3), Clock(1, NOW, monotonic=clock.now), Faults((), 1))

    async def main():
        async with Flood(transport=FakeTransport(answers_of(desk, clock), clock), clock=clock) as flood:
            async for _ in flood.stream(Trade, "binance:BTC/USDT", "binance:NOPE/USDT"):
                raise AssertionError("nothing is subscribed to")

    with pytest.raises(UnknownMarket, match="no market 'NOPE/USDT'"):
        asyncio.run(asyncio.wait_for(main(), 5))
