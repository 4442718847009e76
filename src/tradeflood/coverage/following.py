"""Candles of a stream of trades: as these come, and again when one comes late. Pure but for what it remembers."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from attrs import evolve

from tradeflood.coverage.candles import Fold, place_of
from tradeflood.models import Candle, Trade, interval
from tradeflood.spans import EMPTY, Span, Spans

FOLDS = 1_000
"""How many candles can still be amended."""

UNPROVEN = 50
"""How many that are over are looked at again, whether a late trade has made them whole."""

REMEMBERED = 20_000
"""How many trades are known again."""


class Follower:
    """What a stream of trades is as candles: each that changes with a batch, as it now is; late trades amend theirs.

    `closed` is False while an interval runs. It is True when it is over and the numbers of its trades show that none is
    missing, and None where nothing shows that: the candle in which the stream began, one with a hole in its numbers, and
    all where the venue's numbers say nothing. Trades of candles that are forgotten are counted in `too_late`.
    """

    def __init__(self, text: str, *, contiguous: bool) -> None:
        self._text, self._contiguous = text, contiguous
        self._grid = interval(self._text)
        self._folds: dict[int, _Growing] = {}
        self._known: set[str] = set()
        self._order: deque[str] = deque()
        self._numbers = EMPTY
        self._open: set[int] = set()  # those that are not proven to be whole
        self._newest = 0
        self.too_late = 0

    def __call__(self, trades: Iterable[Trade]) -> list[Candle]:
        """The candles that these trades change, ascending."""
        touched: dict[int, _Growing] = {}
        for row in trades:
            if row.trade_id in self._known:
                continue
            self._remember(row.trade_id)
            at = self._grid.floor(row.venue_time)
            growing = self._folds.get(at)
            if growing is not None:
                growing.fold.add(row, place_of(row))
            elif self._folds and len(self._folds) >= FOLDS and at < min(self._folds):
                self.too_late += 1
                continue
            else:
                growing = self._folds[at] = _Growing(Fold.of(row, self._text, place_of(row)))
            growing.count(row, contiguous=self._contiguous)
            touched[at] = growing
            self._newest = max(self._newest, row.venue_time)
        if self._contiguous:
            self._numbers |= Spans.of(*(span for growing in touched.values() for span in growing.fresh_numbers()))
        self._open = set(sorted(self._open | touched.keys())[-UNPROVEN:])
        told = [
            candle for at in sorted(self._open | touched.keys()) if (candle := self._told(at, changed=at in touched))
        ]
        if len(self._folds) > FOLDS:
            self._forget()
        return told

    def _forget(self) -> None:
        """No more candles than can be amended, and no numbers of trades before theirs: where some are missing there is no end of them."""
        while len(self._folds) > FOLDS:
            forgotten = min(self._folds)
            del self._folds[forgotten]
            self._open.discard(forgotten)
        lowest = min((growing.low for growing in self._folds.values() if growing.low is not None), default=0)
        if lowest > 1:
            self._numbers -= Spans.of((0, lowest - 1))

    def _told(self, at: int, *, changed: bool) -> Candle | None:
        """A candle as it is told; None where it was told so before."""
        growing = self._folds[at]
        closed = None
        if self._newest < self._grid.next(at):
            closed = False
        elif growing.low is not None and self._numbers.covers(Spans.of((growing.low - 1, growing.high + 2))):
            closed = True
        if closed or (closed is None and not self._contiguous):
            self._open.discard(at)
        if not changed and closed is growing.closed:
            return None
        growing.closed = closed
        return evolve(growing.fold.candle, closed=closed)

    def _remember(self, name: str) -> None:
        self._known.add(name)
        self._order.append(name)
        if len(self._order) > REMEMBERED:
            self._known.discard(self._order.popleft())


class _Growing:
    """A candle in a stream, with the numbers of its trades: the lowest, the highest, and those that are new."""

    __slots__ = ("closed", "fold", "high", "low", "new")

    def __init__(self, fold: Fold) -> None:
        self.fold = fold
        self.low: int | None = None
        self.high = 0
        self.closed: bool | None = False
        self.new: list[int] = []

    def count(self, row: Trade, *, contiguous: bool) -> None:
        """Note a number."""
        if contiguous and row.trade_id.isdecimal():
            number = int(row.trade_id)
            self.low = number if self.low is None else min(self.low, number)
            self.high = max(self.high, number)
            self.new.append(number)

    def fresh_numbers(self) -> Iterator[Span]:
        """The new numbers as spans, once."""
        numbers, self.new = sorted(self.new), []
        start = after = None
        for number in numbers:
            if number != after:
                if start is not None and after is not None:
                    yield start, after
                start = number
            after = number + 1
        if start is not None and after is not None:
            yield start, after
