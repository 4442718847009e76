"""A model of our own on somebody else's venue."""

import asyncio
from decimal import Decimal

from tradeflood_example.imbalance import BinanceImbalance, Imbalance, taker_klines

import tradeflood as tf
from tradeflood.connectors.binance import Binance
from tradeflood.models.forms import from_arrow, from_json, to_arrow, to_json
from tradeflood.models.time import iso, parse_time
from tradeflood.replay.server import serve
from tradeflood.replay.simulated import Simulated

AT = parse_time("2024-01-01")
BODY = (
    b'[[1704067200000,"1","2","0.5","1.5","10.00",1704067259999,"15.0",7,"6.25","9.4","0"],'
    b'[1704067260000,"1","2","0.5","1.5","0.00",1704067319999,"0",0,"0.00","0.0","0"]]'
)


def test_a_payload():
    rows = taker_klines.on(Binance()).decode(BODY)
    made = BinanceImbalance.pack.pure(rows, "BTC/USDT", "1m")
    assert made == [
        Imbalance("binance", "BTC/USDT", "1m", AT, Decimal("6.25"), Decimal("3.75")),
        Imbalance("binance", "BTC/USDT", "1m", AT + 60 * 10**9, Decimal(0), Decimal(0)),
    ]
    assert [row.share for row in made] == [Decimal("0.625"), None]


def test_every_form_follows():
    row = Imbalance("binance", "BTC/USDT", "1m", AT, Decimal("6.25"), Decimal("3.75"), closed=True)
    assert from_json(Imbalance, to_json(row)) == row
    assert from_arrow(Imbalance, to_arrow(Imbalance, [row])) == [row]


def test_with_candles_the_venue_is_asked_once():
    """Both read the same answer, each in its own way; a day of minutes is two pages, not four."""
    start, end = AT, AT + 86_400 * 10**9
    seen = []

    async def main():
        serving = serve(Simulated(5), ["binance"], start=end + 3600 * 10**9)
        async with serving as served, tf.Flood({"venues": served.settings()}) as flood:
            wanted = [
                tf.Query(model, "binance:BTC/USDT", interval="1m", start=iso(start), end=iso(end))
                for model in (tf.Candle, Imbalance)
            ]
            plan = flood.plan(*wanted)
            assert len(plan.requests) == 2
            return await flood.run(plan, lambda *told: seen.append(told))

    candles, imbalances = asyncio.run(asyncio.wait_for(main(), 10))
    assert len(seen) == 2
    assert candles.failures == imbalances.failures == ()
    bars = Simulated(5).at("binance").bars("BTC/USDT", "1m", now=end, start=start, end=end, limit=2_000)
    assert [(row.open_time, row.bought, row.sold, row.closed) for row in imbalances] == [
        (bar.start, bar.bought, bar.volume - bar.bought, True) for bar in bars
    ]
    assert [row.volume for row in candles] == [row.bought + row.sold for row in imbalances]
    assert [part.grade for parts in imbalances.coverage.parts.values() for part in parts] == ["A"]
