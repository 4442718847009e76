"""What a desk reads from: markets, trades and candles in neutral models, as of a stated moment."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal, Protocol, TypeAlias

from attrs import frozen

from tradeflood.models import Candle, Market, Trade

Kind: TypeAlias = Literal["raw", "merged"]


@frozen
class Bar:
    """What traded in [start, end), with what only wire formats tell: what takers bought, and the ids at both ends."""

    start: int
    end: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    quote_volume: Decimal
    bought: Decimal
    bought_quote: Decimal
    first_id: str
    last_id: str
    trades: int
    closed: bool

    def candle(self, venue: str, market: str, interval: str) -> Candle:
        """The same as a model."""
        return Candle(
            venue, market, interval, "venue", self.start, self.open, self.high, self.low, self.close,
            self.volume, self.quote_volume, self.trades, self.closed,
        )  # fmt: skip


class Source(Protocol):
    """Rows of one venue. Nothing later than the `now` that is passed is ever shown.

    Times are ns, ranges half-open, of ids too; rows ascend. `limit` keeps the oldest rows of the range, or with
    `newest` the newest. An interval without trades has no candle: what a venue shows there is its desk's matter.
    """

    venue: str
    recorded: bool
    """Whether it is what a venue said, to be shown as it is: markets by the venue's symbols, candles only where there was one."""

    def at(self, venue: str) -> Source:
        """The rows of another venue from the same origin."""

    def markets(self) -> list[Market]:
        """Every market there are rows of."""

    def trades(
        self, market: str, kind: Kind, *, now: int, start: int | None = None, end: int | None = None,
        from_id: int | None = None, to_id: int | None = None, limit: int = 1_000, newest: bool = False,
    ) -> list[Trade]:  # fmt: skip
        """Trades within all the bounds that are given."""

    def trades_between(self, market: str, kind: Kind, after: int, up_to: int) -> list[Trade]:
        """Every trade in (after, up_to]: what a feed owes."""

    def last_trade(self, market: str, kind: Kind, now: int) -> Trade | None:
        """The newest trade that has happened."""

    def bar(self, market: str, start: int, end: int, now: int) -> Bar | None:
        """What traded in any span, None where nothing did."""

    def bars(
        self, market: str, interval: str, *, now: int, start: int | None = None, end: int | None = None,
        limit: int = 1_000, newest: bool = False,
    ) -> list[Bar]:  # fmt: skip
        """The bars that open in [start, end), the running one built up to `now`."""

    def candles(
        self, market: str, interval: str, *, now: int, start: int | None = None, end: int | None = None,
        limit: int = 1_000, newest: bool = False,
    ) -> list[Candle]:  # fmt: skip
        """As `bars`, as models."""
