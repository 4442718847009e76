"""A plug-in for TradeFlood: a venue, its desk for replay, and a model."""

from __future__ import annotations

from collections.abc import Sequence

from tradeflood import hookimpl


@hookimpl
def tradeflood_modules() -> Sequence[str]:
    """The modules whose classes make themselves known when they are imported."""
    return [f"{__name__}.{module}" for module in ("venue", "desk", "imbalance")]
