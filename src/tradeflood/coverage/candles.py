"""Candles from trades: exact, any interval, one pass."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Context

from tradeflood.models import Candle, Trade, interval

_EXACT = Context(prec=100)  # the usual context would round sums to 28 digits


def candles_of(trades: Iterable[Trade], text: str) -> list[Candle]:
    """The candles of one market's trades, ascending; an interval in which nothing traded has none.

    Trades come in any order: the first and last of a candle are those of the least and greatest time, equal
    times by id. `trades` counts executions: of merged trades, the ones that were merged.
    """
    grid, out = interval(text), {}
    ends: dict[int, list[tuple[int, int, str]]] = {}
    opened = until = 0
    for trade in trades:
        if not opened <= trade.venue_time < until or not until:
            opened, until = grid.floor(trade.venue_time), grid.next(trade.venue_time)
        place = (trade.venue_time, *_number(trade.trade_id))
        candle = out.get(opened)
        value = _EXACT.multiply(trade.price, trade.size)
        count = trade.count or 1
        if candle is None:
            price = trade.price
            out[opened] = Candle(
                trade.venue, trade.market, text, "trades", opened, price, price, price, price, trade.size, value, count
            )
            ends[opened] = [place, place]
            continue
        edge = ends[opened]
        if place < edge[0]:
            edge[0], candle.open = place, trade.price
        if place >= edge[1]:
            edge[1], candle.close = place, trade.price
        candle.high = max(candle.high, trade.price)
        candle.low = min(candle.low, trade.price)
        candle.volume = _EXACT.add(candle.volume, trade.size)
        candle.quote_volume = _EXACT.add(candle.quote_volume or value, value)
        candle.trades = (candle.trades or 0) + count
    return [out[opened] for opened in sorted(out)]


def _number(text: str) -> tuple[int, str]:
    return (int(text), "") if text.isdecimal() else (0, text)
