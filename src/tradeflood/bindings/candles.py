"""Candles made from trades, at any venue that has trades: `origin="trades"`."""

from __future__ import annotations

from typing import Any

from tradeflood.coverage.candles import candles_of
from tradeflood.coverage.following import Follower
from tradeflood.models import Candle, Trade, interval
from tradeflood.spans import Spans
from tradeflood.turns import Ask, Binding, Connector, Numbering


class CandlesFromTrades(Binding[Candle], connector=Connector, origin="trades"):
    """Every candle whose trades are held from its open to its end; the others are left out, and their time is not held."""

    async def __call__(self, venue: Connector, ask: Ask) -> Any:
        """The candles of the trades that this session gets, whichever way the venue has them."""
        del venue
        grid = interval(ask.interval)
        whole = Spans.of(*((grid.ceil(start), grid.ceil(end)) for start, end in ask.spans))
        trades = await ask.other(Trade, spans=whole)
        held = Spans.of(*(span for dataset in trades.coverage.parts for span in trades.coverage.held(dataset)))
        candles = candles_of(trades, ask.interval)
        return [candle for candle in candles if held.covers(Spans.of((candle.open_time, grid.next(candle.open_time))))]

    def live(self, venue: Connector, ask: Ask) -> Ask:
        """The trades, which `follow` makes candles of."""
        del venue
        return ask.other(Trade)

    def follow(self, ask: Ask, numbering: Numbering) -> Follower:
        """Candles as their trades come, each again with every batch that changes it."""
        return Follower(ask.interval, contiguous=numbering is Numbering.CONTIGUOUS)
