"""Everything against the desk: what is collected is what the simulated market holds."""

import asyncio

import pytest

import tradeflood as tf
from tradeflood.models.time import MS, iso, parse_time
from tradeflood.replay.server import serve
from tradeflood.replay.simulated import Simulated

START = parse_time("2026-03-04T05:06:07")
MARKET = Simulated(3).at("example")


def with_desk(use, **settings):
    """The answer of a coroutine function that gets a session whose venue is served here, and what is served."""

    async def main():
        serving = serve(Simulated(3), ["example"], start=START, **settings)
        async with serving as served, tf.Flood({"venues": served.settings()}) as flood:
            return await use(flood, served)

    return asyncio.run(asyncio.wait_for(main(), 10))


def plain(rows):
    """The rows without the moment of reading."""
    return [{name: getattr(row, name) for name in row.__slots__ if name != "received_at"} for row in rows]


def test_markets():
    frame = with_desk(lambda flood, _: flood.collect(tf.Market, "example:*"))
    assert [row.symbol for row in frame] == ["BTC_USDT", "DOGE_USDT", "ETH_USDT", "SOL_USDT"]
    assert {row.status for row in frame} == {"trading"}


def test_trades_of_many_pages():
    start, end = START - 3600 * 10**9, START - 2400 * 10**9
    frame = with_desk(lambda flood, _: flood.collect(tf.Trade, "example:BTC/USDT", start=iso(start), end=iso(end)))
    expected = MARKET.trades("BTC/USDT", "raw", now=START, start=start, end=end, limit=10_000)
    assert len(expected) > 1_000
    assert plain(frame) == plain(expected)
    assert [(part.state, part.grade) for _, parts in frame.coverage.parts.items() for part in parts] == [("held", "A")]


@pytest.mark.parametrize(("interval", "hours"), [("1m", 20), ("1h", 48)])
def test_candles(interval, hours):
    start, end = START // 3600_000_000_000 * 3600_000_000_000 - hours * 3600 * 10**9, START
    frame = with_desk(
        lambda flood, _: flood.collect(tf.Candle, "example:ETH/USDT", interval=interval, start=iso(start), end=iso(end))
    )
    expected = MARKET.candles("ETH/USDT", interval, now=START, start=start, end=end, limit=10_000)
    assert plain(frame)[:-1] == plain(expected)[:-1]  # the last is running
    assert [row.closed for row in frame[-2:]] == [True, False]


def test_up_to_now_the_edge_is_open():
    frame = with_desk(
        lambda flood, _: flood.collect(tf.Trade, "example:BTC/USDT", start=iso(START - 60 * 10**9), end="2030-01-01")
    )
    (parts,) = frame.coverage.parts.values()
    assert (parts[0].state, parts[-1].state) == ("held", "open")
    assert len(frame) > 50


def test_live_trades_are_the_market():
    async def use(flood, served):
        stream = flood.stream(tf.Trade, "example:BTC/USDT", "example:ETH/USDT")
        rows = []
        async for row in stream:
            rows.append(row)
            if len(rows) == 60:
                break
        await stream.close()
        return rows, served.clock.now()

    rows, now = with_desk(use, speed=60)
    mine = [row for row in rows if row.market == "BTC/USDT"]
    first = int(mine[0].trade_id)
    expected = MARKET.trades("BTC/USDT", "raw", now=now, from_id=first, limit=len(mine))
    assert plain(mine) == plain(expected)
    assert {row.market for row in rows} == {"BTC/USDT", "ETH/USDT"}


def test_live_candles_are_closed_once():
    async def use(flood, _):
        stream = flood.stream(tf.Candle, "example:BTC/USDT", interval="1m")
        rows = []
        async for row in stream:
            rows.append(row)
            if sum(row.closed for row in rows) == 2:
                break
        await stream.close()
        return rows

    rows = with_desk(use, speed=240)
    closed = [row for row in rows if row.closed]
    assert closed[1].open_time - closed[0].open_time == 60_000 * MS
    (bar,) = MARKET.candles("BTC/USDT", "1m", now=closed[0].open_time + 60_000 * MS, start=closed[0].open_time, limit=1)
    assert plain(closed[:1]) == plain([bar])


def test_a_limit_is_waited_out():
    """A 429 pauses the budget, and the answer comes after it."""
    frame = with_desk(lambda flood, _: flood.collect(tf.Market, "example:*"), faults=["429=1#1"])
    assert len(frame) == 4


@pytest.mark.parametrize(
    ("market", "options", "says"),
    [("example:BTC/NOPE", {}, "no market 'BTC_NOPE'"), ("example:BTC/USDT", {"kind": "merged"}, "no kind 'merged'")],
)
def test_a_mistake_is_one_line(market, options, says):
    with pytest.raises(tf.UsageError, match=says):
        with_desk(lambda flood, _: flood.collect(tf.Trade, market, start="2024-01-01", end="2024-01-02", **options))
