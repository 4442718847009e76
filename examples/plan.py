"""A plan is looked at before it is run: what overlaps is asked for once."""

import tradeflood as tf
from tradeflood.testing.venues import venues_here

with venues_here("binance", "okx"):
    plan = tf.plan(
        tf.Query(tf.Candle, "binance:BTC/USDT", interval="1m", start="2024-01-01", end="2024-01-02"),
        tf.Query(tf.Candle, "binance:BTC/USDT", interval="1m", start="2024-01-01T12:00", end="2024-01-03"),
        tf.Query(tf.Candle, "okx:*/USDT", interval="1h", start="2024-01-01", end="2024-01-08"),
        tf.Query(tf.Market, "okx:*"),
    )
    print(plan.explain())  # nothing has been asked yet
    result = plan.run()

for query, frame in zip(plan.queries, result, strict=True):
    print(query, len(frame))
