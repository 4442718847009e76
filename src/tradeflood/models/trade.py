"""Trade: one execution, or one taker order where a venue merges them."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from attrs import define

from tradeflood.models.base import Model, Side, Time


@define
class Trade(Model, key=("venue", "market", "kind", "trade_id"), time="venue_time", defaults={"kind": "raw"}):
    """An execution at a venue; `merged` rows stand for one taker order and carry first and last raw id and count.

    `trade_id` is the venue's id as text, unique per market and kind; where a venue has none it is made of
    what it does send. `price` is in the quote asset, `size` in the base asset. `aggressor` is the side of the
    taker. `venue_time` is when it happened by the venue's clock, `received_at` when we read it.
    """

    venue: str
    market: str
    kind: Literal["raw", "merged"]
    trade_id: str
    price: Decimal
    size: Decimal
    aggressor: Side | None
    venue_time: Time
    received_at: Time | None = None
    first_id: str | None = None
    last_id: str | None = None
    count: int | None = None
