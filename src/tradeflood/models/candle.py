"""Candle: what traded in one interval."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from attrs import define

from tradeflood.models.base import Model, Time


@define
class Candle(
    Model,
    key=("venue", "market", "interval", "origin", "open_time"),
    time="open_time",
    defaults={"origin": "venue"},
):
    """Open, high, low, close and volume over [open_time, open_time + interval).

    `origin` tells who made it: the `venue`, or we from its `trades`. `volume` is in the base asset,
    `quote_volume` in the quote asset, `trades` counts executions. `closed` says that it is final.
    `venue_time` is the venue's clock when it said so.
    """

    venue: str
    market: str
    interval: str
    origin: Literal["venue", "trades"]
    open_time: Time
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    quote_volume: Decimal | None = None
    trades: int | None = None
    closed: bool | None = None
    venue_time: Time | None = None
    received_at: Time | None = None
