"""Candles from trades: one exact fold, any interval, one pass; in the order of time, or as the trades come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Context, Decimal
from typing import Any

from attrs import define

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


def place_of(trade: Trade) -> tuple[int, int, str]:
    """Where a trade stands in the order of a market's trades: time, then id, as a number where it is one."""
    name = trade.trade_id
    number = int(name) if len(name) <= 19 and name.isascii() and name.isdigit() else 0
    return trade.venue_time, number, name


@define
class Fold:
    """One candle in the making, whose trades may come in any order, each of them once.

    `first` and `last` say where in the order of the trades those stand that open and close it.
    """

    candle: Candle
    first: Any
    last: Any

    @classmethod
    def of(cls, trade: Trade, text: str, place: Any) -> Fold:
        """The candle of one trade."""
        (candle,) = candles_of((trade,), text)
        return cls(candle, place, place)

    def add(self, trade: Trade, place: Any) -> None:
        """One more trade of the same interval; `place` is its own in the order of trades."""
        candle, price = self.candle, trade.price
        assert candle.quote_volume is not None
        assert candle.trades is not None
        if place < self.first:
            self.first, candle.open = place, price
        if place > self.last:
            self.last, candle.close = place, price
        candle.high = max(candle.high, price)
        candle.low = min(candle.low, price)
        candle.volume = _EXACT.add(candle.volume, trade.size)
        candle.quote_volume = _EXACT.add(candle.quote_volume, _EXACT.multiply(price, trade.size))
        candle.trades += 1 if trade.count is None else trade.count
