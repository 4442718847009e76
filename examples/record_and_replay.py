"""What a venue said is kept byte for byte, and served again: the same words then get the same rows."""

import asyncio
from tempfile import TemporaryDirectory

import tradeflood as tf
from tradeflood.replay.recorded import Recorded
from tradeflood.testing.venues import venues_here


async def morning(record: str | None = None) -> tf.Frame[tf.Trade]:
    """The first five minutes of a year, kept where that is wanted."""
    async with tf.Flood({"record": record} if record else {}) as flood:
        return await flood.collect(tf.Trade, "binance:BTC/USDT", start="2024-01-01", end="2024-01-01T00:05")


with TemporaryDirectory() as folder:
    with venues_here("binance"):
        first = asyncio.run(morning(record=folder))
    with venues_here("binance", source=Recorded.load(folder)):
        again = asyncio.run(morning())

same = [(row.trade_id, row.price, row.size) for row in first] == [(row.trade_id, row.price, row.size) for row in again]
print(len(first), "trades recorded,", len(again), "replayed:", "the same" if same else "not the same")
