"""What of a dataset's holes is asked for next: some of the oldest, and all of what is recent. Pure."""

from __future__ import annotations

from tradeflood.models.time import DAY, HOUR, MINUTE
from tradeflood.spans import Span, Spans

ROWS = 50_000
"""How many rows one portion should bring."""

OVERFULL = 4
"""How many times as many it may bring, before it is dropped and cut anew."""

RECENT = 10 * MINUTE
WIDEST = 400 * DAY
NARROWEST = MINUTE


class Backlog:
    """The portions of one dataset. Their width follows the market's rate, so that memory is bounded at any depth.

    The oldest hole comes first, for it is the first to pass the venue's horizon; one that could not be filled is
    passed over until the others have had their turn.
    """

    def __init__(self, wide: int = HOUR, rows: int = ROWS, widest: int = WIDEST) -> None:
        self.wide, self.rows, self.widest = wide, rows, widest
        self._last: Span = (0, 0)

    def portions(self, missing: Spans, now: int) -> list[Span]:
        """The ranges to ask for now: at most two."""
        if not missing:
            return []
        todo = missing
        if missing[0][0] == self._last[0]:
            todo = missing - Spans.of((missing[0][0], self._last[1])) or missing
        self._last = start, end = self.oldest(todo)
        recent = (missing & Spans.of((now - RECENT, max(now, missing.bounds[1])))) - Spans.of((start, end))
        return [(start, end), recent.bounds] if recent else [(start, end)]

    def oldest(self, missing: Spans) -> Span:
        """As much of what is missing as is asked for at once, from its beginning."""
        start = missing[0][0]
        return start, min(start + self.wide, missing.bounds[1])

    def came(self, rows: int) -> None:
        """A portion brought so many rows: make the next one wider or narrower."""
        if rows > 2 * self.rows:
            self.wide = max(NARROWEST, self.wide // 2)
        elif rows < self.rows // 2:
            self.wide = min(self.widest, self.wide * (8 if rows < self.rows // 16 else 2))

    def narrow(self) -> None:
        """A portion was far too large: the next one is much narrower."""
        self.wide = max(NARROWEST, self.wide // 16)

    def is_overfull(self, rows: int) -> bool:
        """Whether a portion with so many rows is to be dropped, because a narrower one can be had."""
        return rows > OVERFULL * self.rows and self.wide > NARROWEST

    def is_behind(self, missing: Spans, now: int) -> bool:
        """Whether there is more to ask for than what is recent."""
        return bool(missing) and missing.bounds[0] < now - RECENT and missing[0][0] != self._last[0]
