"""Imbalance: who was in a hurry. A model of our own, made from what Binance says of its candles."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from attrs import define
from msgspec import Struct

from tradeflood import Ask, Binding, Model, Page, Request, Time, Windows, get, ms, turn, turn_execution
from tradeflood.connectors.binance import INTERVALS, Binance
from tradeflood.models.time import MS


@define
class Imbalance(Model, key=("venue", "market", "interval", "open_time"), time="open_time"):
    """What takers bought and sold over [open_time, open_time + interval), in the base asset. `closed`: it is final."""

    venue: str
    market: str
    interval: str
    open_time: Time
    bought: Decimal
    sold: Decimal
    closed: bool | None = None
    received_at: Time | None = None

    @property
    def share(self) -> Decimal | None:
        """The part of the volume that takers bought, between 0 and 1; None where nothing traded."""
        volume = self.bought + self.sold
        return self.bought / volume if volume else None


class TakerKline(Struct, array_like=True):
    """A row of `klines` as far as its tenth column, the volume that takers bought; the library reads up to the ninth."""

    open_time: int
    open: str
    high: str
    low: str
    close: str
    volume: Decimal
    close_time: int
    quote_volume: str
    trades: int
    bought: Decimal


@turn(list[TakerKline], pages=Windows(1000, per="interval", at=lambda row: row.open_time * MS), weight=2)
def taker_klines(venue: Binance, page: Page, symbol: str, interval: str) -> Request:
    """The request that candles make too: asked for both, the venue is asked once."""
    return get(
        "/api/v3/klines",
        symbol=symbol,
        interval=interval,
        limit=1000,
        startTime=ms(page.start),
        endTime=ms(page.end) - 1,
    )


class BinanceImbalance(Binding[Imbalance], connector=Binance, interval=INTERVALS):
    """Imbalance of every interval that Binance has candles of."""

    def __call__(self, venue: Binance, ask: Ask) -> Any:
        rows = taker_klines.on(venue)(ask.symbol, ask.interval).over(ask.spans)
        return self.pack(rows, ask.market, ask.interval)

    @turn_execution
    def pack(self, rows: list[TakerKline], market: str, interval: str) -> Iterator[Imbalance]:
        """What was not bought was sold."""
        for row in rows:
            yield Imbalance("binance", market, interval, row.open_time * MS, row.bought, row.volume - row.bought)
