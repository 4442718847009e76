"""What a bulk ticker testifies of a silent market, and which markets are dead. Pure.

A witness is a last trade id, a count or a volume; a price, or a ticker whose clock moves, proves nothing.
"""

from __future__ import annotations

from tradeflood.models import Model, Ticker
from tradeflood.models.time import DAY, HOUR

DEAD_AFTER = 7 * DAY
"""How long nothing may have traded in a market that is listed before it is taken for dead."""

LOOK_AGAIN = 6 * HOUR
"""How often a dead market is looked at again; one bulk ticker tells of all of them."""


def happened(row: Model) -> bool:
    """Whether a row shows that something traded: a trade does, a closed candle unless its volume is nought."""
    return getattr(row, "closed", True) is not False and getattr(row, "volume", None) != 0


def witnesses(before: Ticker, after: Ticker) -> bool | None:
    """Whether something traded between two tickers of a market; None where they do not tell.

    The id of the last trade decides where there is one. A volume or a count of a rolling day that grew shows a trade;
    as old trades leave it, it may also shrink, which shows nothing; where all stay the same to the last digit there
    was none.
    """
    if before.last_trade_id is not None and after.last_trade_id is not None:
        return before.last_trade_id != after.last_trade_id
    grown = [
        None if one is None or other is None else (other > one) - (other < one)
        for one, other in (
            (before.volume, after.volume),
            (before.quote_volume, after.quote_volume),
            (before.trades, after.trades),
        )
    ]
    told = [sign for sign in grown if sign is not None]
    if any(sign > 0 for sign in told):
        return True
    return False if told and not any(told) else None


def is_dead(status: str | None, last_trade: int | None, ticker: Ticker | None, now: int) -> bool:
    """Whether a listed market need not be subscribed: it does not trade by its status, or has not for a week.

    `last_trade` is the time of its newest trade, as far as known; a ticker whose rolling volume is not nought shows
    that it lives.
    """
    if status not in {None, "trading"}:
        return True
    if ticker is not None and (ticker.volume or ticker.quote_volume):
        return False
    return last_trade is not None and now - last_trade > DEAD_AFTER
