"""Candles from trades: one exact fold, any interval, one pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Context, Decimal

from tradeflood.models import Candle, Trade, interval

_EXACT = Context(prec=200)  # the usual context would round sums of products to 28 digits


def candles_of(trades: Iterable[Trade], text: str) -> Iterator[Candle]:
    """The candles of one market's trades; an interval without trades has none.

    Trades ascend by time; of those of one moment the first that comes opens and the last closes. Merged trades count
    as many as they merge. Whether the first and the last candle are whole is not known here: `closed` is None.
    Raises ValueError where a trade belongs before the candle of the one before it, or to another market.
    """
    grid = interval(text)
    candle: Candle | None = None
    end = 0
    for trade in trades:
        time, price = trade.venue_time, trade.price
        if candle is None or time >= end:
            if candle is not None:
                _same(candle, trade)
                yield candle
            start = grid.floor(time)
            end = grid.next(start)
            candle = Candle(
                trade.venue, trade.market, text, "trades", start, price, price, price, price, Decimal(), Decimal(), 0
            )
        elif time < candle.open_time:
            raise ValueError(f"trade {trade.trade_id} of {trade.market} happened before the one before it")
        else:
            _same(candle, trade)
        candle.high = max(candle.high, price)
        candle.low = min(candle.low, price)
        candle.close = price
        candle.volume = _EXACT.add(candle.volume, trade.size)
        assert candle.quote_volume is not None
        assert candle.trades is not None
        candle.quote_volume = _EXACT.add(candle.quote_volume, _EXACT.multiply(price, trade.size))
        candle.trades += 1 if trade.count is None else trade.count
    if candle is not None:
        yield candle


def _same(candle: Candle, trade: Trade) -> None:
    if (trade.market, trade.venue) != (candle.market, candle.venue):
        raise ValueError(f"a trade of {trade.venue}:{trade.market} among those of {candle.venue}:{candle.market}")
