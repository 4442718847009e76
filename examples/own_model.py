"""A model of one's own, made from another one: it holds what those rows hold, and its table follows from the class."""

from collections.abc import Iterator
from decimal import Decimal

from attrs import define

import tradeflood as tf
from tradeflood.connectors.binance import INTERVALS, Binance
from tradeflood.testing.venues import venues_here


@define
class Spread(tf.Model, key=("venue", "market", "interval", "open_time"), time="open_time"):
    """How far apart the highest and the lowest price of an interval are, in the quote asset."""

    venue: str
    market: str
    interval: str
    open_time: tf.Time
    spread: Decimal


class BinanceSpread(tf.Binding[Spread], connector=Binance, interval=INTERVALS):
    """Spreads from the venue's candles."""

    async def __call__(self, venue: Binance, ask: tf.Ask) -> Iterator[Spread]:
        """Rows of another model, with their coverage: await them."""
        candles = await ask.other(tf.Candle, interval=ask.interval)
        return (Spread("binance", ask.market, ask.interval, row.open_time, row.high - row.low) for row in candles)


with venues_here("binance"):
    spreads = tf.collect(Spread, "binance:ETH/USDT", interval="1h", start="2024-01-01", end="2024-01-02")

print(spreads.to_polars())
print(spreads.coverage)
