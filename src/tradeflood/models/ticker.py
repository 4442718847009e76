"""Ticker: a venue's rolling summary of a market."""

from __future__ import annotations

from decimal import Decimal

from attrs import define

from tradeflood.models.base import Model, Time


@define
class Ticker(Model, key=("venue", "market", "venue_time")):
    """Last price, best quotes and the venue's rolling 24 hours, as of `venue_time`. A list: it is asked for as it is now.

    `volume` is in the base asset and `quote_volume` in the quote asset, both of the venue's own window.
    `last_trade_id` is a witness: it cannot stand still while trades happen.
    """

    venue: str
    market: str
    venue_time: Time
    last: Decimal | None = None
    bid: Decimal | None = None
    ask: Decimal | None = None
    volume: Decimal | None = None
    quote_volume: Decimal | None = None
    open: Decimal | None = None
    high: Decimal | None = None
    low: Decimal | None = None
    trades: int | None = None
    last_trade_id: str | None = None
    received_at: Time | None = None
