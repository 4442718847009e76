"""Market: an instrument at a venue."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from attrs import define

from tradeflood.models.base import Model, Time


@define
class Market(Model, key=("venue", "market")):
    """A tradable instrument at a venue. A list: no range of time selects from it.

    `market` is BASE/QUOTE, with :SETTLE for derivatives; `symbol` is the venue's own spelling. `status` is
    `trading`, `halted` or `closed` where the venue's word is known to mean that, its own word in lower case
    otherwise. `price_unit` names the unit in which the venue sends prices where it is not the quote itself
    (`rial` for toman markets). Increments are in our units.
    """

    venue: str
    market: str
    symbol: str
    base: str
    quote: str
    kind: Literal["spot", "perpetual", "future", "option"] = "spot"
    status: str | None = None
    price_increment: Decimal | None = None
    size_increment: Decimal | None = None
    minimum_size: Decimal | None = None
    price_unit: str | None = None
    listed_at: Time | None = None
