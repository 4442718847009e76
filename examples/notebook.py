"""The same three lines where an event loop runs already, as in a notebook; and how to await instead."""

import asyncio

import tradeflood as tf
from tradeflood.testing.venues import venues_here


async def cell() -> tuple[tf.Frame[tf.Candle], tf.Frame[tf.Candle]]:
    """What a notebook does: its cells run inside a loop."""
    candles = tf.collect(tf.Candle, "binance:BTC/USDT", interval="1h", start="2024-01-01", end="2024-01-02")
    async with tf.Flood() as flood:  # a session: connections and budgets are kept for as long as it is open
        again = await flood.collect(tf.Candle, "binance:BTC/USDT", interval="1h", start="2024-01-01", end="2024-01-02")
    return candles, again


with venues_here("binance"):
    candles, again = asyncio.run(cell())

print(candles.to_pandas()[["open_time", "close"]].head())
print("equal" if [row.close for row in candles] == [row.close for row in again] else "different")
