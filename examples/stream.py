"""Live trades of two venues, for two seconds."""

import asyncio

import tradeflood as tf
from tradeflood.testing.venues import venues_here


async def listen() -> list[tf.Trade]:
    """The trades of two seconds."""
    trades = []
    async with tf.Flood() as flood:
        try:
            async with asyncio.timeout(2):
                async for trade in flood.stream(tf.Trade, "binance:BTC/USDT", "okx:BTC/USDT"):
                    trades.append(trade)
                    print(trade.venue, trade.aggressor, trade.size, "at", trade.price)
        except TimeoutError:
            pass
    return trades


with venues_here("binance", "okx", speed=10):  # ten times as busy as the simulated market is
    trades = asyncio.run(listen())

print(len(trades), "trades")
