"""The simulated market of a venue whose clock steps back once: what happens from then on carries an earlier time.

Numbers go on rising, so times fall where the clock stepped, and for a while every time comes twice. Whoever asks says
by `after` which clock the times of the question are read from: the one before the step, or the one after it.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve

from tradeflood.models import Trade
from tradeflood.replay.simulated import Simulated
from tradeflood.replay.source import Bar, Kind


class SteppedBack(Simulated):
    """The rows of a simulated market with a clock that steps back by `by` ns at `moment`."""

    def __init__(self, market: Simulated, moment: int, by: int) -> None:
        super().__init__(market.seed, market.venue, market.listings)
        self.moment, self.by = moment, by
        self.after = False

    def at(self, venue: str) -> SteppedBack:
        """The same, at another venue; at its own it is itself, so that who reads it knows the side of the step."""
        return self if venue == self.venue else SteppedBack(super().at(venue), self.moment, self.by)

    def trades(
        self,
        market: str,
        kind: Kind,
        *,
        now: int,
        start: int | None = None,
        end: int | None = None,
        limit: int = 1_000,
        newest: bool = False,
        **ids: Any,
    ) -> list[Trade]:
        """Trades of both sides of the step, ascending by number."""
        how = {"limit": limit, "newest": newest, **ids}
        early = self.moment if end is None else min(end, self.moment)
        rows = super().trades(market, kind, now=now + self.by * self.after, start=start, end=early, **how)
        if self.after:
            low = self.moment if start is None else max(start + self.by, self.moment)
            high = None if end is None else end + self.by
            late = super().trades(market, kind, now=now + self.by, start=low, end=high, **how)
            rows += [evolve(row, venue_time=row.venue_time - self.by) for row in late]
        return rows[-limit:] if newest else rows[:limit]

    def trades_between(self, market: str, kind: Kind, after: int, up_to: int) -> list[Trade]:
        """What a feed owes: of this side of the step alone."""
        by = self.by * self.after
        rows = Simulated.trades(
            self, market, kind, now=up_to + by, start=after + by + 1, end=None if by else self.moment, limit=1 << 40
        )
        return [evolve(row, venue_time=row.venue_time - by) for row in rows]

    def bar(self, market: str, start: int, end: int, now: int) -> Bar | None:
        """What traded in a span of either clock, None where nothing did."""
        early = super().bar(market, start, min(end, self.moment), now + self.by * self.after)
        late = None
        if self.after:
            late = super().bar(market, max(start + self.by, self.moment), end + self.by, now + self.by)
        both = early and late and _joined(early, late)
        bar = both or early or late
        return bar and evolve(bar, start=start, end=end, closed=end <= now)


def _joined(first: Bar, second: Bar) -> Bar:
    """One bar of two in a row."""
    sums = {
        name: getattr(first, name) + getattr(second, name)
        for name in ("volume", "quote_volume", "bought", "bought_quote", "trades")
    }
    return evolve(
        first, high=max(first.high, second.high), low=min(first.low, second.low), close=second.close,
        last_id=second.last_id, **sums,
    )  # fmt: skip
