"""Candles and trades as polars and pandas frames: prices exact, times in UTC."""

import tradeflood as tf
from tradeflood.testing.venues import venues_here

with venues_here("binance", "okx"):  # a simulated market on this machine; without it, the real venues are asked
    candles = tf.collect(tf.Candle, "binance:BTC/USDT", interval="1h", start="2024-01-01", end="2024-01-03")
    trades = tf.collect(tf.Trade, "binance:BTC/USDT", "binance:ETH/USDT", start="2024-01-01", end="2024-01-01T00:01")

print(candles.to_polars().select("open_time", "open", "close", "volume"))
print(trades.to_pandas()[["market", "venue_time", "price", "aggressor"]])
print(candles.coverage)
print(trades.coverage)
